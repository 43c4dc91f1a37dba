"""How fast clips are read from video files in one process, against a bare decord loop over the same frames.

    python benchmarks/loading.py --root DIR                     the table
    python benchmarks/loading.py --root DIR --soak 5000         resident memory over so many clip reads
    python benchmarks/loading.py --root DIR --sound             frames with a second of sound against frames alone

Each row opens the file and returns a clip as a uint8 tensor, as a data loader does. Every reader gets the
same files, the same frames and the same output size; repetitions take turns, so that a busy machine slows all
of them alike. A ratio is the median over repetitions of (bare decord's seconds / the row's seconds): above 1
is faster than decord.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import decord
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfsup.data.reader import UnreadableVideo, VideoReader

VIDEO_ENDINGS = {".mp4", ".avi", ".mkv", ".webm", ".mov", ".mpg", ".wmv"}
SOUND_SECONDS, SOUND_HZ = 1.0, 48_000
Read = Callable[["Clip"], Tensor]


@dataclass
class Clip:
    """One clip to read: frames by index and by seconds, at a given output size."""

    path: str
    indices: list[int]
    times_seconds: list[float]
    size: tuple[int, int]  # width, height
    short_side_pixels: int
    sound_stop_seconds: float = 0.0


def choose_clips(
    root: Path, frames: int, stride: int, short_side_pixels: int, count: int, sound: bool = False
) -> list[Clip]:
    """Clips at random places of the files that are long enough; unreadable files are left out; with `sound`
    so are those with less than a second of it."""
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in VIDEO_ENDINGS)
    generator = np.random.default_rng(0)
    clips: list[Clip] = []
    for path in (paths[i] for i in generator.permutation(len(paths))):
        try:
            reader = VideoReader(path)
        except UnreadableVideo:
            continue
        with reader:
            room = reader.num_frames - (frames - 1) * stride
            if room < 1 or reader.rotation:
                continue
            track = reader.sound() if sound else None
            if sound and (track is None or min(track.stop_seconds, reader.duration_seconds) < SOUND_SECONDS):
                continue
            indices = int(generator.integers(room)) + stride * np.arange(frames)
            scale = short_side_pixels / min(reader.width, reader.height)
            size = (round(reader.width * scale), round(reader.height * scale))
            times = reader.times_seconds[indices].tolist()
            clips.append(Clip(str(path), indices.tolist(), times, size, short_side_pixels))
            clips[-1].sound_stop_seconds = track.stop_seconds if track is not None else 0.0
        if len(clips) == count:
            break
    return clips


def read_decord(clip: Clip) -> Tensor:
    width, height = clip.size
    video = decord.VideoReader(clip.path, ctx=decord.cpu(0), width=width, height=height, num_threads=1)
    return torch.from_numpy(video.get_batch(clip.indices).asnumpy()).permute(0, 3, 1, 2)


def read_selfsup(clip: Clip, backend: str = "pyav") -> Tensor:
    with VideoReader(clip.path, backend=backend, short_side_pixels=clip.short_side_pixels) as reader:
        return reader.frames(clip.times_seconds)


def read_selfsup_decord(clip: Clip) -> Tensor:
    return read_selfsup(clip, "decord")


def read_plain_pyav(clip: Clip) -> Tensor:
    """The loop of most tutorials: decode from the start, count, convert what is wanted."""
    images, wanted = [], set(clip.indices)
    with av.open(clip.path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                images.append(frame.to_ndarray(format="rgb24", width=clip.size[0], height=clip.size[1]))
            if index >= clip.indices[-1]:
                break
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def read_with_sound(clip: Clip) -> Tensor:
    """The frames, and `SOUND_SECONDS` of sound at `SOUND_HZ` around the first of them, which is thrown away."""
    with VideoReader(clip.path, short_side_pixels=clip.short_side_pixels) as reader:
        last = min(reader.duration_seconds, clip.sound_stop_seconds) - SOUND_SECONDS
        start = min(max(0.0, clip.times_seconds[0] - SOUND_SECONDS / 2), last)
        reader.audio(start, start + SOUND_SECONDS, SOUND_HZ)
        return reader.frames(clip.times_seconds)


def torchcodec_row() -> dict[str, Read]:
    """The row of torchcodec where it loads (it needs FFmpeg's libraries on the machine), else none."""
    try:
        from torchcodec.decoders import VideoDecoder
        from torchcodec.transforms import Resize
    except (ImportError, OSError, RuntimeError) as error:
        print(f"torchcodec does not load: {str(error).splitlines()[0]}")
        return {}

    def read(clip: Clip) -> Tensor:
        resize = Resize(size=(clip.size[1], clip.size[0]))
        video = VideoDecoder(clip.path, num_ffmpeg_threads=1, seek_mode="exact", transforms=[resize])
        return video.get_frames_at(clip.indices).data

    return {"torchcodec, exact": read}


def compare(clips: list[Clip], rows: dict[str, Read], repetitions: int) -> None:
    """Prints milliseconds a clip and the ratio to the first row for each."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in rows}
    names = list(rows)
    for clip in clips:  # warm the page cache, and check that all rows read the same frames
        images = {name: read(clip) for name, read in rows.items()}
        for name in names[1:]:
            # Means over 8 x 8 pixels: decoders differ in how they scale, not in what is seen.
            coarse = [F.avg_pool2d(images[n].float(), 8) for n in (names[0], name)]
            difference = (coarse[1] - coarse[0]).abs().mean().item()
            if difference > 2.0:
                print(f"{clip.path}: {name} reads other frames (mean difference {difference:.1f})")
    for repetition in range(repetitions):
        for name in names[repetition % len(names) :] + names[: repetition % len(names)]:
            begin, cpu_begin = time.perf_counter(), time.process_time()
            for clip in clips:
                rows[name](clip)
            seconds[name].append(time.perf_counter() - begin)
            cpu_seconds[name].append(time.process_time() - cpu_begin)
    print(f"| {'reader':24} | ms a clip | CPU ms a clip | of the first   | of its CPU |")
    print(f"|{'-' * 26}|{'-' * 11}|{'-' * 15}|{'-' * 16}|{'-' * 12}|")
    for name in names:
        wall, cpu = seconds[name], cpu_seconds[name]
        ratio = statistics.median(b / s for b, s in zip(seconds[names[0]], wall, strict=True))
        cpu_ratio = statistics.median(b / s for b, s in zip(cpu_seconds[names[0]], cpu, strict=True))
        wall_ms, cpu_ms = (statistics.median(times) / len(clips) * 1e3 for times in (wall, cpu))
        print(f"| {name:24} | {wall_ms:9.2f} | {cpu_ms:13.2f} | {ratio:14.2f} | {cpu_ratio:10.2f} |")


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak(clips: list[Clip], reads: int, read: Read = read_selfsup) -> None:
    """Prints resident memory while clips are read over and over, and whether it stays flat."""
    history = []
    for number in range(1, reads + 1):
        read(clips[number % len(clips)])
        if number % max(1, reads // 10) == 0:
            history.append(resident_mib())
            print(f"{number:6d} clips read: {history[-1]:.1f} MiB resident")
    growth = history[-1] - history[len(history) // 2 - 1]
    print(f"growth over the last half: {growth:+.1f} MiB: {'flat' if growth < 5 else 'NOT FLAT'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of videos")
    parser.add_argument("--frames", type=int, help="frames a clip (default: a table for 5 and one for 16)")
    parser.add_argument("--stride", type=int, help="frames from one to the next (default: 6 for 5, 2 for others)")
    parser.add_argument("--short-side", type=int, default=128, help="pixels (default: 128)")
    parser.add_argument("--clips", type=int, default=100, help="clips a repetition (default: 100)")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--sound", action="store_true", help="frames with sound against frames alone, or their soak")
    parser.add_argument("--soak", type=int, default=0, help="clips to read while memory is watched")
    options = parser.parse_args()
    torch.set_num_threads(1)
    decord.logging.set_level(decord.logging.QUIET)
    rows: dict[str, Read] = {"bare decord": read_decord, "selfsup": read_selfsup}
    rows |= {"selfsup, backend=decord": read_selfsup_decord, "plain PyAV": read_plain_pyav} | torchcodec_row()
    if options.sound:
        rows = {"frames alone": read_selfsup, "frames and 1 s of sound": read_with_sound}
    for frames in [options.frames] if options.frames else [5, 16]:
        stride = options.stride or (6 if frames == 5 else 2)
        clips = choose_clips(options.root, frames, stride, options.short_side, options.clips, options.sound)
        print(f"\n{len(clips)} clips of {frames} frames, stride {stride}, short side {options.short_side}:\n")
        if options.soak:
            soak(clips, options.soak, read_with_sound if options.sound else read_selfsup)
        else:
            compare(clips, rows, options.repetitions)


if __name__ == "__main__":
    main()
