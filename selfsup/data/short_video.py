"""Writes some frames as a small video that browsers play."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from torch import Tensor


def write_short_video(path: Path, frames: Tensor, fps: float) -> None:
    """Writes frames as an H.264 video without sound.

    Args:
        path: ends in .mp4; its folder exists.
        frames: uint8 (T, 3, H, W), both sides even.
        fps: of the video, above 0.

    Raises ValueError for another shape, and OSError where the place cannot be written to.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or not len(frames) or frames.shape[2] % 2 or frames.shape[3] % 2:
        raise ValueError(f"{path}: frames of shape {tuple(frames.shape)}; give (T, 3, H, W) with even sides")
    height, width = frames.shape[-2:]
    # The index stands at the front, so that a browser needs no second look at the file.
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream: Any = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1  # one of H.264's own threads a core would take longer to start than this
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
