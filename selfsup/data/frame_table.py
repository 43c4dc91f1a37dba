"""What a video file can show: its packets, read once without decoding, and the frames they hold.

Private to `reader.py`. The container's own claims (number of frames, duration, mean rate) are never used: a
stream-copied cut declares frames that its edit list hides, a truncated file declares frames that are gone.
Every decoder answers from the same `FrameTable`, so all give the same frame for the same second.
"""

import contextlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

# Files up to this size keep their packets in memory: frames are decoded without reading the file a second
# time.
KEPT_BYTES = 64 * 2**20
# Only these decoders leave out an unwanted, unreferenced frame without any change to the others.
SKIPS_EXACTLY = frozenset({"h264", "hevc"})
# What FFmpeg says where a file is cut short or damaged: what came before is still good.
FILE_ENDS = (av.error.InvalidDataError, av.error.EOFError)


class Row(NamedTuple):
    """One packet in the order of decoding; times in units of the stream's time base."""

    pts: int | None
    dts: int | None
    duration: int
    is_key: bool
    is_shown: bool


@dataclass(frozen=True)
class FrameTable:
    """The frames that can be shown, sorted by presentation time; F frames.

    `pts` int64 (F,) in units of the stream's time base; `durations` int64 (F,). `positions` (F,) is each
    frame's packet in the order of decoding and `keys` (F,) the packet from which its decoding must start. In
    a `counted` table the packets tell no usable times, so that frames are found by counting what the decoder
    gives from the start.
    """

    pts: np.ndarray
    durations: np.ndarray
    positions: np.ndarray
    keys: np.ndarray
    counted: bool = False

    def __len__(self) -> int:
        return len(self.pts)

    def shown_seconds(self, tick_seconds: float) -> tuple[np.ndarray, float]:
        """When each frame is shown, float64 (F,), from 0, and when the last one ends."""
        times_seconds = (self.pts - self.pts[0]) * tick_seconds
        last_seconds = float(self.durations[-1]) * tick_seconds
        if last_seconds <= 0:
            gaps = np.diff(times_seconds)
            last_seconds = float(np.median(gaps)) if len(gaps) else 0.04
        return times_seconds, float(times_seconds[-1]) + last_seconds


