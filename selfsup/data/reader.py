"""Video files as tensors: the frames and the sound at given seconds."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from av import FFmpegError
from torch import Tensor

from selfsup.data.decoders import MissingFrameError, PyavDecoder, make_decoder
from selfsup.data.frame_table import FrameTable, Source
from selfsup.data.loudness import LOUDNESS_HZ, SoundInfo, decibels
from selfsup.data.sound import SoundEndsError, read_levels, read_sound, read_whole, sound_stream

# Samplers compute seconds in floating point: this much past either end is still the end.
SLACK_SECONDS = 1e-6


class UnreadableVideo(ValueError):  # noqa: N818 (it says what it is)
    """A file that cannot be used as a video. `path` names it; `reason` says why, in a few words."""

    def __init__(self, path: str | Path, reason: str = "") -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.reason else str(self.path)


class VideoReader:
    """Frames and sound of one video file at given seconds; zero is when the first frame is shown.

    Only what can be decoded and shown counts, whatever the container declares: stream-copied cuts, truncated
    files, variable rates, reordered frames and rotated recordings give the frame that a player would show.

    Arguments: `backend` is "pyav", "decord" or "torchcodec"; a file that the chosen one would read wrongly is
    decoded by PyAV. `short_side_pixels` scales the frames while they are decoded, keeping their shape; None:
    as they are.

    Attributes: `times_seconds`, float64 (F,), when each of the `num_frames` frames is shown, sorted, from 0;
    `duration_seconds`, the end of the last one; `fps`, the mean; `width` and `height` in pixels as shown
    (turned, not scaled); `rotation`, degrees clockwise that the file asks for; `codec`; `has_audio`; `path`.

    Raises FileNotFoundError for a missing file, `UnreadableVideo` (a ValueError) for one that is not a usable
    video.
    """

    def __init__(self, path: str | Path, backend: str = "pyav", short_side_pixels: int | None = None) -> None:
        self.path = Path(path)
        self.backend = backend
        self.short_side_pixels = short_side_pixels
        if short_side_pixels is not None and short_side_pixels < 1:
            raise ValueError(f"{path}: short_side_pixels is {short_side_pixels}; it must be at least 1")
        self._source = open_source(self.path)
        try:
            self._pyav = PyavDecoder(self._source)
            self._decoder = make_decoder(backend, self._source, self._pyav)
            self._take_table(self._source.read_table())
        except FFmpegError as error:
            self.close()
            raise UnreadableVideo(self.path, f"cannot be read ({error.strerror})") from error
        except ValueError:
            self.close()
            raise
        self.codec: str = self._source.stream.codec_context.codec.canonical_name
        self.has_audio = sound_stream(self._source.container) is not None

    def _take_table(self, table: FrameTable) -> None:
        if len(table) == 0:
            raise UnreadableVideo(self.path, "holds no frame that can be decoded")
        self._table = table
        self.num_frames = len(table)
        self.times_seconds, self.duration_seconds = table.shown_seconds(float(self._source.stream.time_base))
        self.fps = self.num_frames / self.duration_seconds

    @property
    def rotation(self) -> int:
        if self._pyav.turns is None:
            try:
                self._pyav.decode(self._table, np.zeros(1, np.int64), self._source.size)
            except MissingFrameError:
                return 0  # nothing can be shown in a wrong way
        return -90 * (self._pyav.turns or 0) % 360

    @property
    def width(self) -> int:
        return self._source.size[1 if self.rotation % 180 else 0]

    @property
    def height(self) -> int:
        return self._source.size[0 if self.rotation % 180 else 1]

    def frames(self, times_seconds: Sequence[float]) -> Tensor:
        """The frames whose presentation times are nearest to `times_seconds`, uint8 (T, 3, H, W), in [0,
        255].

        Times may come in any order and repeat; each needed part of the file is decoded once, so that one call
        for all times is one pass. The memory layout is channels-last. Raises ValueError for a time that is
        not in [0, duration_seconds].
        """
        try:
            return self._frames(times_seconds)
        except MissingFrameError:
            # The packets promised a frame that does not decode. Find out what does, and answer from that.
            self._take_table(self._source.count_frames())
        try:
            return self._frames(times_seconds)
        except MissingFrameError:
            raise UnreadableVideo(self.path, "decodes differently each time") from None

    def _frames(self, times_seconds: Sequence[float]) -> Tensor:
        unique, inverse = np.unique(self.numbers(times_seconds), return_inverse=True)
        images = self._decode(unique)
        if not np.array_equal(inverse, np.arange(len(unique))):
            images = images[inverse]
        return torch.from_numpy(images).permute(0, 3, 1, 2)  # (T, H, W, 3) -> (T, 3, H, W)

    def _decode(self, indices: np.ndarray) -> np.ndarray:
        size = self._source.size  # as stored, before any turn
        if self.short_side_pixels is not None:
            size = scaled(size, self.short_side_pixels)
        if self._decoder is not self._pyav:
            shown_size = size[::-1] if self.rotation % 180 else size
            try:
                return self._decoder.decode(self._table, indices, shown_size)
            except MissingFrameError:
                self._decoder = self._pyav
        return self._pyav.decode(self._table, indices, size)

    def numbers(self, times_seconds: Sequence[float]) -> np.ndarray:
        """The frame nearest to each time, int64 (T,); the earlier one of two that are equally near.

        Raises ValueError as `frames` does. Ask after `frames`, which may find that fewer frames decode.
        """
        times = np.asarray(times_seconds, np.float64)
        if times.ndim != 1 or len(times) == 0:
            raise ValueError(f"{self.path}: frames() needs a list of seconds, not an array of shape {times.shape}")
        inside = (times >= -SLACK_SECONDS) & (times <= self.duration_seconds + SLACK_SECONDS)
        if not inside.all():
            bad = float(times[~inside][0])
            bound = "starts at 0.00 s" if bad < 0 else f"ends at {self.duration_seconds:.2f} s; shorten the clip"
            raise ValueError(f"{self.path}: no frame at {bad:.2f} s, the video {bound}")
        borders = (self.times_seconds[1:] + self.times_seconds[:-1]) / 2
        return np.searchsorted(borders, times, side="left")

    def audio(self, start_seconds: float, stop_seconds: float, rate_hz: int) -> Tensor:
        """Mono sound, float32 (N,) in [-1, 1], N = round((stop - start) * rate) exactly; channels are
        averaged.

        Silence where the track starts late or has a hole. Raises ValueError where there is no track, where it
        ends before `stop_seconds`, or where samples are no finite numbers.
        """
        self._check_sound(start_seconds, stop_seconds, rate_hz)
        zero = self.zero_seconds
        try:
            samples = read_sound(self._source, start_seconds + zero, stop_seconds + zero, rate_hz)
        except SoundEndsError as error:
            raise self._no_sound(stop_seconds, max(0.0, error.seconds - zero)) from None
        except FFmpegError as error:
            raise UnreadableVideo(self.path, f"its sound cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise UnreadableVideo(self.path, str(error)) from None
        return torch.from_numpy(samples)

    def _check_sound(self, start_seconds: float, stop_seconds: float, rate_hz: int) -> None:
        if not self.has_audio:
            raise ValueError(f"{self.path}: has no sound track; leave it out or use a task without sound")
        if not -SLACK_SECONDS <= start_seconds < stop_seconds < float("inf") or rate_hz < 1:
            raise ValueError(
                f"{self.path}: no sound from {start_seconds:.2f} s to {stop_seconds:.2f} s at {rate_hz} Hz; "
                "give 0 <= start < stop and a positive rate"
            )

    def _no_sound(self, at_seconds: float, end_seconds: float) -> ValueError:
        return ValueError(
            f"{self.path}: no sound at {at_seconds:.2f} s, the track ends at {end_seconds:.2f} s; shorten the clip"
        )

    def sound(self) -> SoundInfo | None:
        """What can be told of the whole sound track, decoded once; None where there is no track."""
        if not self.has_audio:
            return None
        try:
            levels = read_levels(self._source, self.zero_seconds, LOUDNESS_HZ)
        except FFmpegError:
            return SoundInfo(0.0, True, np.zeros(0, np.float32))
        return SoundInfo(levels.stop_seconds, levels.is_finite, decibels(levels.squares))

    @property
    def zero_seconds(self) -> float:
        """When the first frame is shown, on the file's own clock."""
        return float(self._table.pts[0]) * float(self._source.stream.time_base)

    def close(self) -> None:
        """Closes the file and frees the decoder; the reader cannot be used afterwards."""
        self._source.close()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_sound_file(path: str | Path, rate_hz: int) -> Tensor:
    """The whole sound track of any file, with or without a picture: mono, float32 (N,) in [-1, 1].

    Raises FileNotFoundError for a missing file, `UnreadableVideo` for one without sound that can be used.
    """
    path = Path(path)
    source = _opened(path)
    try:
        if sound_stream(source.container) is None:
            raise UnreadableVideo(path, "holds no sound that can be decoded")
        return torch.from_numpy(read_whole(source, rate_hz))
    except FFmpegError as error:
        raise UnreadableVideo(path, f"its sound cannot be read ({error.strerror})") from error
    except UnreadableVideo:
        raise
    except ValueError as error:
        raise UnreadableVideo(path, str(error)) from None
    finally:
        source.close()


def _opened(path: Path) -> Source:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise UnreadableVideo(path, "is a folder or a device, not a video file")
    if path.stat().st_size == 0:
        raise UnreadableVideo(path, "is empty (0 bytes)")
    try:
        return Source(path)
    except FFmpegError as error:
        raise UnreadableVideo(path, f"cannot be opened as a video ({error.strerror})") from error


def scaled(size: tuple[int, int], short_side_pixels: int) -> tuple[int, int]:
    """Width and height with a short side of so many pixels, of the same shape as nearly as can be."""
    scale = short_side_pixels / min(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def open_source(path: Path) -> Source:
    """Opens a file that holds a video; FileNotFoundError or `UnreadableVideo` for anything else."""
    source = _opened(path)
    kind = source.container.format.name
    reason = ""
    if "image" in kind or kind.endswith("_pipe"):
        reason = "is an image, not a video"
    elif source.stream is None:
        reason = "holds sound only, no video" if source.container.streams.audio else "holds no video"
    elif not all(source.size):
        reason = "holds no frame that can be decoded"
    if reason:
        source.close()
        raise UnreadableVideo(path, reason)
    return source
