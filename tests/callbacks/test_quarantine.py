"""Videos that break during a real training: named, counted, left out, and too many of them stop the run."""

import csv
import multiprocessing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import nn

from selfsup.callbacks.quarantine import Quarantine
from selfsup.data import videos
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.sampling import ClipSampler
from selfsup.encoders.encoder import FrameEncoder
from selfsup.tasks.temporal_order import OrderSampler, TemporalOrder
from tests.data.misbehaving import CRASH, HANG
from tests.data.spoiled import Spoiled

SAMPLER = OrderSampler(span_seconds=1.2, gap_seconds=0.2, reach_seconds=0.4)


class Tiny(FrameEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.dim = 4
        self.stages = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU())


class Seen(pl.Callback):
    """Keeps what each training batch held."""

    def __init__(self) -> None:
        self.videos: list[list[int]] = []
        self.failures: list[list[int]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.videos.append(batch["video"].tolist() if "video" in batch else [])
        self.failures.append([failure.video for failure in batch["failures"]])


def data_of(manifest: Path, sampler: ClipSampler = SAMPLER, **arguments: Any) -> VideoDataModule:
    """16 train, 4 val and 4 test videos, indexed."""
    data = VideoDataModule(
        videos.manifest,
        sampler,
        manifest=str(manifest),
        index_cache=str(manifest.with_name("index.jsonl")),
        **({"size_pixels": 16, "batch_size": 4, "num_workers": 0, "clips_per_video": 2} | arguments),
    )
    data.setup()
    return data


def fit(
    data: VideoDataModule,
    callbacks: list[pl.Callback],
    epochs: int = 2,
    checkpoint: Path | None = None,
    logger: CSVLogger | None = None,
) -> Any:
    task = TemporalOrder(Tiny(), SAMPLER, partial(torch.optim.SGD, lr=0.01))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=callbacks,
        logger=logger or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(task, data, ckpt_path=checkpoint)
    return trainer


def spoil(data: VideoDataModule, split: str, number: int) -> Path:
    path = data.videos[split][number].path
    path.write_bytes(b"\0" * 2000)
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_video_is_quarantined_named_and_counted(synthetic_copy: Path, workers: int) -> None:
    data = data_of(synthetic_copy, num_workers=workers)
    path, held_out = spoil(data, "train", 5), spoil(data, "val", 2)
    quarantine, seen = Quarantine(data, max_failed_fraction=0.25), Seen()
    with pytest.warns(UserWarning, match="quarantined") as warned:
        trainer = fit(data, [quarantine, seen])
    assert trainer.global_step == 16  # two epochs of 16 videos twice, in batches of 4
    told = [str(warning.message) for warning in warned if "quarantined" in str(warning.message)]
    assert len(told) == 2  # each once, though both epochs meet them
    assert any(text.startswith(f"quarantined (train): {path}: cannot be opened") for text in told)
    assert any(text.startswith(f"quarantined (val): {held_out}: cannot be opened") for text in told)
    assert [(row["path"], row["split"]) for row in quarantine.rows()] == [(str(path), "train"), (str(held_out), "val")]
    # Both epochs see all other videos, twice each, and none in its place.
    for epoch in (seen.videos[:8], seen.videos[8:]):
        numbers = sorted(number for batch in epoch for number in batch)
        assert numbers == sorted([number for number in range(16) if number != 5] * 2)
    assert [5] in seen.failures[:8]
    assert [5] not in seen.failures[8:]


def test_the_number_of_broken_videos_is_drawn_beside_the_figures(synthetic_copy: Path, tmp_path: Path) -> None:
    data = data_of(synthetic_copy)
    spoil(data, "train", 5)
    spoil(data, "val", 2)
    with pytest.warns(UserWarning, match="quarantined"):
        fit(data, [Quarantine(data, max_failed_fraction=0.25)], logger=CSVLogger(tmp_path, name="", version=""))
    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        told = [row["quarantine/videos"] for row in csv.DictReader(file) if row["quarantine/videos"]]
    assert [float(value) for value in told] == [2.0, 2.0], "after each epoch, all so far"


def test_too_many_broken_videos_stop_the_run_with_one_sentence(synthetic_copy: Path) -> None:
    data = data_of(synthetic_copy)
    paths = [spoil(data, "train", number) for number in (3, 8)]
    with pytest.raises(ValueError, match=r"2 of 16 train videos failed to read after indexing") as error:
        fit(data, [Quarantine(data, max_failed_fraction=0.1)])
    assert "data.max_failed_fraction=0.1" in str(error.value)
    assert any(str(path) in str(error.value) for path in paths)
    assert "\n" not in str(error.value)


def test_one_failure_within_the_fraction_does_not_stop_the_run(synthetic_copy: Path) -> None:
    data = data_of(synthetic_copy)
    spoil(data, "train", 3)
    with pytest.warns(UserWarning, match="quarantined"):
        fit(data, [Quarantine(data, max_failed_fraction=1 / 16)], epochs=1)
    with pytest.raises(ValueError, match="1 of 16 train videos"):
        fit(data, [Quarantine(data, max_failed_fraction=0.06)], epochs=1)


def test_a_batch_in_which_nothing_could_be_read_is_skipped(synthetic_copy: Path) -> None:
    data = data_of(synthetic_copy, batch_size=2, clips_per_video=1)
    first = [index for _, index in next(iter(data.train_dataloader().batches))]
    for number in first:
        spoil(data, "train", number)
    seen = Seen()
    with pytest.warns(UserWarning, match="quarantined"):
        trainer = fit(data, [Quarantine(data, max_failed_fraction=0.5), seen], epochs=1)
    assert seen.videos[0] == []
    assert seen.failures[0] == first
    assert len(seen.videos) == 8
    assert all(len(batch) == 2 for batch in seen.videos[1:])
    assert trainer.current_epoch == 1


def test_the_quarantine_survives_a_checkpoint(synthetic_copy: Path, tmp_path: Path) -> None:
    data = data_of(synthetic_copy)
    spoil(data, "train", 5)
    quarantine = Quarantine(data, max_failed_fraction=0.25)
    with pytest.warns(UserWarning, match="quarantined"):
        trainer = fit(data, [quarantine], epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    torch.load(tmp_path / "last.ckpt", weights_only=True)  # holds no code

    fresh = data_of(synthetic_copy)
    assert len(fresh.videos["train"]) == 15  # the index refuses it by now, so the others have moved up
    resumed, seen = Quarantine(fresh, max_failed_fraction=0.0), Seen()
    fit(fresh, [resumed, seen], epochs=2, checkpoint=tmp_path / "last.ckpt")
    assert resumed.rows() == []
    assert {number for batch in seen.videos for number in batch} == set(range(15))


def test_a_resumed_run_leaves_out_what_failed_before(synthetic_copy: Path) -> None:
    data = data_of(synthetic_copy)
    first = Quarantine(data, max_failed_fraction=0.25)
    path = spoil(data, "train", 5)
    with pytest.warns(UserWarning, match="quarantined"):
        fit(data, [first], epochs=1)
    second = Quarantine(data, max_failed_fraction=0.25)
    second.load_state_dict(first.state_dict())
    assert second.rows() == first.rows()
    assert [row["path"] for row in second.rows()] == [str(path)]
    seen = Seen()
    with pytest.warns(UserWarning, match="quarantined"):
        fit(data, [second, seen], epochs=1)
    assert not any(seen.failures)  # not even tried


@pytest.mark.parametrize(("how", "reason"), [(HANG, "not read within data.decode_timeout_seconds=2"), (CRASH, "died")])
def test_a_decoder_that_hangs_or_crashes_costs_one_video(
    synthetic_manifest: Path, synthetic_index: Path, how: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.3)  # for dead processes, in seconds
    clean, untouched = Seen(), data_of(synthetic_manifest)
    fit(untouched, [clean], epochs=1)
    path = untouched.videos["train"][5].path
    sampler = Spoiled(SAMPLER, (path.name,), how)
    data = data_of(synthetic_manifest, sampler, num_workers=2, decode_timeout_seconds=2.0)
    quarantine, seen = Quarantine(data, max_failed_fraction=0.25), Seen()
    with pytest.warns(UserWarning, match=reason):
        fit(data, [quarantine, seen], epochs=2)
    assert [row["path"] for row in quarantine.rows()] == [str(path)]
    assert sum(len(failed) for failed in seen.failures) <= 3, "it was asked for again after it had failed"
    expected = [[video for video in batch if video != 5] for batch in clean.videos]
    assert seen.videos[: len(expected)] == expected, "the other videos of the epoch are the same"
    assert len(seen.videos) == 2 * len(expected)
    assert multiprocessing.active_children() == []
