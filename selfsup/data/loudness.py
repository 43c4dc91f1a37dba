"""What the index knows of a video's sound: how long its track is, and how loud at each moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LOUDNESS_HZ = 10.0
FLOOR_DB = -120.0  # digital silence
SILENT_DB = -60.0  # below it a tenth of a second counts as silent


@dataclass(frozen=True)
class SoundInfo:
    """One sound track. Seconds count from when the first frame is shown; levels are relative to full scale (±1).

    Attributes:
        stop_seconds: where the last sample ends; 0 where none can be decoded.
        is_finite: whether all samples are finite numbers.
        loudness_db: float32 (n,), the root mean square of each tenth of a second from second zero on, at least -120;
            before a track that starts late there is silence.
    """

    stop_seconds: float
    is_finite: bool
    loudness_db: np.ndarray = field(repr=False, compare=False)

    @property
    def rms_db(self) -> float:
        """The root mean square of the whole track; -120 where there is no sample."""
        if len(self.loudness_db) == 0:
            return FLOOR_DB
        return max(FLOOR_DB, 10 * float(np.log10(np.mean(10 ** (self.loudness_db.astype(np.float64) / 10)))))

    @property
    def silent_share(self) -> float:
        """Of the tenths of a second, those below -60 dB; 1 where there is no sample."""
        return float(np.mean(self.loudness_db < SILENT_DB)) if len(self.loudness_db) else 1.0

    def row(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "stop_seconds": self.stop_seconds,
            "is_finite": self.is_finite,
            "loudness_db": [round(float(level), 1) for level in self.loudness_db],
        }

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> SoundInfo:
        """What `row` wrote."""
        return cls(row["stop_seconds"], row["is_finite"], np.asarray(row["loudness_db"], np.float32))


def decibels(squares: np.ndarray) -> np.ndarray:
    """Mean squares to decibels relative to full scale, float32, at least -120."""
    return (10 * np.log10(np.maximum(squares, 10 ** (FLOOR_DB / 10)))).astype(np.float32)
