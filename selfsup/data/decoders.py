"""Three ways to decode the frames of a `FrameTable`: PyAV, decord and torchcodec. Private to `reader.py`."""

import importlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from av.video.reformatter import VideoReformatter

from selfsup.data.frame_table import FrameTable, Source

BACKENDS = ("pyav", "decord", "torchcodec")
# decord finds its way in files of these containers only, without edit lists and open groups of frames. In
# others it silently gives other frames than those asked for (docs/decisions.md).
DECORD_CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
SAME_TIME_SECONDS = 1e-3


class MissingFrameError(Exception):
    """The decoder did not give a frame that the packets had promised."""


class Decoder(Protocol):
    """Gives frames by their place in the table."""

    def decode(self, table: FrameTable, indices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Frames uint8 (T, H, W, 3), turned as the file asks for, of T sorted and unique `indices`.

        `size` is (width, height), as stored for PyAV and as shown for the others. Raises MissingFrameError where a
        frame does not come as promised.
        """
        ...


class ToRgb:
    """Turns PyAV's frames into pictures.

    Attributes:
        turns: quarter turns counter-clockwise that the file asks for, known with the first frame.
    """

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()
        self.turns: int | None = None

    def __call__(self, frame: Any, size: tuple[int, int]) -> np.ndarray:
        """Converts and scales in one step to `size`, (width, height) as stored, then turns; uint8 (H, W, 3)."""
        self.turns = round(frame.rotation / 90) % 4
        width, height = size
        rgb = self.reformatter.reformat(frame, width, height, "rgb24", threads=1)
        plane: Any = rgb.planes[0]
        lines = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
        return np.rot90(lines[:, : width * 3].reshape(height, width, 3), self.turns)


class PyavDecoder:
    """Decodes from the nearest keyframe before each run of frames; converts and scales only those wanted."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.to_rgb = ToRgb()

    @property
    def turns(self) -> int | None:
        """See `ToRgb.turns`."""
        return self.to_rgb.turns

    def decode(self, table: FrameTable, indices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """See `Decoder.decode`."""
        images: dict[int, np.ndarray] = {}
        for first, stop, members in _runs(table, indices):
            names = members if table.counted else table.pts[members]
            index_of = dict(zip(names.tolist(), members.tolist(), strict=True))
            decoded = self.source.decode(first, stop, None if table.counted else set(index_of))
            for count, frame in enumerate(decoded):
                index = index_of.pop(count if table.counted else frame.pts, None)
                if index is not None:
                    images[index] = self.to_rgb(frame, size)
                if not index_of:
                    break
        if len(images) < len(indices):
            raise MissingFrameError
        return np.stack([images[index] for index in indices.tolist()])


def _runs(table: FrameTable, indices: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Runs of packets [first, stop) to decode, with the frames wanted of each; touching runs are joined."""
    if table.counted:
        return [(0, 2**31, indices)]
    runs: list[tuple[int, int, list[int]]] = []
    for index in indices[np.argsort(table.positions[indices])].tolist():
        key, stop = int(table.keys[index]), int(table.positions[index]) + 1
        if runs and key <= runs[-1][1]:
            first, _, members = runs.pop()
            runs.append((first, stop, [*members, index]))
        else:
            runs.append((key, stop, [index]))
    return [(first, stop, np.array(members)) for first, stop, members in runs]


class DecordDecoder:
    """decord. Raises MissingFrameError, before it decodes anything, for a file that it would read wrongly."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.decord = import_backend("decord")
        self.decord.logging.set_level(self.decord.logging.QUIET)
        self.video: Any = None

    def decode(self, table: FrameTable, indices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """See `Decoder.decode`."""
        if self.video is None:
            self._open(table, size)
        try:
            return self.video.get_batch(indices.tolist()).asnumpy()
        except self.decord.DECORDError as error:
            raise MissingFrameError from error

    def _open(self, table: FrameTable, size: tuple[int, int]) -> None:
        keyframes = np.flatnonzero([row.is_key for row in self.source.rows])
        nearest = keyframes[np.searchsorted(keyframes, table.positions, side="right") - 1] if len(keyframes) else -1
        plain = (
            not table.counted
            and bool(np.all(nearest == table.keys))  # groups of frames are closed
            and len(table) == len(self.source.rows)
            and self.source.container.format.name in DECORD_CONTAINERS
        )
        if not plain:
            raise MissingFrameError
        width, height = size
        try:
            cpu = self.decord.cpu(0)
            self.video = self.decord.VideoReader(
                str(self.source.path), ctx=cpu, width=width, height=height, num_threads=1
            )
        except (self.decord.DECORDError, UnicodeEncodeError) as error:
            raise MissingFrameError from error
        stamps = self.video.get_frame_timestamp(list(range(len(self.video))))[:, 0]
        seconds = (table.pts - table.pts[0]) * float(self.source.stream.time_base)
        if len(stamps) != len(table) or np.abs(stamps - stamps[0] - seconds).max() > SAME_TIME_SECONDS:
            raise MissingFrameError


class TorchcodecDecoder:
    """torchcodec in its exact mode; each frame's presentation time is held against the table."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.torchcodec = import_backend("torchcodec")

    def decode(self, table: FrameTable, indices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """See `Decoder.decode`."""
        if table.counted:
            raise MissingFrameError
        own = size in (self.source.size, self.source.size[::-1])
        resize = [] if own else [self.torchcodec.transforms.Resize((size[1], size[0]))]
        try:
            video = self.torchcodec.decoders.VideoDecoder(
                str(self.source.path),
                stream_index=self.source.stream.index,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                seek_mode="exact",
                transforms=resize,
            )
            batch = video.get_frames_at(indices.tolist())
        except (RuntimeError, IndexError, UnicodeEncodeError) as error:
            raise MissingFrameError from error
        seconds = table.pts[indices] * float(self.source.stream.time_base)
        if np.abs(batch.pts_seconds.numpy() - seconds).max() > SAME_TIME_SECONDS:
            raise MissingFrameError
        images: np.ndarray = batch.data.numpy()
        return images


def import_backend(name: str) -> Any:
    """Imports decord or torchcodec, with an error that says what to do where it does not load."""
    try:
        if name == "torchcodec":
            importlib.import_module("torchcodec.decoders")
            importlib.import_module("torchcodec.transforms")
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f'the video backend "{name}" does not load ({reason}); install it again or use backend="pyav"'
        ) from error


def make_decoder(backend: str, source: Source, pyav: PyavDecoder) -> Decoder:
    """The decoder of that name. Raises ValueError for an unknown name and for one that does not load."""
    if backend == "decord":
        return DecordDecoder(source)
    if backend == "torchcodec":
        return TorchcodecDecoder(source)
    if backend != "pyav":
        raise ValueError(f'{Path(source.path)}: no video backend "{backend}"; there are {", ".join(BACKENDS)}')
    return pyav
