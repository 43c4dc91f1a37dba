"""What is known of labelled videos is logged in mid-training, within its budget, and looking changes nothing."""

import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from selfsup.callbacks.online_probe import OnlineProbe
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.sampling import UniformSampler
from selfsup.data.videos import manifest
from tests.callbacks.test_collapse import measures, taught


@pytest.fixture(scope="module")
def labelled(synthetic_manifest: Path, synthetic_index: Path) -> VideoDataModule:
    videos = VideoDataModule(
        manifest,
        UniformSampler(8),
        manifest=str(synthetic_manifest),
        label="label",
        size_pixels=32,
        num_workers=0,
        index_cache=str(synthetic_index),
    )
    videos.setup()
    return videos


class Pause(pl.Callback):
    """Makes each step of the training take a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, *_: Any) -> None:
        time.sleep(self.seconds)


def test_accuracy_and_chance_are_logged_before_and_after_epochs(labelled: VideoDataModule, tmp_path: Path) -> None:
    taught(False, tmp_path, [OnlineProbe(labelled, every_epochs=10, budget=1.0), Pause(0.02)])
    nearest, linear = measures(tmp_path, "probe/1-NN"), measures(tmp_path, "probe/linear")
    assert 2 <= len(nearest) == len(linear) <= 3
    assert all(0 <= value <= 1 for value in nearest + linear)
    labels = labelled.catalogue.labels["val"]
    chance = max(labels.count(label) for label in labels) / len(labels)
    assert set(measures(tmp_path, "probe/chance")) == {chance}


def test_looking_changes_nothing_of_what_is_learned(labelled: VideoDataModule, tmp_path: Path) -> None:
    seen = taught(False, tmp_path / "seen", [OnlineProbe(labelled, every_epochs=5, budget=1.0), Pause(0.05)])
    assert len(measures(tmp_path / "seen", "probe/linear")) > 1
    unseen = taught(False, tmp_path / "unseen", [])
    assert all(torch.equal(value, unseen.state_dict()[name]) for name, value in seen.state_dict().items())
    assert all(module.training for module in seen.encoder.modules())


def test_beyond_its_budget_it_waits_and_says_so_once(labelled: VideoDataModule, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the online probe took") as told:
        taught(False, tmp_path, [OnlineProbe(labelled, budget=1e-6)])
    assert sum("the online probe took" in str(warning.message) for warning in told) == 1
    assert len(measures(tmp_path, "probe/1-NN")) == 1  # before the training


def test_test_videos_are_never_read(labelled: VideoDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    clips = labelled.clips

    def noted(split: str, *arguments: Any) -> Any:
        asked.append(split)
        return clips(split, *arguments)

    monkeypatch.setattr(labelled, "clips", noted)
    taught(False, tmp_path, [OnlineProbe(labelled, budget=1.0)])
    assert asked == ["train", "val"]  # and these once


@pytest.mark.parametrize(
    "wrong", [{"every_epochs": 0}, {"max_videos": 0}, {"budget": 0.0}, {"budget": 1.5}, {"c": 0.0}]
)
def test_settings_out_of_range_are_one_sentence(wrong: dict[str, Any], labelled: VideoDataModule) -> None:
    with pytest.raises(ValueError, match=r"online_probe\.\w+=.*: give"):
        OnlineProbe(labelled, **wrong)
