"""What the synthetic videos are painted with: silhouettes, patterns, palettes and the traces a process leaves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

OBJECTS = ("ball", "box", "wedge", "star", "cross", "clover")
SURFACES = ("stripes", "checks", "dots", "rings", "blotches")
TEXTURES = ("coarse", "fine")

_TEXTURE_PIXELS = 128
_TEXELS_PER_UNIT = 40.0  # of object coordinates
_TRACE_WAVES = 11  # in a texture
_FINE_SHARE = 0.5  # of a pattern that is grain, where texture is fine
_OWN, _TRACE, _RIM = (
    0,
    1,
    2,
)  # materials: the object's own surface, what the process leaves, the edge between them


def silhouette_radius(shape: str, angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from the centre to the outline of `shape` at `angle` (radians); about 1."""
    if shape == "ball":
        return np.full_like(angle, 0.92)
    if shape == "box":
        return _polygon(angle + np.pi / 4, 4) * 1.12
    if shape == "wedge":
        return _polygon(angle - np.pi / 6, 3) * 1.15
    if shape == "star":
        return 0.82 + 0.26 * np.abs(np.mod(5 * angle / (2 * np.pi), 1) * 2 - 1) - 0.05
    if shape == "cross":
        return np.where(np.abs(np.sin(2 * angle)) < 0.72, 1.05, 0.72)
    return 0.86 + 0.2 * np.cos(3 * angle)


def _polygon(angle: NDArray[np.float64], sides: int) -> NDArray[np.float64]:
    step = 2 * np.pi / sides
    return np.cos(step / 2) / np.cos(np.mod(angle, step) - step / 2)


def noise_texture(generator: np.random.Generator, period_texels: float) -> Floats:
    """Smooth random field (128, 128) in 0 to 1 that repeats at its edges; details of about `period_texels`."""
    frequency = np.fft.fftfreq(_TEXTURE_PIXELS) * period_texels
    radius = np.hypot(frequency[:, None], frequency[None])
    spectrum = np.fft.fft2(generator.standard_normal((_TEXTURE_PIXELS, _TEXTURE_PIXELS))) * np.exp(-2 * radius**2)
    field = np.fft.ifft2(spectrum).real
    return (1 / (1 + np.exp(-1.6 * (field - field.mean()) / field.std()))).astype(np.float32)


def surface_texture(surface: str, generator: np.random.Generator) -> Floats:
    """Pattern (128, 128) in 0 to 1 of one of `SURFACES`, of random size and offset."""
    if surface == "blotches":
        return noise_texture(generator, generator.uniform(18, 26))
    waves = generator.integers(5, 8)
    axis = np.arange(_TEXTURE_PIXELS) / _TEXTURE_PIXELS * 2 * np.pi
    x, y = np.meshgrid(axis * waves + generator.uniform(0, 6), axis * waves + generator.uniform(0, 6))
    if surface == "stripes":
        wave = np.sin(x)
    elif surface == "checks":
        wave = 1.6 * np.sin(x) * np.sin(y)
    elif surface == "dots":
        wave = 1.3 * (np.cos(x) + np.cos(y)) - 1.2
    else:
        from_centre = np.hypot(*np.meshgrid(axis - np.pi, axis - np.pi))
        wave = np.sin(from_centre * waves + generator.uniform(0, 6))
    return (1 / (1 + np.exp(-4 * wave))).astype(np.float32)


def sample(texture: Floats, where: Floats) -> Floats:
    """Bilinear value of a texture that repeats, at `where` (..., 2) in texels (x, y) -> (...)."""
    whole = np.floor(where)
    part = where - whole
    index = whole.astype(np.int32)
    x0, y0 = index[..., 0] % _TEXTURE_PIXELS, index[..., 1] % _TEXTURE_PIXELS
    x1, y1 = (x0 + 1) % _TEXTURE_PIXELS, (y0 + 1) % _TEXTURE_PIXELS
    across, down = part[..., 0], part[..., 1]
    top = texture[y0, x0] * (1 - across) + texture[y0, x1] * across
    bottom = texture[y1, x0] * (1 - across) + texture[y1, x1] * across
    return (top * (1 - down) + bottom * down).astype(np.float32)


def trace_texture(action: str, generator: np.random.Generator) -> Floats:
    """Fine pattern (128, 128) in 0 to 1 of what `action` leaves: ripples, char, weave, drips ..."""
    fine = 2 * np.pi / _TEXTURE_PIXELS * _TRACE_WAVES
    x, y = np.meshgrid(np.arange(_TEXTURE_PIXELS) * fine, np.arange(_TEXTURE_PIXELS) * fine)
    bend = 3 * noise_texture(generator, 24)
    if action == "pour":
        wave = np.sin(y + bend)
    elif action == "melt":
        wave = np.sin(x + bend)
    elif action == "sweep":
        wave = 1.5 * np.sin(x) * np.sin(y)
    elif action == "bloom":
        wave = np.cos(x) + np.cos(y) - 0.8
    elif action == "shatter":
        wave = np.sin(x + y + 2 * bend)
    else:
        char = noise_texture(generator, 0.8 * _TEXTURE_PIXELS / _TRACE_WAVES)
        wave = 4 * (char - 0.5)
    return (1 / (1 + np.exp(-3 * wave))).astype(np.float32)


def fine_texture(generator: np.random.Generator) -> Floats:
    """Grain (128, 128) in 0 to 1 whose details are a few texels wide, as those of real surfaces are."""
    return 0.5 * noise_texture(generator, 7) + 0.5 * noise_texture(generator, 3.5)


