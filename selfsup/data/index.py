"""One pass over the files: what each video is, how it moves, and which cannot be decoded and why.

The pass runs in parallel, is cached line by line and goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfsup.data.executors import Executor
from selfsup.data.loudness import SoundInfo
from selfsup.data.processes import run_in_processes
from selfsup.data.reader import VideoReader
from selfsup.data.true_masks import read_masks

_VERSION = 3
# Three photographs encoded as videos by seven codecs change by up to 12 levels, of 360 films from standing cameras all
# but one by 21 or more.
_STILL = 15 / 255
_MOTION_SIDE_PIXELS = 32
_CHUNK_FRAMES = 1000
_COLUMNS = (
    "duration_seconds",
    "fps",
    "num_frames",
    "width",
    "height",
    "codec",
    "rotation",
    "has_audio",
    "checksum",
    "motion_rate_hz",
    "change",
    "longest_gap",
)


@dataclass(frozen=True)
class VideoInfo:
    """What the index knows of one video.

    `motion[i]` is the mean absolute difference, in [0, 1], of the grey frames at i / motion_rate_hz and
    (i + 1) / motion_rate_hz seconds, both scaled to a short side of 32 pixels. `change`, in [0, 1], is the greatest
    difference of a pixel from the first of these frames. `longest_gap` is the longest time from one frame to the next
    over the usual one, their median. `sound` is None where there is no track.
    """

    path: Path
    duration_seconds: float
    fps: float
    num_frames: int
    width: int
    height: int
    codec: str
    rotation: int
    has_audio: bool
    checksum: str
    motion_rate_hz: float
    motion: np.ndarray = field(repr=False, compare=False)
    change: float = 1.0
    longest_gap: float = 1.0
    sound: SoundInfo | None = None

    def open(self, backend: str = "pyav", short_side_pixels: int | None = None) -> VideoReader:
        """A reader of its frames and sound; arguments and errors are those of `VideoReader`."""
        return VideoReader(self.path, backend=backend, short_side_pixels=short_side_pixels)

    def refuse_size(self, short_side_pixels: int) -> str | None:
        """Why its frames cannot be had with so long a short side, or None; a file enlarges them."""
        return None

    def kept(self, key: Mapping[str, str | int | float]) -> bytes | None:
        """What lies with the video that a task has computed of it under `key`; None where there is nothing."""
        return None

    def true_masks(self) -> NDArray[np.bool_] | None:
        """Which pixels of its frames truly are foreground, (T, H, W); None where nobody knows."""
        return read_masks(self.path)

    @property
    def heard_seconds(self) -> float:
        """Up to when there are both frames and sound; 0 where there is no sound."""
        return 0.0 if self.sound is None else min(self.duration_seconds, self.sound.stop_seconds)

    @property
    def is_still(self) -> bool:
        """Whether one picture is shown throughout, such as the cover of an album."""
        return self.change < _STILL


@dataclass(frozen=True)
class Index:
    """`videos` can be decoded; `refused` holds the reason for each that cannot."""

    videos: dict[Path, VideoInfo]
    refused: dict[Path, str]


def inspect(path: Path, *, motion_hz: float = 10.0) -> VideoInfo:
    """Decodes the video once, from end to end. Raises ValueError where that is impossible."""
    with VideoReader(path, short_side_pixels=_MOTION_SIDE_PIXELS) as video:
        rate = min(motion_hz, video.fps)
        promised_seconds = video.duration_seconds
        last = float(video.times_seconds[-1])
        # The last frame is asked for too: a video that breaks off before it must not pass.
        times = [*(np.arange(math.ceil(last * rate - 1e-6)) / rate), last]
        try:
            motion, change = _motion(video, times)
        except ValueError as error:
            if video.duration_seconds < promised_seconds:  # the reader found out while it decoded
                raise ValueError(
                    f"{path}: breaks off at {video.duration_seconds:.2f} s of {promised_seconds:.2f} s; "
                    "fetch it again or cut it there"
                ) from error
            raise
        return VideoInfo(
            path=path,
            duration_seconds=video.duration_seconds,
            fps=video.fps,
            num_frames=video.num_frames,
            width=video.width,
            height=video.height,
            codec=video.codec,
            rotation=video.rotation,
            has_audio=video.has_audio,
            checksum=checksum(path),
            motion_rate_hz=rate,
            motion=motion,
            change=change,
            longest_gap=_longest_gap(video.times_seconds),
            sound=video.sound(),
        )


def build_index(
    paths: Sequence[Path],
    *,
    cache: Path | None = None,
    processes: int = 1,
    timeout_seconds: float = 120.0,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor = run_in_processes,
) -> Index:
    """Inspects every video that `cache` does not know yet.

    Args:
        paths: the videos.
        cache: a file of one JSON object a line, appended to as results come, so that a stopped pass goes on. A video
            whose size or modification time changed is inspected again; so is one that was refused for a reason that
            may pass: no right to read it, a process that was killed, a shorter timeout.
        processes: how many videos at once.
        timeout_seconds: a video that takes longer is refused.
        progress: called with (done, total) after each video.
        executor: where they are inspected.
    """
    known = _read_cache(cache)
    keys = {path: _key(path) for path in paths}  # of the files as they are before they are read
    rows = {path: known[key] for path, key in keys.items() if key in known}
    rows = {path: row for path, row in rows.items() if row.get("timeout_seconds", timeout_seconds) >= timeout_seconds}
    missing = [path for path in keys if path not in rows]
    done = len(rows)
    if missing and cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
    outcomes = executor(
        _inspect_row, missing, processes=min(processes, max(1, len(missing))), timeout_seconds=timeout_seconds
    )
    for outcome in outcomes if missing else ():
        if outcome.failure is None:
            row, lasting = outcome.value
        else:
            row, lasting = {"refused": outcome.failure, "timeout_seconds": timeout_seconds}, outcome.timed_out
        rows[outcome.item] = row
        if cache is not None and lasting:
            _append(cache, {"key": keys[outcome.item], **row})
        done += 1
        if progress is not None:
            progress(done, len(keys))
    videos = {path: VideoInfo(path=path, **columns_of(row)) for path in paths if "refused" not in (row := rows[path])}
    refused = {path: str(row["refused"]) for path in paths if "refused" in (row := rows[path])}
    return Index(videos, refused)


def _inspect_row(path: Path) -> tuple[dict[str, Any], bool]:
    """A row of the cache, and whether it holds for as long as the file stays the same."""
    torch.set_num_threads(1)  # the processes are the parallelism
    try:
        info = inspect(path)
    except (ValueError, OSError) as error:
        lasting = not isinstance(error, OSError) and not isinstance(error.__cause__, OSError)
        return {"refused": str(error).removeprefix(f"{path}: ")}, lasting
    return row_of(info), True


def row_of(info: VideoInfo) -> dict[str, Any]:
    """All but the path, as JSON can hold it."""
    row = {name: getattr(info, name) for name in _COLUMNS}
    sound = None if info.sound is None else info.sound.row()
    return row | {"motion": [round(float(value), 5) for value in info.motion], "sound": sound}


def columns_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What `row_of` wrote, as arguments of `VideoInfo`."""
    motion = np.asarray(row["motion"], dtype=np.float32)
    sound = None if row["sound"] is None else SoundInfo.of_row(row["sound"])
    return {"motion": motion, "sound": sound, **{name: row[name] for name in _COLUMNS}}


