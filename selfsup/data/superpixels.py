"""Superpixels of frames and what describes them.

Superpixels: SLIC (Achanta et al. 2012), scikit-image's. The descriptor is that of uNLC (Pathak et al. 2017, arXiv
1612.06370, the authors' code), which follows Faktor and Irani 2014 ("Video Segmentation by Non-Local Consensus
Voting", BMVC).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfsup.data.flow import import_cv2

HOG_CELLS = 3  # either way
HOG_BINS = 6
_RANGES = ((0, 255), (0, 255), (0, 255), (0, 100), (-128, 127), (-128, 127))  # of R, G, B, L, a, b


@dataclass(frozen=True)
class Regions:
    """The superpixels of all frames, numbered through.

    Attributes:
        labels: int64 (T, H, W), 0 to N - 1; those of one frame follow on those of the frame before.
        starts: int64 (T,), the first superpixel of each frame.
    """

    labels: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Pixels of each superpixel, int64 (N,)."""
        return np.bincount(self.labels.ravel())

    @property
    def frame_numbers(self) -> NDArray[np.int64]:
        """The frame of each superpixel, int64 (N,)."""
        return np.repeat(np.arange(len(self.starts)), np.diff([*self.starts, len(self)]))

    def mean(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Means over the superpixels, float64 (N,), of values (T, H, W)."""
        return np.bincount(self.labels.ravel(), values.ravel()) / self.sizes

    def paint(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Float32 (T, H, W) that holds at each pixel the value (N,) of its superpixel."""
        return values.astype(np.float32)[self.labels]

    def centres(self) -> NDArray[np.int64]:
        """Of each superpixel's bounding box, int64 (N, 2), row and column in pixels."""
        high, wide = self.labels.shape[1:]
        rows, columns = np.broadcast_arrays(np.arange(high)[:, None], np.arange(wide))
        centres = []
        for coordinate, most in ((rows, high), (columns, wide)):
            low, top = np.full(len(self), most), np.zeros(len(self), int)
            for frame in self.labels:
                np.minimum.at(low, frame.ravel(), coordinate.ravel())
                np.maximum.at(top, frame.ravel(), coordinate.ravel())
            centres.append((low + top + 1) // 2)
        return np.stack(centres, axis=1)


@dataclass(frozen=True)
class Superpixels:
    """Divides frames into superpixels and describes each by a patch around it.

    Args:
        segments: about how many a frame.
        smoothing_pixels: sigma of the Gaussian that smooths the frame first.
        compactness: of the superpixels, against their evenness of colour.
        patch_pixels: side of the patch, a multiple of three.
        histogram_bins: of each of the six channels of RGB and Lab.
        colour, gradients, location: the parts of the descriptor.
    """

    segments: int = 400
    smoothing_pixels: float = 5.0
    compactness: float = 10.0
    patch_pixels: int = 15
    histogram_bins: int = 20
    colour: bool = True
    gradients: bool = True
    location: bool = True

    def __post_init__(self) -> None:
        if find_spec("skimage") is None:  # here rather than for each video
            raise ValueError("superpixels need scikit-image: pip install 'selfsup[foreground]'")
        if self.patch_pixels % HOG_CELLS:
            raise ValueError(f"patch_pixels={self.patch_pixels}: give a multiple of {HOG_CELLS}")
        if not (self.colour or self.gradients or self.location):
            raise ValueError("colour, gradients and location are all false: superpixels need a description")

    def divide(self, frames: Tensor) -> Regions:
        """The superpixels of frames uint8 (T, 3, H, W)."""
        from skimage.segmentation import slic  # an extra: nothing but labels from motion needs it

        labels, starts, count = [], [], 0
        for image in frames.permute(0, 2, 3, 1).numpy():
            own = slic(
                image,
                n_segments=self.segments,
                sigma=self.smoothing_pixels,
                compactness=self.compactness,
                start_label=0,
                channel_axis=-1,
            )
            labels.append(own + count)
            starts.append(count)
            count += int(own.max()) + 1
        return Regions(np.stack(labels), np.asarray(starts))

    def describe(self, frames: Tensor, regions: Regions) -> NDArray[np.float32]:
        """Float32 (N, D), D = 176 by default: 54 gradients, 120 colours, 2 of the place; distances are Euclidean."""
        centres, numbers = regions.centres(), regions.frame_numbers
        parts = []
        for number, image in enumerate(frames.permute(0, 2, 3, 1).numpy()):
            rows, columns = self._patches(centres[numbers == number], image.shape[:2])
            parts.append(self._describe_frame(image, rows, columns))
        if self.location:
            place = centres / np.asarray(frames.shape[-2:])
            return np.concatenate([np.concatenate(parts), place], axis=1).astype(np.float32)
        return np.concatenate(parts).astype(np.float32)

    def _patches(self, centres: NDArray[np.int64], shape: tuple[int, ...]) -> list[NDArray[np.int64]]:
        """Rows (S, P, 1) and columns (S, 1, P) of the pixels; a patch at the border is moved inwards."""
        offset = np.arange(self.patch_pixels)
        first = [
            np.clip(centres[:, axis] - self.patch_pixels // 2, 0, max(0, shape[axis] - self.patch_pixels))
            for axis in (0, 1)
        ]
        rows, columns = (
            np.minimum(start[:, None] + offset, length - 1) for start, length in zip(first, shape, strict=True)
        )
        return [rows[:, :, None], columns[:, None, :]]

    def _describe_frame(
        self, image: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        parts = [np.empty((len(rows), 0))]
        if self.gradients:
            grey = image @ np.array([0.2125, 0.7154, 0.0721]) / 255  # the weights of scikit-image
            parts.append(oriented_gradients(grey[rows, columns]))
        if self.colour:
            bins = self.histogram_bins
            codes = colour_codes(image, to_lab(image), bins)[rows, columns]  # (S, P, P, 6)
            codes = codes + np.arange(6) * bins + np.arange(len(rows)).reshape(-1, 1, 1, 1) * 6 * bins
            counts = np.bincount(codes.ravel(), minlength=len(rows) * 6 * bins)
            parts.append(counts.reshape(len(rows), 6 * bins) / self.patch_pixels**2)
        return np.concatenate(parts, axis=1)


def oriented_gradients(patches: NDArray[np.floating]) -> NDArray[np.float64]:
    """Histograms of oriented gradients (Dalal and Triggs 2005): grey patches (S, P, P) to float64 (S, 54).

    Three by three cells of six unsigned directions, one block, L2-Hys norm.
    """
    side = patches.shape[-1]
    down, right = np.zeros(patches.shape), np.zeros(patches.shape)
    down[:, 1:-1] = patches[:, 2:] - patches[:, :-2]
    right[:, :, 1:-1] = patches[:, :, 2:] - patches[:, :, :-2]
    angle = np.rad2deg(np.arctan2(down, right)) % 180
    bins = np.minimum((angle * HOG_BINS / 180).astype(int), HOG_BINS - 1)
    cell = np.arange(side) * HOG_CELLS // side
    place = (np.arange(len(patches)).reshape(-1, 1, 1) * HOG_CELLS + cell[:, None]) * HOG_CELLS + cell
    size = len(patches) * HOG_CELLS**2 * HOG_BINS
    sums = np.bincount((place * HOG_BINS + bins).ravel(), np.hypot(down, right).ravel(), size)
    sums = sums.reshape(len(patches), -1) / (side // HOG_CELLS) ** 2
    clipped = np.minimum(_to_unit_length(sums), 0.2)
    return _to_unit_length(clipped)


def _to_unit_length(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True) + 1e-10)


def to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIE Lab, float32 (H, W, 3), of sRGB uint8 (H, W, 3): L in [0, 100], a and b within [-128, 127]."""
    cv2 = import_cv2()
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


def colour_codes(image: NDArray[np.uint8], lab: NDArray[np.float32], bins: int) -> NDArray[np.int64]:
    """The bin, int64 (H, W, 6), that each pixel's R, G, B, L, a and b fall into, of `bins` even ones."""
    values = np.concatenate([image.astype(np.float32), lab], axis=-1)
    low, high = np.asarray(_RANGES, np.float32).T
    return np.clip(((values - low) / (high - low) * bins).astype(np.int64), 0, bins - 1)
