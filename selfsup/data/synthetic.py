"""Writes small videos with sound on which every task of this package can be learned, and all that is true of them.

No download and no licence: one command gives a few hundred mp4 files of about two seconds. What they show is drawn by
`synthetic_scenes`, what they sound like by `synthetic_sounds`. The same seed gives the same bytes.

Layout of a written folder:
    manifest.csv                 path,label,group,split,object,sound,surface; paths relative to the folder
    videos/LABEL/NUMBER.mp4      H.264 and AAC
    annotations/NUMBER.npz       see `read_annotations`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from selfsup.data.synthetic_annotations import Annotations, read_annotations
from selfsup.data.synthetic_files import SOUND_RATE_HZ, Rows, check_settings, encode, in_cache, write_set
from selfsup.data.synthetic_scenes import ACTIONS, JERK_SECONDS, Timetable, draw_scene
from selfsup.data.synthetic_sounds import SOUND_OF_SURFACE, draw_sound
from selfsup.data.synthetic_surfaces import OBJECTS, SURFACES, TEXTURES
from selfsup.data.true_masks import annotations_path

__all__ = ["Annotations", "cached_synthetic", "read_annotations", "write_synthetic"]

VERSION = 3  # of what is drawn; part of the key of the cache
COLUMNS = ("path", "label", "group", "split", "object", "sound", "surface")
_GROUP_VIDEOS = 4  # that share a place


@dataclass(frozen=True)
class _Settings:
    videos: int
    seed: int
    size_pixels: int
    seconds: float
    fps: int
    static: bool
    texture: str

    def __post_init__(self) -> None:
        bounds = {"videos": (3, 99999), "size_pixels": (32, 1024), "seconds": (0.5, 60), "fps": (4, 120)}
        check_settings("synthetic videos", asdict(self), bounds)
        if self.texture not in TEXTURES:
            raise ValueError(f"synthetic videos: texture is {self.texture!r}, choose one of {', '.join(TEXTURES)}")


def write_synthetic(
    root: Path,
    *,
    videos: int = 240,
    seed: int = 0,
    size_pixels: int = 96,
    seconds: float = 2.4,
    fps: int = 20,
    static: bool = False,
    texture: str = "coarse",
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a set of videos under `root`, whole or not at all.

    Args:
        root: folder to make; it may exist if it is empty.
        videos: how many, in groups of four that share a place; no group is in two splits (70 : 10 : 20).
        seed: the same seed gives the same bytes, whatever `processes` is.
        size_pixels: height and width, even.
        seconds: length of each video.
        fps: frames a second.
        static: freeze every video at a random phase (the sound goes on); order can then not be told.
        texture: "coarse", or "fine": object and background carry grain a few pixels wide, by which flow can tell one
            from the other.
        processes: how many write at once; by default one a core, and one where there is little to write.
        progress: called with (videos written, videos in all).

    Returns:
        Path of `root/manifest.csv`.

    Raises:
        ValueError: a value is out of bounds, or `root` holds files already.
    """
    settings = _Settings(videos, seed, size_pixels, seconds, fps, static, texture)
    folders = [*(f"videos/{action}" for action in ACTIONS), "annotations"]
    return write_set(root, COLUMNS, folders, partial(_write_video, settings), videos, processes, progress)


def cached_synthetic(
    cache: Path | None = None,
    *,
    videos: int = 240,
    seed: int = 0,
    size_pixels: int = 96,
    seconds: float = 2.4,
    fps: int = 20,
    static: bool = False,
    texture: str = "coarse",
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Path of the manifest of a set of videos that is written on first use; the arguments of `write_synthetic`.

    `cache` is by default the folder that the environment variable SELFSUP_CACHE names, else the user's cache folder.
    """
    settings = _Settings(videos, seed, size_pixels, seconds, fps, static, texture)
    return in_cache(
        cache,
        f"synthetic-v{VERSION}",
        {"version": VERSION, **asdict(settings)},
        partial(write_synthetic, **asdict(settings), processes=processes, progress=progress),
    )


def _write_video(settings: _Settings, root: Path, number: int) -> Rows:
    """Write video `number` and its annotations; a pure function of the settings. Returns its row of the manifest."""
    group, action, split = place_of(number, settings.videos, settings.seed)
    generator = np.random.default_rng([settings.seed, 0, number])
    shape, surface = str(generator.choice(OBJECTS)), str(generator.choice(SURFACES))
    timetable = Timetable.draw(action, settings.seconds, generator)
    scene = draw_scene(
        action=action,
        shape=shape,
        surface=surface,
        timetable=timetable,
        generator=generator,
        place=np.random.default_rng([settings.seed, 1, group]),
        size_pixels=settings.size_pixels,
        times_seconds=np.arange(round(settings.seconds * settings.fps)) / settings.fps,
        static=settings.static,
        texture=settings.texture,
    )
    sound = draw_sound(
        action=action,
        shape=shape,
        surface=surface,
        timetable=timetable,
        generator=generator,
        rate_hz=SOUND_RATE_HZ,
    )
    path = root / "videos" / action / f"{number:05d}.mp4"
    encode(path, scene.frames, settings.fps, sound)
    np.savez_compressed(
        annotations_path(path),
        parts=scene.parts,
        motion=scene.motion,
        phase=scene.phase,
        gain=scene.gain,
        event_seconds=timetable.events.astype(np.float32),
        event_phase=timetable.phase(timetable.events + JERK_SECONDS).astype(np.float32),
    )
    file = path.relative_to(root).as_posix()
    values = (file, action, f"place{group:04d}", split, shape, SOUND_OF_SURFACE[surface], surface)
    return [dict(zip(COLUMNS, values, strict=True))]


def place_of(number: int, videos: int, seed: int) -> tuple[int, str, str]:
    """Group, action and split of a video: two groups in a row show every action once, in random order."""
    group_videos = min(_GROUP_VIDEOS, videos // 3)
    cycle, turn = divmod(number, len(ACTIONS))
    order = np.random.default_rng([seed, 2, cycle]).permutation(len(ACTIONS))
    groups = -(-videos // group_videos)
    val, test = (max(1, round(share * groups)) for share in (0.1, 0.2))
    group = number // group_videos
    split = "train" if group < groups - val - test else "val" if group < groups - test else "test"
    return group, ACTIONS[order[turn]], split
