"""Whether the representation collapses, while it is taught: a run whose loss falls may still learn nothing."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from selfsup.callbacks.throughput import log
from selfsup.data.sampling import UniformSampler
from selfsup.evaluation.collapse import feature_std, mean_cosine, rankme
from selfsup.evaluation.features import Reading, extract_features, usual_frames


class Collapse(pl.Callback):
    """Logs `collapse/rankme`, `collapse/std` and `collapse/cosine` of the encoder on the same val videos.

    Before the training and after epochs; see `selfsup.evaluation.collapse` for what they are. Warns, once a fall, where
    less than `fall` is left of the deviation of before the training, or of its best since: all videos get nearly the
    same features. Only for tasks that teach an encoder of frames, and where there are val videos.

    Args:
        every_epochs: 1 for after every epoch.
        videos: most of them; the same ones every time, read once and kept in memory.
        fall: share of the deviation that is left, above 0 and below 1.
        settled_steps: nothing is warned of before. In evaluation mode an encoder runs on the running statistics of its
            batch normalisation, which lag behind in the first steps, and make any encoder look collapsed.
    """

    def __init__(self, every_epochs: int = 1, videos: int = 64, fall: float = 0.25, settled_steps: int = 100) -> None:
        if every_epochs < 1 or videos < 2:
            raise ValueError(f"collapse.every_epochs={every_epochs}, videos={videos}: give at least 1 and 2")
        if not 0 < fall < 1:
            raise ValueError(f"collapse.fall={fall}: give a share between 0 and 1")
        self.every_epochs = every_epochs
        self.videos = videos
        self.fall = fall
        self.settled_steps = settled_steps
        self.most = 0.0
        self.fallen = False
        self._batches: list[Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """What the next measure is held against."""
        return {"most": self.most, "fallen": self.fallen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what the run before had seen."""
        self.most, self.fallen = float(state_dict["most"]), bool(state_dict["fallen"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The measure of an untrained encoder, or of one that was loaded."""
        if trainer.global_step == 0:
            self._measure(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The measure of an epoch, where it is time to."""
        if not trainer.sanity_checking and (trainer.current_epoch + 1) % self.every_epochs == 0:
            self._measure(trainer, pl_module)

    def _measure(self, trainer: pl.Trainer, task: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not trainer.is_global_zero or not (task.probes and task.sees_frames and data.videos["val"]):
            return
        with torch.random.fork_rng():  # what is looked at changes nothing of what is taught
            if self._batches is None:
                self._batches = list(data.clips("val", UniformSampler(usual_frames(task.encoder)), self.videos))
            features = self._features(task)
        if features is None:
            return
        found = {"rankme": rankme(features), "std": feature_std(features), "cosine": mean_cosine(features)}
        log(trainer, {f"collapse/{name}": value for name, value in found.items()})
        self.most = max(self.most, found["std"])
        if trainer.global_step >= self.settled_steps:
            self._judge(found, features.shape[1])

    def _features(self, task: Any) -> Tensor | None:
        """(V, D); None where fewer than two videos could be read."""
        reading = Reading(task.encoder, lambda clip: task.normalize(clip.float() / 255.0))
        batches = [batch for batch in self._batches or [] if "clip" in batch]
        if sum(len(batch["clip"]) for batch in batches) < 2:
            return None
        return extract_features({"encoder": reading}, batches)["encoder"].values

    def _judge(self, found: dict[str, float], dim: int) -> None:
        fallen = found["std"] < self.fall * self.most
        if fallen and not self.fallen:
            rank_zero_warn(
                "the representation collapses: the features of different videos have a deviation of "
                f"{found['std']:.3f}, after {self.most:.3f} before, a mean cosine of {found['cosine']:.3f} and an "
                f"effective rank of {found['rankme']:.1f} of {dim}. Look at what keeps them apart: the margin or the "
                "negatives of a comparison, the weight of SIGReg, the learning rate, the size of a batch"
            )
        self.fallen = fallen
