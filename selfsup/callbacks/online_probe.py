"""What the encoder knows of labelled videos, while it is taught on others."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn

from selfsup.callbacks.throughput import log
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.sampling import UniformSampler
from selfsup.evaluation.features import Reading, extract_features, usual_frames
from selfsup.evaluation.knn import knn
from selfsup.evaluation.linear_probe import linear_probe


class OnlineProbe(pl.Callback):
    """Logs `probe/1-NN`, `probe/linear` and `probe/chance` of labelled videos, before the training and after epochs.

    Both are fitted on train videos and judged on val videos, so that test videos choose nothing. The linear probe has
    one strength, `c`: there is no other split to choose it on. Chance is the share of val's largest class.

    Args:
        data: the labelled videos, set up.
        every_epochs: 1 for after every epoch.
        max_videos: most of them a split, drawn once, read once and kept in memory: at 112 pixels 0.3 MB each for eight
            frames.
        budget: share of the time of training, above 0 and up to 1. An epoch is passed over where the last probing took
            more than this share of the time since; that is told once. Reading the videos, at the start, does not count.
        c: strength of the linear probe, the inverse of its L2 penalty.
    """

    def __init__(
        self, data: VideoDataModule, every_epochs: int = 1, max_videos: int = 200, budget: float = 0.1, c: float = 0.1
    ) -> None:
        for name, value in (("every_epochs", every_epochs), ("max_videos", max_videos)):
            if value < 1:
                raise ValueError(f"online_probe.{name}={value}: give at least 1")
        if not 0 < budget <= 1:
            raise ValueError(f"online_probe.budget={budget}: give a share above 0, up to 1")
        if c <= 0:
            raise ValueError(f"online_probe.c={c}: give a number above 0")
        self.data = data
        self.every_epochs = every_epochs
        self.max_videos = max_videos
        self.budget = budget
        self.c = c
        self.seconds = 0.0  # that the last probing took
        self._ended = time.perf_counter()
        self._told = False
        self._batches: dict[str, list[Any]] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What an untrained encoder knows, or one that was loaded."""
        self._ended = time.perf_counter()
        if trainer.global_step == 0:
            self._probe(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Probes where it is time to, and within the budget."""
        if (trainer.current_epoch + 1) % self.every_epochs:
            return
        trained = time.perf_counter() - self._ended
        if self.seconds <= self.budget * trained:
            self._probe(trainer, pl_module)
        elif not self._told:
            self._told = True
            rank_zero_warn(
                f"the online probe took {self.seconds:.1f} s, more than online_probe.budget={self.budget:g} of the "
                f"{trained:.1f} s of training since: it waits for longer; lower online_probe.max_videos, or raise the "
                "budget"
            )

    def _probe(self, trainer: pl.Trainer, task: Any) -> None:
        if not trainer.is_global_zero or not (task.probes and task.sees_frames):
            return
        with torch.random.fork_rng():  # what is looked at changes nothing of what is taught
            if not self._batches:
                sampler = UniformSampler(usual_frames(task.encoder))
                self._batches = {
                    split: [batch for batch in self.data.clips(split, sampler, self.max_videos) if "clip" in batch]
                    for split in ("train", "val")
                }
            began = time.perf_counter()
            found = self._measure(task)
        if found:
            log(trainer, {f"probe/{name}": value for name, value in found.items()})
        self._ended = time.perf_counter()
        self.seconds = self._ended - began

    def _measure(self, task: Any) -> dict[str, float]:
        """By name; empty where too few could be read, or drawn, to compare."""
        reading = Reading(task.encoder, lambda clip: task.normalize(clip.float() / 255.0))
        values, labels = {}, {}
        for split, batches in self._batches.items():
            if not batches:
                return {}
            features = extract_features({"encoder": reading}, batches)["encoder"]
            values[split] = features.values.numpy()
            labels[split] = [self.data.catalogue.labels[split][number] for number in features.videos.tolist()]
        classes = set(labels["train"])
        if len(classes) < 2 or not set(labels["val"]) <= classes:
            rank_zero_warn("no online probe: a class is missing in the train videos; raise online_probe.max_videos")
            return {}
        train, val = (values["train"], labels["train"]), (values["val"], labels["val"])
        fitted = linear_probe(*train, *val, *val, strengths=(self.c,))  # one strength: val chooses nothing
        return {"1-NN": knn(*train, *val).accuracy, "linear": fitted.accuracy, "chance": fitted.majority}
