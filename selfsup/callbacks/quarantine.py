"""Videos that fail after indexing are counted and named, never replaced; too many of them stop the run."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn

from selfsup.callbacks.throughput import log
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.videos import printable


class Quarantine(pl.Callback):
    """Takes failed videos out of the rest of the training, and names them at the end of the epoch.

    Args:
        data: whose videos are watched.
        max_failed_fraction: the run stops when more than this share of the training videos has failed.
    """

    def __init__(self, data: VideoDataModule, max_failed_fraction: float) -> None:
        self.data = data
        self.max_failed_fraction = max_failed_fraction
        self.reasons: dict[str, dict[int, str]] = {"train": {}, "val": {}, "test": {}}
        self._told: set[tuple[str, int]] = set()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the failures of the batch; ValueError above the limit."""
        self._add("train", batch)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Counts the failures of the batch; ValueError above the limit."""
        self._add("val", batch)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Counts the failures of the batch; ValueError above the limit."""
        self._add("test", batch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Names the new ones, of all processes, logs `quarantine/videos`, all so far; ValueError above the limit."""
        self._gather(trainer)
        self._tell()
        log(trainer, {"quarantine/videos": float(sum(map(len, self.reasons.values())))})

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Names the new ones, of all processes; ValueError above the limit."""
        self._gather(trainer)
        self._tell()

    def state_dict(self) -> dict[str, Any]:
        """The quarantine is part of a checkpoint, so a resumed run sees what an uninterrupted one sees.

        By path: a file that failed may be refused by the index of the resumed run, and the others move up.
        """
        return {
            split: {str(self.data.videos[split][number].path): reason for number, reason in reasons.items()}
            for split, reasons in self.reasons.items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the quarantine of a checkpoint, as far as its videos are still listed."""
        for split, reasons in state_dict.items():
            numbers = {str(info.path): number for number, info in enumerate(self.data.videos[split])}
            self.reasons[split] = {numbers[path]: reason for path, reason in reasons.items() if path in numbers}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves out what a resumed run had quarantined."""
        self._leave_out()

    def rows(self) -> list[dict[str, str]]:
        """The quarantined videos: path, split, reason."""
        return [
            {"path": printable(self.data.videos[split][number].path), "split": split, "reason": reason}
            for split, reasons in self.reasons.items()
            for number, reason in reasons.items()
        ]

    def _add(self, split: str, batch: dict[str, Any]) -> None:
        known = self.reasons[split]
        self._take(
            split, {failure.video: failure.reason for failure in batch["failures"] if failure.video not in known}
        )

    def _gather(self, trainer: pl.Trainer) -> None:
        """Each process has seen the failures of its own examples."""
        if trainer.world_size == 1:
            return
        everywhere: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(everywhere, self.reasons)
        for split, known in self.reasons.items():
            found = {number: reason for seen in everywhere for number, reason in seen[split].items()}
            self._take(split, {number: found[number] for number in sorted(found) if number not in known})

    def _take(self, split: str, new: dict[int, str]) -> None:
        if not new:
            return
        reasons = self.reasons[split]
        reasons.update(new)
        if split == "train":
            self._leave_out()
        total = len(self.data.videos[split])
        if len(reasons) > self.max_failed_fraction * total:
            raise ValueError(
                f"{len(reasons)} of {total} {split} videos failed to read after indexing, above "
                f"data.max_failed_fraction={self.max_failed_fraction:g}; the last: {next(iter(new.values()))}; "
                "mend or remove them, or raise the fraction"
            )

    def _leave_out(self) -> None:
        if self.data.batches is not None:
            number = len(self.data.videos["train"])
            failed = self.reasons["train"]
            self.data.batches.left_out = {
                clip * number + video for video in failed for clip in range(self.data.clips_per_video)
            }

    def _tell(self) -> None:
        for split, reasons in self.reasons.items():
            for number, reason in reasons.items():
                if (split, number) not in self._told:
                    self._told.add((split, number))
                    rank_zero_warn(f"quarantined ({split}): {reason}")
