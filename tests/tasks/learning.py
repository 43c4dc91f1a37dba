"""Trains a task on a few synthetic videos that were read once, and measures it on others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from selfsup.data.dataset import ClipDataset, collate
from selfsup.data.index import build_index
from selfsup.data.sampling import ClipSampler
from selfsup.data.synthetic import cached_synthetic
from selfsup.data.transforms import evaluation_crop, train_crop
from selfsup.data.videos import manifest
from selfsup.encoders.encoder import Encoder, FrameEncoder
from selfsup.tasks.task import Task

PIXELS = 32


class SmallFrames(FrameEncoder):
    """Four 2-D layers, which see each frame alone."""

    def __init__(self, dim: int = 64) -> None:
        super().__init__()
        self.dim = dim
        self.stages = nn.Sequential(*(_layer(nn.Conv2d, nn.BatchNorm2d, *ends) for ends in _channels(dim)))


class SmallClips(Encoder):
    """Four 3-D layers; time keeps its length."""

    def __init__(self, dim: int = 64) -> None:
        super().__init__()
        self.dim = dim
        self.stages = nn.Sequential(*(_layer(nn.Conv3d, nn.BatchNorm3d, *ends) for ends in _channels(dim)))


def _channels(dim: int) -> list[tuple[int, int]]:
    widths = [3, 16, 32, dim, dim]
    return list(pairwise(widths))


def _layer(convolution: type[nn.Module], norm: type[nn.Module], inputs: int, outputs: int) -> nn.Sequential:
    stride = (1, 2, 2) if convolution is nn.Conv3d else 2
    return nn.Sequential(convolution(inputs, outputs, 3, stride, 1), norm(outputs), nn.ReLU())


@lru_cache(maxsize=8)
def examples(sampler: ClipSampler, split: str, draws: int, videos: int = 120, **options: bool) -> dict[str, Tensor]:
    """What a sampler draws of each synthetic video of a split, `draws` times, in one batch."""
    path = cached_synthetic(videos=videos, size_pixels=48, processes=1, **options)
    listed = [video for video in manifest(str(path)).videos if video.split == split]
    index = build_index([video.path for video in listed], cache=path.with_name("index.jsonl"))
    infos = [info for info in index.videos.values() if sampler.refuse(info) is None]
    crop = train_crop(PIXELS, (0.6, 1.0), True, False) if split == "train" else evaluation_crop(PIXELS, False)
    dataset = ClipDataset(infos, sampler, crop, seed=0, short_side_pixels=37, backend="pyav")
    batch = collate([dataset[draw, number] for number in range(len(infos)) for draw in range(draws)])
    assert not batch.pop("failures")
    return batch  # shared: not to be changed


def taught(task: Task, batch: dict[str, Tensor], steps: int, size: int = 32) -> Task:
    """The task after so many steps of its own optimizer, at random examples of `batch`."""
    optimizer = task.optimizer(task.parameter_groups())
    task.train()
    for drawn in _draws(len(batch["clip"]), steps, size):
        part = {name: values[drawn] for name, values in batch.items()}
        optimizer.zero_grad()
        task.step({**part, "clip": task.prepare(part["clip"])})["loss"].backward()
        optimizer.step()
    return task.eval()


@torch.no_grad()
def figure(task: Task, batch: dict[str, Tensor], name: str, size: int = 40) -> float:
    """The mean of one of its figures."""
    values = []
    for start in range(0, len(batch["clip"]), size):
        part = {key: value[start : start + size] for key, value in batch.items()}
        values.append(task.step({**part, "clip": task.prepare(part["clip"])})[name])
    return torch.stack(values).mean().item()


def _draws(examples: int, steps: int, size: int) -> Iterator[Tensor]:
    for _ in range(steps):
        yield torch.randperm(examples)[:size]
