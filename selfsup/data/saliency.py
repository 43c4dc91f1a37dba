"""Where a video moves unlike the rest of it.

The motion saliency of Faktor and Irani 2014 ("Video Segmentation by Non-Local Consensus Voting", BMVC, section 3), with
the settings of uNLC (Pathak et al. 2017, arXiv 1612.06370, the authors' code).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from torch import Tensor, from_numpy
from torchvision.transforms.v2 import functional as F

from selfsup.data.camera_motion import CameraMotion
from selfsup.data.flow import Dis, FlowAlgorithm, flow


@dataclass(frozen=True)
class Saliency:
    """What `MotionSaliency` finds.

    Attributes:
        values: float32 (T, H, W), in [0, 1]; the greatest of the whole shot is 1, unless all are 0.
        dominant: bool (T,), whether most of a frame moves as one, or stands still, towards any of its neighbours.
        motion_pixels: float32 (T,), how far the fastest hundredth of a frame moves at least in one frame.
    """

    values: NDArray[np.float32]
    dominant: NDArray[np.bool_]
    motion_pixels: NDArray[np.float32]


@dataclass(frozen=True)
class MotionSaliency:
    """How far the motion at a pixel deviates from the dominant one, over the flow to the frames around.

    A pair of frames is dominated by standing still where the median of the flow's magnitude is below `still_pixels`;
    deviation is then the magnitude squared. Else by one direction, where a bin of the directions' histogram, weighted
    by magnitude, holds more than `direction_share`; deviation is then the squared angle to it. Other pairs say nothing.

    Args:
        flow: the algorithm.
        side_pixels: frames are made squares of this side before the flow; null: they stay as they are.
        reach_frames: flow is taken to as many frames before and after.
        still_pixels: see above, in pixels of the resized frames.
        direction_share, direction_bins: see above.
        smoothing_pixels: side of the box that smooths the deviation.
        border_share: of the shorter side; what lies nearer to the border is no foreground.
        camera: is taken out of the flow first; null: it is not.
    """

    flow: FlowAlgorithm = field(default_factory=Dis)
    side_pixels: int | None = 100
    reach_frames: int = 3
    still_pixels: float = 1.0
    direction_share: float = 0.75
    direction_bins: int = 20
    smoothing_pixels: int = 5
    border_share: float = 0.125
    camera: CameraMotion | None = None

    def __call__(self, frames: Tensor) -> Saliency:
        """The saliency of frames uint8 (T, 3, H, W), T at least 2, of one shot."""
        height, width = frames.shape[-2:]
        small = F.resize(frames, [self.side_pixels, self.side_pixels]) if self.side_pixels else frames
        total = np.zeros((len(frames), *small.shape[-2:]), np.float32)
        pairs = np.zeros(len(frames), int)
        motion = np.zeros(len(frames), np.float32)
        for number, step, vectors in neighbour_flow(small, self.reach_frames, self.flow):
            if self.camera is not None:
                vectors = self.camera.residual(vectors)
            if abs(step) == 1:
                motion[number] = max(motion[number], fastest(np.hypot(*vectors)))
            deviation = self._deviation(vectors)
            if deviation is not None:
                total[number] += uniform_filter(deviation, self.smoothing_pixels)
                pairs[number] += 1
        values = total
        values /= np.maximum(pairs, 1)[:, None, None]
        if self.side_pixels:
            values = F.resize(from_numpy(values), [height, width], antialias=False).numpy()
        values = without_border(values, self.border_share)
        return Saliency(values / np.float32(values.max() or 1), pairs > 0, motion)

    def _deviation(self, vectors: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """From the dominant motion, squared: float32 (H, W); None where there is none."""
        magnitude = np.hypot(*vectors)
        if np.median(magnitude) < self.still_pixels:
            return magnitude**2
        angle = np.arctan2(vectors[1], vectors[0])
        shares, edges = np.histogram(angle, self.direction_bins, (-np.pi, np.pi), weights=magnitude)
        best = int(shares.argmax())
        if shares[best] <= self.direction_share * shares.sum():
            return None
        apart = np.abs(angle - (edges[best] + edges[best + 1]) / 2)
        return np.minimum(apart, 2 * np.pi - apart).astype(np.float32) ** 2


def neighbour_flow(
    frames: Tensor, reach_frames: int, algorithm: FlowAlgorithm
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Flow from every frame to each of those around it: (frame's number, step, float32 (2, H, W)).

    Steps run from -reach to -1 and from 1 to reach; pairs that leave the video are not there.
    """
    for step in range(1, min(reach_frames, len(frames) - 1) + 1):
        for first in range(min(step, len(frames) - step)):
            numbers = np.arange(first, len(frames), step)
            chain = frames[first::step]
            for direction in (1, -1):
                fields = flow(chain if direction == 1 else chain.flip(0), algorithm).numpy()
                origins = numbers[:-1] if direction == 1 else numbers[:0:-1]
                for number, vectors in zip(origins.tolist(), fields, strict=True):
                    yield number, direction * step, vectors


def fastest(magnitude: NDArray[np.float32], share: float = 0.01, border_share: float = 0.125) -> float:
    """How far the fastest share of the pixels moves at least; (H, W), pixels.

    Left out is the border, over which a moving camera brings what the other frame does not show.
    """
    margin = int(min(magnitude.shape) * border_share)
    inside = magnitude[margin : magnitude.shape[0] - margin : 2, margin : magnitude.shape[1] - margin : 2]
    return float(np.quantile(inside, 1 - share))


def without_border(values: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Values (T, H, W), zero where nearer to the border than `share` of the shorter side."""
    height, width = values.shape[1:]
    margin = int(min(height, width) * share)
    kept = np.zeros_like(values)
    inside = (slice(None), slice(margin, height - margin), slice(margin, width - margin))
    kept[inside] = values[inside]
    return kept
