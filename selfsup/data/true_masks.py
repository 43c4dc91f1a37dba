"""Which pixels truly are foreground, for videos that know it: masks in a file beside the video.

`ROOT/videos/FOLDER/NAME.mp4` has them in `ROOT/annotations/NAME.npz`: synthetic videos as uint8 "parts" (T, H, W), 0
the background; others as `write_masks` writes them.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MASKS_KEY = {"masks": "true"}  # of the masks that are packed with a video


def annotations_path(video: Path) -> Path:
    """Where the annotations of `ROOT/videos/FOLDER/NAME.mp4` lie."""
    return video.parents[2] / "annotations" / f"{video.stem}.npz"


def write_masks(video: Path, masks: NDArray[np.bool_]) -> None:
    """Keeps the masks (T, H, W) of a video where `read_masks` finds them, eight pixels a byte; makes the folder."""
    path = annotations_path(video)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(masks_to_bytes(masks))


def read_masks(video: Path) -> NDArray[np.bool_] | None:
    """The masks (T, H, W) of all frames; None where the video has none."""
    video = Path(video).absolute()
    if len(video.parents) < 3 or not annotations_path(video).exists():
        return None
    return masks_from_bytes(annotations_path(video).read_bytes())


def masks_to_bytes(masks: NDArray[np.bool_]) -> bytes:
    """Masks (T, H, W) as an npz file."""
    file = io.BytesIO()
    np.savez_compressed(file, mask_bits=np.packbits(masks, axis=2), width=np.array(masks.shape[2]))
    return file.getvalue()


def masks_from_bytes(content: bytes) -> NDArray[np.bool_] | None:
    """The masks (T, H, W) of an npz file; None where it holds none."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        if "mask_bits" in file:
            return np.unpackbits(file["mask_bits"], axis=2, count=int(file["width"])).view(np.bool_)
        return file["parts"] > 0 if "parts" in file else None  # another data set may have a file of that name
