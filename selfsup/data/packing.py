"""How a video is packed: its frames decoded once, scaled, and written as JPEG; its sound as PCM."""

from __future__ import annotations

import hashlib
import io
import json
import math
import wave
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from selfsup.data.byte_ranges import Extent
from selfsup.data.index import VideoInfo, row_of
from selfsup.data.packed import TABLE, block_checksums, kept_name, pcm
from selfsup.data.reader import UnreadableVideo, VideoReader, scaled
from selfsup.data.sampling import PackableSampler
from selfsup.data.shard_format import NoRoomError, TarWriter
from selfsup.data.true_masks import MASKS_KEY, masks_to_bytes

_AT_ONCE_BYTES = 64 * 2**20  # of decoded frames
_SOUND_SECONDS = 60.0  # read at once
_FILE_BYTES = 768  # of a tar, less the content: its header, and half a block


@dataclass(frozen=True)
class Packing:
    """What packed videos are like.

    Args:
        short_side_pixels: of the frames; smaller videos are not enlarged.
        fps: frames a second that are kept, the nearest to an even grid; a slower video keeps all. None: all.
        quality: of the JPEG, 1 to 95, with colour at half the resolution.
        sound_hz: of the sound, mono; the tasks' `rate_hz` must be this. None: no sound.
        task: keep what the task computes of each video beside it: foreground labels, or flow.
        shard_megabytes: a shard is closed before it would grow larger; it holds one video at least.
        timeout_seconds: a video that takes longer is left out.

    Raises ValueError for a value out of its bounds.
    """

    short_side_pixels: int
    fps: float | None = None
    quality: int = 75
    sound_hz: int | None = 16_000
    task: bool = False
    shard_megabytes: float = 256.0
    timeout_seconds: float = 3600.0

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 95:
            raise ValueError(f"pack.quality={self.quality}: give 1 to 95")
        for name in ("short_side_pixels", "fps", "sound_hz", "shard_megabytes", "timeout_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"pack.{name}={value:g}: give a positive number")

    def settings(self) -> dict[str, Any]:
        """What the bytes depend on."""
        names = ("short_side_pixels", "fps", "quality", "sound_hz", "task", "shard_megabytes")
        return {name: getattr(self, name) for name in names}

    def numbers(self, times_seconds: np.ndarray) -> np.ndarray:
        """Which of the frames shown at these times (F,) are kept, int64 (F',), rising."""
        if self.fps is None or len(times_seconds) < 2:
            return np.arange(len(times_seconds))
        wanted = np.arange(math.floor(times_seconds[-1] * self.fps + 1e-6) + 1) / self.fps
        borders = (times_seconds[1:] + times_seconds[:-1]) / 2
        return np.unique(np.searchsorted(borders, wanted, side="left"))

    def pixels(self, info: VideoInfo) -> int:
        """The short side of its packed frames."""
        return min(self.short_side_pixels, info.width, info.height)

    def encode(self, image: np.ndarray) -> bytes:
        """Frame uint8 (H, W, 3) as JPEG."""
        file = io.BytesIO()
        # Tables of their own make small frames a tenth smaller, and are decoded as fast.
        Image.fromarray(image).save(file, "jpeg", quality=self.quality, optimize=True)
        return file.getvalue()

    def room_bytes(self, infos: Sequence[VideoInfo], bytes_per_frame: float) -> float:
        """What the shards of these videos will take, where a frame takes so much as JPEG."""
        room = 0.0
        for info in infos:
            frames = info.num_frames if self.fps is None else math.ceil(info.duration_seconds * min(self.fps, info.fps))
            room += frames * (bytes_per_frame + TABLE.itemsize) + 3 * _FILE_BYTES + 900 + 11 * len(info.motion)
            if self.sound_hz is not None and info.sound is not None:
                room += 2 * self.sound_hz * info.sound.stop_seconds + _FILE_BYTES + 9 * len(info.sound.loudness_db)
        return room


def pack_video(
    info: VideoInfo, packing: Packing, sampler: PackableSampler | None, name: str, file: BinaryIO
) -> dict[str, Any]:
    """Writes one video as files of a tar that are called `name`, and returns its row of the index.

    What `sampler` computes is kept with it. Offsets in the row count from the start of `file`. Raises ValueError or
    OSError where the video cannot be decoded.
    """
    tar = TarWriter(file)
    with info.open(short_side_pixels=packing.pixels(info)) as video:
        for _ in range(2):
            start, shown = file.tell(), video.times_seconds
            chosen = packing.numbers(shown)
            jpegs = _Jpegs(video, chosen, packing)
            frames, digest = tar.stream(f"{name}.mjpeg", iter(jpegs))
            if video.times_seconds is shown:
                break
            tar.back_to(start)  # the reader found out while it decoded that other frames can be shown
        else:
            raise UnreadableVideo(info.path, "decodes differently each time")
        table = np.array(list(zip(shown[chosen], np.cumsum(jpegs.sizes), jpegs.crc32s, strict=True)), TABLE)
        seconds = video.duration_seconds
        heard, refused = _add_sound(tar, name, video, info, packing)
    packed = replace(
        info,
        num_frames=len(chosen),
        duration_seconds=seconds,
        fps=len(chosen) / seconds,
        has_audio=info.has_audio and packing.sound_hz is not None,
        sound=info.sound if packing.sound_hz is not None else None,
    )
    header = io.BytesIO()
    np.lib.format.write_array(header, table, version=(1, 0))
    lies_at = tar.add(f"{name}.npy", header.getvalue(), len(header.getvalue()) - table.nbytes)
    kept = _add_kept(tar, name, packed, chosen, packing, sampler)
    known = f"{digest} {table.tobytes().hex()} {heard and heard['crc32s']}"
    digest = hashlib.blake2b(known.encode(), digest_size=16).hexdigest()
    row = row_of(replace(packed, checksum=digest)) | {"source_checksum": info.checksum}
    tar.add(f"{name}.json", (json.dumps(row, indent=1) + "\n").encode())
    place = {"table": lies_at, "frames": frames, "sound": heard, "sound_refused": refused, "kept": kept}
    return {"info": row, "place": place}


class _Jpegs:
    """The chosen frames of a video as JPEG, in turn; `sizes` and `crc32s` are known once all were taken."""

    def __init__(self, video: VideoReader, chosen: np.ndarray, packing: Packing) -> None:
        self.video, self.packing = video, packing
        self.times_seconds = video.times_seconds[chosen]
        self.sizes: list[int] = []
        self.crc32s: list[int] = []

    def __iter__(self) -> Iterator[bytes]:
        width, height = scaled((self.video.width, self.video.height), self.video.short_side_pixels or 1)
        count = max(1, _AT_ONCE_BYTES // (3 * width * height))
        for start in range(0, len(self.times_seconds), count):
            images = self.video.frames(self.times_seconds[start : start + count].tolist())
            for image in images.permute(0, 2, 3, 1).numpy():
                jpeg = self.packing.encode(image)
                self.sizes.append(len(jpeg))
                self.crc32s.append(zlib.crc32(jpeg))
                yield jpeg


def _add_sound(
    tar: TarWriter, name: str, video: VideoReader, info: VideoInfo, packing: Packing
) -> tuple[dict[str, Any] | None, str | None]:
    """The whole track, or why there is none of one that the video has."""
    if packing.sound_hz is None or info.sound is None:
        return None, None
    try:
        samples = _whole_track(video, info.sound.stop_seconds, packing.sound_hz)
    except ValueError as error:  # the frames are good all the same
        return None, str(error).removeprefix(f"{info.path}: ")
    content = pcm(samples)
    with wave.open(file := io.BytesIO(), "wb") as track:
        track.setnchannels(1)
        track.setsampwidth(2)
        track.setframerate(packing.sound_hz)
        track.writeframes(content)
    extent = tar.add(f"{name}.wav", file.getvalue(), len(file.getvalue()) - len(content))
    row = {
        "offset": extent.offset,
        "samples": len(samples),
        "rate_hz": packing.sound_hz,
        "zero_seconds": video.zero_seconds,
        "crc32s": block_checksums(content),
    }
    return row, None


def _whole_track(video: VideoReader, stop_seconds: float, rate_hz: int) -> np.ndarray:
    """Every sample that the reader would give, float32 (N,). ValueError where there is none."""
    step = round(_SOUND_SECONDS * rate_hz)
    parts = []
    for first in range(0, (total := round(stop_seconds * rate_hz)), step):
        if first + step < total:
            parts.append(video.audio(first / rate_hz, (first + step) / rate_hz, rate_hz).numpy())
            continue
        # Rounding leaves a sample more or less at the end of a track.
        for stop in (total + 1, total, total - 1):
            try:
                parts.append(video.audio(first / rate_hz, stop / rate_hz, rate_hz).numpy())
                break
            except UnreadableVideo:
                raise
            except ValueError:
                if stop == total - 1:
                    raise
    if not parts:
        raise ValueError(f"{video.path}: its sound track holds no sample that can be decoded")
    return np.concatenate(parts)


def _add_kept(
    tar: TarWriter, name: str, info: VideoInfo, chosen: np.ndarray, packing: Packing, sampler: PackableSampler | None
) -> dict[str, Extent]:
    """What the task computes of the video, and its true masks; `info` opens the file, and knows what is packed."""
    kept = {}
    if (masks := info.true_masks()) is not None:
        kept[kept_name(MASKS_KEY)] = tar.add(f"{name}.masks", masks_to_bytes(masks[chosen]))
    start, parts = tar.file.tell(), {}
    if sampler is not None:
        try:
            for key, content in sampler.to_pack(info, packing.short_side_pixels):
                parts[kept_name(key)] = tar.add(f"{name}.{kept_name(key)}", content)
        except ValueError:  # a training on it will find the same, and tell
            tar.back_to(start)
            parts = {}
        except OSError as error:
            raise NoRoomError(str(error)) from error  # the task keeps it in a folder of its own, too
    return kept | parts
