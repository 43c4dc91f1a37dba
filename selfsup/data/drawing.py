"""Writes the pictures of a stream as a video, with a line of text and a band that shows what became of each frame."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av import FFmpegError
from PIL import Image, ImageDraw, ImageFont

TICKS = 90_000  # a second
BAND_PIXELS, COLUMN_PIXELS = 8, 4
COLOURS = {"encoded": (60, 200, 90), "held": (230, 190, 60), "skipped": (110, 110, 110), "dropped": (220, 50, 50)}


class DrawnVideo:
    """An H.264 video that grows frame by frame, at the times of the frames.

    The band at the bottom has a column for each of the last frames: encoded green, held yellow, skipped grey, dropped
    red; the newest is on the right.

    Args:
        path: its ending names the container, as .mp4.

    Raises ValueError for an ending that no container has, or a place that cannot be written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(path), "w")
        except (FFmpegError, ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ValueError(f"{path}: cannot be written as a video ({reason}); give output=NAME.mp4") from error
        self._stream: Any = None
        self._history: deque[tuple[int, int, int]] = deque()
        self._last_tick = -1

    def dropped(self, frames: int) -> None:
        """Frames that were lost before the next one."""
        self._history.extend([COLOURS["dropped"]] * min(frames, 10_000))

    def write(self, picture: np.ndarray, seconds: float, state: str, text: str) -> None:
        """A picture uint8 (H, W, 3), both sides even, shown at `seconds`; `state` is a name of COLOURS."""
        height, width = picture.shape[:2]
        if self._stream is None:
            self._open(width, height)
        self._history.append(COLOURS[state])
        frame: Any = av.VideoFrame.from_ndarray(self._drawn(picture, text), format="rgb24")
        self._last_tick = max(self._last_tick + 1, round(seconds * TICKS))
        frame.pts, frame.time_base = self._last_tick, Fraction(1, TICKS)
        if (width, height) != (self._stream.width, self._stream.height):
            frame = frame.reformat(self._stream.width, self._stream.height)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Ends the file."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def _open(self, width: int, height: int) -> None:
        self._stream = self._container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, TICKS)

    def _drawn(self, picture: np.ndarray, text: str) -> np.ndarray:
        height, width = picture.shape[:2]
        image = Image.fromarray(np.ascontiguousarray(picture))
        draw = ImageDraw.Draw(image)
        font = ImageFont.load_default(max(10, height // 20))
        draw.text((6, 4), text, fill="white", font=font, stroke_width=2, stroke_fill="black")
        columns = width // COLUMN_PIXELS
        while len(self._history) > columns:
            self._history.popleft()
        for place, colour in enumerate(reversed(self._history)):
            right = width - place * COLUMN_PIXELS
            draw.rectangle((right - COLUMN_PIXELS, height - BAND_PIXELS, right - 1, height), fill=colour)
        return np.asarray(image)
