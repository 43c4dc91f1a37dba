"""Packed videos against the files they were made of, against a bare JPEG decoder, and their container against others.

    python benchmarks/shards.py --root DIR                      clips a second, room, and packing by 1 and 2 processes
    python benchmarks/shards.py --root DIR --containers         the same frames in tar, litdata, WebDataset, LMDB, HDF5
    python benchmarks/shards.py --long-gop                      on a film of 640 x 480 pixels with one keyframe

Each clip is a run of successive frames from a random place of a random video. The readers take turns, so that a busy
machine slows all of them alike, and a ratio is the median over rounds, in CPU seconds of one core. The bare decoder is
simplejpeg in a loop over JPEGs in memory, and one copy into a tensor. Containers give the JPEGs of a clip, undecoded;
those that are not installed are passed over (pip install litdata webdataset lmdb).
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from containers import Clip, Read, in_hdf5, in_litdata, in_lmdb, in_shards, in_webdataset, runs_code
from simplejpeg import decode_jpeg
from torch import Tensor

from selfsup.data import videos
from selfsup.data.catalogue import index_of
from selfsup.data.listing import Listing
from selfsup.data.packed import PackedInfo
from selfsup.data.packer import pack
from selfsup.data.packing import Packing
from selfsup.data.shards import shards


def packed_videos(listing: Listing, folder: Path, packing: Packing, processes: int = 1) -> tuple[list[Any], float]:
    """The videos packed into `folder`, each as (file, packed), and how long that took, in seconds."""
    index = index_of([video.path for video in listing.videos], folder.parent / "index.jsonl", os.cpu_count() or 1, 300)
    began = time.perf_counter()
    pack(listing.videos, index, folder, packing, processes=processes)
    seconds = time.perf_counter() - began
    found = shards(str(folder))
    assert found.indexed is not None
    pairs = zip((video.path for video in listing.videos), (video.path for video in found.videos), strict=True)
    known = found.indexed.videos
    return [(index.videos[raw], known[packed]) for raw, packed in pairs if packed in known], seconds


def choose_clips(pairs: Sequence[Any], frames: int, count: int) -> list[Clip]:
    """Clips at random places; shorter videos are taken whole."""
    chance, clips = np.random.default_rng(0), []
    for number in chance.integers(len(pairs), size=count).tolist():
        raw, packed = pairs[number]
        with packed.open() as video:
            first = int(chance.integers(max(1, video.num_frames - frames + 1)))
            times = video.times_seconds[first : first + frames].tolist()
        clips.append(Clip(raw, packed, first, times, jpegs_of(packed, first, len(times))))
    return clips


def jpegs_of(info: PackedInfo, first: int, frames: int) -> list[bytes]:
    """The JPEGs of successive frames."""
    with info.open() as video:
        return [bytes(jpeg) for jpeg in video.jpegs(np.arange(first, first + frames))]


def bare_decoder(clip: Clip) -> Tensor:
    return torch.from_numpy(np.stack([decode_jpeg(jpeg) for jpeg in clip.jpegs])).permute(0, 3, 1, 2)


def from_shards(clip: Clip) -> Tensor:
    with clip.packed.open() as video:
        return video.frames(clip.times_seconds)


def from_files(short_side_pixels: int) -> Read:
    def read(clip: Clip) -> Tensor:
        with clip.raw.open(short_side_pixels=min(short_side_pixels, clip.raw.width, clip.raw.height)) as video:
            return video.frames(clip.times_seconds)

    return read


def take_turns(clips: Sequence[Clip], rows: dict[str, Read], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each row in each round, after one that warms the page cache."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    names = list(rows)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.process_time()
            for clip in clips:
                rows[name](clip)
            if number:
                seconds[name].append(time.process_time() - began)
    return seconds


def tell(title: str, clips: Sequence[Clip], seconds: dict[str, list[float]]) -> None:
    """A table: clips a second of each row, and over those of the first and of the last row."""
    names = list(seconds)
    print(f"\n{title}: {len(clips)} clips\n")
    print(f"| {'read':36} | clips a second | of {names[0]} | of {names[-1]} |")
    print(f"|{'-' * 38}|---:|---:|---:|")
    for name, times in seconds.items():
        ratios = [
            statistics.median(other / own for other, own in zip(seconds[base], times, strict=True))
            for base in (names[0], names[-1])
        ]
        rate = len(clips) / statistics.median(times)
        print(f"| {name:36} | {rate:8.1f} | {ratios[0]:6.2f} | {ratios[1]:6.2f} |")


def against_files(title: str, listing: Listing, options: argparse.Namespace, folder: Path) -> None:
    """Clips a second of files, shards and the bare decoder; room; and packing by one process and by two."""
    packing = Packing(options.short_side, options.fps, options.quality)
    pairs, one = packed_videos(listing, folder / "one", packing)
    clips = choose_clips(pairs, options.frames, options.clips)
    rows = {"the files": from_files(options.short_side), "shards": from_shards, "the bare decoder": bare_decoder}
    tell(
        f"{title}, {options.frames} frames, short side {options.short_side}",
        clips,
        take_turns(clips, rows, options.rounds),
    )
    files = sum(raw.path.stat().st_size for raw, _ in pairs)
    room = sum(path.stat().st_size for path in (folder / "one").glob("*.tar"))
    print(f"\nroom: files {files / 1e6:.1f} MB, shards {room / 1e6:.1f} MB, {room / files:.2f} of them")
    if not options.no_scaling:
        _, two = packed_videos(listing, folder / "two", packing, processes=2)
        same = [(folder / name / "SHA256SUMS").read_bytes() for name in ("one", "two")]
        print(f"packing: {one:.1f} s by 1 process, {two:.1f} s by 2: {one / two:.2f} times as fast; ", end="")
        print("the same bytes" if same[0] == same[1] else "OTHER BYTES")


def whole_videos(pairs: Sequence[Any]) -> dict[str, list[bytes]]:
    """All JPEGs of each packed video, by its path."""
    return {str(packed.path): jpegs_of(packed, 0, packed.num_frames) for _, packed in pairs}


def compare_containers(title: str, listing: Listing, options: argparse.Namespace, folder: Path) -> None:
    """How fast the JPEGs of a clip come out of each container, and how much room it takes."""
    pairs, _ = packed_videos(
        listing, folder / "shards", Packing(options.short_side, options.fps, options.quality, None)
    )
    clips = choose_clips(pairs, options.frames, options.clips)
    films = whole_videos(pairs)
    rows: dict[str, Read] = {"shards, by their index": in_shards}
    makers: dict[str, Callable[[], Read]] = {
        "litdata, an item a frame": lambda: in_litdata(films, folder),
        "LMDB, a key a frame": lambda: in_lmdb(films, folder),
        "HDF5, chunks of 64 KiB": lambda: in_hdf5(films, folder),
        "WebDataset, from the shard's start": lambda: in_webdataset(folder / "shards"),
    }
    for name, make in makers.items():
        try:
            rows[name] = make()
        except ImportError as error:
            print(f"{name}: not installed ({error})")
    for clip, (name, read) in itertools.product(clips[:20], rows.items()):
        assert [bytes(jpeg) for jpeg in read(clip)] == clip.jpegs, name  # type: ignore[attr-defined]
    tell(f"{title}, JPEGs of {options.frames} frames", clips, take_turns(clips, rows, options.rounds))
    for part in sorted(folder.iterdir()):
        size = sum(file.stat().st_blocks * 512 for file in [part, *part.rglob("*")] if file.is_file())
        print(f"{part.name}: {size / 1e6:.1f} MB on disk")
    if (folder / "litdata").exists():
        print(f"litdata, an index that asks for pickle runs what is in the chunk: {runs_code(folder / 'hostile')}")


def write_long_gop(path: Path, seconds: int = 40, fps: int = 25) -> None:
    """A film of 640 x 480 pixels, H.264 with a single keyframe: noise of several sizes that drifts."""
    path.parent.mkdir(parents=True)
    chance = np.random.default_rng(0)
    layers = [
        chance.integers(0, 86, (480 // size, 640 // size, 3)).repeat(size, 0).repeat(size, 1) for size in (4, 16, 32)
    ]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(
            "libx264", rate=fps, options={"g": "100000", "crf": "26", "sc_threshold": "0"}
        )
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number in range(seconds * fps):
            moved = [np.roll(layer, number * (place + 1), axis=place % 2) for place, layer in enumerate(layers)]
            image = np.ascontiguousarray(sum(moved), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of videos")
    parser.add_argument("--long-gop", action="store_true", help="a film that is made for it, in place of a folder")
    parser.add_argument("--containers", action="store_true")
    parser.add_argument("--no-scaling", action="store_true", help="do not pack a second time by two processes")
    parser.add_argument("--short-side", type=int, default=128, help="pixels (default: 128)")
    parser.add_argument("--fps", type=float, help="frames a second that are packed (default: all)")
    parser.add_argument("--quality", type=int, default=75, help="of JPEG (default: 75)")
    parser.add_argument("--frames", type=int, default=16, help="a clip (default: 16)")
    parser.add_argument("--clips", type=int, default=100, help="a round (default: 100)")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.long_gop:
            write_long_gop(folder / "films" / "film.mp4")
        root = folder / "films" if options.long_gop else options.root
        if root is None:
            parser.error("give --root DIR, or --long-gop")
        work = folder / "work"
        work.mkdir()
        measure = compare_containers if options.containers else against_files
        measure(root.name, videos.folder(root), options, work)


if __name__ == "__main__":
    main()
