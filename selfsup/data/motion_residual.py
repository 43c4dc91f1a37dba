"""What the motion of a smooth background does not explain, agreed upon by superpixels that look alike.

In the spirit of relaxed common fate (RCF: Lian et al. 2023, arXiv 2304.08025) and of "Guess What Moves" (Choudhury et
al. 2022, arXiv 2205.07844): regions follow low-order polynomial motions. Here the background does and the foreground
is what does not; nothing is learned and no weights are needed; appearance comes in by the consensus of uNLC.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfsup.data.camera_motion import CameraMotion, SmoothMotion
from selfsup.data.consensus import Consensus, without_small_blobs
from selfsup.data.flow import Dis, FlowAlgorithm, import_cv2, one_thread
from selfsup.data.foreground import MaskFilter, Rejection, ShotLabeller
from selfsup.data.saliency import fastest, neighbour_flow
from selfsup.data.shots import ShotDetector
from selfsup.data.superpixels import Superpixels


@dataclass(frozen=True)
class MotionResidual(ShotLabeller):
    """A pixel whose motion the background misses by r scores z² / (z² + odds²), z being r over the typical miss.

    Args:
        flow: the algorithm.
        background: its motion.
        reach_frames: flow is taken to as many frames before and after; the scores are averaged.
        odds: typical misses that score one half.
        unlike_levels: grey levels by which the background's motion must miss the picture, for half of the score: flow
            on an even surface follows what moves beside it.
        least_miss_pixels: that a typical miss (1.48 times the median) is taken for at least; flow is not more exact.
        shots, superpixels: as in uNLC.
        consensus: as in uNLC, with fewer iterations.
        blob_threshold, blob_share: of the blobs above the threshold, those with less than this share of the largest
            one's pixels are lowered to the threshold.
        mask_filter: rejects masks that are no object.
        minimum_motion_pixels: a shot whose frames, by the median, move less in their fastest hundredth is static.
        max_side_pixels: of the frames, which are made smaller first.
    """

    flow: FlowAlgorithm = field(default_factory=Dis)
    background: CameraMotion = field(default_factory=SmoothMotion)
    reach_frames: int = 3
    odds: float = 3.0
    unlike_levels: float = 1.0
    least_miss_pixels: float = 0.3
    shots: ShotDetector = field(default_factory=ShotDetector)
    superpixels: Superpixels = field(default_factory=Superpixels)
    consensus: Consensus = field(default_factory=lambda: Consensus(iterations=20, rounds=1))
    blob_threshold: float = 0.5
    blob_share: float = 0.3
    mask_filter: MaskFilter = field(default_factory=MaskFilter)
    minimum_motion_pixels: float = 0.5
    max_side_pixels: int = 650

    def label_shot(self, frames: Tensor) -> NDArray[np.float32] | Rejection:
        """Frames uint8 (T, 3, H, W) of one shot to masks float32 (T, H, W) in [0, 1], or why there are none."""
        scores, motion = self.score(frames)
        if np.median(motion) < self.minimum_motion_pixels:
            return Rejection.STATIC
        regions = self.superpixels.divide(frames)
        graph = self.consensus.graph(self.superpixels.describe(frames, regions), regions.frame_numbers)
        masks = regions.paint(self.consensus.vote(regions.mean(scores), graph, regions))
        return without_small_blobs(masks, self.blob_threshold, self.blob_share)

    def score(self, frames: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores float32 (T, H, W) in [0, 1], and how far the fastest hundredth of each frame moves, (T,) pixels."""
        scores = np.zeros((len(frames), *frames.shape[-2:]), np.float32)
        motion, pairs = np.zeros(len(frames), np.float32), np.zeros(len(frames))
        grey = smooth_grey(frames)
        for number, step, vectors in neighbour_flow(frames, self.reach_frames, self.flow):
            left = self.background.residual(vectors)
            missed, unlike = np.hypot(*left), picture_misses(grey[number], grey[number + step], vectors - left)
            typical = max(1.48 * float(np.median(missed)), self.least_miss_pixels)
            score = missed**2 / (missed**2 + (self.odds * typical) ** 2)
            scores[number] += score * unlike**2 / (unlike**2 + self.unlike_levels**2)
            pairs[number] += 1
            if abs(step) == 1:
                motion[number] = max(motion[number], fastest(missed))
        scores /= pairs[:, None, None]
        return scores, motion


def smooth_grey(frames: Tensor) -> NDArray[np.float32]:
    """Grey levels of frames uint8 (T, 3, H, W), slightly smoothed: float32 (T, H, W)."""
    cv2 = import_cv2()
    images = frames.permute(0, 2, 3, 1).numpy()
    grey = [cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32) for image in images]
    with one_thread(cv2):
        return np.stack([cv2.GaussianBlur(image, (0, 0), 1) for image in grey])


def picture_misses(
    here: NDArray[np.float32], there: NDArray[np.float32], flow: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Mean difference around each pixel of `here` (H, W) from where `flow` (2, H, W) says it lies in `there`."""
    cv2 = import_cv2()
    height, width = here.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    with one_thread(cv2):
        moved = cv2.remap(there, x + flow[0], y + flow[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cv2.blur(np.abs(moved - here), (7, 7))
