"""Whether the representation collapses, while it is taught: a run whose loss falls may still learn nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from selfsup.callbacks.throughput import log
from selfsup.data.clip_views import ClipViews
from selfsup.data.sampling import UniformSampler
from selfsup.evaluation.collapse import feature_std, lidar, mean_cosine, rankme
from selfsup.evaluation.features import Reading, extract_features, usual_frames


class Collapse(pl.Callback):
    """Logs `collapse/rankme`, `collapse/std` and `collapse/cosine` of the encoder on the same val videos.

    Before the training and after epochs; see `selfsup.evaluation.collapse` for what they are. With `lidar_views`, and a
    task whose sampler is `ClipViews`, `collapse/lidar` too. Warns, once a fall, where
    less than `fall` is left of the deviation of before the training, or of its best since: all videos get nearly the
    same features. Only for tasks that teach an encoder of frames, and where there are val videos.

    Args:
        every_epochs: 1 for after every epoch.
        videos: most of them; the same ones every time, read once and kept in memory.
        fall: share of the deviation that is left, above 0 and below 1.
        settled_steps: nothing is warned of before. In evaluation mode an encoder runs on the running statistics of its
            batch normalisation, which lag behind in the first steps, and make any encoder look collapsed.
        lidar_views: views of each video for LiDAR, as the task's own but without augmentation; None for none. The paper
            has 10 to 50, and each costs as much as all else here.
    """

    def __init__(
        self,
        every_epochs: int = 1,
        videos: int = 64,
        fall: float = 0.25,
        settled_steps: int = 100,
        lidar_views: int | None = None,
    ) -> None:
        if lidar_views is not None and lidar_views < 2:
            raise ValueError(f"collapse.lidar_views={lidar_views}: give at least 2, or null")
        if every_epochs < 1 or videos < 2:
            raise ValueError(f"collapse.every_epochs={every_epochs}, videos={videos}: give at least 1 and 2")
        if not 0 < fall < 1:
            raise ValueError(f"collapse.fall={fall}: give a share between 0 and 1")
        self.every_epochs = every_epochs
        self.videos = videos
        self.fall = fall
        self.settled_steps = settled_steps
        self.lidar_views = lidar_views
        self.most = 0.0
        self.fallen = False
        self._batches: list[Any] | None = None
        self._views: list[Any] | None = None

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
            views = self._view_features(task, data)
        if features is None:
            return
        found = {"rankme": rankme(features), "std": feature_std(features), "cosine": mean_cosine(features)}
        if views is not None:
            found["lidar"] = lidar(views)
        log(trainer, {f"collapse/{name}": value for name, value in found.items()})
        self.most = max(self.most, found["std"])
        if trainer.global_step >= self.settled_steps:
            self._judge(found, features.shape[1])

    def _features(self, task: Any) -> Tensor | None:
        """(V, D); None where fewer than two videos could be read."""
        batches = [batch for batch in self._batches or [] if "clip" in batch]
        if sum(len(batch["clip"]) for batch in batches) < 2:
            return None
        return _read(task, batches)

    def _view_features(self, task: Any, data: Any) -> Tensor | None:
        """(V, lidar_views, D); None where it was not asked for, or there are no views of two videos."""
        if self.lidar_views is None or not isinstance(task.sampler, ClipViews):
            return None
        if self._views is None:
            sampler = replace(task.sampler, views=self.lidar_views)
            self._views = [batch["clip"] for batch in data.clips("val", sampler, self.videos) if "clip" in batch]
        clips = torch.cat(self._views) if self._views else torch.empty(0)
        if len(clips) < 2:
            return None
        # Every view counts as a video of its own, since features of one video are averaged.
        numbers = torch.arange(clips.shape[0] * clips.shape[1]).unflatten(0, clips.shape[:2])
        batches = [{"clip": of, "video": number} for of, number in zip(clips, numbers, strict=True)]
        return _read(task, batches).unflatten(0, clips.shape[:2])

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


def _read(task: Any, batches: list[Any]) -> Tensor:
    """The encoder's features (V, D) of the videos in batches of uint8 clips."""
    reading = Reading(task.encoder, lambda clip: task.normalize(clip.float() / 255.0))
    return extract_features({"encoder": reading}, batches)["encoder"].values
