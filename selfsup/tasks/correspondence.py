"""Frames and sounds of held-out videos, and how well those that belong together are told from those that do not.

Pairs are made of the whole split once it was seen: a batch of it may hold one group alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from selfsup.tasks.fusion import Fusion
from selfsup.tasks.negatives import other_group

_CHUNK = 4096  # pairs that are compared at once


class Embedded(NamedTuple):
    """What is compared of some examples: N examples of M moments.

    `frames` (N, M, …) and `sounds` (N, M, …) belong together; `others` are the sounds of negatives, `sounds` itself but
    where the sampling grid is free; `groups` and `videos`, int64 (N,).
    """

    frames: Tensor
    sounds: Tensor
    others: Tensor
    groups: Tensor
    videos: Tensor


def kinds_of(negatives: str) -> tuple[str, ...]:
    """The kinds of negatives that this setting has."""
    return ("other_video", "other_time") if negatives == "both" else (negatives,)


def compared(
    head: Fusion, examples: Embedded, kind: str, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Logits (P,) of frames with their own sounds, and (P,) of the same frames with the same sounds paired otherwise.

    Args:
        head: compares.
        examples: of a batch, or of a split.
        kind: "other_video" or "other_time".
        generator: draws the pairs; None for always the same. Nothing is left to pair where all are of one group.
    """
    if kind == "other_time":
        frames, own = examples.frames, examples.sounds
        other = examples.others.flip(1)  # of two moments
    else:
        pairs = other_group(examples.groups.cpu(), generator)
        rows, columns = pairs.frames.to(examples.frames.device), pairs.sounds.to(examples.frames.device)
        frames, own, other = examples.frames[rows], examples.sounds[rows], examples.others[columns]
    frames = frames.flatten(0, 1)
    return in_chunks(head, frames, own.flatten(0, 1)), in_chunks(head, frames, other.flatten(0, 1))


def in_chunks(head: Fusion, frames: Tensor, sounds: Tensor) -> Tensor:
    """Logits (P,) of many pairs."""
    if len(frames) <= _CHUNK:
        return head(frames, sounds).float()
    parts = zip(frames.split(_CHUNK), sounds.split(_CHUNK), strict=True)
    return torch.cat([head(frame, sound).float() for frame, sound in parts])


@torch.no_grad()
def alike(head: Fusion, frames: Tensor, sounds: Tensor) -> dict[str, Tensor]:
    """How alike any two of V frames (V, …) and V sounds (V, …) are, float (V, V) on the CPU by direction.

    "frame to sound" and back by the head, "frame to frame" and "sound to sound" by cosine; rows are queries.
    """
    across = torch.stack([in_chunks(head, frames[[row]].expand_as(frames), sounds) for row in range(len(frames))])
    vectors = [F.normalize(of.flatten(2).amax(dim=2) if of.ndim > 2 else of, dim=1) for of in (frames, sounds)]
    found = {
        "frame to frame": vectors[0] @ vectors[0].T,
        "frame to sound": across,
        "sound to frame": across.T,
        "sound to sound": vectors[1] @ vectors[1].T,
    }
    return {direction: values.float().cpu() for direction, values in found.items()}


def losses(own: Tensor, other: Tensor) -> Tensor:
    """Binary cross-entropy, both classes alike; 0 where there is no pair."""
    if len(own) == 0:
        return own.sum()
    return (F.softplus(-own).mean() + F.softplus(other).mean()) / 2


def accuracy(own: Tensor, other: Tensor) -> Tensor:
    """Share of right decisions at a logit of 0; undecided ones count half."""
    right = [(logits > 0).float() + 0.5 * (logits == 0) for logits in (own, -other)]
    return torch.cat(right).mean()


def two_choice(own: Tensor, other: Tensor) -> Tensor:
    """Share of frames of which the own sound is preferred to the other; ties count half."""
    return ((own > other).float() + 0.5 * (own == other)).mean()


def figures(head: Fusion, examples: Embedded, negatives: str, decides: bool) -> dict[str, Tensor]:
    """Loss, "two_choice", and "accuracy" of heads that decide; empty where nothing can be paired.

    With both kinds of negatives they are the mean of the two, which stand beside it.
    """
    told: dict[str, list[Tensor]] = {}
    named: dict[str, Tensor] = {}
    for kind in kinds_of(negatives):
        own, other = compared(head, examples, kind)
        if len(own) == 0:
            continue
        scores = {"two_choice": two_choice(own, other), "loss": losses(own, other)}
        if decides:
            scores["accuracy"] = accuracy(own, other)
        else:
            scores["loss"] = F.softplus(other - own).mean()  # InfoNCE with one negative
        for name, score in scores.items():
            told.setdefault(name, []).append(score)
            if negatives == "both" and name != "loss":
                named[f"{name}, {kind}"] = score
    return {**{name: torch.stack(scores).mean() for name, scores in told.items()}, **named}


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Batches of all processes as one, in the order of their videos; empty where there is none."""
    everywhere: list[list[Mapping[str, Tensor]]] = [list(parts)]
    if dist.is_available() and dist.is_initialized():
        everywhere = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(everywhere, list(parts))
    every = [part for of_process in everywhere for part in of_process]
    if not every:
        return {}
    whole = {name: torch.cat([part[name] for part in every]) for name in every[0]}
    order = torch.argsort(whole["videos"], stable=True)
    return {name: values[order] for name, values in whole.items()}
