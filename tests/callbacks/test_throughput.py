"""What a training waits for is measured, and told where it is much."""

import csv
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from selfsup.callbacks.throughput import Throughput, memory


class Slow(Dataset):
    """Ten clips, each of which takes a while to come."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return 10

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        time.sleep(self.seconds)
        return {"clip": torch.zeros(3)}


class Work(pl.LightningModule):
    """A step that takes a while, by two groups of parameters."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.seconds = seconds

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        time.sleep(self.seconds)
        return self.layer(batch["clip"]).square().mean()

    def configure_optimizers(self) -> Any:
        groups = [{"params": [self.layer.weight], "lr": 0.1}, {"params": [self.layer.bias], "lr": 0.01}]
        return partial(torch.optim.SGD, groups)()


def run(folder: Path, reading_seconds: float, working_seconds: float) -> Throughput:
    throughput = Throughput()
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[throughput],
        logger=CSVLogger(folder, name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=2,
    )
    trainer.fit(Work(working_seconds), DataLoader(Slow(reading_seconds), batch_size=2))
    return throughput


def test_waiting_is_measured_logged_and_told(tmp_path: Path) -> None:
    throughput = run(tmp_path, reading_seconds=0.03, working_seconds=0.02)  # of a batch: 60 ms of waiting, 20 of work
    found = throughput.summary()
    assert 0.5 < found["waiting"] < 0.85
    assert 5 < found["clips_per_second"] < 2 / 0.08
    assert throughput.advice is not None
    assert f"waited {found['waiting']:.0%} of its time for data; raise data.num_workers" in throughput.advice
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["throughput/waiting"]]
    assert [int(row["step"]) for row in rows] == [1, 3, 5, 7, 9]
    assert all(0.4 < float(row["throughput/waiting"]) < 0.9 for row in rows)
    assert {float(row["lr"]) for row in rows} == {0.1}
    assert {float(row["lr_1"]) for row in rows} == {0.01}
    assert all(0.05 < float(row["memory/peak_gib"]) < 64 for row in rows)


def test_a_training_that_computes_is_not_advised(tmp_path: Path) -> None:
    throughput = run(tmp_path, reading_seconds=0.0, working_seconds=0.03)
    assert throughput.summary()["waiting"] < 0.3
    assert throughput.advice is None


def test_before_a_training_there_is_nothing_to_tell() -> None:
    assert Throughput().advice is None
    assert Throughput().summary() == {}


def test_memory_that_is_taken_is_seen() -> None:
    before = memory()["peak_gib"]
    taken = torch.ones(int((before + 0.25) * 2**30), dtype=torch.uint8)
    assert memory()["peak_gib"] >= before + 0.2
    del taken


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_out_of_range_is_one_sentence(share: float) -> None:
    with pytest.raises(ValueError, match=r"throughput\.waiting_share=.*: give a share above 0"):
        Throughput(share)


def test_clips_of_every_task_of_a_joint_run_are_counted() -> None:
    throughput = Throughput()
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", log_every_n_steps=0)
    batch = {"order/clip": torch.zeros(3, 1), "speed/clip": torch.zeros(2, 1), "speed/label": torch.zeros(2)}
    throughput.on_train_epoch_start(trainer, pl.LightningModule())
    throughput.on_train_batch_start(trainer, pl.LightningModule(), batch, 0)
    throughput.on_train_batch_end(trainer, pl.LightningModule(), None, batch, 0)
    assert throughput.clips == 5
