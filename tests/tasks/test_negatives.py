"""Pairs across groups: no frame meets its own, and nothing is left out that need not be."""

from __future__ import annotations

import pytest
import torch

from selfsup.tasks.negatives import other_group


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
