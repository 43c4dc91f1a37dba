"""One pass over the files: what each video is, how it moves, and which cannot be decoded and why.

The pass runs in parallel, is cached line by line and goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfsup.data.processes import run_in_processes
from selfsup.data.reader import VideoReader

_VERSION = 1
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
)


@dataclass(frozen=True)
class VideoInfo:
    """What the index knows of one video.

    `motion[i]` is the mean absolute difference, in [0, 1], of the grey frames at i / motion_rate_hz and
    (i + 1) / motion_rate_hz seconds, both scaled to a short side of 32 pixels.
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


@dataclass(frozen=True)
class Index:
    """`videos` can be decoded; `refused` holds the reason for each that cannot."""

    videos: dict[Path, VideoInfo]
    refused: dict[Path, str]


def inspect(path: Path, *, motion_hz: float = 10.0) -> VideoInfo:
    """Decodes the video once, from end to end. Raises ValueError where that is impossible."""
    with VideoReader(path, short_side_pixels=_MOTION_SIDE_PIXELS) as video:
        last = float(video.times_seconds[-1])
        rate = min(motion_hz, video.fps)
        # The last frame is asked for too: a video that breaks off before it must not pass.
        times = [*np.arange(0.0, last, 1.0 / rate), last]
        return VideoInfo(
            path=path,
            duration_seconds=video.duration_seconds,
            fps=video.fps,
            num_frames=len(video.times_seconds),
            width=video.width,
            height=video.height,
            codec=video.codec,
            rotation=video.rotation,
            has_audio=video.has_audio,
            checksum=_checksum(path),
            motion_rate_hz=rate,
            motion=_motion(video, times),
        )


def build_index(
    paths: Sequence[Path],
    *,
    cache: Path | None = None,
    processes: int = 1,
    timeout_seconds: float = 120.0,
    progress: Callable[[int, int], None] | None = None,
) -> Index:
    """Inspects every video that `cache` does not know yet.

    Args:
        paths: the videos.
        cache: a file of one JSON object a line, appended to as results come, so that a stopped pass goes on. A video
            whose size or modification time changed is inspected again.
        processes: how many videos at once.
        timeout_seconds: a video that takes longer is refused.
        progress: called with (done, total) after each video.
    """
    known = _read_cache(cache)
    rows = {path: known[key] for path in paths if (key := _key(path)) in known}
    missing = [path for path in paths if path not in rows]
    done = len(rows)
    if missing and cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
    outcomes = run_in_processes(
        _inspect_row, missing, processes=min(processes, max(1, len(missing))), timeout_seconds=timeout_seconds
    )
    for outcome in outcomes if missing else ():
        row = outcome.value if outcome.failure is None else {"refused": outcome.failure}
        rows[outcome.item] = row
        if cache is not None:
            _append(cache, {"key": _key(outcome.item), **row})
        done += 1
        if progress is not None:
            progress(done, len(paths))
    videos = {path: _info(path, row) for path in paths if "refused" not in (row := rows[path])}
    refused = {path: str(row["refused"]) for path in paths if "refused" in (row := rows[path])}
    return Index(videos, refused)


def _inspect_row(path: Path) -> dict[str, Any]:
    torch.set_num_threads(1)  # the processes are the parallelism
    try:
        info = inspect(path)
    except (ValueError, OSError) as error:
        return {"refused": str(error).removeprefix(f"{path}: ")}
    row = {name: getattr(info, name) for name in _COLUMNS}
    return row | {"motion": [round(float(value), 5) for value in info.motion]}


def _info(path: Path, row: dict[str, Any]) -> VideoInfo:
    motion = np.asarray(row["motion"], dtype=np.float32)
    return VideoInfo(path=path, motion=motion, **{name: row[name] for name in _COLUMNS})


def _motion(video: VideoReader, times: list[float]) -> np.ndarray:
    """Mean absolute difference between neighbours of `times`: float32 (len(times) - 1,) in [0, 1]."""
    parts = []
    for start in range(0, max(1, len(times) - 1), _CHUNK_FRAMES):
        frames = video.frames(times[start : start + _CHUNK_FRAMES + 1])
        grey = frames.float().mean(dim=1) / 255.0  # (T, H, W)
        parts.append((grey[1:] - grey[:-1]).abs().mean(dim=(1, 2)).numpy())
    return np.concatenate(parts).astype(np.float32)


def _checksum(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
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
    rows = {}
    for line in cache.read_text(encoding="utf-8").splitlines():
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
