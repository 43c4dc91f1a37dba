"""How fast a training runs, what it waits for and what it takes, logged beside its figures."""

from __future__ import annotations

import resource
import sys
import time
from collections import deque
from typing import Any

import pytorch_lightning as pl
import torch

GIB = 2**30


class Throughput(pl.Callback):
    """Logs at each logged step, over the steps since about the last one, and of this process alone:

    - `throughput/clips_per_second`: examples that were taught, by wall-clock time, waiting included;
    - `throughput/waiting`: the share of that time in which the process waited for the next batch, 0 to 1. On a GPU the
      time of the kernels that it waits for counts as work;
    - `memory/peak_gib`: the most that the process has held, workers not counted; `memory/peak_gpu_gib` on CUDA;
    - `lr` of the first group of parameters, and `lr_1` … of the others where theirs differ.

    Args:
        waiting_share: from this share of waiting over the whole training on, 0 to 1, `advice` says what to do.
    """

    def __init__(self, waiting_share: float = 0.3) -> None:
        if not 0 < waiting_share <= 1:
            raise ValueError(f"throughput.waiting_share={waiting_share}: give a share above 0, up to 1")
        self.waiting_share = waiting_share
        self.waited, self.worked, self.clips = 0.0, 0.0, 0
        self._recent: deque[tuple[float, float, int]] = deque()
        self._since = self._began = time.perf_counter()

    @property
    def advice(self) -> str | None:
        """A sentence where the training was bound by its data; None where it was not."""
        total = self.waited + self.worked
        if total == 0 or self.waited / total < self.waiting_share:
            return None
        return (
            f"the training waited {self.waited / total:.0%} of its time for data; raise data.num_workers, or pack the "
            "videos once (selfsup prepare … output=DIR) and train on data=shards"
        )

    def summary(self) -> dict[str, float]:
        """Of the whole training, without its validations; empty where nothing was taught."""
        total = self.waited + self.worked
        if total == 0:
            return {}
        return {
            "clips_per_second": self.clips / total,
            "waiting": self.waited / total,
            "seconds": total,
            **memory(),
        }

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Waiting for the first batch begins."""
        self._since = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The time of a validation is neither."""
        self._since = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is here."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts a step, and logs where it is time to."""
        now = time.perf_counter()
        waited, worked = self._began - self._since, now - self._began
        # A joint run holds the clips of each of its tasks under NAME/clip.
        clips = sum(len(value) for key, value in batch.items() if key.rpartition("/")[2] == "clip")
        self.waited, self.worked, self.clips = self.waited + waited, self.worked + worked, self.clips + clips
        self._recent.append((waited, worked, clips))
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if len(self._recent) > max(1, every):
            self._recent.popleft()
        if every and trainer.global_step % every == 0:
            self._log(trainer)
        self._since = time.perf_counter()

    def _log(self, trainer: pl.Trainer) -> None:
        waited, worked, clips = (sum(column) for column in zip(*self._recent, strict=True))
        rates = [float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups]
        values = {
            "throughput/clips_per_second": clips / (waited + worked),
            "throughput/waiting": waited / (waited + worked),
            **{f"memory/{name}": value for name, value in memory().items()},
            "lr": rates[0],
            **{f"lr_{place}": rate for place, rate in enumerate(rates) if rate != rates[0]},
        }
        log(trainer, values)


def memory() -> dict[str, float]:
    """The most that this process has held in RAM, and on the GPU where it uses one, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peak["peak_gpu_gib"] = torch.cuda.max_memory_allocated() / GIB
    return peak


def log(trainer: pl.Trainer, values: dict[str, float]) -> None:
    """Gives values to all loggers at the step that was last made, as Lightning counts them: from 0."""
    for logger in trainer.loggers:
        logger.log_metrics(values, step=max(0, trainer.global_step - 1))
