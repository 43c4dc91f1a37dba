"""Frames and sounds of one grid: both classes have them alike, and an uncontrolled grid is seen to be one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from selfsup.data.frame_and_sound import FrameAndSound
from selfsup.data.index import VideoInfo, inspect
from selfsup.data.loudness import SoundInfo
from selfsup.data.reader import VideoReader
from selfsup.data.true_masks import read_masks


@pytest.fixture(scope="module")
def infos(synthetic_manifest: Path) -> list[VideoInfo]:
    return [inspect(path) for path in sorted((synthetic_manifest.parent / "videos").rglob("*.mp4"))[:4]]


def info_of(seconds: float, fps: float = 25.0, has_audio: bool = True) -> VideoInfo:
    return VideoInfo(
        path=Path("a.mp4"),
        duration_seconds=seconds,
        fps=fps,
        num_frames=round(seconds * fps),
        width=8,
        height=8,
        codec="h264",
        rotation=0,
        has_audio=has_audio,
        checksum="",
        motion_rate_hz=10.0,
        motion=np.ones(3, np.float32),
        sound=SoundInfo(seconds, True, np.zeros(round(10 * seconds), np.float32)) if has_audio else None,
    )


def drawn(sampler: FrameAndSound, info: VideoInfo, seed: int) -> dict[str, torch.Tensor]:
    with VideoReader(info.path, short_side_pixels=32) as video:
        return sampler(video, info, torch.Generator().manual_seed(seed))


class Recorder:
    """Stands where the reader does, and writes down what it is asked for: seconds, and no pixels."""

    def __init__(self, info: VideoInfo) -> None:
        self.times_seconds = np.arange(info.num_frames) / info.fps
        self.shown: list[float] = []
        self.heard: list[float] = []

    def numbers(self, times: list[float]) -> np.ndarray:
        return np.searchsorted((self.times_seconds[1:] + self.times_seconds[:-1]) / 2, times)

    def frames(self, times: list[float]) -> torch.Tensor:
        self.shown += self.times_seconds[self.numbers(times)].tolist()
        return torch.zeros(len(times), 3, 2, 2, dtype=torch.uint8)

    def audio(self, start: float, stop: float, rate_hz: int) -> torch.Tensor:
        self.heard.append(start)
        return torch.zeros(round((stop - start) * rate_hz))


def recorded(sampler: FrameAndSound, info: VideoInfo, draws: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of frames and of sounds, (draws, M) each; of sounds (draws, 2) where the grid is free: other, own."""
    recorder: Any = Recorder(info)
    for seed in range(draws):
        sampler(recorder, info, torch.Generator().manual_seed(seed))
    return np.reshape(recorder.shown, (draws, -1)), np.reshape(recorder.heard, (draws, -1))


@pytest.mark.parametrize("negatives", ["other_video", "both"])
def test_an_example_holds_its_moments(infos: list[VideoInfo], negatives: Any) -> None:
    sampler = FrameAndSound(negatives, sound_seconds=0.5, rate_hz=8000, gap_seconds=0.6, truth=True)
    example = drawn(sampler, infos[0], 3)
    moments = {"other_video": 1, "both": 2}[negatives]
    assert example["clip"].shape == (3, moments, 32, 32)
    assert example["clip"].dtype == torch.uint8
    assert example["sound"].shape == (moments, 4000)
    assert example["sound"].dtype == torch.float32
    assert 0 < example["sound"].abs().max() <= 1
    assert example["truth"].shape == (1, moments, 32, 32)
    again = drawn(sampler, infos[0], 3)
    assert all(torch.equal(example[name], again[name]) for name in example)
    assert not torch.equal(example["sound"], drawn(sampler, infos[0], 4)["sound"])


def test_the_sound_is_that_of_the_frames_time(infos: list[VideoInfo]) -> None:
    sampler = FrameAndSound(sound_seconds=0.5, rate_hz=8000, misalignment_seconds=0.0, truth=True)
    for seed in range(3):
        (start,) = sampler.starts_seconds(infos[1], torch.Generator().manual_seed(seed))
        example = drawn(sampler, infos[1], seed)
        with VideoReader(infos[1].path, short_side_pixels=32) as video:
            assert torch.equal(example["sound"][0], video.audio(start, start + 0.5, 8000))
            (number,) = video.numbers([start + 0.25])
            assert torch.equal(example["clip"][:, 0], video.frames([start + 0.25])[0])
        masks = read_masks(infos[1].path)
        assert masks is not None
        assert abs(example["truth"].mean().item() - masks[number].mean()) < 0.01


@pytest.mark.parametrize("misalignment", [0.0, 0.5, 1.0])
def test_frames_lie_around_the_middle_of_their_sound(misalignment: float) -> None:
    info = info_of(10)
    shown, heard = recorded(FrameAndSound(misalignment_seconds=misalignment), info)
    offset = shown - heard - 0.5
    inside = (heard > 1) & (heard < 8)  # near its ends the video has no further frames
    assert np.abs(offset[inside]).max() <= misalignment + 0.5 / info.fps + 1e-6
    if misalignment:
        assert ks_2samp(offset[inside], np.linspace(-misalignment, misalignment, 1000)).pvalue > 1e-3


