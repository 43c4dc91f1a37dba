"""uNLC, the labeller of "Learning Features by Watching Objects Move".

Pathak et al. 2017, arXiv 1612.06370, section 4.1: the unsupervised variant of Faktor and Irani 2014 ("Video
Segmentation by Non-Local Consensus Voting", BMVC). Defaults are the values of the authors' `run_full`, except that
flow is DIS rather than their coarse-to-fine one and that the camera's motion is taken out before saliency.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfsup.data.appearance_saliency import ManifoldRanking
from selfsup.data.camera_motion import PlaneMotion
from selfsup.data.consensus import Consensus, without_small_blobs
from selfsup.data.foreground import MaskFilter, Rejection, ShotLabeller
from selfsup.data.saliency import MotionSaliency
from selfsup.data.shots import ShotDetector
from selfsup.data.superpixels import Superpixels


@dataclass(frozen=True)
class Unlc(ShotLabeller):
    """Motion saliency, averaged over superpixels, then agreed upon by superpixels that look alike.

    Args:
        saliency: where a frame moves unlike the rest of it.
        shots, superpixels, consensus: the other steps.
        mask_filter: rejects masks that are no object.
        fallback: saliency of shots in which too few frames have a dominant motion; null: they are rejected.
        dominant_share: of a shot's frames that must have a dominant motion.
        minimum_motion_pixels: a shot whose frames, by the median, move less in their fastest hundredth is static.
        blob_threshold, blob_share: of the blobs above the threshold, those with less than this share of the largest
            one's pixels are lowered to the threshold at the end.
        max_side_pixels: of the frames, which are made smaller first.
    """

    saliency: MotionSaliency = field(default_factory=lambda: MotionSaliency(camera=PlaneMotion()))
    shots: ShotDetector = field(default_factory=ShotDetector)
    superpixels: Superpixels = field(default_factory=Superpixels)
    consensus: Consensus = field(default_factory=Consensus)
    mask_filter: MaskFilter = field(default_factory=MaskFilter)
    fallback: ManifoldRanking | None = None
    dominant_share: float = 0.5
    minimum_motion_pixels: float = 0.1
    blob_threshold: float = 0.7
    blob_share: float = 0.6
    max_side_pixels: int = 650

    def label_shot(self, frames: Tensor) -> NDArray[np.float32] | Rejection:
        """Frames uint8 (T, 3, H, W) of one shot to masks float32 (T, H, W) in [0, 1], or why there are none."""
        saliency = self.saliency(frames)
        if np.median(saliency.motion_pixels) < self.minimum_motion_pixels:
            return Rejection.STATIC
        dominated = saliency.dominant.mean() >= self.dominant_share
        if not dominated and self.fallback is None:
            return Rejection.NO_DOMINANT_MOTION
        regions = self.superpixels.divide(frames)
        if dominated:
            votes = regions.mean(saliency.values)
        else:
            assert self.fallback is not None
            votes = self.fallback(frames, regions)
        graph = self.consensus.graph(self.superpixels.describe(frames, regions), regions.frame_numbers)
        masks = regions.paint(self.consensus.vote(votes, graph, regions))
        return without_small_blobs(masks, self.blob_threshold, self.blob_share)