def _palette(generator: np.random.Generator, dark: float, light: float) -> Floats:
    """Two colours (2, 3) in 0 to 1, in any order, of lightness about `dark` and `light`."""
    colours = generator.uniform(0.1, 0.8, (2, 3))
    lightness = np.array([dark, light]) + generator.uniform(-0.06, 0.06, 2)
    colours *= (lightness / colours.mean(1))[:, None]
    return np.clip(colours[generator.permutation(2)], 0.03, 0.8).astype(np.float32)


def background_radiance(
    grid: Floats, camera: Floats, place: np.random.Generator, generator: np.random.Generator, fine: bool
) -> Floats:
    """Background (T, H, W, 3) in 0 to 1 for camera shifts (T, 2); `place` draws it, `generator` where one stands."""
    texture = 0.7 * noise_texture(place, 30) + 0.3 * noise_texture(place, 14)
    palette = _palette(place, 0.28, 0.52)
    if fine:
        texture += _FINE_SHARE * (fine_texture(place) - texture)
    stand = generator.uniform(0, _TEXTURE_PIXELS, 2).astype(np.float32)
    value = sample(texture, grid - camera[:, None, None] + stand)
    return palette[0] + value[..., None] * (palette[1] - palette[0])


class Painter:
    """Paints an object and the traces that an action leaves on it.

    Args:
        action: one of `synthetic_scenes.ACTIONS`.
        shape: one of `OBJECTS`.
        surface: one of `SURFACES`.
        generator: draws palettes, patterns and directions.
        fine_texels_per_unit: of object coordinates, at which a fine grain is added; null: none.
    """

    def __init__(
        self,
        action: str,
        shape: str,
        surface: str,
        generator: np.random.Generator,
        fine_texels_per_unit: float | None = None,
    ) -> None:
        self.action = action
        self.shape = shape
        self.own = surface_texture(surface, generator)
        self.trace = trace_texture(action, generator)
        self.front = noise_texture(generator, 30)
        self.palettes = np.stack([_palette(generator, 0.22, 0.6), _palette(generator, 0.12, 0.68)])
        self.rim = generator.uniform(0.75, 1.0, 3).astype(np.float32)
        self.petals = int(generator.integers(4, 8))
        self.turn = generator.uniform(0, 2 * np.pi)
        self.grain = None if fine_texels_per_unit is None else (fine_texture(generator), fine_texels_per_unit)

    def process(
        self, parts: Bytes, local: Floats, phase: NDArray[np.float64], times: NDArray[np.float64]
    ) -> tuple[Bytes, Bytes]:
        """Parts (T, H, W) after the action has added or hidden some, and the material (T, H, W) of each pixel."""
        x, y = local[..., 0], local[..., 1]
        how_far = phase.astype(np.float32)[:, None, None]
        material = np.zeros_like(parts)
        if self.action == "pour":
            ripple = 0.05 * np.sin(7 * x + (9 * times + self.turn).astype(np.float32)[:, None, None])
            around = np.linspace(0, 2 * np.pi, 256)
            heights = silhouette_radius(self.shape, around) * np.sin(around)
            level = heights.max() - (heights.max() - heights.min()) * how_far
            depth = y + ripple - level.astype(np.float32)  # positive: below the level
            jet = (np.abs(x) < 0.1) & (depth <= 0)
            parts = np.where(jet, 1, parts).astype(np.uint8)
            material[(depth > 0) | jet] = _TRACE
            material[np.abs(depth) < 0.05] = _RIM
        elif self.action == "burn":
            along = 0.5 + 0.38 * (np.cos(self.turn) * x + np.sin(self.turn) * y)
            ahead = along + 0.35 * (sample(self.front, local * _TEXELS_PER_UNIT) - 0.5) - how_far
            material[ahead < 0] = _TRACE
            material[np.abs(ahead) < 0.05] = _RIM
        elif self.action == "sweep":
            angle = np.mod(np.arctan2(y, x) - self.turn, 2 * np.pi) / (2 * np.pi)
            radius = np.hypot(x, y)
            material[angle < how_far] = _TRACE
            material[(np.abs(angle - how_far) * radius < 0.02) | (radius < 0.12)] = _RIM
        elif self.action == "bloom":
            radius, angle = np.hypot(x, y), np.arctan2(y, x)
            petal = np.abs(np.cos((angle - self.turn) * self.petals / 2))
            parts = np.where(radius < 0.38 + 0.8 * how_far * np.sqrt(petal), parts, 0).astype(np.uint8)
            material[radius > 0.38] = _TRACE
        elif self.action == "melt":
            depth = np.hypot(x, y) - silhouette_radius(self.shape, np.arctan2(y, x)) * (1 - 0.85 * how_far)
            material[depth > 0] = _TRACE
            material[np.abs(depth) < 0.03] = _RIM
        elif self.action == "shatter":
            material[parts == 1] = _TRACE
        elif self.action == "inflate":
            material[np.hypot(x, y) > 0.5 * silhouette_radius(self.shape, np.arctan2(y, x))] = _TRACE
        elif self.action == "stack":
            material[(parts > 0) & (parts % 2 == 0)] = _TRACE
        return parts, material

    def colours(self, material: Bytes, local: Floats) -> Floats:
        """Colours (N, 3) in 0 to 1 of pixels with `material` (N,) at object coordinates `local` (N, 2)."""
        where = local * _TEXELS_PER_UNIT
        value = np.where(material == _TRACE, sample(self.trace, where), sample(self.own, where))
        if self.grain is not None:
            grain, texels_per_unit = self.grain
            value += _FINE_SHARE * (sample(grain, local * texels_per_unit) - value)
        palette = self.palettes[(material == _TRACE).astype(int)]
        colours = palette[:, 0] + value[:, None] * (palette[:, 1] - palette[:, 0])
        return np.where((material == _RIM)[:, None], self.rim, colours)
