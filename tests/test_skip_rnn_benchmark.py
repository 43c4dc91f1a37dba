"""benchmarks/skip_rnn.py: what its record holds is not done again, and figures of other settings are not mixed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent


def run(record: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/skip_rnn.py", "--record", str(record), *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_a_benchmark_goes_on_where_it_was(tmp_path: Path) -> None:
    record, short = tmp_path / "record.json", ("--task", "digits", "--steps", "2", "--seeds", "0")
    alone = run(record, *short, "--kinds", "random")
    assert alone.returncode == 2
    assert "'digits skip gru 0', whose share is asked for; add skip to --kinds" in alone.stderr
    assert run(record, *short, "--kinds", "skip").returncode == 0
    first = json.loads(record.read_text())
    assert set(first) == {"digits skip gru 0", "digits skip lstm 0"}
    done = run(record, *short, "--kinds", "skip", "random", "plain")
    assert done.returncode == 0, done.stderr
    assert "digits skip" not in done.stderr, "ran again"
    runs = json.loads(record.read_text())
    assert {key: runs[key] for key in first} == first
    assert runs["digits plain gru 0"]["used"] == 1.0
    assert runs["digits random gru 0"]["used"] == pytest.approx(first["digits skip gru 0"]["used"], abs=0.02)
    names = [line.split(" | ")[0] for line in done.stdout.splitlines()[2:]]
    assert names[:2] == ["| Skip GRU, λ = 0.001225", "| Skip LSTM, λ = 0.001225"]
    other = run(record, *short[:2], "--steps", "3", "--seeds", "0")
    assert other.returncode == 2
    assert "give another --record" in other.stderr
