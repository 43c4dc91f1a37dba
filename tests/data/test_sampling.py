"""Where in a video samplers look: evenly, or where it moves and is not cut."""

from pathlib import Path

import numpy as np
import pytest
import torch

from selfsup.data.index import VideoInfo, inspect
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import UniformSampler, motion_weighted_start, uniform
from tests.data import barcodes


def info_of(motion: np.ndarray, rate_hz: float = 10.0, fps: float = 25.0) -> VideoInfo:
    """A video of which nothing matters but its motion; its last frame is where the motion ends."""
    seconds = len(motion) / rate_hz + 1 / fps
    return VideoInfo(
        path=Path("a.mp4"),
        duration_seconds=seconds,
        fps=fps,
        num_frames=round(seconds * fps),
        width=32,
        height=32,
        codec="h264",
        rotation=0,
        has_audio=False,
        checksum="",
        motion_rate_hz=rate_hz,
        motion=motion.astype(np.float32),
    )


def starts(info: VideoInfo, window_seconds: float, count: int = 1000) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    return np.array([motion_weighted_start(info, window_seconds, generator) for _ in range(count)])


@pytest.mark.parametrize("count", [1, 4, 8])
def test_uniform_sampler_takes_the_middles_of_equal_parts(tmp_path: Path, count: int) -> None:
    path = barcodes.write(tmp_path / "a.mp4", range(0, 40 * 40, 40))  # 40 frames
    info = inspect(path)
    with VideoReader(path) as video:
        clip = UniformSampler(count)(video, info, torch.Generator())["clip"]
    assert clip.shape == (3, count, barcodes.HEIGHT, barcodes.WIDTH)
    assert clip.dtype == torch.uint8
    numbers = [barcodes.read_number(frame) for frame in clip.transpose(0, 1)]
    part = 40 // count
    # A middle lies half-way between two frames where a part has an even number of frames.
    assert all(abs(number - (index + 0.5) * part) <= 0.5 for index, number in enumerate(numbers))


def test_uniform_sampler_takes_any_video(tmp_path: Path) -> None:
    info = inspect(barcodes.write(tmp_path / "a.mp4", [0]))
    assert UniformSampler().refuse(info) is None
    with VideoReader(info.path) as video:
        clip = UniformSampler()(video, info, torch.Generator())["clip"]
    assert [barcodes.read_number(frame) for frame in clip.transpose(0, 1)] == [0] * 8


def test_uniform_number() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = np.array([uniform(-1.0, 3.0, generator) for _ in range(2000)])
    assert -1.0 <= drawn.min() < -0.98
    assert 2.98 < drawn.max() < 3.0
    assert drawn.mean() == pytest.approx(1.0, abs=0.1)


def test_a_window_prefers_motion_in_proportion() -> None:
    motion = np.full(100, 0.02)
    motion[50:] = 0.06
    drawn = starts(info_of(motion), 1.0)
    ends = drawn + 1.0
    assert drawn.min() >= 0
    assert ends.max() <= 100 / 10 + 1 / 25
    still, moving = (ends <= 5.0).mean(), (drawn >= 5.0).mean()  # 41 windows each, as likely as 1 is to 3
    assert moving / still == pytest.approx(3.0, rel=0.25)


def test_a_window_is_never_drawn_where_nothing_moves_but_elsewhere_something_does() -> None:
    motion = np.zeros(100)
    motion[70:80] = 0.1
    drawn = starts(info_of(motion), 1.0)
    assert drawn.min() > 6.0
    assert drawn.max() < 8.0


def test_where_nothing_moves_all_windows_are_alike() -> None:
    drawn = starts(info_of(np.zeros(100)), 2.0)
    histogram = np.histogram(drawn, bins=4, range=(0, 8.1))[0]
    assert histogram.min() > 180
    assert histogram.max() < 320


@pytest.mark.parametrize("window_seconds", [1.0, 0.97, 1.04])
def test_a_window_touches_no_cut(window_seconds: float) -> None:
    motion = np.full(60, 0.05)
    motion[[20, 41]] = 0.6  # somewhere in [2.0, 2.1] and in [4.1, 4.2] s
    drawn = starts(info_of(motion), window_seconds, count=3000)
    for begin, end in ((2.0, 2.1), (4.1, 4.2)):
        assert not ((drawn < end) & (drawn + window_seconds > begin)).any()
    # All three parts are still visited.
    assert ((drawn < 2.0).any(), (abs(drawn - 2.6) < 0.5).any(), (drawn > 4.2).any()) == (True, True, True)


def test_where_every_window_holds_a_cut_one_is_drawn_anyhow() -> None:
    drawn = starts(info_of(np.full(30, 0.5)), 1.0, count=50)
    assert drawn.min() >= 0
    assert drawn.max() <= 2.0 + 1 / 25


@pytest.mark.parametrize("window_seconds", [3.04, 3.5, 100.0])
def test_a_window_as_long_as_the_video_starts_at_zero(window_seconds: float) -> None:
    assert set(starts(info_of(np.ones(30)), window_seconds, count=5)) == {0.0}


def test_the_same_generator_gives_the_same_window() -> None:
    info = info_of(np.random.default_rng(0).random(50) / 10)
    assert np.array_equal(starts(info, 1.0, 20), starts(info, 1.0, 20))
