"""Shots against an exhaustive search, and on videos whose cuts are known."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from selfsup.data.reader import VideoReader
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
    assert ShotDetector()(scenes(*[1] * 16)) == []


def test_frames_of_sixty_real_videos_leave_no_shot(real_videos: Path) -> None:
    paths = sorted((real_videos / "surv_fight" / "videos").rglob("*.mp4"))[::5]
    frames = []
    for path in paths:
        with VideoReader(path, short_side_pixels=96) as video:
            frames.append(resize(video.frames([0.0])[0], [96, 128], antialias=True))
    assert len(frames) == 60
    assert ShotDetector()(torch.stack(frames)) == []


def test_shots_of_a_few_frames_leave_none() -> None:
    assert ShotDetector(max_cuts=20)(scenes(*[3] * 8)) == []
    assert ShotDetector(max_cuts=20, abruptness=0)(scenes(*[1] * 16)) == []


def swaying(frames: Tensor) -> Tensor:
    """The same with an exposure that goes up and down by a quarter, a period every 20 frames."""
    gain = 1 + 0.25 * torch.sin(torch.arange(len(frames)) * (2 * torch.pi / 20))
    return (frames * gain[:, None, None, None]).clamp(0, 255).byte()


def test_a_smooth_sway_of_exposure_is_no_cut_and_hides_none(real_videos: Path) -> None:
    both = []
    for path in sorted((real_videos / "surv_fight" / "videos" / "fight").glob("*.mp4"))[:60:30]:
        with VideoReader(path, short_side_pixels=96) as video:
            both.append(resize(video.frames(video.times_seconds[:40]), [96, 128], antialias=True))
    one, two = both
    assert ShotDetector().cuts(swaying(one)) == []
    assert ShotDetector().cuts(swaying(torch.cat([one, two]))) == [len(one)]


def test_a_slow_change_of_colour_is_a_cut_for_the_segmentation_alone() -> None:
    red, green = scenes(60)[:1].float(), scenes(60, 1)[-1:].float()
    share = torch.linspace(0, 1, 60)[:, None, None, None]
    dissolve = (red * (1 - share) + green * share).byte()
    assert ShotDetector(abruptness=0).cuts(dissolve)
    assert ShotDetector().cuts(dissolve) == []


def test_a_jump_of_exposure_alone_is_no_cut() -> None:
    brighter = scenes(40).float()
    brighter[20:] *= 1.15
    assert ShotDetector().cuts(brighter.clamp(0, 255).byte()) == []


@pytest.mark.parametrize(("name", "value"), [("abruptness", -1.0), ("window_frames", 0)])
def test_values_out_of_bounds_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"shots\.{name}={value:g}"):
        ShotDetector(**{name: value})  # type: ignore[arg-type]
