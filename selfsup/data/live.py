"""Frames of a file, a camera or a network stream, one after the other, as they come.

A file gives the very frames that `VideoReader` gives, and can pass over frames without decoding them. Of anything else
nothing is known beforehand: neither its length nor whether it goes on.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import av
import numpy as np
from av import FFmpegError
from av.error import ExitError, InvalidDataError, TimeoutError

from selfsup.data.decoders import ToRgb
from selfsup.data.reader import UnreadableVideo, open_source, scaled

CAMERA = re.compile(r"/dev/video\d+")
URL = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)


class LiveFrame(NamedTuple):
    """One frame.

    Attributes:
        number: its place in the source, from 0.
        seconds: when it is shown, from the first frame.
        image: uint8 (H, W, 3), scaled to the short side that was asked for.
        shown: uint8 (H, W, 3), to draw on; None where that was not asked for.
        arrived: when the source gave it, on the clock of `time.perf_counter`.
    """

    number: int
    seconds: float
    image: np.ndarray
    shown: np.ndarray | None
    arrived: float


class Frames(Protocol):
    """A source of frames.

    Attributes:
        name: of the source, for messages.
        fps: frames a second; the mean of a file, what anything else declares.
        waits: whether it stands still while nobody reads, as a file does and a camera does not.
        wanted_from: frames before this number need not be given.
        passed: frames that were not given for this reason.
    """

    name: str
    fps: float
    waits: bool
    wanted_from: int
    passed: int

    def __iter__(self) -> Iterator[LiveFrame]: ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


class FileFrames:
    """The frames of a video file in their order, as `VideoReader` decodes them with PyAV.

    Frames before `wanted_from` are not converted, nor decoded where no other frame needs them; from a keyframe that
    lies between on, decoding starts anew.

    Args:
        path: of the file.
        short_side_pixels: the size at which frames are read, as of `VideoReader`.
        shown_pixels: short side of a second picture to draw on, its sides even; None: none.
        loop: begin again at the end, for ever.

    Raises:
        FileNotFoundError: no such file.
        UnreadableVideo: a file that is not a usable video.
    """

    waits = True

    def __init__(
        self, path: str | Path, short_side_pixels: int, shown_pixels: int | None = None, loop: bool = False
    ) -> None:
        self.name = str(path)
        self.loop = loop
        self.wanted_from, self.passed = 0, 0
        self._source = open_source(Path(path))
        try:
            self.table = self._source.read_table()
        except FFmpegError as error:
            self.close()
            raise UnreadableVideo(path, f"cannot be read ({error.strerror})") from error
        if len(self.table) == 0:
            self.close()
            raise UnreadableVideo(path, "holds no frame that can be decoded")
        self.times_seconds, self.duration_seconds = self.table.shown_seconds(float(self._source.stream.time_base))
        self.fps = len(self.table) / self.duration_seconds
        self._pictures = _Pictures(self._source.size, short_side_pixels, shown_pixels)

    def __iter__(self) -> Iterator[LiveFrame]:
        rounds = 0
        while rounds == 0 or self.loop:
            for place, frame in self._once(rounds * len(self.table)):
                seconds = float(self.times_seconds[place]) + rounds * self.duration_seconds
                yield self._pictures.frame(rounds * len(self.table) + place, seconds, frame)
            rounds += 1

    def _once(self, start: int) -> Iterator[tuple[int, Any]]:
        """The wanted frames of the file and their places in it; its first frame has the number `start`."""
        table, place = self.table, 0
        places = {} if table.counted else {int(pts): place for place, pts in enumerate(table.pts)}
        while place < len(table):
            place = self._pass_over(place, min(self.wanted_from - start, len(table)))
            if place == len(table):
                return
            first = 0 if table.counted else int(table.keys[place])
            wanted = None if table.counted else _From(self, start)
            for count, frame in enumerate(self._source.decode(first, len(self._source.rows), wanted)):
                found = count if table.counted else places.get(frame.pts, -1)
                if found < place:
                    continue  # before the place at which decoding could not start
                place = self._pass_over(place, min(found + 1, self.wanted_from - start))
                if found >= self.wanted_from - start:
                    yield found, frame
                    place = found + 1
                if self._a_keyframe_lies_before(self.wanted_from - start, found):
                    break
            else:
                self._pass_over(place, min(self.wanted_from - start, len(table)))
                return

    def _pass_over(self, place: int, until: int) -> int:
        """Counts the frames from `place` to `until`, and returns the place after them."""
        self.passed += max(0, until - place)
        return max(place, until)

    def _a_keyframe_lies_before(self, wanted: int, place: int) -> bool:
        """Whether decoding can start anew after the frame at `place` and not miss the wanted one."""
        if self.table.counted or wanted <= place + 1:
            return False
        return wanted >= len(self.table) or int(self.table.keys[wanted]) > int(self.table.positions[place])

    def close(self) -> None:
        """Closes the file."""
        self._source.close()


class _From:
    """The presentation times of the frames that a source wants at the moment."""

    def __init__(self, frames: FileFrames, start: int) -> None:
        self.frames = frames
        self.start = start

    def __contains__(self, pts: object) -> bool:
        pts_of, wanted = self.frames.table.pts, self.frames.wanted_from - self.start
        return wanted <= 0 or (wanted < len(pts_of) and isinstance(pts, int) and pts >= pts_of[wanted])


class OpenFrames:
    """The frames of a camera, a pipe or a network stream, as they come.

    Args:
        name: `/dev/video0`, a pipe, or a URL that FFmpeg knows.
        short_side_pixels, shown_pixels: as of `FileFrames`.
        timeout_seconds: a source that gives nothing for so long has stalled.

    Raises:
        FileNotFoundError: no such device or pipe.
        UnreadableVideo: it cannot be opened, or shows no video; while it is read, it has stalled or failed.
    """

    waits = False

    def __init__(
        self, name: str, short_side_pixels: int, shown_pixels: int | None = None, timeout_seconds: float = 10.0
    ) -> None:
        self.name = name
        self.timeout_seconds = timeout_seconds
        self.wanted_from, self.passed = 0, 0
        if not URL.match(name) and not Path(name).exists():
            raise FileNotFoundError(f"{name}: no such file")
        try:
            kind = "v4l2" if CAMERA.fullmatch(name) else None
            timeouts = (timeout_seconds, timeout_seconds)
            self._container = av.open(name, format=kind, timeout=timeouts, metadata_errors="replace")
        except (ExitError, TimeoutError) as error:
            raise UnreadableVideo(name, f"gave nothing for {timeout_seconds:g} s") from error
        except (FFmpegError, ValueError) as error:
            raise UnreadableVideo(name, f"cannot be opened as a video ({getattr(error, 'strerror', error)})") from error
        stream: Any = self._container.streams.best("video")
        if stream is None or not stream.codec_context.width:
            self._container.close()
            raise UnreadableVideo(name, "holds no video")
        self._stream = stream
        stream.codec_context.thread_count = 1  # threads that hold frames back add to the latency
        self.fps = float(stream.average_rate or stream.guessed_rate or 25)
        self._short_side_pixels, self._shown_pixels = short_side_pixels, shown_pixels

    def __iter__(self) -> Iterator[LiveFrame]:
        pictures: _Pictures | None = None
        number, first = 0, None
        try:
            for frame in self._decoded():
                if number < self.wanted_from:
                    self.passed += 1
                    number += 1
                    continue
                seconds = number / self.fps if frame.pts is None else float(frame.pts * self._stream.time_base)
                first = seconds if first is None else first
                if pictures is None or pictures.size != (frame.width, frame.height):
                    pictures = _Pictures((frame.width, frame.height), self._short_side_pixels, self._shown_pixels)
                yield pictures.frame(number, seconds - first, frame)
                number += 1
        except (ExitError, TimeoutError) as error:
            raise UnreadableVideo(self.name, f"gave nothing for {self.timeout_seconds:g} s") from error
        except FFmpegError as error:
            raise UnreadableVideo(self.name, f"failed after {number} frames ({error.strerror})") from error

    def _decoded(self) -> Iterator[Any]:
        """The frames of all packets; of a damaged one there is none."""
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except InvalidDataError:
                    continue
                yield from frames
        except FFmpegError:
            with contextlib.suppress(FFmpegError):
                yield from self._stream.codec_context.decode(None)  # what the decoder still held
            raise

    def close(self) -> None:
        """Closes the device or the connection."""
        self._container.close()


class _Pictures:
    """Decoded frames as arrays of the sizes that were asked for."""

    def __init__(self, size: tuple[int, int], short_side_pixels: int, shown_pixels: int | None) -> None:
        self.size = size  # as stored
        self._to_rgb = ToRgb()
        self._read = scaled(self.size, short_side_pixels)
        self._shown: tuple[int, int] | None = None
        if shown_pixels is not None:
            width, height = scaled(self.size, shown_pixels)
            self._shown = (width + width % 2, height + height % 2)  # as H.264 wants it

    def frame(self, number: int, seconds: float, frame: Any) -> LiveFrame:
        shown = None if self._shown is None else self._to_rgb(frame, self._shown)
        return LiveFrame(number, seconds, self._to_rgb(frame, self._read), shown, time.perf_counter())


def open_frames(
    name: str,
    short_side_pixels: int,
    shown_pixels: int | None = None,
    loop: bool = False,
    timeout_seconds: float = 10.0,
) -> FileFrames | OpenFrames:
    """The frames of a file, where there is one of that name, else of a camera, a pipe or a URL.

    Raises FileNotFoundError or ValueError, naming the source, where it cannot be read or cannot be looped.
    """
    path = Path(name)
    if not URL.match(name) and not CAMERA.fullmatch(name) and (not path.exists() or path.is_file()):
        return FileFrames(path, short_side_pixels, shown_pixels, loop)
    if loop:
        raise ValueError(f"{name}: loop=true wants a file, which alone can be read again; give loop=false")
    if path.is_dir():
        raise UnreadableVideo(path, "is a folder, not a video file, a camera or a URL")
    return OpenFrames(name, short_side_pixels, shown_pixels, timeout_seconds)
