"""The motion of the camera in a flow field, fitted robustly to most of it, and what moves besides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from selfsup.data.flow import import_cv2, one_thread

MODELS = ("homography", "affine")
_LEAST_DEPTH = 0.01  # of what is seen, in units of that of the first pixel
_LEAST_SCALE_PIXELS = 0.1  # of what the smooth motion misses, below which flow is not exact anyway


class CameraMotion(Protocol):
    """A pure function of one flow field."""

    def residual(self, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """Flow (2, H, W) in pixels less that of the camera, of the same shape; a field too small is left as it is."""
        ...


@dataclass(frozen=True)
class PlaneMotion:
    """The motion of one plane, by RANSAC: exact for a turning camera or a flat scene. Parallax remains.

    Args:
        model: "homography" (eight parameters) or "affine" (six).
        threshold_pixels: a pixel that the model misses by more is none of the background.
        grid_pixels: distance of the pixels that are looked at.
    """

    model: str = "homography"
    threshold_pixels: float = 1.0
    grid_pixels: int = 6

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"model={self.model!r}: give one of {', '.join(MODELS)}")
        import_cv2()  # said here rather than for each video

    def residual(self, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `CameraMotion.residual`."""
        cv2 = import_cv2()
        height, width = flow.shape[1:]
        offset = self.grid_pixels // 2
        rows, columns = np.mgrid[offset : height : self.grid_pixels, offset : width : self.grid_pixels]
        here = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float32)
        there = here + flow[:, rows.ravel(), columns.ravel()].T
        if len(here) < 8:
            return flow
        with one_thread(cv2):
            if self.model == "homography":
                matrix, _ = cv2.findHomography(here, there, cv2.RANSAC, self.threshold_pixels, maxIters=500)
            else:
                matrix, _ = cv2.estimateAffine2D(here, there, ransacReprojThreshold=self.threshold_pixels)
                matrix = None if matrix is None else np.vstack([matrix, [0, 0, 1]])
        if matrix is None or not _before_the_camera(matrix, height, width):
            return flow
        return flow - plane_flow(matrix, height, width)


@dataclass(frozen=True)
class SmoothMotion:
    """A polynomial of the place: a camera that moves past a scene whose depth changes smoothly.

    Fitted by least squares, again and again, with weights 1 / (1 + (r / 2s)²)² (Geman and McClure) of what is missed, r
    pixels; s is 1.48 times its median, the deviation where errors are normal.

    Args:
        order: of the polynomial: 1 is affine, 2 has 12 parameters, 3 has 20.
        iterations: of the fit.
        grid_pixels: distance of the pixels that are looked at.
    """

    order: int = 1
    iterations: int = 8
    grid_pixels: int = 4

    def residual(self, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `CameraMotion.residual`."""
        powers = _powers(self.order, *flow.shape[1:])  # (P, H, W)
        step = self.grid_pixels
        base = powers[:, ::step, ::step].reshape(len(powers), -1).T
        vectors = flow[:, ::step, ::step].reshape(2, -1).T
        if len(vectors) < 4 * len(powers):
            return flow
        weights = np.ones(len(vectors), np.float32)
        ridge = 1e-3 * np.eye(len(powers), dtype=np.float32)
        for _ in range(self.iterations):
            weighted = base * weights[:, None]
            matrix = np.linalg.solve(weighted.T @ base + ridge, weighted.T @ vectors)
            missed = np.hypot(*(vectors - base @ matrix).T)
            scale = max(1.48 * float(np.median(missed)), _LEAST_SCALE_PIXELS)
            weights = (1 + (missed / (2 * scale)) ** 2) ** -2
        return flow - np.tensordot(matrix.T.astype(np.float32), powers, 1)


def _before_the_camera(matrix: NDArray[np.floating], height: int, width: int) -> bool:
    """Whether a homography keeps what is seen visible; one that does not, as over a cut, says nothing of a motion."""
    corners = np.array([[x, y, 1] for x in (0, width - 1) for y in (0, height - 1)])
    return bool((corners @ matrix[2] > _LEAST_DEPTH).all())  # linear in the place: the corners bound it


def plane_flow(matrix: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
    """Flow float32 (2, H, W), u then v in pixels, of a plane that moves by a homography (3, 3) of (x, y, 1)."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    matrix = matrix.astype(np.float32)
    moved = matrix[:, 0, None, None] * x + matrix[:, 1, None, None] * y + matrix[:, 2, None, None]
    return moved[:2] / moved[2] - np.stack([x, y])


def _powers(order: int, height: int, width: int) -> NDArray[np.float32]:
    """Products of powers of x and y, both from -1 to 1, up to `order` in all: float32 (P, H, W)."""
    x, y = np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32))
    return np.stack([x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)])