def test_sounds_start_on_the_grid_of_frames_everywhere_alike() -> None:
    info = info_of(5, fps=12.5)
    _, heard = recorded(FrameAndSound(), info, 2000)
    places = heard * info.fps
    assert np.abs(places - places.round()).max() < 1e-6
    counts = np.bincount(places.round().astype(int).ravel(), minlength=51)
    assert len(counts) == 51  # 4 s after the first frame: the last at which a second is left
    assert counts.min() > 0.3 * counts.mean()
    assert counts.max() < 2 * counts.mean()


def test_two_moments_keep_their_distance_and_no_order() -> None:
    sampler = FrameAndSound("other_time", gap_seconds=1.5)
    for seconds in (2.5, 2.52, 3.0, 8.0):
        _, heard = recorded(sampler, info_of(seconds), 200)
        assert np.abs(heard[:, 0] - heard[:, 1]).min() >= 1.5 - 1 / 25 - 1e-6  # the grid is one frame wide
        assert heard.max() <= seconds - 1 + 1e-6
        assert 0.35 < (heard[:, 0] < heard[:, 1]).mean() < 0.65


@pytest.mark.parametrize("negatives", ["other_video", "other_time"])
def test_both_classes_have_the_same_times_loudness_and_frames(infos: list[VideoInfo], negatives: Any) -> None:
    """Kolmogorov and Smirnov cannot tell the sounds of positives from those of negatives, nor their frames."""
    sampler = FrameAndSound(negatives, sound_seconds=0.5, gap_seconds=0.6, rate_hz=8000)
    examples = [drawn(sampler, info, seed) for info in infos for seed in range(8)]
    sounds = torch.stack([example["sound"] for example in examples])  # (E, M, N)
    loudness = sounds.square().mean(dim=-1).sqrt()
    negative = loudness.flip(1) if negatives == "other_time" else loudness.roll(8, dims=0)
    assert sorted(loudness.flatten().tolist()) == sorted(negative.flatten().tolist())
    assert ks_2samp(loudness.flatten(), negative.flatten()).pvalue == 1.0
    shown, heard = recorded(sampler, info_of(6))
    for first, second in ((shown[:200], shown[200:]), (heard[:200], heard[200:])):
        assert ks_2samp(first.ravel(), second.ravel()).pvalue > 1e-3
    if negatives == "other_time":
        assert ks_2samp(heard[:, 0], heard[:, 1]).pvalue > 1e-3
        assert ks_2samp(shown[:, 0], shown[:, 1]).pvalue > 1e-3


def test_a_free_grid_gives_the_classes_unlike_phases() -> None:
    """The same test sees the shortcut: own sounds lie at one phase of the grid, others at any."""
    info = info_of(9)
    heard = recorded(FrameAndSound(grid="free"), info)[1]
    phase = (heard * info.fps + 0.25) % 1
    other, own = phase.T
    assert ks_2samp(own, other).pvalue < 1e-6
    assert np.ptp(own) < 0.51  # the middle of a frame's sound lies on the frame, its start half a frame off at most
    assert np.ptp(other) > 0.9
    own_shared = (recorded(FrameAndSound(), info)[1] * info.fps + 0.25) % 1
    assert np.ptp(own_shared) < 1e-6


def test_what_cannot_be_asked_is_refused() -> None:
    assert FrameAndSound().refuse(info_of(1.0)) is None
    assert FrameAndSound().refuse(info_of(9, has_audio=False)) == "has no sound track"
    short = FrameAndSound("both").refuse(info_of(1.9))
    assert short is not None
    assert short.startswith("has sound and frames together for 1.90 s, 2 x 1 s of sound need 2 s; lower task.sampler.")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"negatives": "other"}, "task.sampler.negatives='other': choose one of other_video, other_time, both"),
        ({"grid": "any"}, "task.sampler.grid='any': choose one of shared, free"),
        ({"rate_hz": 0}, "rate_hz=0"),
        ({"sound_seconds": 0.0}, "sound_seconds=0"),
        ({"misalignment_seconds": -1.0}, "misalignment_seconds=-1 not below"),
        ({"grid": "free", "negatives": "both"}, "grid=free: only with task.negatives=other_video"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(FrameAndSound(), **options)


def test_a_video_without_masks_has_no_truth(infos: list[VideoInfo], tmp_path: Path) -> None:
    lonely = tmp_path / "a" / "b" / "c.mp4"
    lonely.parent.mkdir(parents=True)
    lonely.write_bytes(infos[0].path.read_bytes())
    assert "truth" not in drawn(FrameAndSound(sound_seconds=0.5, truth=True), inspect(lonely), 0)
