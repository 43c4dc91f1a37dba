"""Foreground labels from motion: what a labeller gives, and which labels are not fit to learn from.

A labeller sees the frames of one video and says, softly, which pixels belong to what moves by itself. Its labels are
made without a human and are often wrong; each frame has a confidence, and frames that cannot be right are rejected
with a reason. Labellers: `unlc`, `motion_residual` and `flow_threshold`, one file each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from selfsup.data.index import VideoInfo
from selfsup.data.shots import ShotDetector

LEAST_PIXELS = 32  # of either side


class Rejection(str, Enum):
    """Why a frame has no label that one may learn from."""

    SHORT_SHOT = "its shot is too short"
    SKIPPED = "left out of a long shot"
    STATIC = "nothing moves by itself"
    NO_DOMINANT_MOTION = "too few frames of its shot have a dominant motion"
    EMPTY = "the mask is nearly empty"
    FULL = "the mask is nearly full"
    BORDER = "the mask lies along the border"


@dataclass(frozen=True)
class Labels:
    """The labels of one video, a frame each.

    Attributes:
        times_seconds: float64 (T,), of the frames.
        masks: float32 (T, H, W) in [0, 1], how surely a pixel is foreground; 0 where nothing could be computed.
        confidence: float32 (T,) in [0, 1], how much of what may be foreground surely is; 0 where rejected.
        rejections: T of them; None where the frame is fit to learn from.
    """

    times_seconds: Tensor
    masks: Tensor
    confidence: Tensor
    rejections: tuple[Rejection | None, ...]

    @property
    def accepted(self) -> Tensor:
        """Bool (T,), the frames that are not rejected."""
        return torch.tensor([rejection is None for rejection in self.rejections], dtype=torch.bool)

    def counts(self) -> dict[Rejection, int]:
        """How many frames were rejected for each reason that there is."""
        return dict(Counter(rejection for rejection in self.rejections if rejection is not None))


class Labeller(Protocol):
    """From frames to labels; a pure function, so that what is kept on disk can be made again."""

    def __call__(self, frames: Tensor, times_seconds: Sequence[float]) -> Labels:
        """Frames uint8 (T, 3, H, W) shown at T rising times, in seconds."""
        ...


@runtime_checkable
class VideoLabeller(Labeller, Protocol):
    """A labeller that asks for the video, and for none of its frames, since it knows the masks of it."""

    def of_video(self, info: VideoInfo, times_seconds: Sequence[float]) -> Labels:
        """Labels of the frames shown at T rising times, in seconds."""
        ...


@dataclass(frozen=True)
class MaskFilter:
    """Rejects masks that are no object.

    Args:
        threshold: pixels above it are foreground here.
        minimum_share, maximum_share: of the frame that is foreground.
        maximum_border_share: of the frame's outermost pixels that are foreground.
    """

    threshold: float = 0.5
    minimum_share: float = 0.01
    maximum_share: float = 0.8
    maximum_border_share: float = 0.1

    def __call__(self, mask: NDArray[np.float32]) -> Rejection | None:
        """The reason why a mask (H, W) in [0, 1] is none, or None."""
        foreground = mask > self.threshold
        share = foreground.mean()
        if share < self.minimum_share:
            return Rejection.EMPTY
        if share > self.maximum_share:
            return Rejection.FULL
        border = np.concatenate([foreground[0], foreground[-1], foreground[1:-1, 0], foreground[1:-1, -1]])
        return Rejection.BORDER if border.mean() > self.maximum_border_share else None


class ShotLabeller:
    """A labeller that cuts a video into shots and labels each by itself. A subclass writes `label_shot`.

    Attributes:
        shots: finds the shots and the frames of each that are looked at.
        mask_filter: is asked about each mask.
        max_side_pixels: larger frames are made smaller first; the masks are given at the frames' own size.
    """

    shots: ShotDetector
    mask_filter: MaskFilter
    max_side_pixels: int

    def label_shot(self, frames: Tensor) -> NDArray[np.float32] | Rejection:
        """Frames uint8 (T, 3, H, W) of one shot to masks float32 (T, H, W) in [0, 1], or why there are none.

        Written by the subclass.
        """
        raise NotImplementedError(f"{type(self).__name__}.label_shot")  # abstract

    def __call__(self, frames: Tensor, times_seconds: Sequence[float]) -> Labels:
        """Labels of frames uint8 (T, 3, H, W) shown at T rising times, in seconds.

        Raises ValueError for anything but two or more colour frames of at least 32 pixels either way, or times that do
        not rise.
        """
        times = _check(frames, times_seconds)
        height, width = frames.shape[-2:]
        masks = torch.zeros(len(frames), height, width)
        confidence = torch.zeros(len(frames))
        rejections: list[Rejection | None] = [Rejection.SHORT_SHOT] * len(frames)
        small = _shrink(frames, self.max_side_pixels)
        for shot in self.shots(small):
            rejections[shot.start : shot.stop] = [Rejection.SKIPPED] * (shot.stop - shot.start)
            found = self.label_shot(small[list(shot)])
            for position, number in enumerate(shot):
                if isinstance(found, Rejection):
                    rejections[number] = found
                    continue
                mask = torch.from_numpy(found[position])[None]
                masks[number] = F.resize(mask, [height, width], antialias=False)[0].clamp(0, 1)
                rejections[number] = self.mask_filter(masks[number].numpy())
                if rejections[number] is None:
                    confidence[number] = certainty(masks[number])
        return Labels(times, masks, confidence, tuple(rejections))


def certainty(mask: Tensor, sure: float = 0.7, perhaps: float = 0.4) -> float:
    """Of the pixels of a mask (H, W) above `perhaps`, the share above `sure`; the bounds are those of the trimap."""
    candidates = int((mask > perhaps).sum())
    return int((mask > sure).sum()) / candidates if candidates else 0.0


def settings_of(labeller: Any) -> str:
    """Everything that the labels of a labeller depend on, as JSON; part of the key of what is kept."""
    return json.dumps(_describe(labeller), sort_keys=True)


def _describe(value: Any) -> Any:
    if hasattr(value, "name") and not isinstance(value, Enum):  # a flow algorithm, whose weights may be in a file
        return value.name
    if is_dataclass(value):
        return {"class": type(value).__name__} | {
            field.name: _describe(getattr(value, field.name)) for field in fields(value)
        }
    return value


def _shrink(frames: Tensor, max_side_pixels: int) -> Tensor:
    height, width = frames.shape[-2:]
    scale = max_side_pixels / max(height, width)
    if scale >= 1:
        return frames
    size = [max(LEAST_PIXELS, round(side * scale)) for side in (height, width)]
    return torch.stack([F.resize(frame, size) for frame in frames])  # one at a time: 4K frames are large as floats


def _check(frames: Tensor, times_seconds: Sequence[float]) -> Tensor:
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"foreground of {frames.dtype} {tuple(frames.shape)}: give uint8 (T, 3, H, W)")
    if len(frames) < 2:
        raise ValueError(f"foreground of {len(frames)} frame(s): motion needs at least 2")
    height, width = frames.shape[-2:]
    if min(height, width) < LEAST_PIXELS:
        raise ValueError(f"frames of {width} x {height} pixels: foreground needs {LEAST_PIXELS} either way")
    times = torch.as_tensor(times_seconds, dtype=torch.float64)
    if times.shape != (len(frames),) or not bool((times.diff() > 0).all()):
        raise ValueError(f"{len(times)} times for {len(frames)} frames: give each frame one, in rising order")
    return times
