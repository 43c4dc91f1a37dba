"""Cuts a video into shots by kernel temporal segmentation.

Potapov et al. 2014, "Category-specific video summarization" (ECCV), section 3; the features and settings are those of
uNLC (Pathak et al. 2017, arXiv 1612.06370, the authors' code).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfsup.data.superpixels import colour_codes, to_lab

_SIDE_PIXELS = 96  # histograms need no more, and a long video is looked at whole


@dataclass(frozen=True)
class ShotDetector:
    """Finds the frames at which a new shot starts.

    Args:
        max_cuts: most cuts that are looked for.
        penalty: of a cut; lower values give more shots.
        histogram_bins: of each of the six channels of RGB and Lab.
        min_frames: shorter shots are left out by whoever asks.
        max_frames: of longer shots every n-th frame is looked at, so that at most this many and at least half are.
    """

    max_cuts: int = 5
    penalty: float = 0.6
    histogram_bins: int = 40
    min_frames: int = 10
    max_frames: int = 110

    def __call__(self, frames: Tensor) -> list[range]:
        """Frames uint8 (T, 3, H, W) to those of each shot that is long enough; of long ones some are left out."""
        features = np.stack([_histograms(frame, self.histogram_bins) for frame in _images(frames)])
        starts = [0, *change_points(features @ features.T, self.max_cuts, self.penalty), len(frames)]
        shots = []
        for start, stop in pairwise(starts):
            if stop - start >= self.min_frames:
                step = 1 + (stop - start) // self.max_frames if stop - start > self.max_frames else 1
                shots.append(range(start, stop, step))
        return shots


def change_points(kernel: NDArray[np.floating], most: int, penalty: float) -> list[int]:
    """First items of all segments but the first, for the best number of segments.

    The within-segment scatter of 0 to `most` changes is minimised exactly by dynamic programming; the number m of
    changes then minimises scatter / n + penalty · m / (2 n) · (log(n / m) + 1), n being the number of items.

    Args:
        kernel: float (n, n), inner products of the items' features, positive semi-definite.
        most: changes, at least 0.
        penalty: of a change.
    """
    length = len(kernel)
    most = min(most, length - 1)
    scatter = _scatter(kernel)
    costs = np.full((most + 1, length + 1), np.inf)  # of the first `stop` items in m + 1 segments
    costs[0, 1:] = scatter[0, 1:]
    last = np.zeros((most + 1, length + 1), int)
    for changes in range(1, most + 1):
        for stop in range(changes + 1, length + 1):
            totals = costs[changes - 1, :stop] + scatter[:stop, stop]
            last[changes, stop] = totals.argmin()
            costs[changes, stop] = totals.min()
    number = np.arange(most + 1)
    fines = penalty * number / (2 * length) * (np.log(length / np.maximum(number, 1)) + 1)
    best = int((costs[:, length] / length + fines).argmin())
    points, stop = [], length
    for changes in range(best, 0, -1):
        stop = int(last[changes, stop])
        points.append(stop)
    return points[::-1]


def _scatter(kernel: NDArray[np.floating]) -> NDArray[np.float64]:
    """Float64 (n + 1, n + 1): summed squared distance of items start to stop - 1 from their mean, at [start, stop]."""
    length = len(kernel)
    norms = np.concatenate([[0.0], np.diag(kernel).cumsum()])
    sums = np.zeros((length + 1, length + 1))
    sums[1:, 1:] = kernel.astype(np.float64).cumsum(0).cumsum(1)
    corner = np.diag(sums)
    start, stop = np.mgrid[: length + 1, : length + 1]
    blocks = corner[stop] + corner[start] - sums[start, stop] - sums[stop, start]
    return np.maximum(norms[stop] - norms[start] - blocks / np.maximum(stop - start, 1), 0.0)


def _images(frames: Tensor) -> NDArray[np.uint8]:
    step = max(1, min(frames.shape[-2:]) // _SIDE_PIXELS)
    return frames[..., ::step, ::step].permute(0, 2, 3, 1).numpy()


def _histograms(image: NDArray[np.uint8], bins: int) -> NDArray[np.float64]:
    """Of an image uint8 (H, W, 3): float64 (6 bins,), each channel's sums to one."""
    codes = colour_codes(image, to_lab(image), bins).reshape(-1, 6) + np.arange(6) * bins
    return np.bincount(codes.ravel(), minlength=6 * bins) / len(codes)
