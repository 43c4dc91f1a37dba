"""Checkpoints that survive: written whole or not at all, by the epoch, by the clock, and before a stop."""

from __future__ import annotations

import os
import signal
import time
import zipfile
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class Stopped(Exception):  # noqa: N818
    """The run was asked to stop by `signal_number`, and saved a checkpoint first."""

    def __init__(self, signal_number: int, checkpoint: Path) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; resume with resume=last")
        self.signal_number = signal_number
        self.checkpoint = checkpoint


class Checkpoint(pl.Callback):
    """Writes `last.ckpt` after every epoch, every `every_minutes`, and before SIGTERM or Ctrl-C end the run.

    The file is written beside and renamed, so a reader never sees half of it, and a failed write leaves the one
    before it as it was. That one is kept as `previous.ckpt`. A second Ctrl-C ends the run at once.

    Args:
        folder: where both lie.
        every_minutes: None for epochs only.
    """

    def __init__(self, folder: str, every_minutes: float | None = 15.0) -> None:
        self.folder = Path(folder)
        self.every_minutes = every_minutes
        self.asked: int | None = None
        self._saved_at = time.monotonic()
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over SIGTERM and SIGINT: a step is never cut in half."""
        self._saved_at = time.monotonic()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._ask)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves where the clock or a signal wants it."""
        due = self.every_minutes is not None and time.monotonic() - self._saved_at > 60 * self.every_minutes
        asked = self.asked is not None
        if trainer.world_size > 1:  # all processes must come to the same decision
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if asked:
            # Lightning logs a step after this hook: the row of a step that is due would be lost.
            trainer._logger_connector.update_train_step_metrics()
        if asked or due:
            self._save(trainer)
        if asked:
            raise Stopped(self.asked or signal.SIGTERM, self.folder / LAST)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves; Lightning has validated by then."""
        self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives the signals back."""
        self._restore_signals()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Gives the signals back."""
        self._restore_signals()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = number

    def _restore_signals(self) -> None:
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)

    def _save(self, trainer: pl.Trainer) -> None:
        path = self.folder / LAST
        part = path.with_suffix(".part")
        try:
            trainer.save_checkpoint(part)
            if trainer.is_global_zero:
                if path.exists():
                    os.replace(path, path.with_name(PREVIOUS))
                os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            kept = "the checkpoint before it is intact" if path.exists() else "there is none before it"
            raise OSError(
                f"{path}: the checkpoint of step {trainer.global_step} could not be written "
                f"({error.strerror or error}); {kept}; free some space and go on with resume=last"
            ) from error
        self._saved_at = time.monotonic()


def find_checkpoint(resume: str | None, folder: Path) -> Path | None:
    """The file to resume from; None where the run has not begun.

    `last` is the newest of the run's folder that is whole: a damaged one is told in a warning.

    Raises:
        FileNotFoundError: a path that is not there.
        ValueError: a damaged file, and there is none before it.
    """
    if resume is None:
        return None
    if resume == "last":
        found = [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    elif not (path := Path(resume)).is_file():
        raise FileNotFoundError(f"{path}: no checkpoint to resume from; give a file, or resume=last")
    else:
        found = [path]
    for path in found:
        if is_whole(path):
            return path
        rank_zero_warn(f"{path}: damaged or cut short")
    if found:
        raise ValueError(
            f"{found[0]}: no whole checkpoint to resume from; give another file, or begin anew in a new folder"
        )
    return None


def is_whole(path: Path) -> bool:
    """Whether a file of `torch.save`, a zip archive, is all there: its directory, and the CRC-32 of each record.

    Raises OSError where it cannot be read.
    """
    try:
        torch.load(path, map_location="meta", weights_only=True)  # its own reader forgives less, and checks no CRC
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except OSError:
        raise
    except Exception:  # damage shows as any error of either reader
        return False
