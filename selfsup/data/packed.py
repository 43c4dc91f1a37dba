"""A packed video: frames as JPEG and sound as PCM in a shard, answering as the file answers that it was made of."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from simplejpeg import decode_jpeg
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from selfsup.data.byte_ranges import Extent, damaged, read_extent, read_ranges
from selfsup.data.index import VideoInfo
from selfsup.data.loudness import SoundInfo
from selfsup.data.reader import VideoReader, scaled
from selfsup.data.true_masks import MASKS_KEY, masks_from_bytes

# When a frame is shown, where its JPEG ends in the row of all, and its checksum.
TABLE = np.dtype([("seconds", "<f8"), ("stop", "<u8"), ("crc32", "<u4")])
SOUND_BLOCK_BYTES = 64 * 2**10  # with one checksum
FULL_SCALE = 32767


@dataclass(frozen=True)
class Track:
    """Sound in a shard: 16-bit PCM, mono, from byte `offset` on.

    Sample n is shown at n / rate_hz seconds, less what `zero_seconds`, when the first frame is shown on the clock of
    the file, is past a whole sample. `crc32s` are those of its blocks of `SOUND_BLOCK_BYTES`.
    """

    offset: int
    samples: int
    rate_hz: int
    zero_seconds: float
    crc32s: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where a packed video lies.

    Attributes:
        shard: path or URL.
        short_side_pixels: the setting; a smaller video was not enlarged.
        table: its frames, `TABLE` each.
        frames: where the first JPEG begins.
        sound: None where there is none.
        sound_refused: why a track was not packed.
        kept: what tasks have computed of the video, by `kept_name`.
    """

    shard: str
    short_side_pixels: int
    table: Extent
    frames: int
    sound: Track | None
    sound_refused: str | None
    kept: Mapping[str, Extent]


@dataclass(frozen=True)
class PackedInfo(VideoInfo):
    """What is known of a packed video: all that the index knew of its file, and its `place`.

    `checksum` is that of what was packed: labels that are made of it are not taken for those of the file.
    """

    place: Place = field(kw_only=True, compare=False)

    def open(self, backend: str = "packed", short_side_pixels: int | None = None) -> PackedReader:
        """A reader of its frames and sound; it has one decoder, whatever `backend` is."""
        return PackedReader(self, short_side_pixels)

    def refuse_size(self, short_side_pixels: int) -> str | None:
        packed = self.place.short_side_pixels
        if short_side_pixels <= packed:
            return None
        return (
            f"packed with a short side of {packed} pixels, {short_side_pixels} are asked for; ask for less, or pack it "
            f"again with pack.short_side_pixels={short_side_pixels}"
        )

    def kept(self, key: Mapping[str, str | int | float]) -> bytes | None:
        extent = self.place.kept.get(kept_name(key))
        if extent is None:
            return None
        return bytes(read_extent(self.place.shard, extent, f"what a task keeps of {self.path}"))

    def true_masks(self) -> NDArray[np.bool_] | None:
        content = self.kept(MASKS_KEY)
        return None if content is None else masks_from_bytes(content)


