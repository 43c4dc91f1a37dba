"""Examples as a pure function of (seed, epoch, index), and batches that can be resumed in mid-epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from selfsup.data.clips import ViewSampler
from selfsup.data.flow_fields import crop_example
from selfsup.data.guarded import GuardedLoader, Readers
from selfsup.data.index import VideoInfo
from selfsup.data.joint_sampler import apart, together
from selfsup.data.labels import Labels
from selfsup.data.sampling import ClipSampler

Key = tuple[int, int]  # (epoch, index)


def derive_seed(*parts: int) -> int:
    """A seed in [0, 2**63) that depends on every part. Neighbouring parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Failure(NamedTuple):  # Lightning moves batches to the device: it refuses frozen dataclasses
    """Stands in a batch for a video that could not be read. Never replaced by another video."""

    video: int
    reason: str


class VideoDataset(Dataset[dict[str, Tensor] | Failure]):
    """Examples of videos, or the reason why there is none.

    Args:
        videos: what the index knows of each video.
        seed: with the key, the source of all chance.
        short_side_pixels: size at which frames are read.
        backend: decoder, see `VideoReader`.
        labels: what is known of the videos, which the example then holds as "label"; None where nothing is.
    """

    def __init__(
        self,
        videos: Sequence[VideoInfo],
        *,
        seed: int,
        short_side_pixels: int,
        backend: str,
        labels: Labels | None = None,
    ) -> None:
        self.videos = videos
        self.seed = seed
        self.short_side_pixels = short_side_pixels
        self.backend = backend
        self.labels = labels
        self.readers = Readers(0)
        self.given_up: dict[int, str] = {}

    def name_of(self, video: int) -> str:
        """The path of a video."""
        return str(self.videos[video].path)

    def example(self, key: Key, number: int, sampler: ClipSampler, crop: nn.Module) -> dict[str, Tensor] | Failure:
        """What `sampler` says of video `number`, its frames (C, T, H, W), uint8, cropped by `crop`.

        All chance comes from the seed and `key`.
        """
        if number in self.given_up:
            return Failure(number, self.given_up[number])
        info = self.videos[number]
        generator = torch.Generator().manual_seed(derive_seed(self.seed, *key))
        try:
            with self.readers.reading(number), info.open(self.backend, self.short_side_pixels) as video:
                parts = apart(sampler(video, info, generator))
        except (ValueError, OSError) as error:
            return Failure(number, str(error))
        with torch.random.fork_rng(devices=[]):
            # The CPU's generator only: torch.manual_seed would also set that of a GPU, for good.
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            parts = {name: crop_example(crop, part) for name, part in parts.items()}
        for part in parts.values():
            part["video"] = torch.tensor(number)
            if self.labels is not None:
                part |= self.labels.of(number, part)
        return together(parts)


class ClipDataset(VideoDataset):
    """Answers the key (epoch, index) with one example of video index % len(videos).

    Args:
        videos, seed, short_side_pixels, backend, labels: see `VideoDataset`.
        sampler: the question.
        crop: applied to the frames in the worker.
    """

    def __init__(
        self,
        videos: Sequence[VideoInfo],
        sampler: ClipSampler,
        crop: nn.Module,
        *,
        seed: int,
        short_side_pixels: int,
        backend: str,
        labels: Labels | None = None,
    ) -> None:
        super().__init__(videos, seed=seed, short_side_pixels=short_side_pixels, backend=backend, labels=labels)
        self.sampler = sampler
        self.crop = crop

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: Key) -> dict[str, Tensor] | Failure:
        return self.example(key, key[1] % len(self.videos), self.sampler, self.crop)


