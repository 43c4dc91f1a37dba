"""Synthetic videos in which one action follows another: each frame has a label of its own.

The object, the place and the surface stay. Actions follow in one order, that of `ACTIONS`, each from its beginning to
its end, in a time that is drawn: what comes next can be foreseen, as a network has to that answers for frames which it
has not seen yet. What is drawn is that of `synthetic`, and so are groups and splits.

Layout of a written folder:
    manifest.csv                 path,start,stop,label,group,split: a row an action
    videos/NUMBER.mp4            H.264 and AAC
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from selfsup.data.synthetic import VERSION, place_of
from selfsup.data.synthetic_files import SOUND_RATE_HZ, Progress, Rows, check_settings, encode, in_cache, write_set
from selfsup.data.synthetic_scenes import ACTIONS, Timetable, draw_scene
from selfsup.data.synthetic_sounds import draw_sound
from selfsup.data.synthetic_surfaces import OBJECTS, SURFACES

COLUMNS = ("path", "start", "stop", "label", "group", "split")
LEAST_SECONDS = 0.5  # of an action


@dataclass(frozen=True)
class _Settings:
    videos: int
    seed: int
    size_pixels: int
    actions: int
    seconds: float
    fps: int

    def __post_init__(self) -> None:
        bounds = {"videos": (3, 99999), "size_pixels": (32, 1024), "actions": (2, 60), "fps": (4, 120)}
        check_settings("changing videos", asdict(self), bounds)
        if self.seconds < 2 * LEAST_SECONDS:
            raise ValueError(f"changing videos: an action of {self.seconds:g} s is too short; give 1 or more")


def cached_changing(
    cache: Path | None = None,
    *,
    videos: int = 120,
    seed: int = 0,
    size_pixels: int = 96,
    actions: int = 4,
    seconds: float = 1.2,
    fps: int = 20,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Path of the manifest of a set that is written on first use.

    Args:
        cache: folder; by default the one that SELFSUP_CACHE names, else the user's cache folder.
        videos: how many, in groups of four that share a place; no group is in two splits (70 : 10 : 20).
        seed: the same seed gives the same bytes, whatever `processes` is.
        size_pixels: height and width, even.
        actions: of each video.
        seconds: mean length of an action; each is shorter or longer by up to half of it.
        fps: frames a second.
        processes: how many write at once; by default one a core, and one where there is little to write.
        progress: called with (videos written, videos in all).

    Raises:
        ValueError: a value is out of bounds.
    """
    settings = _Settings(videos, seed, size_pixels, actions, seconds, fps)

    def write(root: Path) -> Path:
        return write_set(root, COLUMNS, ["videos"], partial(_write_video, settings), videos, processes, progress)

    return in_cache(cache, f"changing-v{VERSION}", {"version": VERSION, **asdict(settings)}, write)


def _write_video(settings: _Settings, root: Path, number: int) -> Rows:
    """Write video `number`; a pure function of the settings. Returns the rows of its actions."""
    group, first, split = place_of(number, settings.videos, settings.seed)
    generator = np.random.default_rng([settings.seed, 3, number])
    shape, surface = str(generator.choice(OBJECTS)), str(generator.choice(SURFACES))
    path = root / "videos" / f"{number:05d}.mp4"
    frames, sounds, rows = [], [], []
    shown = 0
    for turn in range(settings.actions):
        action = ACTIONS[(ACTIONS.index(first) + turn) % len(ACTIONS)]
        count = round(settings.seconds * settings.fps * generator.uniform(0.5, 1.5))
        seconds = count / settings.fps
        timetable = replace(Timetable.draw(action, seconds, generator), start=0.02, span=0.96)
        scene = draw_scene(
            action=action,
            shape=shape,
            surface=surface,
            timetable=timetable,
            generator=generator,
            place=np.random.default_rng([settings.seed, 4, group]),
            size_pixels=settings.size_pixels,
            times_seconds=np.arange(count) / settings.fps,
        )
        frames.append(scene.frames)
        sounds.append(
            draw_sound(
                action=action,
                shape=shape,
                surface=surface,
                timetable=timetable,
                generator=generator,
                rate_hz=SOUND_RATE_HZ,
            )
        )
        start, stop = (f"{moment / settings.fps:.4f}" for moment in (shown, shown + count))
        values = (path.relative_to(root).as_posix(), start, stop, action, f"place{group:04d}", split)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
        shown += count
    encode(path, np.concatenate(frames), settings.fps, np.concatenate(sounds))
    return rows
