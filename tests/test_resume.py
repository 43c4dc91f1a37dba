"""A run that was stopped and resumed ends in the weights of one that was not: bit for bit."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from selfsup.callbacks.checkpoint import Checkpoint
from selfsup.train import main

OVERRIDES = (
    "trainer=cpu",
    "trainer.max_epochs=3",
    "+trainer.enable_progress_bar=false",
    "data.size_pixels=32",
    "data.batch_size=4",
    "data.clips_per_video=4",
    "data.num_workers=1",
    "task.augment=[{_target_: selfsup.data.transforms.SpatialJitter, pixels: 2}]",
    "probe.num_frames=2",
)


def start(folder: Path, manifest: Path, *overrides: str) -> subprocess.Popen:
    data = ("data=manifest", f"data.manifest={manifest}", f"hydra.run.dir={folder}")
    return subprocess.Popen(
        [sys.executable, "-m", "selfsup.train", *data, *OVERRIDES, *overrides],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=folder.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen, expected: int = 0) -> str:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == expected, errors
    return errors


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 200
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, synthetic_manifest: Path) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(start(folder, synthetic_manifest))
    return folder


def steps(folder: Path) -> list[tuple[int, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return [(int(row["step"]), row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_stopped_and_resumed_is_uninterrupted(
    whole: Path, tmp_path: Path, synthetic_manifest: Path, number: int, code: int
) -> None:
    folder = tmp_path / "run"
    process = start(folder, synthetic_manifest)
    wait_for(folder / "last.ckpt", process)
    time.sleep(random.uniform(0.0, 1.0))
    os.killpg(process.pid, number)  # as a terminal or a scheduler does: the workers get it too
    errors = finish(process, expected=code)
    assert not (folder / "encoder.safetensors").exists(), "the run ended before the signal"
    if number != signal.SIGKILL:
        assert "resume=last" in errors
    finish(start(folder, synthetic_manifest, "resume=last"))
    assert (folder / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()
    assert steps(folder) == steps(whole)


def test_resume_from_a_missing_path_is_one_sentence(tmp_path: Path, synthetic_manifest: Path) -> None:
    errors = finish(start(tmp_path / "run", synthetic_manifest, "resume=nowhere.ckpt"), expected=2)
    assert "nowhere.ckpt" in errors
    assert "Traceback" not in errors


def test_a_stop_on_a_logged_step_keeps_its_row(
    tmp_path: Path, synthetic_manifest: Path, synthetic_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning logs a step after its hooks, in one of which the run stops."""
    ended = Checkpoint.on_train_batch_end

    def stopping(self: Checkpoint, trainer: pl.Trainer, *arguments: Any) -> None:
        if trainer.global_step == 2:
            self.asked = signal.SIGTERM
        ended(self, trainer, *arguments)

    monkeypatch.setattr(Checkpoint, "on_train_batch_end", stopping)
    data = ["data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}"]
    small = ["data.size_pixels=32", "data.batch_size=4", "data.num_workers=0", "trainer.log_every_n_steps=2"]
    quiet = ["trainer=cpu", "+trainer.enable_progress_bar=false", f"hydra.run.dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["train", *data, *small, *quiet])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 128 + signal.SIGTERM
    assert [step for step, _ in steps(tmp_path)] == [1]
