"""InfoNCE: a row finds the column that belongs to it among all others (van den Oord et al. 2018, arXiv 1807.03748).

Every row of this process is held against the columns of all processes, and the gradient reaches those that they come
from; the mean over processes, which distributed training takes, is the loss of one process with the whole batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


class Queue(NamedTuple):
    """Keys of earlier batches: L2-normalised, (Q, D), and the videos that they are of, int64 (Q,), -1 for none yet."""

    keys: Tensor
    videos: Tensor


def info_nce(
    frames: Tensor, sounds: Tensor, scale: Tensor, groups: Tensor, moments: int, easy: float, hard: float
) -> tuple[Tensor, Tensor]:
    """Symmetric InfoNCE over the batches of all processes, and the share of sounds and frames that find their own.

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
    directions = ((frames, all_sounds), (sounds, all_frames))
    return _mean([_found(scale * rows @ columns.T + weights.to(rows).log(), own) for rows, columns in directions])


def info_nce_of_views(
    queries: Tensor, keys: Tensor, videos: Tensor, scale: float, queue: Queue | None = None, everywhere: bool = True
) -> tuple[Tensor, Tensor]:
    """InfoNCE of V views of each video over the batches of all processes, and the share of queries that find their own.

    Each query is held against the key of every other view of its video, one at a time, and against all keys of other
    videos, those of `queue` too. With two views and `keys` that are the queries, it is the NT-Xent loss of SimCLR (Chen
    et al. 2020, arXiv 2002.05709, section 2.1); with keys of a slow network and a queue, that of MoCo (He et al. 2020,
    arXiv 1911.05722, section 3). More views than two: Feichtenhofer et al. 2021, arXiv 2104.14558, section 3.

    Args:
        queries, keys: L2-normalised, (B, V, D).
        videos: int64 (B,); keys of one video are no negatives of each other.
        scale: by which the cosine is multiplied, one over the temperature.
        queue: more negatives.
        everywhere: over all processes; False where one may have fewer batches than another, as of held-out videos.

    Returns:
        The loss and the accuracy, scalars; 0 and 1 where there is no other video.
    """
    views = queries.shape[1]
    rows, columns = queries.flatten(0, 1), keys.flatten(0, 1)  # (B V, D)
    first, every = gathered_rows(len(rows), rows.device, everywhere)
    owners = videos.repeat_interleave(views)
    candidates, owned = gathered(columns, every), gathered(owners[:, None].double(), every)[:, 0].long()
    negative = owners[:, None] != owned
    if queue is not None:
        candidates = torch.cat([candidates, queue.keys])
        negative = torch.cat([negative, (owners[:, None] != queue.videos) & (queue.videos >= 0)], dim=1)
    logits = scale * rows @ candidates.T
    number = torch.arange(len(rows), device=rows.device)
    found = []
    for shift in range(1, views):
        own = first + number - number % views + (number + shift) % views  # the view that is so many further on
        kept = negative.scatter(1, own[:, None], True)
        found.append(_found(logits.masked_fill(~kept, -torch.inf), own))
    return _mean(found)


def _found(logits: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits (N, M) whose right columns are `own`, int64 (N,), and the share that peaks there."""
    return F.cross_entropy(logits, own), (logits.argmax(dim=1) == own).float().mean()


def _mean(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    losses, right = zip(*parts, strict=True)
    return torch.stack(losses).mean(), torch.stack(right).mean()


def gathered_rows(rows: int, device: torch.device, everywhere: bool = True) -> tuple[int, list[int]]:
    """The number of this process's first row among those of all, and how many rows each process has.

    Without `everywhere` this process is all there is, and nothing waits for another.
    """
    if not (everywhere and dist.is_available() and dist.is_initialized()):
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
