"""How fast clips are read from video files, and how fast from packed frames; measured on a few of one's own videos."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader

JPEG_QUALITY = 90


@dataclass(frozen=True)
class Rates:
    """Measured on `clips` clips, in CPU seconds of one core.

    Attributes:
        raw_clips_per_second: from the files as they are, each opened anew.
        packed_clips_per_second: of the same frames from JPEG in memory.
        bytes_per_frame: of that JPEG.
    """

    clips: int
    raw_clips_per_second: float
    packed_clips_per_second: float
    bytes_per_frame: float


def measure_rates(
    infos: Sequence[VideoInfo], *, clips: int, frames: int, short_side_pixels: int, backend: str, seed: int
) -> Rates:
    """Reads `clips` clips of `frames` successive frames from random places of random videos.

    Shorter videos are read whole. Raises ValueError where one can no longer be decoded.
    """
    assert infos, "there is nothing to read"
    chance = np.random.default_rng(seed)
    raw_seconds = packed_seconds = 0.0
    read_bytes = read_frames = 0
    for info in (infos[place] for place in chance.integers(len(infos), size=clips)):
        began = time.process_time()
        with VideoReader(info.path, short_side_pixels=short_side_pixels, backend=backend) as video:
            first = int(chance.integers(max(1, video.num_frames - frames + 1)))
            clip = video.frames(video.times_seconds[first : first + frames].tolist())
        raw_seconds += time.process_time() - began
        packed = [_packed(frame) for frame in clip.permute(0, 2, 3, 1).numpy()]
        began = time.process_time()
        for jpeg in packed:
            np.asarray(Image.open(io.BytesIO(jpeg)))
        packed_seconds += time.process_time() - began
        read_bytes += sum(map(len, packed))
        read_frames += len(packed)
    return Rates(clips, clips / raw_seconds, clips / packed_seconds, read_bytes / read_frames)


def _packed(frame: np.ndarray) -> bytes:
    """Frame uint8 (H, W, 3) as JPEG."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "jpeg", quality=JPEG_QUALITY)
    return file.getvalue()