class ViewDataset(VideoDataset):
    """Answers the key (epoch, index) with one view: the views of all videos, each a clip and a crop, in one row.

    Args:
        videos, seed, short_side_pixels, backend, labels: see `VideoDataset`.
        sampler: names the clips of each video.
        crops: each is applied to each clip.
    """

    def __init__(
        self,
        videos: Sequence[VideoInfo],
        sampler: ViewSampler,
        crops: Sequence[nn.Module],
        *,
        seed: int,
        short_side_pixels: int,
        backend: str,
        labels: Labels | None = None,
    ) -> None:
        super().__init__(videos, seed=seed, short_side_pixels=short_side_pixels, backend=backend, labels=labels)
        self.views = [
            (number, clip, crop) for number, info in enumerate(videos) for clip in sampler.views(info) for crop in crops
        ]

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, key: Key) -> dict[str, Tensor] | Failure:
        return self.example(key, *self.views[key[1]])


def collate(examples: Sequence[dict[str, Tensor] | Failure]) -> dict[str, Any]:
    """Stacks what could be read; "failures" lists what could not. What only some examples have is left out.

    A part of the examples, see `selfsup.data.joint_sampler`, is stacked from those that have it.
    """
    read = [apart(example) for example in examples if not isinstance(example, Failure)]
    names = dict.fromkeys(name for example in read for name in example)
    parts = {name: _stacked([example[name] for example in read if name in example]) for name in names}
    batch: dict[str, Any] = together(parts)
    batch["failures"] = [example for example in examples if isinstance(example, Failure)]
    return batch


def _stacked(examples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    shared = [name for name in examples[0] if all(name in example for example in examples)]
    return {name: default_collate([example[name] for example in examples]) for name in shared}


def watched(batches: Iterable[dict[str, Any]], failures: dict[int, str]) -> Iterator[dict[str, Any]]:
    """Passes batches on, and notes in `failures` the videos that could not be read, and why."""
    for batch in batches:
        failures.update({failure.video: failure.reason for failure in batch["failures"]})
        yield batch


class EpochBatches:
    """Batches of keys for one process. Every epoch is a new permutation of the indices, known from its seed.

    Args:
        length: examples an epoch, over all processes.
        batch_size: examples a batch and process.
        seed: of the permutations.
        rank, world_size: this process and their number. Each takes every `world_size`-th example; the incomplete
            last batch is dropped, so that all processes have equally many, unless nothing else is left.
    """

    def __init__(self, length: int, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.resumed_at = (0, 0)  # epoch, and batches of it that were taken before a resume
        self.left_out: Collection[int] = ()

    @property
    def sampler(self) -> EpochBatches:
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, and with 0 before it knows that a run is resumed."""
        self.epoch = epoch

    @property
    def start(self) -> int:
        """Batches of this epoch that were taken before a resume."""
        epoch, start = self.resumed_at
        return start if epoch == self.epoch else 0

    def __len__(self) -> int:
        return max(1, self.length // self.world_size // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator).tolist()[self.rank :: self.world_size]
        for number in range(self.start, len(self)):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            # A batch without examples would end the epoch early: one quarantined key stays in it.
            kept = [index for index in batch if index not in self.left_out] or batch[:1]
            yield [(self.epoch, index) for index in kept]


class ResumableLoader(GuardedLoader):
    """A data loader that Lightning can stop after any batch and take up again at the next."""

    def __init__(self, dataset: Dataset, batches: EpochBatches, **options: Any) -> None:
        super().__init__(dataset, batches, collate_fn=collate, **options)
        self.batches = batches
        self.taken = (0, 0)  # epoch, batches of it that were taken

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        # A generator begins with its first batch. Lightning makes the iterator before it sets the epoch.
        start = self.batches.start
        for number, batch in enumerate(super().__iter__(), start=start + 1):
            self.taken = (self.batches.epoch, number)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Where the next batch lies. A finished epoch is the start of the next."""
        epoch, taken = self.taken
        if epoch != self.batches.epoch:  # its first batch was not taken yet
            epoch, taken = self.batches.epoch, self.batches.start
        taken = max(taken, self.batches.start)
        return {"epoch": epoch, "start": taken} if taken < len(self.batches) else {"epoch": epoch + 1, "start": 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes the place that `state_dict` gave."""
        self.batches.epoch = state["epoch"]
        self.batches.resumed_at = (state["epoch"], state["start"])
