"""The simplest labeller: what moves against the camera is foreground."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfsup.data.camera_motion import CameraMotion, PlaneMotion
from selfsup.data.flow import Dis, FlowAlgorithm
from selfsup.data.foreground import MaskFilter, Rejection, ShotLabeller
from selfsup.data.saliency import fastest, neighbour_flow
from selfsup.data.shots import ShotDetector


@dataclass(frozen=True)
class FlowThreshold(ShotLabeller):
    """The motion m of a pixel, in pixels a frame and without the camera's, as m / (m + threshold).

    The mean over the flow to the frame before and to the one after.

    Args:
        flow: the algorithm.
        camera: is taken out of the flow first; null: it is not.
        threshold_pixels: a motion that gives 0.5.
        shots: cuts the video.
        mask_filter: rejects masks that are no object.
        minimum_motion_pixels: a shot whose frames, by the median, move less in their fastest hundredth is static.
        max_side_pixels: of the frames, which are made smaller first.
    """

    flow: FlowAlgorithm = field(default_factory=Dis)
    camera: CameraMotion | None = field(default_factory=PlaneMotion)
    threshold_pixels: float = 1.0
    shots: ShotDetector = field(default_factory=ShotDetector)
    mask_filter: MaskFilter = field(default_factory=MaskFilter)
    minimum_motion_pixels: float = 0.5
    max_side_pixels: int = 650

    def label_shot(self, frames: Tensor) -> NDArray[np.float32] | Rejection:
        """Frames uint8 (T, 3, H, W) of one shot to masks float32 (T, H, W) in [0, 1], or why there are none."""
        masks = np.zeros((len(frames), *frames.shape[-2:]), np.float32)
        motion, pairs = np.zeros(len(frames)), np.zeros(len(frames))
        for number, _, vectors in neighbour_flow(frames, 1, self.flow):
            magnitude = np.hypot(*(vectors if self.camera is None else self.camera.residual(vectors)))
            masks[number] += magnitude / (magnitude + self.threshold_pixels)
            motion[number] = max(motion[number], fastest(magnitude))
            pairs[number] += 1
        if np.median(motion) < self.minimum_motion_pixels:
            return Rejection.STATIC
        masks /= pairs[:, None, None]
        return masks
