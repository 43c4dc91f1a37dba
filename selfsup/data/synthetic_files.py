"""How a set of synthetic videos comes to lie in a folder: in parallel, whole or not at all, once."""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from selfsup.data.cache import cache_folder

SOUND_RATE_HZ = 16000

Row = Mapping[str, str]
Rows = Sequence[Row]  # of the manifest, of one video
Progress = Callable[[int, int], None]  # is told of (videos written, videos in all)


def check_settings(noun: str, settings: Mapping[str, Any], bounds: Mapping[str, tuple[float, float]]) -> None:
    """ValueError where a value that `bounds` names is outside, or `size_pixels` is odd."""
    for name, (low, high) in bounds.items():
        value = settings[name]
        if not low <= value <= high:
            raise ValueError(f"{noun}: {name} is {value}, give a value from {low} to {high}")
    if settings["size_pixels"] % 2:
        raise ValueError(f"{noun}: size_pixels is {settings['size_pixels']}, H.264 needs an even number")


def write_set(
    root: Path,
    columns: Sequence[str],
    folders: Sequence[str],
    job: Callable[[Path, int], Rows],
    videos: int,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes videos and `root/manifest.csv`, whole or not at all, and returns the path of the latter.

    Args:
        root: folder to make; it may exist if it is empty.
        columns: of the manifest.
        folders: below `root`, made first.
        job: writes video number i of `videos` into a folder; it must be picklable.
        videos: how many.
        processes: how many write at once; by default one a core, and one where there is little to write.
        progress: is told after each video.

    Raises:
        ValueError: `root` holds files already.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"{root}: is not an empty folder, choose another one for the synthetic videos or remove it")
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        for folder in folders:
            (unfinished / folder).mkdir(parents=True)
        rows = list(_written(unfinished, job, videos, processes, progress))
        with open(unfinished / "manifest.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.rename(unfinished, root)  # replaces an empty folder, fails on any other
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return root / "manifest.csv"


def in_cache(cache: Path | None, name: str, key: Mapping[str, Any], write: Callable[[Path], Path]) -> Path:
    """The manifest of a set that is written on first use.

    Processes that ask at once may both write; one of the two results stays, and both are the same.

    Args:
        cache: folder; by default the one that SELFSUP_CACHE names, else the user's cache folder.
        name: how the set's folder begins.
        key: all that its content depends on.
        write: writes the set into a folder and returns its manifest.
    """
    text = json.dumps(dict(key), sort_keys=True)
    root = Path(cache or cache_folder()) / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    manifest = root / "manifest.csv"
    if manifest.exists():
        return manifest
    try:
        return write(root)
    except (OSError, ValueError):
        if manifest.exists():  # another process was quicker
            return manifest
        raise


def _written(
    root: Path, job: Callable[[Path, int], Rows], videos: int, processes: int | None, progress: Progress | None
) -> Iterator[Row]:
    if processes is None:
        processes = min(os.cpu_count() or 1, videos // 16)
    with ExitStack() as stack:
        results: Iterator[Rows] = map(job, [root] * videos, range(videos))
        if processes > 1:  # spawned, because a fork of a process with decoder or torch threads may hang
            pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
            results = stack.enter_context(pool).map(job, [root] * videos, range(videos), chunksize=4)
        for number, rows in enumerate(results, start=1):
            yield from rows
            if progress:
                progress(number, videos)


def encode(path: Path, frames: NDArray[np.uint8], fps: int, sound: NDArray[np.float32]) -> None:
    """Writes frames (T, H, W, 3) and sound (N,) as H.264 and AAC, the same bytes every time."""
    with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as file:
        video = file.add_stream("libx264", rate=fps)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        # One constant quantiser for every frame: picture quality must not tell when a frame was shown.
        video.options = {
            "preset": "veryfast",
            "qp": "20",
            "g": "12",
            "bf": "0",
            "threads": "1",
            "flags": "+bitexact",
            "x264-params": "ipratio=1:scenecut=0:mbtree=0",
        }
        audio = file.add_stream("aac", rate=SOUND_RATE_HZ, layout="mono")
        audio.bit_rate = 64000
        audio.options = {"flags": "+bitexact"}
        for picture in frames:
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode())
        samples = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        samples.sample_rate = SOUND_RATE_HZ
        samples.pts = 0
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=SOUND_RATE_HZ, frame_size=1024)
        for piece in [*resampler.resample(samples), *resampler.resample(None)]:
            file.mux(audio.encode(piece))
        file.mux(audio.encode())
