"""True masks, spoiled on purpose: how much noise may labels hold before the features that they teach are worse?

The study of Pathak et al. 2017 (arXiv 1612.06370, section 4): boundaries that are off, and masks that are cut short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from selfsup.data.foreground import Labels, certainty
from selfsup.data.index import VideoInfo


@dataclass(frozen=True)
class NoisyMasks:
    """Labels that are the true masks, each spoiled by its own draw: a pure function of seed, video and frame.

    Args:
        seed: of the draws.
        boundary_share: the boundary moves by up to this share of the square root of the object's area, outwards or
            inwards, all around.
        truncated_share: of the mask's bounding box, that a half plane of random direction cuts off.

    Raises ValueError for shares that are not in [0, 1), and in use for a video without true masks.
    """

    seed: int = 0
    boundary_share: float = 0.0
    truncated_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("boundary_share", "truncated_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"foreground.{name}={getattr(self, name):g}: give 0 or more, and less than 1")

    def __call__(self, frames: Tensor, times_seconds: Sequence[float]) -> Labels:
        """Raises ValueError: frames alone do not say whose masks are wanted."""
        raise ValueError("foreground=noisy_masks spoils masks that are known, and finds none; choose another labeller")

    def of_video(self, info: VideoInfo, times_seconds: Sequence[float]) -> Labels:
        """Labels of the frames of a video shown at T rising times, in seconds, at the size of its masks."""
        truth = info.true_masks()
        if truth is None:
            raise ValueError(f"{info.path}: no true masks are known; give data=davis or data=synthetic")
        with info.open() as video:
            shown = video.times_seconds
        numbers = [int(np.abs(shown - seconds).argmin()) for seconds in times_seconds]
        masks = torch.from_numpy(np.stack([self._spoiled(truth[number], info, number) for number in numbers])).float()
        times = torch.as_tensor(times_seconds, dtype=torch.float64)
        sure = torch.tensor([certainty(mask) for mask in masks])  # 0 where a mask is empty
        return Labels(times, masks, sure, (None,) * len(numbers))

    def _spoiled(self, mask: NDArray[np.bool_], info: VideoInfo, number: int) -> NDArray[np.bool_]:
        generator = np.random.default_rng([self.seed, int(info.checksum[:15], 16), number])
        if not mask.any():
            return mask
        moved = moved_boundary(mask, generator.uniform(-1, 1) * self.boundary_share * np.sqrt(mask.sum()))
        return truncated(moved, self.truncated_share, generator.uniform(0, 2 * np.pi))


def moved_boundary(mask: NDArray[np.bool_], pixels: float) -> NDArray[np.bool_]:
    """Mask (H, W) dilated by so many pixels, or eroded where they are negative; the frame's edge erodes nothing.

    What would be eroded whole keeps the pixels that lie deepest.
    """
    if pixels >= 0:
        return mask | (distance_transform_edt(~mask) <= pixels)
    depth = distance_transform_edt(mask) if not mask.all() else np.full(mask.shape, np.inf)
    return depth > min(-pixels, depth.max() - 1)


def truncated(mask: NDArray[np.bool_], share: float, angle: float) -> NDArray[np.bool_]:
    """Mask (H, W) without the share of its bounding box that lies farthest towards `angle`, in radians."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return mask
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    along = np.cos(angle) * x + np.sin(angle) * y
    box = along[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return mask & (along <= np.quantile(box, 1 - share))
