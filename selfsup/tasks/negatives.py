"""Which frame is paired with which sound that is not its own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Repaired(NamedTuple):
    """Frame `frames[n]` and sound `sounds[n]` are of two groups; each kept number comes once in both, int64 (N,)."""

    frames: Tensor
    sounds: Tensor


def other_group(groups: Tensor, generator: torch.Generator | None = None) -> Repaired:
    """A sound of another group for each of the frames of `groups`, int64 (B,), on the CPU.

    Sorted by group and shifted by the size of the largest, no number meets its own group. Where one group has more than
    half of all, as many of it as too many are left out, as frames and as sounds; nothing is left of a single group.

    Args:
        groups: one number a frame and its sound.
        generator: draws the order within the groups, theirs, and the shift; None for always the same.
    """
    kept = _at_most_half(groups, generator)
    if len(kept) == 0:
        return Repaired(kept, kept)
    order = torch.randperm(len(kept), generator=generator) if generator is not None else torch.arange(len(kept))
    kept = kept[order]
    _, place, counts = groups[kept].unique(return_inverse=True, return_counts=True)
    rank = torch.randperm(len(counts), generator=generator) if generator is not None else torch.arange(len(counts))
    ordered = kept[torch.argsort(rank[place], stable=True)]
    most = int(counts.max())
    low, high = most, len(kept) - most
    shift = int(torch.randint(low, high + 1, (), generator=generator)) if generator is not None else (low + high) // 2
    return Repaired(ordered, ordered.roll(-shift))


def _at_most_half(groups: Tensor, generator: torch.Generator | None) -> Tensor:
    """Numbers of `groups`, of which none has more than half of them."""
    values, counts = groups.unique(return_counts=True)
    largest = values[counts.argmax()]
    inside, outside = (groups == largest).nonzero()[:, 0], (groups != largest).nonzero()[:, 0]
    if len(inside) > len(outside):
        drawn = torch.randperm(len(inside), generator=generator) if generator is not None else torch.arange(len(inside))
        inside = inside[drawn[: len(outside)]]
    return torch.cat([inside, outside]).sort().values
