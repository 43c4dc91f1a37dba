"""How fast clips are read from video files, and how fast from packed frames; measured on a few of one's own videos."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selfsup.data.index import VideoInfo
from selfsup.data.packed import decode
from selfsup.data.packing import Packing


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
    infos: Sequence[VideoInfo], packing: Packing, *, clips: int, frames: int, backend: str, seed: int
) -> Rates:
    """Reads `clips` clips of `frames` successive frames from random places of random videos, at the size of `packing`.

    Shorter videos are read whole. Raises ValueError where one can no longer be decoded.
    """
    assert infos, "there is nothing to read"
    chance = np.random.default_rng(seed)
    raw_seconds = packed_seconds = 0.0
    read_bytes = read_frames = 0
    for info in (infos[place] for place in chance.integers(len(infos), size=clips)):
        began = time.process_time()
        with info.open(backend, packing.pixels(info)) as video:
            first = int(chance.integers(max(1, video.num_frames - frames + 1)))
            clip = video.frames(video.times_seconds[first : first + frames].tolist())
        raw_seconds += time.process_time() - began
        packed = [packing.encode(frame) for frame in clip.permute(0, 2, 3, 1).numpy()]
        began = time.process_time()
        decode(packed, (clip.shape[3], clip.shape[2]))
        packed_seconds += time.process_time() - began
        read_bytes += sum(map(len, packed))
        read_frames += len(packed)
    return Rates(clips, clips / raw_seconds, clips / packed_seconds, read_bytes / read_frames)
