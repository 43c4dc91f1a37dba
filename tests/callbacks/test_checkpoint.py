"""A checkpoint that is damaged is noticed, and the one before it is used."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from selfsup.callbacks.checkpoint import LAST, PREVIOUS, Checkpoint, find_checkpoint, is_whole


class Line(pl.LightningModule):
    """A line through three points."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.layer(batch) - 1).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.arange(3.0)[:, None])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of three epochs."""
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    pl.Trainer(accelerator="cpu", max_epochs=3, callbacks=[Checkpoint(str(tmp_path))], **quiet).fit(Line())
    return tmp_path


def steps_of(path: Path | None) -> int:
    assert path is not None
    return torch.load(path, weights_only=True)["global_step"]


def test_the_two_newest_are_kept(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [LAST, PREVIOUS]
    assert steps_of(folder / LAST) == 9
    assert steps_of(folder / PREVIOUS) == 6
    assert steps_of(find_checkpoint("last", folder)) == 9


def spoil_middle(path: Path) -> None:
    """One bit, in the weights."""
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=True)["state_dict"]["layer.weight"]
    content[content.index(weight.numpy().tobytes())] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


DAMAGED = "damaged or cut short"


@pytest.mark.parametrize("damage", [spoil_middle, cut, empty])
def test_a_damaged_one_is_told_and_the_one_before_it_is_used(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder / LAST)
    with pytest.warns(UserWarning, match=rf"last\.ckpt: {DAMAGED}"):
        assert steps_of(find_checkpoint("last", folder)) == 6
    with pytest.warns(UserWarning, match=DAMAGED), pytest.raises(ValueError, match=r"last\.ckpt: no whole checkpoint"):
        find_checkpoint(str(folder / LAST), folder)
    damage(folder / PREVIOUS)
    with pytest.warns(UserWarning, match=DAMAGED), pytest.raises(ValueError, match=r"no whole .* give another file"):
        find_checkpoint("last", folder)


def test_a_run_that_was_killed_between_two_names_goes_on(folder: Path) -> None:
    (folder / LAST).unlink()
    assert steps_of(find_checkpoint("last", folder)) == 6


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_what_counts_as_whole_is_read_as_it_was_written(folder: Path, place: int) -> None:
    """Bytes are spoiled anywhere, also where the archive says what it holds."""
    written = torch.load(folder / LAST, weights_only=True)["state_dict"]
    content = bytearray((folder / LAST).read_bytes())
    start = place * len(content) // 100
    content[start : start + 8] = b"\xff" * 8
    (folder / LAST).write_bytes(content)
    if is_whole(folder / LAST):
        read = torch.load(folder / LAST, weights_only=True)["state_dict"]
        assert all(torch.equal(read[name], written[name]) for name in written)


def test_a_run_that_has_not_begun_has_none(tmp_path: Path) -> None:
    assert find_checkpoint("last", tmp_path) is None
    assert find_checkpoint(None, tmp_path) is None
