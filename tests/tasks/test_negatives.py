"""Pairs across groups, and InfoNCE over processes, each held against a plain computation."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor

from selfsup.tasks.negatives import info_nce, other_group


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
@pytest.mark.parametrize(
    "groups", [[0, 1], [0, 1, 2, 3, 4], [0, 0, 1, 1], [3, 3, 3, 5, 5, 9, 9, 9], [0, 0, 0, 0, 1, 1, 2, 2, 7]]
)
def test_no_frame_meets_its_own_group_and_all_take_part(groups: list[int], seed: int | None) -> None:
    numbers = torch.tensor(groups)
    pairs = other_group(numbers, None if seed is None else torch.Generator().manual_seed(seed))
    assert (numbers[pairs.frames] != numbers[pairs.sounds]).all()
    assert sorted(pairs.frames.tolist()) == sorted(pairs.sounds.tolist()) == list(range(len(groups)))


@pytest.mark.parametrize(("groups", "kept"), [([0, 0, 0, 0, 1], 2), ([1, 1, 0, 1, 2, 1, 1], 4), ([0, 0], 0), ([5], 0)])
def test_of_too_large_a_group_some_are_left_out_of_both_classes(groups: list[int], kept: int) -> None:
    numbers = torch.tensor(groups)
    pairs = other_group(numbers, torch.Generator().manual_seed(0))
    assert len(pairs.frames) == kept
    assert sorted(pairs.frames.tolist()) == sorted(pairs.sounds.tolist())
    assert (numbers[pairs.frames] != numbers[pairs.sounds]).all()


def test_every_other_group_is_met_sooner_or_later() -> None:
    groups = torch.arange(6)
    met = {
        (int(frame), int(sound))
        for seed in range(300)
        for frame, sound in zip(*other_group(groups, torch.Generator().manual_seed(seed)), strict=True)
    }
    assert met == {(frame, sound) for frame in range(6) for sound in range(6) if frame != sound}


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
    for value in (weight.grad, scale.grad):
        dist.all_reduce(value)
    told = torch.stack([loss.detach() * share, found * share])
    dist.all_reduce(told)
    if rank == 0:
        torch.save({"told": told, "weight": weight.grad, "scale": scale.grad}, f"{folder}/result.pt")
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
