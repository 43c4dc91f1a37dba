"""Shots against an exhaustive search, and on videos whose cuts are known."""

from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from selfsup.data.shots import ShotDetector, change_points


def exhaustive(features: np.ndarray, most: int, penalty: float) -> list[int]:
    """Tries every way to cut."""
    count, best, chosen = len(features), np.inf, ()
    for number in range(most + 1):
        for cuts in combinations(range(1, count), number):
            parts = np.split(features, cuts)
            cost = sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts) / count
            cost += penalty * number / (2 * count) * (np.log(count / max(number, 1)) + 1)
            if cost < best:
                best, chosen = cost, cuts
    return list(chosen)


def test_it_finds_what_an_exhaustive_search_finds() -> None:
    generator = np.random.default_rng(0)
    numbers = set()
    for penalty in (0.05, 0.3, 3.0):
        for _ in range(8):
            features = generator.normal(size=(4, 3))[np.sort(generator.integers(0, 4, 10))]
            features = features + generator.normal(scale=0.2, size=features.shape)
            found = change_points(features @ features.T, 3, penalty)
            assert found == exhaustive(features, 3, penalty)
            numbers.add(len(found))
    assert len(numbers) > 2  # the penalty matters


def scenes(*lengths: int) -> Tensor:
    """Uint8 (T, 3, 48, 64): scenes of different colours, with noise."""
    generator = np.random.default_rng(1)
    colours = [(200, 40, 30), (20, 160, 60), (30, 50, 210), (220, 220, 40)]
    frames = [np.full((48, 64, 3), colours[n % 4]) for n, length in enumerate(lengths) for _ in range(length)]
    noisy = np.stack(frames) + generator.integers(-20, 20, (len(frames), 48, 64, 3))
    return torch.from_numpy(noisy.clip(0, 255).astype(np.uint8)).permute(0, 3, 1, 2)


def test_cuts_are_found_and_short_shots_left_out() -> None:
    shots = ShotDetector()(scenes(20, 5, 30))
    assert shots == [range(0, 20), range(25, 55)]


def test_one_scene_is_one_shot_and_a_long_one_is_thinned() -> None:
    assert ShotDetector()(scenes(60)) == [range(60)]
    assert ShotDetector()(scenes(110)) == [range(110)]
    assert ShotDetector()(scenes(131)) == [range(0, 131, 2)]


def test_a_cut_in_every_frame_leaves_no_shot() -> None:
    assert ShotDetector(max_cuts=20)(scenes(*[1] * 16)) == []
