"""How well a labeller finds the foreground of videos whose true masks are known."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from selfsup.data.foreground import Labeller, Rejection
from selfsup.data.reader import VideoReader
from selfsup.data.true_masks import read_masks

LEAST_FRAMES = 3  # of a video: J leaves out the first and the last


def region_similarity(masks: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """J of DAVIS (Perazzi et al. 2016, CVPR, section 4): mean over frames of intersection over union.

    Masks and truth (T, H, W), T at least 3; the first and the last frame do not count, two empty masks agree.
    """
    masks, truth = masks[1:-1], truth[1:-1]
    union = (masks | truth).sum(axis=(1, 2))
    return float(np.where(union == 0, 1.0, (masks & truth).sum(axis=(1, 2)) / np.maximum(union, 1)).mean())


def constant_masks(shape: tuple[int, ...]) -> dict[str, NDArray[np.bool_]]:
    """Masks (T, H, W) that look at nothing, by name; H and W at least 4."""
    box = np.zeros(shape, bool)
    height, width = shape[1:]
    box[:, height // 4 : -(height // 4), width // 4 : -(width // 4)] = True
    return {"all foreground": np.ones(shape, bool), "centre box, half of each side": box}


@dataclass(frozen=True)
class MaskedVideo:
    """The frames of a video and what is true of them.

    Attributes:
        frames: uint8 (T, 3, h, w), made smaller or larger for the labeller.
        times_seconds: T of them.
        truth: bool (T, H, W), of the video's own size.
    """

    frames: Tensor
    times_seconds: list[float]
    truth: NDArray[np.bool_]


def read_masked(path: Path, short_side_pixels: int, max_frames: int | None = None) -> MaskedVideo:
    """The first frames of a video, by default all; ValueError where J has none to look at, or no true masks."""
    truth = read_masks(path)
    if truth is None:
        raise ValueError(f"{path}: no true masks are known; give data=davis or data=synthetic, whose videos have them")
    with VideoReader(path, short_side_pixels=short_side_pixels) as video:
        times = video.times_seconds[:max_frames].tolist()
        frames = video.frames(times)
    if len(frames) < LEAST_FRAMES:
        raise ValueError(
            f"{path}: {len(frames)} frame(s), and J leaves out the first and the last; give {LEAST_FRAMES} or more"
        )
    if len(truth) < len(frames):
        raise ValueError(f"{path}: {len(frames)} frames but {len(truth)} true masks; write both again")
    return MaskedVideo(frames, times, truth[: len(frames)])


@dataclass(frozen=True)
class Score:
    """What a labeller made of one video.

    Attributes:
        similarity: J.
        frames: that were labelled. Rejected ones count in J as their masks are.
        rejected: how many of them, by reason.
        cpu_seconds: of the labeller alone, all threads together.
        picture: float (H, W) in [0, 1], the mask of the frame in the middle.
    """

    similarity: float
    frames: int
    rejected: Mapping[Rejection, int]
    cpu_seconds: float
    picture: Tensor


def score(labeller: Labeller, video: MaskedVideo, threshold: float) -> Score:
    """J of a labeller's masks on one video; what they hold above `threshold` is foreground."""
    start = time.process_time()
    labels = labeller(video.frames, video.times_seconds)
    seconds = time.process_time() - start
    size = list(video.truth.shape[1:])
    masks = np.stack([_resized(mask, size).numpy() > threshold for mask in labels.masks])
    middle = _resized(labels.masks[len(masks) // 2], size)
    return Score(region_similarity(masks, video.truth), len(masks), labels.counts(), seconds, middle)


def _resized(mask: Tensor, size: list[int]) -> Tensor:
    return F.resize(mask[None], size, antialias=True)[0].clamp(0, 1)
