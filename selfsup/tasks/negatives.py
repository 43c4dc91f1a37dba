"""Which frame is paired with which sound that is not its own, and the contrastive loss over all of a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
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


def info_nce(
    frames: Tensor, sounds: Tensor, scale: Tensor, groups: Tensor, moments: int, easy: float, hard: float
) -> tuple[Tensor, Tensor]:
    """Symmetric InfoNCE over the batches of all processes, and the share of sounds and frames that find their own.

    Every row of this process is held against the columns of all, and the gradient reaches the processes that they come
    from; the mean over processes, which distributed training takes, is the loss of one process with the whole batch.

    Args:
        frames, sounds: L2-normalised, (N, D); row n of one belongs to row n of the other.
        scale: by which the cosine is multiplied.
        groups: of each row, int64 (N,).
        moments: rows in a row that are of one example.
        easy, hard: weight, in [0, 1], of negatives of another group and of the other moments of the same example;
            others of the same group are left out.

    Returns:
        The loss and the accuracy, scalars.
    """
    first, every = gathered_rows(len(frames), frames.device)
    all_frames, all_sounds = gathered(frames, every), gathered(sounds, every)
    all_groups = gathered(groups[:, None].double(), every)[:, 0].long()
    own = torch.arange(first, first + len(frames), device=frames.device)
    everything = torch.arange(sum(every), device=frames.device)
    weights = torch.where(groups[:, None] == all_groups, 0.0, easy)  # (N, all)
    weights = torch.where(own[:, None] // moments == everything // moments, hard, weights)
    weights = torch.where(own[:, None] == everything, 1.0, weights)
    losses, right = [], []
    for rows, columns in ((frames, all_sounds), (sounds, all_frames)):
        logits = scale * rows @ columns.T + weights.to(rows).log()
        losses.append(F.cross_entropy(logits, own))
        right.append((logits.argmax(dim=1) == own).float().mean())
    return torch.stack(losses).mean(), torch.stack(right).mean()


def gathered_rows(rows: int, device: torch.device) -> tuple[int, list[int]]:
    """The number of this process's first row among those of all, and how many rows each process has."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, [rows]
    counts = [torch.zeros((), dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor(rows, device=device))
    every = [int(count) for count in counts]
    return sum(every[: dist.get_rank()]), every


def gathered(rows: Tensor, every: list[int]) -> Tensor:
    """Rows (N, D) of this process to those of all, (sum of `every`, D), with their gradient."""
    if len(every) == 1:
        return rows
    most = max(every)
    padded: Any = _AllGather.apply(F.pad(rows, (0, 0, 0, most - len(rows))))
    return torch.cat([part[:count] for part, count in zip(padded, every, strict=True)])


class _AllGather(torch.autograd.Function):
    """`all_gather` whose gradient is the sum over processes; torch.distributed.nn's is deprecated."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous()
        dist.all_reduce(summed)
        return summed[dist.get_rank()]
