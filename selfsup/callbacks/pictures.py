"""Pictures of what a task asks and answers, every few epochs: as files, and to the loggers that take pictures."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid


class Pictures(pl.Callback):
    """Writes `pictures/epoch-0004.png` into the run's folder: a row a held-out video, the same ones every time.

    Only for tasks that have a `picture_sampler`, and where there are validation videos.

    Args:
        folder: of the run.
        every_epochs: 1 for every epoch; the first is always shown.
        examples: most rows; there are no more than a batch holds.
    """

    def __init__(self, folder: str, every_epochs: int = 5, examples: int = 8) -> None:
        for name, value in (("every_epochs", every_epochs), ("examples", examples)):
            if value < 1:
                raise ValueError(f"pictures.{name}={value}: give at least 1")
        self.folder = Path(folder) / "pictures"
        self.every_epochs = every_epochs
        self.examples = examples
        self.batch: dict[str, Any] = {}

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the examples where it is time to."""
        task: Any = pl_module
        due = trainer.current_epoch % self.every_epochs == 0 and not trainer.sanity_checking
        if not due or not trainer.is_global_zero or task.picture_sampler is None:
            return
        if not self.batch:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            self.batch = next(iter(data.clips("val", task.picture_sampler, self.examples)))
        if "clip" not in self.batch:  # not one could be read; the end of the epoch says which failed
            return
        columns = task.pictures(
            {name: value.to(task.device) for name, value in self.batch.items() if name != "failures"}
        )
        self._write(trainer, torch.stack(columns, dim=1).flatten(0, 1), len(columns))

    def _write(self, trainer: pl.Trainer, images: Tensor, columns: int) -> None:
        """Images (N, 3, H, W) in [0, 1], row by row."""
        picture = (make_grid(images.float().cpu(), nrow=columns) * 255).round().byte()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"epoch-{trainer.current_epoch:04d}.png"
        to_pil_image(picture).save(path)
        log_picture(trainer.loggers, "pictures", path, picture, trainer.global_step)


def log_picture(loggers: Sequence[Logger], key: str, path: Path, picture: Tensor, step: int) -> None:
    """Gives a picture, uint8 (3, H, W) and its file, to the loggers that take pictures."""
    logger: Any  # Lightning's base class has neither method
    for logger in loggers:
        if hasattr(logger, "log_image"):  # Weights & Biases
            logger.log_image(key, [str(path)], step=step)
        elif hasattr(logger.experiment, "add_image"):  # TensorBoard
            logger.experiment.add_image(key, picture, step)


def log_sounds(loggers: Sequence[Logger], key: str, paths: Sequence[Path], captions: Sequence[str], step: int) -> None:
    """Gives sounds, files, to the loggers that play them with a caption."""
    players: list[Any] = [logger for logger in loggers if hasattr(logger, "log_audio")]  # Weights & Biases
    if players and find_spec("soundfile") is None:  # wandb ends the run where it is missing, though files need it not
        rank_zero_warn(f"{key}: not sent to Weights & Biases, which wants soundfile; pip install 'selfsup[sound]'")
        return
    for logger in players:
        logger.log_audio(key, [str(path) for path in paths], step=step, caption=list(captions))