def _motion(video: VideoReader, times: list[float]) -> tuple[np.ndarray, float]:
    """`motion` between neighbours of `times`, float32 (len(times) - 1,), and `change`, as `VideoInfo` says."""
    parts, first, change = [], None, 0.0
    for start in range(0, max(1, len(times) - 1), _CHUNK_FRAMES):
        frames = video.frames(times[start : start + _CHUNK_FRAMES + 1])
        grey = frames.float().mean(dim=1) / 255.0  # (T, H, W)
        first = grey[0] if first is None else first
        change = max(change, float((grey - first).abs().max()))
        parts.append((grey[1:] - grey[:-1]).abs().mean(dim=(1, 2)).numpy())
    return np.concatenate(parts).astype(np.float32), round(change, 5)


def _longest_gap(times_seconds: np.ndarray) -> float:
    """The longest distance of neighbours in (F,) over the median one; 1 where there are none."""
    gaps = np.diff(times_seconds)
    return round(float(gaps.max() / np.median(gaps)), 2) if len(gaps) else 1.0


def checksum(path: Path, digest_bytes: int = 16) -> str:
    """Of a file's content, by BLAKE2b: two hexadecimal digits a byte. OSError where it cannot be read."""
    digest = hashlib.blake2b(digest_size=digest_bytes)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _key(path: Path) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return f"{_VERSION}|missing|{path}"
    return f"{_VERSION}|{status.st_size}|{status.st_mtime_ns}|{path.absolute()}"


def _read_cache(cache: Path | None) -> dict[str, dict[str, Any]]:
    if cache is None or not cache.exists():
        return {}
    try:
        lines = cache.read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{cache}: not an index of videos; remove it or set data.index_cache to another file"
        ) from error
    rows = {}
    for line in lines:
        try:
            row = json.loads(line or "{}")
        except json.JSONDecodeError:  # the line that was being written when the pass was killed
            continue
        if "key" in row:
            rows[row.pop("key")] = row
    return rows


def _append(cache: Path, row: dict[str, Any]) -> None:
    # One write of one whole line, so that runs that share the cache do not mix their lines. ASCII escapes keep
    # paths that are not UTF-8.
    # The leading newline ends a line that a killed pass left unfinished.
    with open(cache, "ab", buffering=0) as file:
        file.write(f"\n{json.dumps(row)}\n".encode("ascii"))