class Source:
    """An open file: container, video stream, packets. Yields decoded frames of any run of packets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.container = self.open_again()
        self.stream = self._choose_stream()
        codec = self.stream.codec_context if self.stream is not None else None
        self.size = (int(codec.width), int(codec.height)) if codec is not None else (0, 0)  # as stored
        self.rows: list[Row] = []
        self.packets: list[Any] | None = None  # None: too large to keep

    def open_again(self) -> Any:
        """A container of its own for the same file, standing at its start."""
        # "file:" keeps a colon in a name from being taken for a network protocol.
        return av.open(f"file:{self.path}", metadata_errors="replace")

    def _choose_stream(self) -> Any:
        """The main video stream, but never the cover picture of a sound file; None where there is none."""
        cover = av.stream.Disposition.attached_pic
        usable = [s for s in self.container.streams.video if s.codec_context is not None and not s.disposition & cover]
        best = self.container.streams.best("video")
        stream = next((s for s in usable if best is not None and s.index == best.index), (usable or [None])[0])
        if stream is not None:
            # Loader processes are the parallelism; a second thread a decoder only adds contention.
            stream.codec_context.thread_count = 1
        return stream

    def read_table(self) -> FrameTable:
        """Reads all packets once; decodes nothing unless the packets cannot tell what will be shown."""
        packets, kept_bytes = [], 0
        with contextlib.suppress(*FILE_ENDS):
            for packet in self.container.demux(self.stream):
                if packet.size == 0:
                    continue
                shown = not (packet.is_discard or packet.is_corrupt)
                self.rows.append(Row(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, shown))
                kept_bytes += packet.size
                if kept_bytes <= KEPT_BYTES:
                    packets.append(packet)
                else:
                    packets.clear()
        self.packets = packets if kept_bytes <= KEPT_BYTES else None
        # AVI stores no presentation times; those FFmpeg makes up are wrong as soon as frames are reordered.
        guessed = self.container.format.name == "avi" and any(row.pts != row.dts for row in self.rows)
        table = None if guessed or len(self.rows) < 2 else table_from_packets(self.rows)
        return table or self.count_frames()

    def count_frames(self) -> FrameTable:
        """Decodes everything, to know what there is in a file whose packets do not tell, or tell wrongly."""
        frames = [(frame.pts, frame.duration or 0) for frame in self.decode(0, len(self.rows), None)]
        count = len(frames)
        if all(pts is not None for pts, _ in frames):
            # Frames leave the decoder in the order of showing; made-up times may come in another one.
            pts = np.sort(np.array([pts for pts, _ in frames], np.int64))
        else:
            rate = float(self.stream.average_rate or self.stream.guessed_rate or 25)
            pts = np.round(np.arange(count) / (rate * float(self.stream.time_base))).astype(np.int64)
        durations = np.array([duration for _, duration in frames], np.int64)
        return FrameTable(pts, durations, np.arange(count), np.zeros(count, np.int64), counted=True)

    def decode(self, first: int, stop: int, wanted: Container[int] | None) -> Iterator[Any]:
        """Yields the frames of packets [first, stop), where decoding can start at `first`.

        `wanted` holds presentation times: frames outside it may be left out. None: everything is yielded.
        """
        codec = self.stream.codec_context
        if codec.is_open:
            codec.flush_buffers()
        codec.skip_frame = "DEFAULT"
        for packet in self._packets(first, stop):
            if wanted is not None and codec.name in SKIPS_EXACTLY:
                codec.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            try:
                frames = codec.decode(packet)
            except av.FFmpegError:
                continue  # A damaged packet. That its frame is missing is noticed by the frame's time.
            yield from frames
        with contextlib.suppress(av.FFmpegError):
            yield from codec.decode(None)

    def _packets(self, first: int, stop: int) -> Iterator[Any]:
        """Packets [first, stop): from memory, else by seeking, else by reading again from the start."""
        if self.packets is not None:
            yield from self.packets[first:stop]
        elif (position := self._seek(first)) is not None:
            yield from _numbered(self.container, self.stream, position, first, stop)
        else:
            again = self.open_again()
            try:
                yield from _numbered(again, again.streams[self.stream.index], 0, first, stop)
            finally:
                again.close()

    def _seek(self, first: int) -> int | None:
        """Moves to packet `first` or before it. Returns where it landed; None where that is too late or
        unknown.
        """
        target = self.rows[first]
        if first == 0 or target.dts is None or target.pts is None:
            return None
        try:
            self.container.seek(min(target.dts, target.pts), stream=self.stream)
            landed = next(p for p in self.container.demux(self.stream) if p.size)
            stamps = [(row.pts, row.dts) for row in self.rows[: first + 1]]
            position = stamps.index((landed.pts, landed.dts))
            self.container.seek(min(target.dts, target.pts), stream=self.stream)
        except (av.FFmpegError, ValueError, StopIteration):
            return None
        return position if stamps.count(stamps[position]) == 1 else None

    def close(self) -> None:
        """Frees packets, decoder and file at once, without waiting for the garbage collector."""
        self.packets = None
        self.container.close()


def _numbered(container: Any, stream: Any, position: int, first: int, stop: int) -> Iterator[Any]:
    """Packets [first, stop) of a container that stands at packet `position`."""
    with contextlib.suppress(*FILE_ENDS):
        for packet in container.demux(stream):
            if position >= stop:
                return
            if packet.size:
                if position >= first:
                    yield packet
                position += 1


def table_from_packets(rows: list[Row]) -> FrameTable | None:
    """None where the packets cannot tell: times missing or doubled, or frames before the first keyframe."""
    shown: list[tuple[int, int, int, int]] = []
    keys: list[tuple[int, int]] = []  # (pts, position), in the order of decoding
    for position, row in enumerate(rows):
        if row.pts is None:
            return None
        if row.is_key:
            keys.append((row.pts, position))
        if not row.is_shown:
            continue
        # A frame shown before the keyframe that precedes it in the file also needs the keyframe before that
        # one.
        key = next((at for pts, at in reversed(keys) if pts <= row.pts), None)
        if key is None:
            return None
        shown.append((row.pts, row.duration, position, key))
    if not shown:
        return None
    columns = np.array(sorted(shown), np.int64)
    if np.any(np.diff(columns[:, 0]) == 0):
        return None
    return FrameTable(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3])
