"""The sound of a synthetic video: what the object is made of gives the timbre, what it does gives the envelope.

Pitch rises with the phase of the action and every jerk of the action is heard, so that a sound fits one object, one
action and one moment. Nothing is drawn that the picture does not show, but for soft noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selfsup.data.synthetic_scenes import ACTIONS, Timetable
from selfsup.data.synthetic_surfaces import OBJECTS, SURFACES

SOUNDS = ("reed", "bell", "flute", "string", "rattle")
SOUND_OF_SURFACE = dict(zip(SURFACES, SOUNDS, strict=True))

_PARTIALS: dict[str, tuple[tuple[float, float], ...]] = {  # (multiple of the pitch, strength)
    "reed": ((1, 1.0), (3, 0.6), (5, 0.45), (7, 0.3), (9, 0.2)),
    "bell": ((1, 0.6), (2.76, 0.8), (5.4, 0.6), (8.93, 0.4)),
    "flute": ((1, 1.0), (2, 0.08)),
    "string": ((1, 0.7), (2, 0.6), (3, 0.5), (4, 0.45), (5, 0.4), (6, 0.35), (8, 0.25), (10, 0.2)),
    "rattle": ((1, 1.0), (2.3, 0.7), (4.1, 0.5)),
}
# Seconds of attack and decay, strikes an event, seconds between them, tremolo in Hz.
_ENVELOPES: dict[str, tuple[float, float, int, float, float]] = dict(
    zip(
        ACTIONS,
        (
            (0.060, 0.30, 1, 0.00, 12.0),
            (0.002, 0.03, 4, 0.03, 0.0),
            (0.002, 0.05, 1, 0.00, 0.0),
            (0.040, 0.12, 2, 0.08, 0.0),
            (0.120, 0.06, 1, 0.00, 0.0),
            (0.010, 0.45, 1, 0.00, 5.0),
            (0.001, 0.09, 3, 0.05, 0.0),
            (0.003, 0.16, 1, 0.00, 30.0),
        ),
        strict=True,
    )
)
_OCTAVES = 1.5  # that the pitch rises from phase 0 to 1


def draw_sound(
    *,
    action: str,
    shape: str,
    surface: str,
    timetable: Timetable,
    generator: np.random.Generator,
    rate_hz: int,
) -> NDArray[np.float32]:
    """Sound of a scene.

    Args:
        action: one of `ACTIONS`; gives the envelope of an event.
        shape: one of `OBJECTS`; gives the pitch at phase 0.
        surface: one of `SURFACES`; gives the timbre, `SOUND_OF_SURFACE`.
        timetable: when the events are and how the phase goes.
        generator: draws the noise.
        rate_hz: samples a second.

    Returns:
        float32 (N,) in -1 to 1, as long as the video.
    """
    times = np.arange(round(timetable.seconds * rate_hz)) / rate_hz
    source = SOUND_OF_SURFACE[surface]
    pitch_hz = 180 * 2 ** (OBJECTS.index(shape) / 6) * 2 ** (_OCTAVES * timetable.phase(times))
    turns = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    wave = np.zeros_like(times)
    for multiple, strength in _PARTIALS[source]:
        audible = multiple * pitch_hz < 0.45 * rate_hz
        carrier = np.sin(multiple * turns)
        if source == "rattle":
            carrier = carrier * np.convolve(generator.standard_normal(len(times)), np.full(12, 0.3), "same")
        wave += strength * audible * carrier
    attack, decay, strikes, gap, tremolo_hz = _ENVELOPES[action]
    loudness = np.full_like(times, 0.06)
    for event in timetable.events:
        for strike in range(strikes):
            since = times - event - strike * gap
            loudness += np.where(since > 0, -np.expm1(-since.clip(0) / attack) * np.exp(-since.clip(0) / decay), 0)
    if tremolo_hz:
        loudness *= 0.6 + 0.4 * np.sin(2 * np.pi * tremolo_hz * times)
    wave = wave * loudness + 0.01 * generator.standard_normal(len(times))
    return (wave * (0.5 / np.abs(wave).max())).astype(np.float32)
