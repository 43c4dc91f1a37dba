"""The table over seeds that docs/results.md is made with."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.verbs import Ended, script

Command = Callable[..., Ended]


def summary(seed: int, accuracy: float, before: float, learned: float, data: str = "a") -> dict:
    return {
        "task": "temporal_order",
        "seed": seed,
        "data": {"manifest": data},
        "figures": [{"figure": "accuracy", "split": "test", "value": accuracy, "chance": 0.5}],
        "probes": [{"figure": "1-NN", "before": before, "learned": learned, "chance": 0.125}],
    }


def written(folder: Path, *summaries: dict) -> list[str]:
    """Runs of these summaries in the folder: their names."""
    runs = [f"RUN/{number}" for number in range(len(summaries))]
    for run, row in zip(runs, summaries, strict=True):
        (folder / run).mkdir(parents=True)
        (folder / run / "summary.json").write_text(json.dumps(row))
    return runs


def test_mean_spread_and_paired_difference(tmp_path: Path, command: Command) -> None:
    runs = written(tmp_path, summary(0, 0.8, 0.2, 0.5), summary(1, 0.9, 0.3, 0.5), summary(2, 1.0, 0.4, 0.5))
    done = command(script("seeds.py"), *runs)
    assert done.code == 0, done.err
    _, _, order, nearest = done.out.splitlines()
    assert "| 90.0 ± 10.0 % |" in order
    assert "| 30.0 ± 10.0 % | 50.0 ± 0.0 % | 20.0 ± 10.0 % | 12.5% |" in nearest


@pytest.mark.parametrize(("second", "word"), [((0, 0.9, 0.3, 0.5), "repeat seeds"), ((1, 0.9, 0.3, 0.5, "b"), "data")])
def test_unlike_runs_are_not_averaged(tmp_path: Path, command: Command, second: tuple, word: str) -> None:
    runs = written(tmp_path, summary(0, 0.8, 0.2, 0.5), summary(*second))
    with pytest.raises((ValueError, SystemExit), match=word):
        command(script("seeds.py"), *runs)
