"""What every data module shares: training batches that go on in mid-epoch after a resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn
from torch.utils.data import DataLoader, Dataset

from selfsup.data.catalogue import Catalogue
from selfsup.data.dataset import EpochBatches, ResumableLoader
from selfsup.data.subsets import labelled_subset


class ResumableDataModule(pl.LightningDataModule):
    """A subclass writes `read_catalogue`, `description`, `training_dataset` and `held_out`.

    Args:
        seed: of splits, permutations and examples.
        batch_size: examples a step and process.
        labels_fraction: share of the training videos that take part, chosen by class and group, see
            `selfsup.data.subsets`.

    Attributes:
        catalogue: known after `setup`.
        videos: those that take part, of each split.
        batches: of the training, known once its loader is made.
        max_failed_fraction: the run stops when a larger share of the videos fails.
        clips_per_video: examples of each video an epoch.
        source: where the videos come from, as "root" or "manifest".
        size_pixels, stretch, reader: see `VideoDataModule`; of stored features, those that they were made with.
        frames: of a clip, where its features were stored.
    """

    catalogue: Catalogue
    source: dict[str, Any]
    size_pixels: int
    stretch: bool
    reader: str
    frames: int | None = None
    max_failed_fraction: float = 0.0
    clips_per_video: int = 1

    def __init__(self, seed: int, batch_size: int, labels_fraction: float) -> None:
        super().__init__()
        self.seed = seed
        self.batch_size = batch_size
        self.labels_fraction = labels_fraction
        self.videos: dict[str, list[Any]] = {}
        self.batches: EpochBatches | None = None
        self._training: ResumableLoader | None = None
        self._position: dict[str, int] | None = None

    def read_catalogue(self) -> Catalogue:
        """What takes part, by split. Written by the subclass."""
        raise NotImplementedError(f"{type(self).__name__}.read_catalogue")  # abstract

    def description(self) -> dict[str, object]:
        """What the encoder file and the summary record of the data. Written by the subclass."""
        raise NotImplementedError(f"{type(self).__name__}.description")  # abstract

    def training_dataset(self) -> Dataset:
        """Answers (epoch, index), index below videos × clips_per_video. Written by the subclass."""
        raise NotImplementedError(f"{type(self).__name__}.training_dataset")  # abstract

    def held_out(self, split: str) -> DataLoader:
        """The examples of val or test, the part of this process. Written by the subclass."""
        raise NotImplementedError(f"{type(self).__name__}.held_out")  # abstract

    def views(self, split: str) -> tuple[int, int]:
        """The most clips of a held-out video whose answers are joined, and the crops of each."""
        return 1, 1

    def worker_options(self, persistent: bool = True) -> dict[str, Any]:
        """How the loaders work; by default in the main process."""
        return {}

    def setup(self, stage: str | None = None) -> None:
        """Finds out, once, what takes part. Raises ValueError where that leaves nothing to train on."""
        if self.videos:
            return
        catalogue = self.read_catalogue()
        if self.labels_fraction != 1:
            labels, groups = catalogue.strata("train"), catalogue.groups["train"]
            chosen = labelled_subset(labels, groups, self.labels_fraction, self.seed)
            note = f"data.labels_fraction={self.labels_fraction:g}: {len(chosen)} of {len(labels)} training videos"
            catalogue = catalogue.part("train", chosen, note)
        self.catalogue = catalogue
        self.videos = catalogue.videos

    @property
    def place(self) -> tuple[int, int]:
        """Rank of this process and their number."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled and resumable; each process of a distributed run gets its part.

        Raises ValueError where a checkpoint's place would be another one here.
        """
        rank, world_size = self.place
        left_out = self.batches.left_out if self.batches is not None else ()
        self.batches = EpochBatches(
            len(self.videos["train"]) * self.clips_per_video,
            self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        self.batches.left_out = left_out
        self._training = ResumableLoader(self.training_dataset(), self.batches, **self.worker_options())
        if self._position is not None:
            check_same_batches(self._position, self._drawn())
            self._training.load_state_dict(self._position)
        return self._training

    def _drawn(self) -> dict[str, int]:
        """What the batches of an epoch hang on, whatever the number of processes."""
        assert self.batches is not None
        return {
            "seed": self.seed,
            "examples_an_epoch": self.batches.length,
            "examples_a_step": self.batch_size * self.batches.world_size,
        }

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The same examples each time."""
        return self.held_out("val") if self.videos["val"] else []

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        """The same examples each time."""
        return self.held_out("test") if self.videos["test"] else []

    def state_dict(self) -> dict[str, Any]:
        """The place in the training data, for the checkpoint.

        Lightning keeps that of the loader too, but gives it back only where the loader was not made yet, and a
        schedule that asks for the number of steps makes it early.
        """
        return {} if self._training is None else {**self._training.state_dict(), **self._drawn()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the place of a checkpoint, before the loader is made."""
        self._position = state_dict or None


def check_same_batches(before: Mapping[str, int], now: Mapping[str, int]) -> None:
    """ValueError where a run that goes on would draw other batches, and so see examples twice or never.

    Both hold "seed", "examples_an_epoch" and "examples_a_step". Other processes may share the examples of a step. A
    file that broke since does not stop a run: a warning says what is lost of the epoch that was cut off.
    """
    cures = {
        "seed": "seed={}: give the seed of the checkpoint, or begin a new run from its encoder",
        "examples_a_step": "{} examples a step, data.batch_size times the number of processes: change one against "
        "the other",
    }
    for name, cure in cures.items():
        if before[name] != now[name]:
            raise ValueError(f"the checkpoint was made with {before[name]} where this run has {cure.format(now[name])}")
    if before["start"] and before["examples_an_epoch"] != now["examples_an_epoch"]:
        rank_zero_warn(
            f"the checkpoint was made with {before['examples_an_epoch']} examples an epoch where this run has "
            f"{now['examples_an_epoch']}: of the epoch in which it stopped, some are seen twice or not at all"
        )
