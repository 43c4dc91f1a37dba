"""Videos to batches: finds, splits, indexes, leaves out with a reason, and serves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from selfsup.data.audio_policy import AudioPolicy
from selfsup.data.catalogue import SPLITS, Catalogue, take_stock
from selfsup.data.clips import ViewSampler
from selfsup.data.dataset import ClipDataset, VideoDataset, ViewDataset, collate
from selfsup.data.executors import MOST_PROCESSES, executor_named
from selfsup.data.guarded import GuardedLoader
from selfsup.data.resumable import ResumableDataModule
from selfsup.data.sampling import ClipSampler
from selfsup.data.splits import FRACTIONS
from selfsup.data.transforms import evaluation_crop, train_crop
from selfsup.data.transforms import evaluation_crops as crops
from selfsup.data.videos import Listing


class VideoDataModule(ResumableDataModule):
    """Serves one task's examples from a list of videos.

    Args:
        videos: a function of selfsup.data.videos (or one like it) that lists the videos; it is called with those of
            `root`, `manifest`, `annotations`, `split_number`, `label` and `labels` that are given.
        label: the column that holds the classes, or None to leave labels unread; "label" is what the function takes.
        sampler: the task's question.
        evaluation_sampler: names the clips of each held-out video whose answers are joined; None where held-out videos
            get the task's question.
        seed: of splits, permutations and examples.
        fractions: shares of train, val and test where the data names no split.
        size_pixels: side of the square that the encoder sees.
        read_scale: frames are read with a short side of `read_scale * size_pixels`, the room for random crops.
        crop_scale: least and greatest share of the frame's area that a training crop keeps.
        flip: mirror half of the training clips.
        stretch: squeeze whole frames into the square rather than cut the square out.
        batch_size: examples a step and process.
        clips_per_video: examples of each video an epoch.
        evaluation_clips_per_video: examples of each video in validation and test, where `sampler` asks.
        evaluation_crops: squares of each clip, 1 or 3, where `evaluation_sampler` names the clips.
        labels_fraction: share of the training videos that take part, chosen by class and group, see
            `selfsup.data.subsets`.
        num_workers: worker processes, or "auto".
        reader: decoder, see `VideoReader`.
        index_cache: file of the index; null for one in the user's cache folder, keyed by where the videos lie.
        index_processes: videos inspected, labelled or packed at once, or "auto": as many as there are cores.
        executor: where that is done: "local", in processes of this machine, or "ray", see `selfsup.data.ray_cluster`.
        decode_timeout_seconds: a video whose inspection takes longer is left out; one of which an example takes longer
            afterwards is given up, unless `num_workers` is 0.
        max_failed_fraction: the run stops when a larger share of the videos fails after indexing.
        audio: which videos are left out where the sampler hears; None: none but those that it refuses itself.
    """

    def __init__(
        self,
        videos: Callable[..., Listing],
        sampler: ClipSampler,
        evaluation_sampler: ViewSampler | None = None,
        root: str | None = None,
        manifest: str | None = None,
        annotations: str | None = None,
        split_number: int | None = None,
        label: str | None = "label",
        labels: str | None = None,
        seed: int = 0,
        fractions: Mapping[str, float] = FRACTIONS,
        size_pixels: int = 112,
        read_scale: float = 1.15,
        crop_scale: Sequence[float] = (0.5, 1.0),
        flip: bool = True,
        stretch: bool = False,
        batch_size: int = 32,
        clips_per_video: int = 1,
        evaluation_clips_per_video: int = 4,
        evaluation_crops: int = 1,
        labels_fraction: float = 1.0,
        num_workers: int | str = "auto",
        reader: str = "pyav",
        index_cache: str | None = None,
        index_processes: int | str = "auto",
        executor: str = "local",
        decode_timeout_seconds: float = 120.0,
        max_failed_fraction: float = 0.01,
        audio: AudioPolicy | None = None,
    ) -> None:
        super().__init__(seed, batch_size, labels_fraction)
        given = {
            "root": root,
            "manifest": manifest,
            "annotations": annotations,
            "split_number": split_number,
            "labels": labels,
        }
        self.audio = audio
        self.source: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if label != "label":  # None too: it says that there are no classes to read
            self.source["label"] = label
        self.list_videos = videos
        self.sampler = sampler
        self.evaluation_sampler = evaluation_sampler
        self.stretch = stretch
        self.fractions = fractions
        self.size_pixels = size_pixels
        self.short_side_pixels = size_pixels if stretch else round(read_scale * size_pixels)
        self.train_crop = train_crop(size_pixels, (crop_scale[0], crop_scale[1]), flip, stretch)
        self.evaluation_crop = evaluation_crop(size_pixels, stretch)
        self.evaluation_crops = crops(size_pixels, stretch, evaluation_crops)
        self.clips_per_video = clips_per_video
        self.evaluation_clips_per_video = evaluation_clips_per_video
        cores = os.cpu_count() or 1  # training wants one beside the workers; the index has them all to itself
        self.num_workers = _count(num_workers, "data.num_workers", least=0, auto=min(8, cores - 1))
        self.reader = reader
        self.index_cache = Path(index_cache) if index_cache is not None else None
        self.executor = executor_named(executor)
        every = cores if executor == "local" else MOST_PROCESSES
        self.index_processes = _count(index_processes, "data.index_processes", least=1, auto=every)
        self.decode_timeout_seconds = decode_timeout_seconds
        self.max_failed_fraction = max_failed_fraction

    def read_catalogue(self) -> Catalogue:
        """Lists, splits and indexes the videos. ValueError where packed ones are smaller than what is to be read."""
        catalogue = take_stock(
            self.list_videos(**self.source),
            self.sampler,
            fractions=self.fractions,
            seed=self.seed,
            cache=self.index_cache,
            processes=self.index_processes,
            timeout_seconds=self.decode_timeout_seconds,
            executor=self.executor,
            audio=self.audio,
        )
        if (reason := catalogue.videos["train"][0].refuse_size(self.short_side_pixels)) is not None:
            raise ValueError(f"data.size_pixels={self.size_pixels}: the videos are {reason}")
        return catalogue

    def description(self) -> dict[str, object]:
        """What the encoder file and the summary record of the data."""
        counts = {f"{split}_videos": len(self.videos[split]) for split in SPLITS}
        return {
            **{name: None if value is None else str(value) for name, value in self.source.items()},
            **counts,
            "left_out": len(self.catalogue.left_out),
            **({"left_out_for_sound": self.catalogue.unheard} if self.catalogue.unheard else {}),
        }

    def training_dataset(self) -> VideoDataset:
        """Examples with augmentation."""
        return self._dataset("train", self.train_crop)

    def held_out(self, split: str) -> DataLoader:
        """The task's question, or all views of the evaluation sampler, without augmentation."""
        rank, world_size = self.place
        if self.evaluation_sampler is None:
            dataset: VideoDataset = self._dataset(split, self.evaluation_crop)
            length = len(self.videos[split]) * self.evaluation_clips_per_video
        else:
            views = ViewDataset(
                self.videos[split], self.evaluation_sampler, self.evaluation_crops, **self._reading(split, self.seed)
            )
            dataset, length = views, len(views)
        return self._loader(dataset, [(0, index) for index in range(rank, length, world_size)])

    def views(self, split: str) -> tuple[int, int]:
        """The most clips of a held-out video whose answers are joined, and the crops of each."""
        if self.evaluation_sampler is None:
            return 1, 1
        return max(len(self.evaluation_sampler.views(info)) for info in self.videos[split]), len(self.evaluation_crops)

    def clips(self, split: str, sampler: ClipSampler, max_videos: int | None = None, seed: int = 0) -> DataLoader:
        """One clip a video, with another question than the task's; of `max_videos` random ones where there are more.

        A batch's "video" is the position in `videos[split]`.
        """
        dataset = ClipDataset(self.videos[split], sampler, self.evaluation_crop, **self._reading(split, self.seed))
        order = torch.randperm(len(self.videos[split]), generator=torch.Generator().manual_seed(seed)).tolist()
        return self._loader(dataset, [(0, index) for index in sorted(order[:max_videos])])

    def _dataset(self, split: str, crop: Any) -> ClipDataset:
        # Train and held-out examples of one seed must not share their chance.
        seed = self.seed + 1_000_003 * SPLITS.index(split)
        return ClipDataset(self.videos[split], self.sampler, crop, **self._reading(split, seed))

    def _reading(self, split: str, seed: int) -> dict[str, Any]:
        return {
            "seed": seed,
            "short_side_pixels": self.short_side_pixels,
            "backend": self.reader,
            "labels": self.catalogue.known(split),
        }

    def _loader(self, dataset: VideoDataset, keys: list[tuple[int, int]]) -> DataLoader:
        batches = [keys[start : start + self.batch_size] for start in range(0, len(keys), self.batch_size)]
        return GuardedLoader(dataset, batches, collate_fn=collate, **self.worker_options(persistent=False))

    def worker_options(self, persistent: bool = True) -> dict[str, Any]:
        """Processes that decode."""
        options: dict[str, Any] = {"num_workers": self.num_workers, "pin_memory": torch.cuda.is_available()}
        if self.num_workers:
            options |= {
                "timeout_seconds": self.decode_timeout_seconds,
                "persistent_workers": persistent,
                "prefetch_factor": 4,
                "worker_init_fn": _start_worker,
            }
        return options


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)  # the workers are the parallelism
    # A stop reaches the whole process group. The main process saves a checkpoint first, and needs its workers for it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _count(value: int | str, name: str, least: int, auto: int) -> int:
    if value == "auto":
        return max(1, auto)
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: give 'auto' or a whole number of at least {least}")
    return value
