"""Video files as tensors: the frames and the sound at given seconds."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import torch
from torch import Tensor

from selfsup.data.decoding import FrameTable, MissingFrame, Source, decode_with_pyav
from selfsup.data.sound import SoundEnds, read_sound

# Seconds are computed in floating point by samplers: this much past either end is still the end.
SLACK_SECONDS = 1e-6


class UnreadableVideo(ValueError):
    """A file that cannot be used as a video. `path` names it and `reason` says why, in a few words."""

    def __init__(self, path: str | Path, reason: str = "") -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.reason else str(self.path)


class VideoReader:
    """Frames and sound of one video file at given seconds; zero is when its first frame is shown.

    Only what can really be decoded and shown counts, whatever the container declares: stream-copied cuts, truncated
    files, variable frame rates, reordered frames and rotated recordings give the frame that a player would show.

    Attributes: `duration_seconds` (the end of the last frame), `fps` (mean), `num_frames`, `times_seconds` (float64 (F,)),
    `width` and `height` (pixels as shown: rotated, not scaled), `rotation` (degrees clockwise that the file asks for),
    `codec`, `has_audio`, `path`.

    Raises FileNotFoundError for a missing file, `UnreadableVideo` (a ValueError) for one that is not a usable video.
    """

    def __init__(self, path: str | Path, backend: str = "pyav", short_side_pixels: int | None = None) -> None:
        self.path = Path(path)
        self.backend = backend
        self.short_side_pixels = short_side_pixels
        self._source = self._open()
        try:
            self._take_table(self._source.read_table())
        except UnreadableVideo:
            self.close()
            raise

    def _open(self) -> Source:
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: no such file")
        if not self.path.is_file():
            raise UnreadableVideo(self.path, "is a folder or a device, not a video file")
        if os.path.getsize(self.path) == 0:
            raise UnreadableVideo(self.path, "is empty (0 bytes)")
        try:
            source = Source(self.path)
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UnreadableVideo(self.path, f"cannot be opened as a video ({reason})") from error
        kind = source.container.format.name
        reason = ""
        if "image" in kind or kind.endswith("_pipe"):
            reason = "is an image, not a video"
        elif source.video_stream() is None:
            sound = bool(source.container.streams.audio)
            reason = "holds sound only, no video" if sound else "holds no video that can be decoded"
        if reason:
            source.close()
            raise UnreadableVideo(self.path, reason)
        self.codec = source.stream.codec_context.codec.canonical_name
        self.has_audio = any(s.codec_context is not None for s in source.container.streams.audio)
        return source

    def _take_table(self, table: FrameTable) -> None:
        if len(table) == 0:
            raise UnreadableVideo(self.path, "holds no frame that can be decoded")
        self._table = table
        tick_seconds = float(self._source.stream.time_base)
        self.times_seconds = (table.pts - table.pts[0]) * tick_seconds
        self.num_frames = len(table)
        last_ticks = int(table.durations[-1])
        if last_ticks <= 0:
            gaps = np.diff(table.pts)
            last_ticks = int(np.median(gaps)) if len(gaps) else max(1, round(0.04 / tick_seconds))
        self.duration_seconds = float(self.times_seconds[-1]) + last_ticks * tick_seconds
        self.fps = self.num_frames / self.duration_seconds

    @property
    def rotation(self) -> int:
        if self._source.rotation is None:
            self._decode(np.zeros(1, np.int64), None)
        return -(self._source.rotation or 0) % 360

    @property
    def width(self) -> int:
        context = self._source.stream.codec_context
        return int(context.height if self.rotation % 180 else context.width)

    @property
    def height(self) -> int:
        context = self._source.stream.codec_context
        return int(context.width if self.rotation % 180 else context.height)

    def frames(self, times_seconds: Sequence[float]) -> Tensor:
        """The frames whose presentation times are nearest, uint8 (T, 3, H, W), range [0, 255].

        Any order, duplicates allowed; each needed part of the file is decoded once, so that all times in one call is one
        pass. Memory is channels-last. Raises ValueError for a time outside [0, duration_seconds].
        """
        indices = self._indices(times_seconds)
        unique, inverse = np.unique(indices, return_inverse=True)
        try:
            images = self._decode(unique, self._size())
        except MissingFrame:
            # The packets promised a frame that does not decode. Find out what does, and answer from that.
            self._take_table(self._source.count_frames())
            unique, inverse = np.unique(self._indices(times_seconds), return_inverse=True)
            images = self._decode(unique, self._size())
        turns = (self._source.rotation or 0) // 90 % 4
        stacked = np.stack([np.rot90(images[i], turns) for i in inverse])
        return torch.from_numpy(stacked).permute(0, 3, 1, 2)

    def _decode(self, indices: np.ndarray, size: tuple[int, int] | None) -> list[np.ndarray]:
        return decode_with_pyav(self._source, self._table, indices, size)

    def _size(self) -> tuple[int, int]:
        """(width, height) to decode to, before rotation."""
        context = self._source.stream.codec_context
        width, height = context.width, context.height
        if self.short_side_pixels is None:
            return width, height
        scale = self.short_side_pixels / min(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _indices(self, times_seconds: Sequence[float]) -> np.ndarray:
        times = np.asarray(times_seconds, np.float64)
        if times.ndim != 1 or len(times) == 0:
            raise ValueError(f"{self.path}: frames() wants a list of seconds, got shape {times.shape}")
        good = (times >= -SLACK_SECONDS) & (times <= self.duration_seconds + SLACK_SECONDS)
        if not good.all():
            bad = float(times[~good][0])
            raise ValueError(
                f"{self.path}: no frame at {bad:.2f} s, the video "
                + (
                    f"ends at {self.duration_seconds:.2f} s; shorten the clip"
                    if bad > 0
                    else "starts at 0.00 s"
                )
            )
        right = np.clip(np.searchsorted(self.times_seconds, times), 1, max(1, self.num_frames - 1))
        if self.num_frames == 1:
            return np.zeros(len(times), np.int64)
        nearer_left = times - self.times_seconds[right - 1] <= self.times_seconds[right] - times
        return right - nearer_left

    def audio(self, start_seconds: float, stop_seconds: float, rate_hz: int) -> Tensor:
        """Mono sound, float32 (N,) in [-1, 1] with N = round((stop - start) * rate) exactly; channels are averaged.

        Silence where the track starts late or has a hole. Raises ValueError where there is no track, or where it ends
        before `stop_seconds`.
        """
        if not self.has_audio:
            raise ValueError(f"{self.path}: has no sound track; leave it out or use a task without sound")
        if not (-SLACK_SECONDS <= start_seconds < stop_seconds) or rate_hz < 1:
            raise ValueError(
                f"{self.path}: no sound from {start_seconds:.2f} s to {stop_seconds:.2f} s at {rate_hz} Hz: "
                "0 <= start < stop and a positive rate are needed"
            )
        zero = float(self._table.pts[0]) * float(self._source.stream.time_base)
        try:
            samples = read_sound(self._source.container, start_seconds + zero, stop_seconds + zero, rate_hz)
        except SoundEnds as end:
            raise ValueError(
                f"{self.path}: no sound at {stop_seconds:.2f} s, the track ends at {end.seconds - zero:.2f} s; "
                "shorten the clip"
            ) from None
        return torch.from_numpy(samples)

    def close(self) -> None:
        """Closes the file; the reader cannot be used afterwards."""
        self._source.close()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
