"""Samplers of labelled clips: windows of consecutive frames, one frame a segment, and the views of a test.

Times are in seconds. A frame is asked for by the moment at which it appears, so that every frame is as likely as
every other: the reader answers with the frame whose presentation time is nearest. Where fewer frames a second exist
than are asked for, frames repeat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import ClipSampler, uniform

ROUNDING = 1e-6  # share of a frame


class TimedSampler(ClipSampler, Protocol):
    """A sampler whose whole question is the times of its frames."""

    def times_seconds(self, info: VideoInfo, generator: torch.Generator) -> np.ndarray:
        """When the frames of the clip are shown, float64 (T,), in [0, info.duration_seconds]."""
        ...


class ViewSampler(Protocol):
    """The clips of a video of which predictions are averaged, before the softmax."""

    def views(self, info: VideoInfo) -> Sequence[TimedSampler]:
        """At least one sampler without chance; no two show the same frames."""
        ...


@dataclass(frozen=True)
class DenseClip:
    """One window of `num_frames` frames at a fixed rate, drawn evenly from all that lie in the video.

    A video that is shorter than the window is shown from its start, again and again, until the window is full
    (Carreira and Zisserman 2017, arXiv 1705.07750, section 4.2).

    Args:
        num_frames: T.
        fps: frames a second. With `stride_seconds` null too, the video's own.
        stride_seconds: from one frame to the next; another way to say `fps`.
        loop: false refuses videos that are shorter than the window.

    Raises:
        ValueError: no frames, no positive rate, or both a rate and a stride.
    """

    num_frames: int = 16
    fps: float | None = None
    stride_seconds: float | None = None
    loop: bool = True

    def __post_init__(self) -> None:
        _check_count("num_frames", self.num_frames)
        if self.fps is not None and self.stride_seconds is not None:
            raise ValueError(f"fps={self.fps:g} and stride_seconds={self.stride_seconds:g}: give one of the two")
        for name, value in (("fps", self.fps), ("stride_seconds", self.stride_seconds)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value:g}: give a positive number, or null for the video's own rate")

    def stride(self, info: VideoInfo) -> float:
        """Seconds from one frame of the clip to the next."""
        return self.stride_seconds or 1 / (self.fps or info.fps)

    def slack_seconds(self, info: VideoInfo) -> float:
        """The last start at which the window still lies in the video; negative where it is too long."""
        slack = last_seconds(info) - (self.num_frames - 1) * self.stride(info)
        return slack if abs(slack) > ROUNDING / info.fps else 0.0

    def window(self, info: VideoInfo, start_seconds: float) -> np.ndarray:
        """Times of the clip that starts there, float64 (T,)."""
        times = start_seconds + np.arange(self.num_frames) * self.stride(info)
        if self.slack_seconds(info) >= 0:
            return np.clip(times, 0.0, last_seconds(info))
        rounds = times / info.duration_seconds
        return np.clip((rounds - np.floor(rounds + ROUNDING)) * info.duration_seconds, 0.0, last_seconds(info))

    def times_seconds(self, info: VideoInfo, generator: torch.Generator) -> np.ndarray:
        slack = self.slack_seconds(info)
        half = 0.5 / info.fps  # the reader rounds: the first and last frame own as much as the others
        start = min(max(0.0, uniform(-half, slack + half, generator)), slack) if slack >= 0 else 0.0
        return self.window(info, start)

    def refuse(self, info: VideoInfo) -> str | None:
        if self.loop or self.slack_seconds(info) >= 0:
            return None
        window_seconds = (self.num_frames - 1) * self.stride(info) + 1 / info.fps
        return (
            f"lasts {info.duration_seconds:.2f} s, {self.num_frames} frames {self.stride(info):.3g} s apart need "
            f"{window_seconds:.2f} s; set loop: true or take fewer frames"
        )

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        return _clip(self, video, info, generator)


@dataclass(frozen=True)
class Segments:
    """One frame drawn at random in each of `num_segments` equal parts of the video, in order.

    Temporal segment networks (Wang et al. 2016, arXiv 1608.00859, section 3.1). A video with fewer frames than
    segments shows some of them more than once.

    Raises ValueError for no segments.
    """

    num_segments: int = 8

    def __post_init__(self) -> None:
        _check_count("num_segments", self.num_segments)

    def times_seconds(self, info: VideoInfo, generator: torch.Generator) -> np.ndarray:
        inside = torch.rand(self.num_segments, generator=generator, dtype=torch.float64).numpy()
        return _segment_times(info, self.num_segments, inside)

    def refuse(self, info: VideoInfo) -> str | None:
        return None

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        return _clip(self, video, info, generator)


@dataclass(frozen=True)
class FixedClip:
    """The frames at given times, whatever the generator: one view of a test."""

    at_seconds: tuple[float, ...]

    def times_seconds(self, info: VideoInfo, generator: torch.Generator) -> np.ndarray:
        return np.asarray(self.at_seconds)

    def refuse(self, info: VideoInfo) -> str | None:
        return None

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        return _clip(self, video, info, generator)


@dataclass(frozen=True)
class DenseViews:
    """Windows as of `DenseClip`, evenly spaced from the first frame to the last.

    Ten clips a video are usual (Xu et al. 2019, CVPR; Feichtenhofer et al. 2019, arXiv 1812.03982, section 4). A video
    with fewer starts than that has as many views as starts; one shorter than the window is looped, in one view.

    Args:
        num_frames, fps, stride_seconds: as of `DenseClip`.
        clips: views a video; one view is the middle.
        every_seconds: instead of `clips`, the longest gap between two starts, for videos of any length.

    Raises:
        ValueError: what `DenseClip` raises; no clips; both or neither of `clips` and `every_seconds`.
    """

    num_frames: int = 16
    fps: float | None = None
    stride_seconds: float | None = None
    clips: int | None = 10
    every_seconds: float | None = None

    def __post_init__(self) -> None:
        self.clip()
        if (self.clips is None) == (self.every_seconds is None):
            raise ValueError(
                f"clips={self.clips} and every_seconds={self.every_seconds}: give one of the two, the other null"
            )
        if self.clips is not None:
            _check_count("clips", self.clips)
        elif self.every_seconds is not None and not 0 < self.every_seconds < math.inf:
            raise ValueError(f"every_seconds={self.every_seconds:g}: give a positive number of seconds")

    def clip(self) -> DenseClip:
        """The window of one view."""
        return DenseClip(self.num_frames, self.fps, self.stride_seconds)

    def views(self, info: VideoInfo) -> list[FixedClip]:
        clip = self.clip()
        slack = max(0.0, clip.slack_seconds(info))
        count = self.clips or math.ceil(slack / (self.every_seconds or 1.0) - ROUNDING) + 1
        spaced = np.linspace(0.0, slack, count) if count > 1 or self.clips is None else np.array([slack / 2])
        starts = np.unique(np.floor(spaced * info.fps + 0.5)) / info.fps  # at a frame: unlike starts, unlike frames
        return [FixedClip(tuple(clip.window(info, min(start, slack)).tolist())) for start in starts]


@dataclass(frozen=True)
class SegmentViews:
    """One frame in each of `num_segments` equal parts of the video: the middles, and further views beside them.

    View j of `views` takes the middle of the j-th of `views` equal pieces of every part. Views of a short video that
    show the same frames are one view. Raises ValueError for no segments or views.
    """

    num_segments: int = 8
    num_views: int = 1

    def __post_init__(self) -> None:
        _check_count("num_segments", self.num_segments)
        _check_count("num_views", self.num_views)

    def views(self, info: VideoInfo) -> list[FixedClip]:
        views: dict[tuple[float, ...], FixedClip] = {}
        for inside in (np.arange(self.num_views) + 0.5) / self.num_views:
            times = _segment_times(info, self.num_segments, np.full(self.num_segments, inside))
            # Half-way between two frames is the earlier one, as for the reader.
            views.setdefault(tuple(np.ceil(times * info.fps - 0.5 - ROUNDING)), FixedClip(tuple(times.tolist())))
        return list(views.values())


def last_seconds(info: VideoInfo) -> float:
    """When the last frame appears."""
    return max(0.0, info.duration_seconds - 1 / info.fps)


def fits(info: VideoInfo, seconds: float) -> bool:
    """Whether a window, from a first frame to a last, lies in the video, to a hundredth of a frame.

    Seconds are given with a few digits: 0.0667 is a frame at 15 a second.
    """
    return seconds <= last_seconds(info) + 0.01 / info.fps


def is_a_frame(info: VideoInfo, seconds: float) -> bool:
    """Whether two times so far apart are shown by two frames, to a hundredth of a frame."""
    return seconds >= 0.99 / info.fps


def shown(video: VideoReader, times_seconds: np.ndarray) -> dict[str, Tensor]:
    """The frames nearest to these times, "clip" uint8 (C, T, H, W), and which they are.

    "frame", int64 (T,), is their number in the video; "times_seconds", float32 (T,), is when they are shown.
    """
    frames = video.frames(times_seconds.tolist())
    numbers = video.numbers(times_seconds.tolist())
    return {
        "clip": frames.transpose(0, 1),  # (T, C, H, W) -> (C, T, H, W)
        "frame": torch.from_numpy(numbers),
        "times_seconds": torch.from_numpy(video.times_seconds[numbers]).float(),
    }


def _segment_times(info: VideoInfo, num_segments: int, inside: np.ndarray) -> np.ndarray:
    """Times at the share `inside`, in [0, 1], of each part."""
    shown = (np.arange(num_segments) + inside) / num_segments * info.duration_seconds
    # The frame that is on show at a time is the one that is nearest to half a frame earlier.
    return np.clip(shown - 0.5 / info.fps, 0.0, last_seconds(info))


def _clip(sampler: TimedSampler, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
    if reason := sampler.refuse(info):
        raise ValueError(f"{info.path}: {reason}")
    return shown(video, sampler.times_seconds(info, generator))


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}={value}: give at least 1")
