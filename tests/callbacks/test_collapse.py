"""A representation that collapses is warned of, one that does not is not, and looking changes nothing."""

import csv
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from selfsup import train
from selfsup.callbacks.collapse import Collapse
from selfsup.data.dataset import collate
from selfsup.data.sampling import ClipSampler, UniformSampler
from selfsup.encoders.encoder import FrameEncoder
from selfsup.tasks.task import Task
from tests.verbs import Ended


class Small(FrameEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.dim = 8
        self.stages = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Tanh())


class Spread(Task):
    """Pushes the features of a batch apart, or together, after which nothing tells videos apart."""

    def __init__(self, together: bool) -> None:
        super().__init__(Small(), UniformSampler(1), partial(torch.optim.Adam, lr=0.05))
        self.together = together

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        features = self.encoder(batch["clip"]).mean(dim=(2, 3, 4))
        scale = self.encoder.stages[1].weight.square().sum() if self.together else 0.0
        spread = features.var(dim=0).sum()
        return {"loss": spread + scale if self.together else -spread}


class Shades(pl.LightningDataModule):
    """Videos of one frame, each of a colour of its own."""

    def __init__(self, val: int = 6) -> None:
        super().__init__()
        colours = torch.randint(0, 256, (8, 3, 1, 1, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        self.examples = [
            {"clip": colour.expand(3, 1, 8, 8), "video": torch.tensor(number)} for number, colour in enumerate(colours)
        ]
        self.videos = {"train": self.examples, "val": self.examples[:val]}

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.examples, batch_size=4, shuffle=True, collate_fn=collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.examples, batch_size=4, collate_fn=collate)

    def clips(self, split: str, sampler: ClipSampler, max_videos: int) -> DataLoader:
        return DataLoader(self.videos[split][:max_videos], batch_size=4, collate_fn=collate)


def taught(together: bool, folder: Path, callbacks: list[pl.Callback], data: Shades | None = None) -> Spread:
    pl.seed_everything(0, verbose=False)
    task = Spread(together)
    trainer = pl.Trainer(
        max_epochs=20,
        accelerator="cpu",
        callbacks=callbacks,
        logger=CSVLogger(folder, name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    trainer.fit(task, data or Shades())
    return task


def measures(folder: Path, name: str) -> list[float]:
    with open(folder / "metrics.csv", newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_features_that_become_alike_are_warned_of_once(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the representation collapses") as told:
        taught(True, tmp_path, [Collapse(settled_steps=4)])
    sentences = [str(warning.message) for warning in told if "collapses" in str(warning.message)]
    assert len(sentences) == 1
    assert "of 8. Look at what keeps them apart" in sentences[0]
    std, cosine = measures(tmp_path, "collapse/std"), measures(tmp_path, "collapse/cosine")
    assert len(std) == 21  # before, and after every epoch
    assert std[-1] < 0.25 * max(std)
    assert cosine[-1] > 0.9


def test_features_that_stay_apart_are_not(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the representation collapses")
        taught(False, tmp_path, [Collapse(every_epochs=5, settled_steps=4)])
    assert len(measures(tmp_path, "collapse/rankme")) == 5
    assert measures(tmp_path, "collapse/rankme")[-1] > 1.5


def test_looking_changes_nothing_of_what_is_learned(tmp_path: Path) -> None:
    seen = taught(False, tmp_path / "seen", [Collapse()]).state_dict()
    unseen = taught(False, tmp_path / "unseen", []).state_dict()
    assert all(torch.equal(seen[name], unseen[name]) for name in unseen)


def test_without_val_videos_nothing_is_measured(tmp_path: Path) -> None:
    taught(False, tmp_path, [Collapse()], Shades(val=0))
    assert measures(tmp_path, "collapse/std") == []


@pytest.mark.parametrize("task", ["contrastive", "temporal_order"])
def test_views_are_measured_where_a_task_has_them(
    task: str, synthetic_manifest: Path, synthetic_index: Path, verb: Callable[..., Ended]
) -> None:
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
    small = ("trainer=debug", "+trainer.enable_progress_bar=false", "data.size_pixels=32", "data.num_workers=0")
    ended = verb(train.main, *data, *small, f"task={task}", "collapse.lidar_views=3", "probe=null")
    assert ended.code == 0, ended.err
    found = measures(ended.folder, "collapse/lidar")
    assert (len(found) > 1) == (task == "contrastive")
    assert all(1 <= value <= 3 for value in found), "four val videos have three directions between them"


@pytest.mark.parametrize(
    "wrong", [{"every_epochs": 0}, {"videos": 1}, {"fall": 0.0}, {"fall": 1.0}, {"lidar_views": 1}]
)
def test_settings_out_of_range_are_one_sentence(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"collapse\.\w+=.*: give"):
        Collapse(**wrong)  # type: ignore[arg-type]