class PackedReader(VideoReader):
    """Frames and sound of one packed video at given seconds: `VideoReader`, of whom it takes all questions.

    Frames that are asked for at another size than they were packed are scaled after decoding, by PyTorch's antialiased
    bilinear filter. Sound comes at the rate at which it was packed. Raises OSError where the shard cannot be
    read, and ValueError where what is read does not match its checksum.
    """

    def __init__(self, info: PackedInfo, short_side_pixels: int | None = None) -> None:
        self.path = info.path
        self.backend = "packed"
        self.short_side_pixels = short_side_pixels
        if short_side_pixels is not None and short_side_pixels < 1:
            raise ValueError(f"{info.path}: short_side_pixels is {short_side_pixels}; it must be at least 1")
        self._info, self._place = info, info.place
        table = np.frombuffer(read_extent(self._place.shard, self._place.table, f"the table of {info.path}"), TABLE)
        self.times_seconds = table["seconds"].copy()
        self._stops = np.concatenate([[0], table["stop"]]).astype(np.int64)
        self._crc32s = table["crc32"]
        self.num_frames, self.duration_seconds, self.fps = len(table), info.duration_seconds, info.fps
        self.codec, self.has_audio = "mjpeg", info.has_audio

    @property
    def rotation(self) -> int:
        return 0  # frames were turned before they were packed

    @property
    def width(self) -> int:
        return self._info.width

    @property
    def height(self) -> int:
        return self._info.height

    def frames(self, times_seconds: Sequence[float]) -> Tensor:
        """See `VideoReader.frames`; only the frames that are asked for are read and decoded."""
        numbers, inverse = self.numbers(times_seconds), None
        if not (numbers[1:] > numbers[:-1]).all():
            numbers, inverse = np.unique(numbers, return_inverse=True)
        jpegs = self.jpegs(numbers)
        size = scaled((self.width, self.height), min(self._place.short_side_pixels, self.width, self.height))
        try:
            images = decode(jpegs, size)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}; pack the videos anew") from error
        if self.short_side_pixels is not None:
            width, height = scaled((self.width, self.height), self.short_side_pixels)
            if (width, height) != size:
                images = F.resize(images, [height, width], antialias=True)
        return images if inverse is None else images[torch.from_numpy(inverse)]

    def jpegs(self, numbers: np.ndarray) -> list[memoryview]:
        """Frames `numbers`, rising int64 (T,), undecoded. Raises as `frames` does."""
        shard, first = self._place.shard, self._place.frames
        starts, stops = self._stops[numbers] + first, self._stops[numbers + 1] + first
        jpegs = read_ranges(shard, list(zip(starts.tolist(), stops.tolist(), strict=True)))
        for number, jpeg, crc32 in zip(numbers.tolist(), jpegs, self._crc32s[numbers].tolist(), strict=True):
            if zlib.crc32(jpeg) != crc32:
                raise damaged(shard, f"frame {number} of {self.path}")
        return jpegs

    def audio(self, start_seconds: float, stop_seconds: float, rate_hz: int) -> Tensor:
        """See `VideoReader.audio`; ValueError for another rate than the sound was packed with."""
        self._check_sound(start_seconds, stop_seconds, rate_hz)
        track = self._place.sound
        if track is None:
            raise ValueError(f"{self.path}: its sound was not packed ({self._place.sound_refused})")
        if rate_hz != track.rate_hz:
            raise ValueError(
                f"{self.path}: its sound was packed at {track.rate_hz} Hz, {rate_hz} Hz are asked for; pack it again "
                f"with pack.sound_hz={rate_hz}, or set rate_hz of the task"
            )
        # Samples lie on the grid of the file's own clock, as `sound.read_sound` has them.
        zero = round(track.zero_seconds * rate_hz)
        first = round((start_seconds + track.zero_seconds) * rate_hz) - zero
        count = round((stop_seconds - start_seconds) * rate_hz)
        if first + count > track.samples:
            raise self._no_sound(stop_seconds, track.samples / rate_hz)
        return torch.from_numpy(self._samples(track, max(0, first), count))

    def sound(self) -> SoundInfo | None:
        return self._info.sound

    def close(self) -> None:
        """There is nothing to close: a shard is opened for each read."""

    def _samples(self, track: Track, first: int, count: int) -> np.ndarray:
        """Float32 (count,), from whole blocks whose checksums hold."""
        size = 2 * track.samples
        low = 2 * first // SOUND_BLOCK_BYTES
        high = min(len(track.crc32s), -(-2 * (first + count) // SOUND_BLOCK_BYTES))
        blocks = [
            (track.offset + n * SOUND_BLOCK_BYTES, track.offset + min(size, (n + 1) * SOUND_BLOCK_BYTES))
            for n in range(low, high)
        ]
        contents = read_ranges(self._place.shard, blocks)
        for number, content in zip(range(low, high), contents, strict=True):
            if zlib.crc32(content) != track.crc32s[number]:
                raise damaged(self._place.shard, f"the sound of {self.path}")
        samples = np.frombuffer(b"".join(contents), "<i2")[first - low * SOUND_BLOCK_BYTES // 2 :][:count]
        return samples.astype(np.float32) / FULL_SCALE


def decode(jpegs: Sequence[memoryview | bytes], size: tuple[int, int]) -> Tensor:
    """JPEGs of this width and height to uint8 (T, 3, H, W), channels-last. ValueError for what is no such JPEG."""
    images = np.empty((len(jpegs), size[1], size[0], 3), np.uint8)
    for image, jpeg in zip(images, jpegs, strict=True):
        try:
            shape = decode_jpeg(jpeg, buffer=image).shape
        except ValueError as error:
            raise ValueError(f"a packed frame cannot be decoded ({error})") from error
        if shape != image.shape:
            raise ValueError(f"a packed frame has {shape[1]} x {shape[0]} pixels, not {size[0]} x {size[1]}")
    return torch.from_numpy(images).permute(0, 3, 1, 2)  # (T, H, W, 3) -> (T, 3, H, W)


def pcm(samples: np.ndarray) -> bytes:
    """Float32 (N,) in [-1, 1] as 16-bit PCM."""
    return np.round(samples * FULL_SCALE).astype("<i2").tobytes()


def block_checksums(content: bytes) -> tuple[int, ...]:
    """The CRC-32 of each block of `SOUND_BLOCK_BYTES`."""
    starts = range(0, len(content), SOUND_BLOCK_BYTES)
    return tuple(zlib.crc32(content[start : start + SOUND_BLOCK_BYTES]) for start in starts)


def kept_name(key: Mapping[str, str | int | float]) -> str:
    """What is kept of a video, by all that it depends on but the video and its decoder."""
    settings = {name: value for name, value in key.items() if name not in ("video", "reader")}
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()
