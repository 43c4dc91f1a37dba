"""InfoNCE, also over processes, held against plain computations."""

from __future__ import annotations

import os
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from torch import Tensor

from selfsup.tasks.info_nce import Queue, info_nce, info_nce_of_views


def unit(rows: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed)), dim=1)


def by_hand(frames: Tensor, sounds: Tensor, scale: float, groups: list[int], moments: int, easy: float, hard: float):
    """The definition, pair by pair."""
    losses, right = [], []
    for one, other in ((frames, sounds), (sounds, frames)):
        for row in range(len(one)):
            values = (scale * (other @ one[row])).exp()
            weights = [
                1.0
                if row == column
                else hard
                if row // moments == column // moments
                else easy * (groups[row] != groups[column])
                for column in range(len(one))
            ]
            weighted = values * torch.tensor(weights)
            losses.append(-(values[row] / weighted.sum()).log())
            right.append(float(weighted.argmax() == row))
    return torch.stack(losses).mean(), sum(right) / len(right)


CASES = [([0, 1, 2, 3, 4, 5], 1, 1.0, 0.0), ([0, 0, 1, 1, 0, 0], 2, 1.0, 0.4), ([0, 0, 1, 1, 2, 2], 2, 0.0, 1.0)]


@pytest.mark.parametrize(("groups", "moments", "easy", "hard"), CASES)
def test_the_loss_is_that_of_the_definition(groups: list[int], moments: int, easy: float, hard: float) -> None:
    frames, sounds = unit(6, 0), unit(6, 1)
    loss, found = info_nce(frames, sounds, torch.tensor(3.0), torch.tensor(groups), moments, easy, hard)
    expected, share = by_hand(frames, sounds, 3.0, groups, moments, easy, hard)
    torch.testing.assert_close(loss, expected)
    assert found.item() == pytest.approx(share)


def test_without_negatives_there_is_nothing_to_learn() -> None:
    frames = unit(4, 0).requires_grad_()
    loss, _ = info_nce(frames, unit(4, 1), torch.tensor(3.0), torch.zeros(4, dtype=torch.int64), 1, 1.0, 0.0)
    loss.backward()
    assert loss == 0
    assert frames.grad is not None
    assert frames.grad.isfinite().all()
    assert not frames.grad.any()


# --- views of videos


def views(videos: int, views: int, seed: int) -> Tensor:
    """L2-normalised embeddings (B, V, 5)."""
    return unit(videos * views, seed).unflatten(0, (videos, views))


def by_hand_of_views(queries: Tensor, keys: Tensor, videos: list[int], queue: Queue | None) -> tuple[Tensor, float]:
    """The definition, query by query and key by key, at a scale of 3."""
    losses, right = [], []
    for b, v, w in product(range(len(videos)), range(queries.shape[1]), range(queries.shape[1])):
        if v == w:
            continue
        own = 3 * queries[b, v] @ keys[b, w]
        others = [keys[c] for c in range(len(videos)) if videos[c] != videos[b]]
        if queue is not None:
            others.append(queue.keys[(queue.videos >= 0) & (queue.videos != videos[b])])
        negatives = 3 * torch.cat(others) @ queries[b, v]
        losses.append(-own + torch.cat([own[None], negatives]).logsumexp(0))
        right.append(float((negatives < own).all()))
    return torch.stack(losses).mean(), sum(right) / len(right)


QUEUE = Queue(unit(6, 7), torch.tensor([0, 3, 9, 9, -1, -1]))


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("videos", [[0, 1, 2, 3], [0, 1, 0, 3]])
@pytest.mark.parametrize("queue", [None, QUEUE])
def test_the_loss_of_views_is_that_of_the_definition(number: int, videos: list[int], queue: Queue | None) -> None:
    queries, keys = views(4, number, 0), views(4, number, 1)
    loss, found = info_nce_of_views(queries, keys, torch.tensor(videos), 3.0, queue)
    expected, share = by_hand_of_views(queries, keys, videos, queue)
    torch.testing.assert_close(loss, expected)
    assert found.item() == pytest.approx(share)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_of_two_views_it_is_the_nt_xent_of_lightly(temperature: float) -> None:
    queries = views(6, 2, 0)
    loss, _ = info_nce_of_views(queries, queries, torch.arange(6), 1 / temperature)
    torch.testing.assert_close(loss, NTXentLoss(temperature)(queries[:, 0], queries[:, 1]))


