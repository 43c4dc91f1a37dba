"""A loss that is no number ends the run: what comes after it would teach nothing, and spoil the checkpoints."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch


class FiniteLoss(pl.Callback):
    """Looks at the loss of a step as often as it is logged, so that a GPU need not wait at each."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """ValueError where the loss is NaN or infinite."""
        if outputs is None or batch_idx % max(1, trainer.log_every_n_steps):  # type: ignore[attr-defined]
            return
        loss = outputs["loss"]
        if not torch.isfinite(loss):
            raise ValueError(
                f"the loss is {loss.item()} at step {trainer.global_step} (epoch {trainer.current_epoch}); lower "
                "task.optimizer.lr, or compute with trainer.precision=32-true"
            )
