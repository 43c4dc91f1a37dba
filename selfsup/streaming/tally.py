"""What a stream has done so far: frames by their fate, latency, lag, and the share of computation."""

from __future__ import annotations

import time

import numpy as np

KEPT = 100_000  # latencies of as many frames: 55 minutes at 30 a second


class Tally:
    """Counts, in constant memory.

    Attributes:
        encoded: frames for which something was computed.
        held: frames that got an answer without.
        work: the sum of `Stream.work` over frames.
    """

    def __init__(self) -> None:
        self.encoded, self.held, self.work = 0, 0, 0.0
        self._latencies_ms = np.zeros(KEPT, np.float32)  # a ring
        self._lag_sum, self._lag_most = 0, 0
        self._start = time.perf_counter()

    @property
    def answered(self) -> int:
        """Frames that were looked at."""
        return self.encoded + self.held

    def add(self, work: float, latency_ms: float, lag_frames: int) -> None:
        """One frame that was looked at: its cost, the time from its arrival to its answer, and its lag."""
        self._latencies_ms[self.answered % KEPT] = latency_ms
        self.encoded += work > 0
        self.held += work == 0
        self.work += work
        self._lag_sum += lag_frames
        self._lag_most = max(self._lag_most, lag_frames)

    def figures(self, skipped: int) -> dict[str, object]:
        """What can be said of it, where besides `skipped` frames were passed over; of latency the last 100,000."""
        seen = self.answered + skipped
        seconds = time.perf_counter() - self._start
        known = self._latencies_ms[: self.answered]
        median, high = np.quantile(known, [0.5, 0.95]).tolist() if len(known) else (None, None)
        return {
            "frames_per_second": seen / seconds,
            "latency_ms": {"median": median, "p95": high},
            "lag_frames": {"mean": self._lag_sum / max(1, self.answered), "most": self._lag_most},
            "computation": self.work / max(1, seen),
            "seconds": seconds,
        }
