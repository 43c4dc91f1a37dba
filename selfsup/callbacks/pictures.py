"""Pictures of what a task asks and answers, every few epochs: as files, and to the loggers that take pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchvision.io import write_png
from torchvision.utils import make_grid


class Pictures(pl.Callback):
    """Writes `pictures/epoch-0004.png` into the run's folder: a row an example of the first validation batch.

    Only for tasks whose `pictures` shows something, and where there are validation videos.

    Args:
        folder: of the run.
        every_epochs: 1 for every epoch; the first is always shown.
        examples: most rows.
    """

    def __init__(self, folder: str, every_epochs: int = 5, examples: int = 8) -> None:
        for name, value in (("every_epochs", every_epochs), ("examples", examples)):
            if value < 1:
                raise ValueError(f"pictures.{name}={value}: give at least 1")
        self.folder = Path(folder) / "pictures"
        self.every_epochs = every_epochs
        self.examples = examples

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Draws the first batch where it is time to."""
        due = batch_idx == 0 and trainer.current_epoch % self.every_epochs == 0
        if not due or trainer.sanity_checking or not trainer.is_global_zero or "clip" not in batch:
            return
        few = {name: value[: self.examples] for name, value in batch.items() if isinstance(value, Tensor)}
        task: Any = pl_module
        columns = task.pictures(few)
        if columns:
            self._write(trainer, torch.stack(columns, dim=1).flatten(0, 1), len(columns))

    def _write(self, trainer: pl.Trainer, images: Tensor, columns: int) -> None:
        """Images (N, 3, H, W) in [0, 1], row by row."""
        picture = (make_grid(images.float().cpu(), nrow=columns) * 255).round().byte()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"epoch-{trainer.current_epoch:04d}.png"
        write_png(picture, str(path))
        logger: Any  # Lightning's base class has neither method
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):  # Weights & Biases
                logger.log_image("pictures", [str(path)], step=trainer.global_step)
            elif hasattr(logger.experiment, "add_image"):  # TensorBoard
                logger.experiment.add_image("pictures", picture, trainer.global_step)
