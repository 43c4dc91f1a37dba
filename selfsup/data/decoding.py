"""What a video file can show, and the three ways to decode it: PyAV, decord and torchcodec.

Private to `reader.py`. A file is read once, packet by packet and without decoding, into a `FrameTable`: which frames
can be shown, when, and from which keyframe each is decoded. The container's own claims (number of frames, duration)
are never used: a stream-copied cut declares frames that its edit list hides, a truncated file declares frames that
are gone. Every backend answers from the same table, so all give the same frame for the same second.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

# Files up to this size keep their packets in memory: frames are decoded without reading the file a second time.
KEPT_BYTES = 64 * 2**20
# Only these decoders leave out an unwanted, unreferenced frame without any change to the others.
SKIPS_EXACTLY = frozenset({"h264", "hevc"})


@dataclass
class FrameTable:
    """The frames that can be shown, sorted by presentation time; F frames.

    `pts` int64 (F,) in units of the stream's time base; `durations` int64 (F,). `positions` (F,) is each frame's packet
    in decoding order and `keys` (F,) the packet from which decoding it must start. In a `counted` table there are no
    usable presentation times in the packets, so frames are found by counting what the decoder gives from the start.
    """

    pts: np.ndarray
    durations: np.ndarray
    positions: np.ndarray
    keys: np.ndarray
    counted: bool = False

    def __len__(self) -> int:
        return len(self.pts)


class Source:
    """An open file: its container, its video stream and, for files of moderate size, its packets."""

    def __init__(self, path: Path) -> None:
        # "file:" keeps a colon in a name from being taken for a network protocol.
        self.container = av.open(f"file:{path}", metadata_errors="replace")
        self.path = path
        self.packets: list[av.Packet] | None = None
        self.reformatter = VideoReformatter()
        self.rotation: int | None = None  # degrees counter-clockwise, known with the first decoded frame

    def video_stream(self) -> Any:
        """The first video stream that is not the cover picture of a sound file, else None."""
        cover = av.stream.Disposition.attached_pic
        for stream in self.container.streams.video:
            if not stream.disposition & cover and stream.codec_context is not None:
                self.stream = stream
                # Loader processes are the parallelism; a second thread a decoder only adds contention.
                stream.codec_context.thread_count = 1
                return stream
        return None

    def read_table(self) -> FrameTable:
        """Demultiplexes the whole file once, without decoding."""
        packets, kept_bytes, rows = [], 0, []
        try:
            for packet in self.container.demux(self.stream):
                if packet.size == 0:
                    continue
                shown = not (packet.is_discard or packet.is_corrupt)
                rows.append((packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, shown))
                kept_bytes += packet.size
                if kept_bytes <= KEPT_BYTES:
                    packets.append(packet)
        except av.FFmpegError:
            pass  # The file is cut short or damaged from here on: what came before is what it can show.
        self.packets = packets if kept_bytes <= KEPT_BYTES else None
        self.number_of_packets = len(rows)
        table = _table_from_packets(rows)
        by_count = table is None or len(table) < 2 or self._times_are_guesses(rows)
        return self.count_frames() if by_count else table

    def _times_are_guesses(self, rows: list[tuple]) -> bool:
        """AVI stores no presentation times; those FFmpeg makes up are wrong as soon as frames are reordered."""
        return self.container.format.name == "avi" and any(pts != dts for pts, dts, *_ in rows)

    def count_frames(self) -> FrameTable:
        """Decodes everything, to know what there is in a file whose packets do not tell or tell wrongly."""
        frames = [(frame.pts, frame.duration or 0) for frame in self.decode(0, self.number_of_packets, None)]
        count = len(frames)
        pts = np.array([p for p, _ in frames if p is not None], np.int64)
        if len(pts) == count:
            # Frames leave the decoder in the order of showing; made-up times may come in another one.
            pts = np.sort(pts)
        else:
            rate = self.stream.average_rate or self.stream.guessed_rate or 25
            pts = np.round(np.arange(count) / float(rate * self.stream.time_base)).astype(np.int64)
        durations = np.array([d for _, d in frames], np.int64)
        return FrameTable(pts, durations, np.arange(count), np.zeros(count, np.int64), counted=True)

    def decode(self, first: int, stop: int, wanted: set[int] | None) -> Any:
        """Yields the frames of packets [first, stop) in decoding order of the file, `first` being a keyframe.

        `wanted` holds presentation times: frames outside it may be left out. None: everything.
        """
        codec = self.stream.codec_context
        if codec.is_open:
            codec.flush_buffers()
        skips = wanted is not None and codec.name in SKIPS_EXACTLY
        for packet in self._packets(first, stop):
            if skips:
                codec.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            try:
                frames = codec.decode(packet)
            except av.FFmpegError:
                continue  # A damaged packet; a frame that is missing for it is noticed by its time.
            yield from frames
        try:
            yield from codec.decode(None)
        except av.FFmpegError:
            pass

    def _packets(self, first: int, stop: int) -> Any:
        if self.packets is not None:
            yield from self.packets[first:stop]
            return
        # A file too large to keep. Reading again from its start is slow but lands exactly; seeking is by guess in
        # several formats.
        again = av.open(f"file:{self.path}", metadata_errors="replace")
        position = 0
        try:
            for packet in again.demux(again.streams[self.stream.index]):
                if packet.size == 0:
                    continue
                if position >= stop:
                    break
                if position >= first:
                    yield packet
                position += 1
        finally:
            again.close()

    def close(self) -> None:
        self.packets = None
        self.container.close()


def _table_from_packets(rows: list[tuple]) -> FrameTable | None:
    """None where the packets cannot tell: times missing or doubled, or frames before the first keyframe."""
    shown, keys, key = [], [], -1
    key_history: list[tuple[int, int]] = []  # (pts, position) of keyframes in decoding order
    for position, (pts, _, duration, is_key, is_shown) in enumerate(rows):
        if pts is None:
            return None
        if is_key:
            key_history.append((pts, position))
        if not is_shown:
            continue
        # A frame shown before its nearest keyframe also needs the keyframe before that one (an open group).
        key = next((at for key_pts, at in reversed(key_history) if key_pts <= pts), -1)
        if key < 0:
            return None
        shown.append((pts, duration, position))
        keys.append(key)
    if not shown:
        return None
    columns = np.array(shown, np.int64)
    order = np.argsort(columns[:, 0], kind="stable")
    pts = columns[order, 0]
    if np.any(np.diff(pts) == 0):
        return None
    return FrameTable(pts, columns[order, 1], columns[order, 2], np.array(keys, np.int64)[order])


class MissingFrame(Exception):
    """The decoder did not give a frame that the packets had promised."""


Decoder = Callable[[FrameTable, Sequence[int], int, int], np.ndarray]


def decode_with_pyav(
    source: Source, table: FrameTable, indices: np.ndarray, size: tuple[int, int] | None
) -> list[np.ndarray]:
    """Frames `indices` (sorted, unique) of the table, uint8 (H, W, 3) each, not yet rotated."""
    found: dict[int, np.ndarray] = {}
    for first, stop, members in _intervals(table, indices):
        names = members if table.counted else table.pts[members]
        index_of = dict(zip(names.tolist(), members.tolist(), strict=True))
        wanted = None if table.counted else set(index_of)
        for count, frame in enumerate(source.decode(first, stop, wanted)):
            index = index_of.get(count if table.counted else frame.pts)
            if index is not None:
                found[index] = _to_rgb(source, frame, size)
                if len(found) == len(indices):
                    break
    if len(found) < len(indices):
        raise MissingFrame
    return [found[index] for index in indices.tolist()]


def _intervals(table: FrameTable, indices: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Runs of packets [first, stop) to decode, each with the frames wanted from it; touching runs are joined."""
    if table.counted:
        return [(0, 2**62, indices)]
    runs: list[list[Any]] = []
    for index in indices[np.argsort(table.positions[indices])].tolist():
        key, position = int(table.keys[index]), int(table.positions[index])
        if runs and key <= runs[-1][1]:
            runs[-1][1] = position + 1
            runs[-1][2].append(index)
        else:
            runs.append([key, position + 1, [index]])
    return [(first, stop, np.array(members)) for first, stop, members in runs]


def _to_rgb(source: Source, frame: Any, size: tuple[int, int] | None) -> np.ndarray:
    """Converts and scales in one step; uint8 (H, W, 3)."""
    source.rotation = frame.rotation
    width, height = size or (frame.width, frame.height)
    rgb = source.reformatter.reformat(frame, width, height, "rgb24", threads=1)
    plane = rgb.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
    return rows[:, : width * 3].reshape(height, width, 3)


def import_backend(name: str) -> Any:
    """Imports decord or torchcodec, with an error that says what to do where it does not load."""
    try:
        return importlib.import_module(name if name == "decord" else "torchcodec.decoders")
    except (ImportError, OSError, RuntimeError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f'the video backend "{name}" does not load ({first_line}); install it or use backend="pyav"'
        ) from error
