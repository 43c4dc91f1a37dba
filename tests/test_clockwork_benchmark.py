"""benchmarks/clockwork.py and velocity.py: what is set on one half is judged on the other, and what ran is kept."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import selfsup.train
from selfsup import weights
from selfsup.encoders.encoder import InputSpecification
from selfsup.encoders.resnet import ResNet
from tests.davis import write_davis
from tests.verbs import BENCHMARKS, Ended, script

Command = Callable[..., Ended]
HALVES = [["a", "c"], ["b", "d"]]


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARKS / "clockwork.py"))


def made_up(benchmark: dict[str, Any]) -> dict[str, Any]:
    """A run whose adaptive clocks do more work on b and d than on a and c, and less the higher the threshold."""
    names = [f"frame skipping, period {period}" for period in benchmark["PERIODS"]]
    rows: dict[str, Any] = {}
    for name, period in zip(names, benchmark["PERIODS"], strict=True):
        value = {"work": 1 / period, "fidelity": 1 / period, "error": 1 - 1 / period, "J": 0.5}
        rows[name] = dict.fromkeys("abcd", value)
    for name, (_, _, thresholds) in benchmark["ADAPTIVE"].items():
        for threshold in thresholds:
            row = {"fidelity": 0.9, "error": 0.1, "J": 0.4}
            works = {"a": 1 - threshold, "b": 1 - threshold / 2, "c": 1 - threshold, "d": 1 - threshold / 2}
            rows[f"{name}, {threshold:g}"] = {one: {**row, "work": work} for one, work in works.items()}
    return {"rows": rows, "seconds": dict.fromkeys(rows, 0.5), "timed": "a", "halves": HALVES}


def test_a_threshold_is_chosen_on_the_other_half(benchmark: dict[str, Any]) -> None:
    name = "adaptive, layer1 watched"
    assert benchmark["ADAPTIVE"][name][2] == (0.2, 0.25, 0.3, 0.4)
    row = benchmark["chosen"](made_up(benchmark)["rows"], name, HALVES, 0.8)
    # For a and c by the work on b and d, 1 - 0.4 / 2; for these by that on a and c, 1 - 0.2.
    assert row["thresholds"] == [0.4, 0.2]
    assert row["work"] == pytest.approx((0.6 + 0.6 + 0.9 + 0.9) / 4)


def test_skipping_at_equal_cost_lies_on_the_line(benchmark: dict[str, Any]) -> None:
    rows = made_up(benchmark)["rows"]
    every = {"work": 1.0, "fidelity": 0.9, "error": 0.0, "J": 0.5}
    rows["frame skipping, period 1"] = dict.fromkeys("abcd", every)
    assert benchmark["at_equal_cost"](rows, 0.75, "fidelity") == pytest.approx((0.9 + 0.5) / 2)
    assert benchmark["at_equal_cost"](rows, 0.5, "fidelity") == pytest.approx(0.5)


def test_a_row_says_by_how_much_it_is_better(benchmark: dict[str, Any]) -> None:
    lines = benchmark["table"]([made_up(benchmark)] * 2, HALVES).splitlines()
    [line] = [line for line in lines if line.startswith("| adaptive, layer1 watched, asked for 0.75 |")]
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert cells[:4] == ["0.74", "90.0", "73.8", "+16.2 (+16.2 +16.2)"]
    assert cells[-1].startswith("1.00 (")


@pytest.mark.slow
def test_a_run_is_measured_once(command: Command, tmp_path: Path) -> None:
    root = write_davis(tmp_path / "DAVIS", ["bear", "camel", "dog", "goat", "swan"])
    small = ("trainer=debug", "+trainer.enable_progress_bar=false", "data.batch_size=2", "data.size_pixels=32")
    labels = ("foreground=flow_threshold", "task.sampler.labels.short_side_pixels=120", "data.num_workers=0")
    task = ("task=motion_segmentation", "data=davis", f"data.root={root}", "data.index_processes=1")
    assert command(selfsup.train.main, *task, *labels, *small, "hydra.run.dir=run").code == 0
    words = ("--root", str(root), "--runs", "run", "--record", "record.json")
    three = (*words, "--sequences", "bear", "camel", "dog")
    first = command(script("clockwork.py"), *three)
    assert first.code == 0, first.err
    rows = json.loads((tmp_path / "record.json").read_text())["run"]["rows"]
    assert set(rows["frame skipping, period 1"]) == {"bear", "camel", "dog"}
    every = rows["frame skipping, period 1"]["dog"]
    assert (every["work"], every["fidelity"], every["error"]) == (1.0, 1.0, 0.0)
    assert rows["frame skipping, period 2"]["dog"]["work"] == 0.5
    again = command(script("clockwork.py"), *three)
    assert again.out == first.out
    assert "frame skipping" not in again.err, "ran again"
    other = command(script("clockwork.py"), *words, "--sequences", "bear", "dog")
    assert other.code == 2
    assert "give another --record" in other.err
    unknown = command(script("clockwork.py"), *words, "--sequences", "bear", "cat")
    assert "no sequence 'cat' in" in unknown.err


def test_velocities_of_an_encoder(command: Command, tmp_path: Path) -> None:
    torch.manual_seed(0)
    root = write_davis(tmp_path / "DAVIS", ["bear", "dog"], count=4)
    seen = InputSpecification(32, (0.5,) * 3, (0.25,) * 3, fps=None)
    weights.save(ResNet(), tmp_path / "encoder.safetensors", input=seen, task="test", data={})
    words = ("--root", str(root), "--encoders", "encoder.safetensors", "--picture", "velocity.png")
    ended = command(script("velocity.py"), *words)
    assert ended.code == 0, ended.err
    head, _, row, untrained = ended.out.splitlines()[-4:]
    assert head == "| encoder | frame | stem | layer1 | layer2 | layer3 | layer4 |"
    assert row.split("|")[2] == untrained.split("|")[2], "the frames are the same"
    assert all(float(cell) > 0 for cell in row.split("|")[2:-1])
    assert (tmp_path / "velocity.png").stat().st_size > 5000
    wrong = command(script("velocity.py"), *words, "--drawn", "cat")
    assert wrong.code == 2
    assert "no sequence 'cat'" in wrong.err
