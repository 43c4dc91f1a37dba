"""Draws one synthetic video: a textured object, on a moving textured background, that goes through a process.

A scene has a background (part 0) and an object of one or more parts (1, 2, ...). Every part has, in every frame,
an affine map from its own coordinates to pixels. The picture is painted through these maps, so that masks and
optical flow follow from them exactly and nothing has to be estimated.

Eight actions, each a process with a phase from 0 to 1 that a single frame shows and that only ever rises:
`pour` (a vessel fills), `burn` (a front leaves char), `sweep` (a hand paints a sector), `bloom` (petals grow),
`inflate` (the object grows), `melt` (it sinks and spreads), `shatter` (its pieces fly apart) and `stack` (blocks
fall into place). Everything else a frame shows is drawn without regard to the action: shape, surface, colours,
size, place, tilt, background. Camera, object and exposure sway to and fro, so that neither place in the frame nor
brightness nor the background tells the order of frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfsup.data.synthetic_surfaces import Painter, background_radiance, silhouette_radius

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

ACTIONS = ("pour", "burn", "sweep", "bloom", "inflate", "melt", "shatter", "stack")

_NATURAL_SECONDS = dict(zip(ACTIONS, (2.7, 2.5, 2.9, 2.6, 2.8, 2.6, 2.5, 2.8), strict=True))
_EVENTS_PER_SECOND = dict(zip(ACTIONS, (2.0, 4.0, 3.0, 2.5, 2.0, 1.5, 3.5, 3.2), strict=True))
_UPRIGHT = ("pour", "melt", "stack")  # gravity shows in them, so the object is not turned
JERK_SECONDS = 0.15
_JERK_SHARE = 0.5  # of the process happens in jerks, at which its sound is heard; the rest flows
_MEAN_RADIUS = 0.36  # of the object, over the frame's side
_CELL_PIXELS = 192
_CELL_REACH = 1.2


@dataclass(frozen=True)
class Timetable:
    """When an action jerks, and how far it is at any time.

    Attributes:
        seconds: length of the video.
        start: phase at its start.
        span: how much the phase rises to its end.
        events: float64 (E,), seconds at which a jerk (and its sound) starts.
    """

    seconds: float
    start: float
    span: float
    events: Doubles

    @classmethod
    def draw(cls, action: str, seconds: float, generator: np.random.Generator) -> Timetable:
        """Natural times of `action`: it takes its own number of seconds (more only where the video lasts longer)
        and jerks at its own rate, give or take a fifth of a beat."""
        period = 1 / _EVENTS_PER_SECOND[action]
        span = min(0.96, 0.96 * seconds / _NATURAL_SECONDS[action])
        start = generator.uniform(0.02, 0.98 - span)
        beats = np.arange(int(np.ceil(seconds / period)) + 1) + generator.uniform(0.1, 0.6)
        events = (beats + generator.uniform(-0.2, 0.2, len(beats))) * period
        return cls(seconds, start, span, events[(events > 0) & (events < seconds - JERK_SECONDS)])

    def phase(self, times_seconds: Doubles) -> Doubles:
        """Phase (N,) in 0 to 1 at times (N,); it rises all the time, and faster in the jerks."""
        ramp = np.clip((times_seconds[:, None] - self.events) / JERK_SECONDS, 0, 1)
        jerks = (ramp * ramp * (3 - 2 * ramp)).sum(1) / max(len(self.events), 1)
        share = _JERK_SHARE if len(self.events) else 0.0
        return self.start + self.span * ((1 - share) * times_seconds / self.seconds + share * jerks)


@dataclass(frozen=True)
class Scene:
    """One drawn video and what is known about it.

    Attributes:
        frames: uint8 (T, H, W, 3), RGB.
        parts: uint8 (T, H, W), the part seen at each pixel; 0 is the background.
        motion: float64 (T, P, 2, 3), affine map of each part from its coordinates (x, y, 1) to pixels (x, y).
        phase: float32 (T,), how far the action is, 0 to 1.
        gain: float32 (T,), exposure of each frame; radiance times gain is the picture.
    """

    frames: NDArray[np.uint8]
    parts: NDArray[np.uint8]
    motion: Doubles
    phase: Floats
    gain: Floats


def draw_scene(
    *,
    action: str,
    shape: str,
    surface: str,
    generator: np.random.Generator,
    place: np.random.Generator,
    size_pixels: int,
    times_seconds: Doubles,
    timetable: Timetable,
    static: bool = False,
    texture: str = "coarse",
) -> Scene:
    """Draw a video of `action` done by an object.

    Args:
        action: one of `ACTIONS`.
        shape: one of `synthetic_surfaces.OBJECTS`, the silhouette.
        surface: one of `synthetic_surfaces.SURFACES`, the pattern of the object.
        generator: all chance of this video.
        place: all chance of the place it happens in (the same for the videos of a group).
        size_pixels: height and width of the frames.
        times_seconds: (T,) presentation time of each frame.
        timetable: when the action does what.
        static: freeze camera, object, light and process at one random time.
        texture: one of `synthetic_surfaces.TEXTURES`; "fine" adds grain a few pixels wide to all patterns.
    """
    fine = texture == "fine"
    clock = np.full_like(times_seconds, generator.uniform(0, timetable.seconds)) if static else times_seconds
    phase = timetable.phase(clock)
    camera = size_pixels * 0.06 * _sway(clock, generator, 2)
    poses = _poses(action, phase, clock, size_pixels, generator)
    gain = 1 + 0.15 * _sway(clock, generator, 1)[:, 0]
    cells, shifts = _pieces(action, shape, phase, generator)

    camera_maps = np.broadcast_to(np.eye(2, 3), (len(clock), 1, 2, 3)).copy()
    camera_maps[:, 0, :, 2] = camera
    part_maps = np.repeat(poses[:, None], shifts.shape[1], 1)
    part_maps[..., 2] += np.einsum("tij,tkj->tki", poses[:, :, :2], shifts)
    motion = np.concatenate([camera_maps, part_maps], 1)

    painter = Painter(action, shape, surface, generator, _MEAN_RADIUS * size_pixels if fine else None)
    grid = np.stack(np.meshgrid(np.arange(size_pixels), np.arange(size_pixels)), -1).astype(np.float32)
    parts, local = _visible(grid, poses, shifts, cells)
    parts, material = painter.process(parts, local, phase, clock)
    radiance = background_radiance(grid, camera.astype(np.float32), place, generator, fine)
    inside = parts > 0
    radiance[inside] = painter.colours(material[inside], local[inside])
    radiance *= (gain * 255).astype(np.float32)[:, None, None, None]
    frames = np.clip(radiance + 0.5, 0, 255).astype(np.uint8)
    return Scene(frames, parts, motion, phase.astype(np.float32), gain.astype(np.float32))


def _sway(times: Doubles, generator: np.random.Generator, count: int) -> Doubles:
    """Aimless motion to and fro, (T, count) in -1 to 1."""
    rate, start = generator.uniform(0.7, 1.6, (2, count)), generator.uniform(0, 2 * np.pi, (2, count))
    waves = np.sin(2 * np.pi * rate * times[:, None, None] + start)
    return 0.6 * waves[:, 0] + 0.4 * waves[:, 1]


def _poses(action: str, phase: Doubles, times: Doubles, size_pixels: int, generator: np.random.Generator) -> Doubles:
    """Affine maps (T, 2, 3) from object coordinates (the silhouette reaches about 1) to pixels."""
    radius = size_pixels * generator.uniform(0.32, 0.40)
    centre = size_pixels * generator.uniform(0.42, 0.58, 2)
    tilt = 0.0 if action in _UPRIGHT else generator.uniform(0, 2 * np.pi)
    angle = tilt + 0.12 * _sway(times, generator, 1)[:, 0]
    moved = centre + size_pixels * 0.05 * _sway(times, generator, 2)
    wide, high = np.ones_like(phase), np.ones_like(phase)
    if action == "inflate":
        wide = high = 0.4 + 0.85 * phase
    if action == "melt":
        wide, high = 0.75 + 0.65 * phase, 1.2 - 0.65 * phase
        moved[:, 1] += radius * 0.7 * (1.2 - high)
    cos, sin = np.cos(angle), np.sin(angle)
    rows = np.stack([cos * wide, -sin * high, sin * wide, cos * high], -1).reshape(-1, 2, 2) * radius
    return np.concatenate([rows, moved[..., None]], -1)


def _pieces(
    action: str, shape: str, phase: Doubles, generator: np.random.Generator
) -> tuple[NDArray[np.uint8], Doubles]:
    """The object cut in pieces: (a map of part numbers over object coordinates, shifts (T, K, 2) of the pieces)."""
    axis = ((np.arange(_CELL_PIXELS) + 0.5) / _CELL_PIXELS * 2 - 1) * _CELL_REACH
    x, y = np.meshgrid(axis, axis)
    inside = np.hypot(x, y) < silhouette_radius(shape, np.arctan2(y, x))
    if action == "shatter":
        turn = generator.uniform(0, 2 * np.pi) + np.arange(6) * np.pi / 3 + generator.uniform(-0.25, 0.25, 6)
        sites = 0.62 * np.stack([np.cos(turn), np.sin(turn)], -1)
        sites = np.concatenate([sites, generator.uniform(-0.15, 0.15, (1, 2))])
        owner = np.argmin((x[..., None] - sites[:, 0]) ** 2 + (y[..., None] - sites[:, 1]) ** 2, -1)
        owner += 1  # part 1 is what they leave behind
        shifts = phase[:, None, None] * np.concatenate([np.zeros((1, 2)), sites])
    elif action == "stack":
        column, row = np.clip((x + 1) * 1.5, 0, 2).astype(int), np.clip((y + 1) * 1.5, 0, 2).astype(int)
        rank = np.concatenate([generator.permutation(3) + 3 * below for below in (2, 1, 0)])  # bottom row first
        owner = rank.reshape(3, 3)[row, column]
        landing = (np.arange(9) + 1) / 9.5
        to_fall = np.clip((landing - phase[:, None]) * 9.5 / 1.3, 0, None)
        shifts = np.stack([np.zeros_like(to_fall), -3.2 * to_fall], -1)
    else:
        owner, shifts = np.zeros(x.shape, int), np.zeros((len(phase), 1, 2))
    return np.where(inside, owner + 1, 0).astype(np.uint8), shifts


def _visible(
    grid: Floats, poses: Doubles, shifts: Doubles, cells: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], Floats]:
    """Which part covers each pixel, uint8 (T, H, W), and its coordinates there, float32 (T, H, W, 2).

    Where no part is, the coordinates are those of part 1, so that what it receives (the jet of `pour`) has some.
    """
    inverse = np.linalg.inv(poses[..., :2]).astype(np.float32)[:, :, :, None, None]  # (T, 2, 2, 1, 1)
    x, y = grid[..., 0], grid[..., 1]
    centre = poses[..., 2].astype(np.float32)[:, :, None, None]
    right, down = x - centre[:, 0], y - centre[:, 1]
    across = inverse[:, 0, 0] * right + inverse[:, 0, 1] * down
    along = inverse[:, 1, 0] * right + inverse[:, 1, 1] * down
    parts = np.zeros(across.shape, np.uint8)
    local = np.stack([across, along], -1)
    scale = np.float32(_CELL_PIXELS / 2 / _CELL_REACH)
    for part in range(1, shifts.shape[1] + 1):
        shift = shifts[:, part - 1].astype(np.float32)[:, :, None, None]
        column = ((across - shift[:, 0] + np.float32(_CELL_REACH)) * scale).astype(np.int32)
        row = ((along - shift[:, 1] + np.float32(_CELL_REACH)) * scale).astype(np.int32)
        known = (column > 0) & (column < _CELL_PIXELS) & (row > 0) & (row < _CELL_PIXELS)
        cell = cells[row[known], column[known]]
        own = known
        own[known] = (cell == part) if (cells == part).any() else (cell > 0)
        parts[own] = part
        if shift.any():
            frame = np.nonzero(own)[0]
            local[own] = np.stack([across[own], along[own]], -1) - shifts[frame, part - 1].astype(np.float32)
    return parts, local
