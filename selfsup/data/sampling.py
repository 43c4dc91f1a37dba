"""Clip samplers: each asks one question of one video.

A sampler is pure: all chance comes from the generator, so an example can be made again from its seed. Times are in
seconds; the reader answers with the frame whose presentation time is nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from selfsup.data.executors import Executor
from selfsup.data.index import VideoInfo
from selfsup.data.processes import run_in_processes
from selfsup.data.reader import VideoReader


class ClipSampler(Protocol):
    """Asks one question of one video. Pure: all chance comes from `generator`."""

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        """Returns the example; "clip" is uint8 (C, T, H, W) as read, before any crop.

        A clip (V, C, T, H, W) holds V views of the video, which are cropped each by its own draw.
        """
        ...

    def refuse(self, info: VideoInfo) -> str | None:
        """Why the question cannot be asked of this video, or None where it can."""
        ...


@runtime_checkable
class SoundSampler(ClipSampler, Protocol):
    """A sampler that hears. Videos are held against the policy of `data.audio` before `refuse` is asked."""

    sound_seconds: float


@dataclass(frozen=True)
class Prepared:
    """What a `PreparedSampler` has made of a list of videos.

    Attributes:
        refused: why nothing could be made of a video.
        fit: frames that one may learn from.
        rejected: frames that one may not, by reason.
        made: frames of both kinds that were not there before.
        folder: where it is kept.
    """

    refused: Mapping[Path, str]
    fit: int
    rejected: Mapping[str, int]
    made: int
    folder: Path

    @property
    def frames(self) -> int:
        """All frames that were looked at."""
        return self.fit + sum(self.rejected.values())

    def note(self) -> str:
        """A sentence to print."""
        lost = "; ".join(f"{count} × {reason}" for reason, count in self.rejected.items())
        return f"{self.frames} frames labelled, {self.fit} fit to learn from" + (f"; rejected: {lost}" if lost else "")


@runtime_checkable
class PreparedSampler(ClipSampler, Protocol):
    """A sampler that computes something of every video once, before it is asked. `refuse` may then go by it."""

    def prepare(
        self,
        infos: Sequence[VideoInfo],
        *,
        processes: int,
        progress: Callable[[int, int], None] | None = None,
        executor: Executor = run_in_processes,
    ) -> Prepared:
        """Makes what is not there yet, so many videos at once; `progress` is called with (frames done, in all)."""
        ...


@runtime_checkable
class PackableSampler(ClipSampler, Protocol):
    """A sampler that computes something of a video which can be packed beside its frames."""

    def to_pack(self, info: VideoInfo, short_side_pixels: int) -> Iterator[tuple[dict[str, str | int | float], bytes]]:
        """What is computed, each by the key that the sampler will look it up by with `VideoInfo.kept`.

        `short_side_pixels` is the size of the packed frames. Raises ValueError where it cannot be computed.
        """
        ...


@dataclass(frozen=True)
class UniformSampler:
    """`num_frames` frames in the middles of equal parts of the whole video (Wang et al. 2016, arXiv 1608.00859,
    in the deterministic form for testing)."""

    num_frames: int = 8

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        middles = (np.arange(self.num_frames) + 0.5) / self.num_frames * info.duration_seconds
        return {"clip": video.frames(middles.tolist()).transpose(0, 1)}

    def refuse(self, info: VideoInfo) -> str | None:
        return None


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """One number from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def motion_weighted_start(
    info: VideoInfo, window_seconds: float, generator: torch.Generator, *, cut_threshold: float = 0.25
) -> float:
    """The start, in seconds, of a window, drawn with a probability that grows with the motion in it.

    The weight of a window is its mean frame difference, as Misra et al. 2016 (arXiv 1603.08561, section 3) weight by
    the mean flow magnitude. A window in which a difference exceeds `cut_threshold` holds a cut, after which the first
    and last frames are trivially unlike; it is drawn only where every window holds one. Where nothing moves, all
    windows are alike.
    """
    slack = info.duration_seconds - window_seconds
    if slack <= 0:
        return 0.0
    rate = info.motion_rate_hz
    length = max(1, round(window_seconds * rate))
    touched = math.ceil(window_seconds * rate) + 1  # a window seldom starts where a difference does
    starts = max(1, min(int(slack * rate) + 1, len(info.motion) - length + 1))
    motion = np.pad(info.motion, (0, touched))
    means = sliding_window_view(motion, length)[:starts].mean(axis=1)
    peaks = sliding_window_view(motion, touched)[:starts].max(axis=1)
    weights = means * (peaks <= cut_threshold)
    if weights.sum() <= 0:
        weights = np.ones(starts)
    start = int(torch.multinomial(torch.from_numpy(weights.astype(np.float64)), 1, generator=generator))
    return min(slack, (start + torch.rand((), generator=generator).item()) / rate)
