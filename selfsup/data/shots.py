"""Cuts a video into shots by kernel temporal segmentation, and keeps the cuts that are abrupt.

Potapov et al. 2014, "Category-specific video summarization" (ECCV), section 3; the features and settings are those of
uNLC (Pathak et al. 2017, arXiv 1612.06370, the authors' code). The segmentation also parts what changes slowly but
far, as exposure does. A cut is a change that stands out from those around it: the sliding window of Yeo and Liu 1995
("Rapid scene analysis on compressed video"), with the median in place of the second largest, so that a neighbouring cut
does not hide one.
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
        abruptness: a cut changes the histograms, exposure taken out, at least so many times as the median of the
            changes around it does; a gradual transition is none. 0: every change point is a cut, as in uNLC.
        window_frames: before and after a cut, that are looked at for it.
        plain_change: of the histograms (Euclidean, each channel's sums to one), from which on two frames are of two
            shots, whatever is around them and however many cuts there are. Adjacent frames of DAVIS reach 0.22 at half
            their rate, those of two unlike videos have a median of 0.74.

    Raises ValueError for a negative abruptness, or a window of less than one frame.
    """

    max_cuts: int = 5
    penalty: float = 0.6
    histogram_bins: int = 40
    min_frames: int = 10
    max_frames: int = 110
    abruptness: float = 3.0
    window_frames: int = 8
    plain_change: float = 0.4

    def __post_init__(self) -> None:
        if self.abruptness < 0 or self.window_frames < 1:
            raise ValueError(
                f"shots.abruptness={self.abruptness:g} and shots.window_frames={self.window_frames}: give 0 or more "
                "and 1 or more"
            )

    def __call__(self, frames: Tensor) -> list[range]:
        """Frames uint8 (T, 3, H, W) to those of each shot that is long enough; of long ones some are left out."""
        starts = [0, *self.cuts(frames), len(frames)]
        shots = []
        for start, stop in pairwise(starts):
            if stop - start >= self.min_frames:
                step = 1 + (stop - start) // self.max_frames if stop - start > self.max_frames else 1
                shots.append(range(start, stop, step))
        return shots

    def cuts(self, frames: Tensor) -> list[int]:
        """The first frames of all shots but the first, rising, of frames uint8 (T, 3, H, W)."""
        images = _one_exposure(_images(frames))
        features = np.stack([_histograms(image, self.histogram_bins) for image in images])
        points = change_points(features @ features.T, self.max_cuts, self.penalty)
        changes = np.linalg.norm(np.diff(features, axis=0), axis=1)  # [i]: from frame i to the next
        plain = {int(number) + 1 for number in np.flatnonzero(changes >= self.plain_change)}
        return sorted(plain | {cut for point in points if (cut := self._abrupt(changes, point)) is not None})

    def _abrupt(self, changes: NDArray[np.float64], point: int) -> int | None:
        """The cut at a change point or one frame beside it; None where there is none."""
        if self.abruptness == 0:
            return point
        near = range(max(0, point - 2), min(len(changes), point + 1))
        best = max(near, key=lambda number: changes[number])
        before, after = changes[max(0, best - self.window_frames) : best], changes[best + 1 :][: self.window_frames]
        others = np.concatenate([before, after])
        abrupt = not len(others) or changes[best] >= self.abruptness * np.median(others)
        return best + 1 if abrupt else None


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


def _one_exposure(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (T, H, W, 3), each multiplied by at least a half and at most two, so that their means agree."""
    means = np.maximum(images.mean(axis=(1, 2, 3)), 1)
    gains = np.clip(np.median(means) / means, 0.5, 2)
    levelled = [np.clip(image * np.float32(gain) + 0.5, 0, 255) for image, gain in zip(images, gains, strict=True)]
    return np.stack(levelled).astype(np.uint8)


def _histograms(image: NDArray[np.uint8], bins: int) -> NDArray[np.float64]:
    """Of an image uint8 (H, W, 3): float64 (6 bins,), each channel's sums to one."""
    codes = colour_codes(image, to_lab(image), bins).reshape(-1, 6) + np.arange(6) * bins
    return np.bincount(codes.ravel(), minlength=6 * bins) / len(codes)
