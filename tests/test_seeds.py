"""The table over seeds that docs/results.md is made with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent


def summary(seed: int, accuracy: float, before: float, learned: float, data: str = "a") -> dict:
    return {
        "task": "temporal_order",
        "seed": seed,
        "data": {"manifest": data},
        "figures": [{"figure": "accuracy", "split": "test", "value": accuracy, "chance": 0.5}],
        "probes": [{"figure": "1-NN", "before": before, "learned": learned, "chance": 0.125}],
    }


def run(folder: Path, *summaries: dict) -> subprocess.CompletedProcess:
    for number, row in enumerate(summaries):
        (folder / "RUN" / str(number)).mkdir(parents=True)
        (folder / "RUN" / str(number) / "summary.json").write_text(json.dumps(row))
    runs = [f"RUN/{number}" for number in range(len(summaries))]
    command = [sys.executable, str(PROJECT / "benchmarks" / "seeds.py"), *runs]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_mean_spread_and_paired_difference(tmp_path: Path) -> None:
    done = run(tmp_path, summary(0, 0.8, 0.2, 0.5), summary(1, 0.9, 0.3, 0.5), summary(2, 1.0, 0.4, 0.5))
    assert done.returncode == 0, done.stderr
    _, _, order, nearest = done.stdout.splitlines()
    assert "| 90.0 ± 10.0 % |" in order
    assert "| 30.0 ± 10.0 % | 50.0 ± 0.0 % | 20.0 ± 10.0 % | 12.5% |" in nearest


@pytest.mark.parametrize(("second", "word"), [((0, 0.9, 0.3, 0.5), "repeat seeds"), ((1, 0.9, 0.3, 0.5, "b"), "data")])
def test_unlike_runs_are_not_averaged(tmp_path: Path, second: tuple, word: str) -> None:
    done = run(tmp_path, summary(0, 0.8, 0.2, 0.5), summary(*second))
    assert done.returncode != 0
    assert word in done.stderr
