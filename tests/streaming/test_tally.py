"""Counts of a stream."""

import pytest

from selfsup.streaming.tally import Tally


def test_what_is_counted_adds_up() -> None:
    tally = Tally()
    for number in range(100):
        tally.add(work=0.25 if number % 4 else 0.0, latency_ms=float(number), lag_frames=number % 3)
    assert (tally.encoded, tally.held, tally.answered) == (75, 25, 100)
    figures = tally.figures(skipped=50)
    assert figures["computation"] == pytest.approx(75 * 0.25 / 150)
    assert figures["latency_ms"] == {"median": pytest.approx(49.5), "p95": pytest.approx(94.05)}
    assert figures["lag_frames"] == {"mean": pytest.approx(0.99), "most": 2}


def test_nothing_yet_is_no_error() -> None:
    figures = Tally().figures(0)
    assert figures["latency_ms"] == {"median": None, "p95": None}
    assert figures["computation"] == 0
