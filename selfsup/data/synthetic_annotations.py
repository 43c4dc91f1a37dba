"""What is true of a synthetic video, in a file beside it: masks, flow, the phase of the action, its events.

The file keeps the part seen at each pixel and the affine motion of the parts, a few kilobytes; masks and flow follow
from them exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfsup.data.true_masks import annotations_path


@dataclass(frozen=True)
class Annotations:
    """What is true of one synthetic video.

    Attributes:
        masks: bool (T, H, W), True on the object and all it sheds or receives.
        parts: uint8 (T, H, W), 0 the background, 1 and up the rigid or stretching parts of the object.
        flow: float32 (T - 1, 2, H, W), forward flow (u, v) in pixels a frame from frame t to t + 1: where the point
            of its part that is seen at a pixel lies in the next frame, minus that pixel. The background moves with
            the camera. A part that grows or melts stretches, and its flow with it. Where the action changes what a
            part is made of (`pour`, `burn`, `sweep`, `bloom`), flow is the motion of the part that carries it: new
            liquid, char, paint or petal moves as the object does. Occlusion is not looked at.
        phase: float32 (T,), how far the action is, 0 to 1; never falls.
        gain: float32 (T,), exposure by which each frame was multiplied.
        event_seconds: float32 (E,), start of each jerk and its sound.
        event_phase: float32 (E,), phase after each jerk.
    """

    masks: NDArray[np.bool_]
    parts: NDArray[np.uint8]
    flow: NDArray[np.float32]
    phase: NDArray[np.float32]
    gain: NDArray[np.float32]
    event_seconds: NDArray[np.float32]
    event_phase: NDArray[np.float32]


def read_annotations(video: Path) -> Annotations:
    """What is true of a video written by `write_synthetic`, from the annotations beside it.

    Raises:
        ValueError: there are none.
    """
    video = Path(video)
    path = annotations_path(video)
    if not path.exists():
        raise ValueError(f"{video}: no annotations at {path}; only videos of write_synthetic have them")
    with np.load(path, allow_pickle=False) as file:
        parts, motion = file["parts"], file["motion"]
        known = {name: file[name] for name in ("phase", "gain", "event_seconds", "event_phase")}
    return Annotations(masks=parts > 0, parts=parts, flow=flow_of(parts, motion), **known)


def flow_of(parts: NDArray[np.uint8], motion: NDArray[np.float64]) -> NDArray[np.float32]:
    """Forward flow (T - 1, 2, H, W) of parts (T, H, W) that move by the affine maps `motion` (T, P, 2, 3)."""
    here, ahead = motion[:-1], motion[1:]
    linear = ahead[..., :2] @ np.linalg.inv(here[..., :2])  # pixels of t to pixels of t + 1
    offset = ahead[..., 2] - np.einsum("tpij,tpj->tpi", linear, here[..., 2])
    step = np.concatenate([linear - np.eye(2), offset[..., None]], -1)
    frame = np.arange(len(here)).reshape(-1, 1, 1)
    x, y = np.meshgrid(np.arange(parts.shape[2]), np.arange(parts.shape[1]))
    at = step[frame, parts[:-1]]  # (T - 1, H, W, 2, 3)
    flow = at[..., 0] * x[..., None] + at[..., 1] * y[..., None] + at[..., 2]
    return np.moveaxis(flow, -1, 1).astype(np.float32)
