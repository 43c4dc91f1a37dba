"""Every experiment composes and holds its paper's numbers. That it trains is shown by tests/test_readme.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from selfsup.train import CONFIGURATION

UCF101 = ["data.root=UCF-101", "data.annotations=ucfTrainTestlist"]
RESULTS = (Path(__file__).parents[1] / "docs" / "results.md").read_text(encoding="utf-8")
EXPERIMENTS = sorted(path.stem for path in (CONFIGURATION / "experiment").glob("*.yaml"))


def composed(*overrides: str) -> DictConfig:
    """The tree as `selfsup train` composes it."""
    with initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_states_command_and_cost(name: str) -> None:
    header = (CONFIGURATION / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").split("\ndefaults:")[0]
    assert header.startswith("# @package _global_\n")
    assert f"selfsup train experiment={name}" in header
    assert "Cost" in header


def test_shuffle_and_learn_holds_the_papers_numbers() -> None:
    config = composed("experiment=shuffle_and_learn", *UCF101)
    encoder = instantiate(config.encoder)
    task = instantiate(config.task, _partial_=True)(encoder=encoder)
    assert encoder.stage_names[-2:] == ("fc6", "fc7")
    assert sum(isinstance(module, nn.BatchNorm2d) for module in encoder.modules()) == 5  # conv3 to conv5, fc6, fc7
    assert isinstance(task.head, nn.Linear)
    assert (task.head.in_features, task.head.out_features) == (3 * 4096, 2)
    assert task.tuple_weights[2:].sum().item() == pytest.approx(0.75)
    assert task.sampler.span_seconds * 25 == pytest.approx(60)
    assert task.sampler.gap_seconds * 25 == pytest.approx(15)

    optimizer = task.optimizer(task.parameters())
    assert isinstance(optimizer, torch.optim.SGD)
    settings = optimizer.defaults
    assert (settings["lr"], settings["momentum"], settings["weight_decay"]) == (1e-3, 0.9, 5e-4)
    schedule = task.schedule(optimizer, total_steps=config.trainer.max_steps)
    assert [schedule.lr_lambdas[0](step) for step in (0, 79_999, 80_000, 99_999)] == pytest.approx([1, 1, 0.1, 0.1])
    assert config.trainer.max_steps == 100_000
    assert config.data.batch_size * config.trainer.accumulate_grad_batches == 128
    assert config.data.size_pixels == 227


def test_synthetic_foreground_is_what_was_measured() -> None:
    (command,) = [
        line for line in RESULTS.splitlines() if "data.videos.texture=fine" in line and line.startswith("python")
    ]
    measured = composed(*command.split()[2:])
    assert composed("experiment=synthetic_foreground") == measured


def test_watching_objects_move_holds_the_papers_layers_and_bounds() -> None:
    config = composed("experiment=watching_objects_move", "data=folder", "data.root=VIDEOS")
    encoder = instantiate(config.encoder)
    task = instantiate(config.task, _partial_=True)(encoder=encoder)
    assert encoder.stage_names[-1] == "conv5"
    assert config.foreground._target_ == "selfsup.data.unlc.Unlc"
    assert (task.background_below, task.foreground_above) == (0.4, 0.7)
    assert task(torch.zeros(1, 3, 1, 227, 227)).shape == (1, 56, 56)
    assert task.sampler.window.context == 1.75


def test_look_listen_learn_holds_the_papers_numbers() -> None:
    config = composed("experiment=look_listen_learn", "data=folder", "data.root=VIDEOS")
    task = instantiate(config.task, _partial_=True)(encoder=instantiate(config.encoder))
    assert task.spectrogram(torch.zeros(1, 48_000)).shape == (1, 1, 1, 257, 199)
    assert [task.encoder.stride, task.audio_encoder.stride, task.audio_encoder.in_channels] == [1, 1, 1]
    first = task.head.layers[0]
    assert (first.in_features, first.out_features) == (1024, 128)
    optimizer = task.optimizer(task.parameters())
    assert isinstance(optimizer, torch.optim.Adam)
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (1e-4, 1e-5)
    assert task.schedule is None
    assert (task.sampler.rate_hz, task.sampler.sound_seconds, task.gain_jitter) == (48_000, 1.0, 0.1)
