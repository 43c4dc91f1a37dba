"""A run that was stopped and resumed ends in the weights of one that was not: bit for bit."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from torch import Tensor

from selfsup.callbacks.checkpoint import Checkpoint
from selfsup.tasks.audio_visual import AudioVisual
from selfsup.train import main
from tests.verbs import Ended

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


def finish(process: subprocess.Popen, expected: int = 0, timeout: float = 300) -> str:
    _, errors = process.communicate(timeout=timeout)
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


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(tmp_path: Path, synthetic_manifest: Path) -> None:
    """Trainings are killed again and again, mostly while they train, and go on, until so many kills are survived."""
    more = ("trainer.max_epochs=4", "checkpoint.every_minutes=0.005")
    began = time.monotonic()
    finish(start(tmp_path / "whole", synthetic_manifest, *more))
    seconds = time.monotonic() - began
    kills, trainings, generator = 0, 0, random.Random(0)
    while kills < 6:
        folder = tmp_path / f"run{trainings}"
        before, began = kills, time.monotonic()
        while not (folder / "encoder.safetensors").exists():
            process = start(folder, synthetic_manifest, *more, "resume=last")
            try:
                finish(process, timeout=generator.uniform(0.4, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                kills += 1
        trainings += 1
        if kills == before:  # the machine is less busy than it was: or none would ever be killed
            seconds = min(seconds, time.monotonic() - began)
        assert (folder / "encoder.safetensors").read_bytes() == (tmp_path / "whole/encoder.safetensors").read_bytes()
        assert steps(folder) == steps(tmp_path / "whole")


def test_resume_from_a_missing_path_is_one_sentence(tmp_path: Path, synthetic_manifest: Path) -> None:
    errors = finish(start(tmp_path / "run", synthetic_manifest, "resume=nowhere.ckpt"), expected=2)
    assert "nowhere.ckpt" in errors
    assert "Traceback" not in errors


def stop_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Lets runs of this process end after this step, as by a signal."""
    ended = Checkpoint.on_train_batch_end

    def stopping(self: Checkpoint, trainer: pl.Trainer, *arguments: Any) -> None:
        if trainer.global_step == step:
            self.asked = signal.SIGTERM
        ended(self, trainer, *arguments)

    patch.setattr(Checkpoint, "on_train_batch_end", stopping)


def test_a_stop_on_a_logged_step_keeps_its_row(
    tmp_path: Path, synthetic_manifest: Path, synthetic_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning logs a step after its hooks, in one of which the run stops."""
    stop_at(2, monkeypatch)
    data = ["data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}"]
    small = ["data.size_pixels=32", "data.batch_size=4", "data.num_workers=0", "trainer.log_every_n_steps=2"]
    quiet = ["trainer=cpu", "+trainer.enable_progress_bar=false", f"hydra.run.dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["train", *data, *small, *quiet])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 128 + signal.SIGTERM
    assert [step for step, _ in steps(tmp_path)] == [1]


def test_other_batches_than_those_of_the_checkpoint_are_refused(
    verb: Callable[..., Ended], synthetic_manifest: Path, synthetic_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else examples would be seen twice, or never, and nobody would know."""
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
    small = ("data.size_pixels=32", "data.batch_size=4", "data.num_workers=0", "trainer.max_epochs=1")
    command = (*data, *small, "trainer=cpu", "+trainer.enable_progress_bar=false", "probe=null", "collapse=null")
    with monkeypatch.context() as patch:
        stop_at(2, patch)
        stopped = verb(main, *command)
    assert stopped.code == 128 + signal.SIGTERM, stopped.err
    before = {path: path.read_bytes() for path in stopped.folder.glob("*.ckpt")}
    assert before
    for changed, words in {
        "seed=1": "made with 0 where this run has seed=1: give the seed of the checkpoint, or begin a new run",
        "data.batch_size=8": "made with 4 where this run has 8 examples a step, data.batch_size times the number of",
    }.items():
        refused = verb(main, *command, "resume=last", changed)
        assert refused.code == 2
        assert words in refused.err
        assert "Traceback" not in refused.err
        assert {path: path.read_bytes() for path in stopped.folder.glob("*.ckpt")} == before
    with pytest.warns(UserWarning, match="with .* examples an epoch where this run has .* some are seen twice or not"):
        assert verb(main, *command, "resume=last", "data.clips_per_video=5").code == 0


@pytest.mark.slow
def test_a_curriculum_goes_on_where_it_was(
    verb: Callable[..., Ended], synthetic_manifest: Path, synthetic_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a step learns from depends on its number, here until the last; the run stops in the middle of an epoch."""
    heard = ("task=audio_visual", "task.negatives=both", "task.curriculum_fraction=1", "task.sampler.rate_hz=8000")
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
    small = ("data.size_pixels=32", "data.batch_size=4", "data.clips_per_video=1", "data.num_workers=0")
    quiet = ("trainer=cpu", "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "+trainer.enable_progress_bar=false")
    overrides = (*heard, *data, *small, *quiet)
    progress: list[float] = []
    step = AudioVisual.step

    def watched(self: AudioVisual, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        progress.append(self.progress)
        return step(self, batch)

    monkeypatch.setattr(AudioVisual, "step", watched)
    whole = verb(main, *overrides, run="whole")
    assert whole.code == 0, whole.err
    assert progress == [number / 8 for number in range(8)]
    with monkeypatch.context() as patch:
        stop_at(6, patch)
        assert verb(main, *overrides).code == 128 + signal.SIGTERM
    progress.clear()
    resumed = verb(main, *overrides, "resume=last")
    assert resumed.code == 0, resumed.err
    assert progress == [6 / 8, 7 / 8]
    assert steps(resumed.folder) == steps(whole.folder)
    for name in ("encoder.safetensors", "audio_encoder.safetensors", "retrieval.json"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