def test_of_one_video_there_is_nothing_to_learn() -> None:
    queries = views(2, 3, 0).requires_grad_()
    loss, found = info_nce_of_views(queries, queries, torch.tensor([4, 4]), 3.0)
    loss.backward()
    assert loss == 0
    assert found == 1
    assert queries.grad is not None
    assert queries.grad.isfinite().all()


# --- two processes


def _views_of(weight: Tensor, videos: slice) -> tuple[Tensor, Tensor, Tensor]:
    """What a process gives of six videos, two of which are one: queries, keys, numbers."""
    embedded = views(6, 2, 3) @ weight
    return embedded[videos], embedded[videos], torch.tensor([0, 1, 2, 1, 4, 5])[videos]


def _process(rank: int, folder: str) -> None:
    """One of two with 4 and 2 rows: loss and gradient are written as distributed training would average them."""
    torch.set_num_threads(1)
    meet, patience = f"file://{folder}/meet", timedelta(seconds=100)
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=2, timeout=patience)
    mine = slice(0, 4) if rank == 0 else slice(4, 6)
    weight = torch.eye(5, requires_grad=True)
    scale = torch.tensor(3.0, requires_grad=True)
    groups = torch.tensor([0, 0, 1, 1, 0, 0])[mine]
    frames, sounds = unit(6, 0)[mine] @ weight, unit(6, 1)[mine] @ weight
    loss, found = info_nce(frames, sounds, scale, groups, 2, 1.0, 0.4)
    share = len(groups) / 6  # the mean over processes is that over rows where all have equally many
    (loss * share).backward()
    assert weight.grad is not None
    assert scale.grad is not None
    seen = torch.eye(5, requires_grad=True)
    (info_nce_of_views(*_views_of(seen, mine), 3.0)[0] * share).backward()
    assert seen.grad is not None
    if rank == 0:  # of held-out videos, of which the other process may have no more: nothing waits for it
        alone, _ = info_nce_of_views(*_views_of(seen, mine), 3.0, everywhere=False)
        assert alone.isfinite()
    for value in (weight.grad, scale.grad, seen.grad):
        dist.all_reduce(value)
    told = torch.stack([loss.detach() * share, found * share])
    dist.all_reduce(told)
    if rank == 0:
        torch.save({"told": told, "weight": weight.grad, "scale": scale.grad, "seen": seen.grad}, f"{folder}/result.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_loss_and_the_gradient_of_one(tmp_path: Path) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    threads = torch.get_num_threads()
    other = mp.get_context("spawn").Process(target=_process, args=(1, str(tmp_path)))
    other.start()
    try:
        _process(0, str(tmp_path))  # this process is one of the two: a new one imports torch first
    finally:
        torch.set_num_threads(threads)
        other.join(100)
    assert other.exitcode == 0
    result = torch.load(tmp_path / "result.pt", weights_only=True)
    weight = torch.eye(5, requires_grad=True)
    scale = torch.tensor(3.0, requires_grad=True)
    groups = torch.tensor([0, 0, 1, 1, 0, 0])
    loss, found = info_nce(unit(6, 0) @ weight, unit(6, 1) @ weight, scale, groups, 2, 1.0, 0.4)
    loss.backward()
    torch.testing.assert_close(result["told"], torch.stack([loss.detach(), found]))
    torch.testing.assert_close(result["weight"], weight.grad)
    torch.testing.assert_close(result["scale"], scale.grad)
    seen = torch.eye(5, requires_grad=True)
    info_nce_of_views(*_views_of(seen, slice(0, 6)), 3.0)[0].backward()
    torch.testing.assert_close(result["seen"], seen.grad)
