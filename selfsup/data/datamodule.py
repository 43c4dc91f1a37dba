"""Videos to batches: finds, splits, indexes, leaves out with a reason, and serves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from selfsup.data.catalogue import SPLITS, Catalogue, take_stock
from selfsup.data.dataset import ClipDataset, EpochBatches, ResumableLoader, collate
from selfsup.data.index import VideoInfo
from selfsup.data.sampling import ClipSampler
from selfsup.data.splits import FRACTIONS
from selfsup.data.transforms import evaluation_crop, train_crop
from selfsup.data.videos import Listing


class VideoDataModule(pl.LightningDataModule):
    """Serves one task's examples from a list of videos.

    Args:
        videos: a function of selfsup.data.videos (or one like it) that lists the videos; it is called with those of
            `root`, `manifest`, `annotations`, `split_number` and `label` that are given.
        sampler: the task's question.
        seed: of splits, permutations and examples.
        fractions: shares of train, val and test where the data names no split.
        size_pixels: side of the square that the encoder sees.
        read_scale: frames are read with a short side of `read_scale * size_pixels`, the room for random crops.
        crop_scale: least and greatest share of the frame's area that a training crop keeps.
        flip: mirror half of the training clips.
        stretch: squeeze whole frames into the square rather than cut the square out.
        batch_size: examples a step and process.
        clips_per_video: examples of each video an epoch.
        evaluation_clips_per_video: examples of each video in validation and test.
        num_workers: worker processes, or "auto".
        reader: decoder, see `VideoReader`.
        index_cache: file of the index; null for one in the user's cache folder, keyed by where the videos lie.
        index_processes: videos inspected at once, or "auto".
        decode_timeout_seconds: a video whose inspection takes longer is left out.
        max_failed_fraction: the run stops when a larger share of the videos fails after indexing.
    """

    def __init__(
        self,
        videos: Callable[..., Listing],
        sampler: ClipSampler,
        root: str | None = None,
        manifest: str | None = None,
        annotations: str | None = None,
        split_number: int | None = None,
        label: str | None = None,
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
        num_workers: int | str = "auto",
        reader: str = "pyav",
        index_cache: str | None = None,
        index_processes: int | str = "auto",
        decode_timeout_seconds: float = 120.0,
        max_failed_fraction: float = 0.01,
    ) -> None:
        super().__init__()
        given = {
            "root": root,
            "manifest": manifest,
            "annotations": annotations,
            "split_number": split_number,
            "label": label,
        }
        self.source = {name: value for name, value in given.items() if value is not None}
        self.list_videos = videos
        self.sampler = sampler
        self.seed = seed
        self.fractions = fractions
        self.size_pixels = size_pixels
        self.short_side_pixels = size_pixels if stretch else round(read_scale * size_pixels)
        self.train_crop = train_crop(size_pixels, (crop_scale[0], crop_scale[1]), flip, stretch)
        self.evaluation_crop = evaluation_crop(size_pixels, stretch)
        self.batch_size = batch_size
        self.clips_per_video = clips_per_video
        self.evaluation_clips_per_video = evaluation_clips_per_video
        cores = os.cpu_count() or 1  # training wants one beside the workers; the index has them all to itself
        self.num_workers = _count(num_workers, "data.num_workers", least=0, auto=min(8, cores - 1))
        self.reader = reader
        self.index_cache = Path(index_cache) if index_cache is not None else None
        self.index_processes = _count(index_processes, "data.index_processes", least=1, auto=cores)
        self.decode_timeout_seconds = decode_timeout_seconds
        self.max_failed_fraction = max_failed_fraction
        self.videos: dict[str, list[VideoInfo]] = {}
        self.catalogue: Catalogue
        self.batches: EpochBatches | None = None
        self._training: ResumableLoader | None = None
        self._position: dict[str, int] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Lists, splits and indexes the videos once. Raises ValueError where no training video is left."""
        if self.videos:
            return
        self.catalogue = take_stock(
            self.list_videos(**self.source),
            self.sampler,
            fractions=self.fractions,
            seed=self.seed,
            cache=self.index_cache,
            processes=self.index_processes,
            timeout_seconds=self.decode_timeout_seconds,
        )
        self.videos = self.catalogue.videos

    def description(self) -> dict[str, object]:
        """What the encoder file and the summary record of the data."""
        counts = {f"{split}_videos": len(self.videos[split]) for split in SPLITS}
        return {
            **{name: str(value) for name, value in self.source.items()},
            **counts,
            "left_out": len(self.catalogue.left_out),
        }

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, augmented, resumable; each process of a distributed run gets its part."""
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        left_out = self.batches.left_out if self.batches is not None else ()
        self.batches = EpochBatches(
            len(self.videos["train"]) * self.clips_per_video,
            self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        self.batches.left_out = left_out
        self._training = ResumableLoader(
            self._dataset("train", self.train_crop), self.batches, **self._worker_options()
        )
        if self._position is not None:
            self._training.load_state_dict(self._position)
        return self._training

    def state_dict(self) -> dict[str, Any]:
        """The place in the training data, for the checkpoint.

        Lightning keeps that of the loader too, but gives it back only where the loader was not made yet, and a
        schedule that asks for the number of steps makes it early.
        """
        return {} if self._training is None else self._training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the place of a checkpoint, before the loader is made."""
        self._position = state_dict or None

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The same examples each time."""
        return self._held_out("val")

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        """The same examples each time."""
        return self._held_out("test")

    def clips(self, split: str, sampler: ClipSampler, max_videos: int | None = None, seed: int = 0) -> DataLoader:
        """One clip a video, with another question than the task's; of `max_videos` random ones where there are more.

        A batch's "video" is the position in `videos[split]`.
        """
        dataset = ClipDataset(
            self.videos[split],
            sampler,
            self.evaluation_crop,
            seed=self.seed,
            short_side_pixels=self.short_side_pixels,
            backend=self.reader,
        )
        order = torch.randperm(len(self.videos[split]), generator=torch.Generator().manual_seed(seed)).tolist()
        return self._loader(dataset, [(0, index) for index in sorted(order[:max_videos])])

    def _held_out(self, split: str) -> DataLoader | list[DataLoader]:
        if not self.videos[split]:
            return []
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        length = len(self.videos[split]) * self.evaluation_clips_per_video
        keys = [(0, index) for index in range(rank, length, world_size)]
        return self._loader(self._dataset(split, self.evaluation_crop), keys)

    def _dataset(self, split: str, crop: Any) -> ClipDataset:
        return ClipDataset(
            self.videos[split],
            self.sampler,
            crop,
            # Train and held-out examples of one seed must not share their chance.
            seed=self.seed + 1_000_003 * SPLITS.index(split),
            short_side_pixels=self.short_side_pixels,
            backend=self.reader,
        )

    def _loader(self, dataset: ClipDataset, keys: list[tuple[int, int]]) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=keys,
            collate_fn=collate,
            **self._worker_options(persistent=False),
        )

    def _worker_options(self, persistent: bool = True) -> dict[str, Any]:
        options: dict[str, Any] = {"num_workers": self.num_workers, "pin_memory": torch.cuda.is_available()}
        if self.num_workers:
            options |= {
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
