"""The question of two-stream networks: a clip, and the motion that starts at each of its frames."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from selfsup.data.clips import ROUNDING, Segments, TimedSampler, ViewSampler, last_seconds, shown
from selfsup.data.flow import Dis, FlowAlgorithm, flow
from selfsup.data.flow_fields import dequantise, quantise, stack, subtract_mean, to_unit
from selfsup.data.flow_store import FlowStore
from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader


@dataclass(frozen=True)
class FlowClip:
    """ "clip" uint8 (C, T, H, W) and "flow" float32 (2L, T, H, W) in [-1, 1]: L fields from each frame of the clip on.

    Channels 2i and 2i + 1 at frame t are u and v from step i to step i + 1 after that frame (Simonyan and Zisserman
    2014, arXiv 1406.2199, section 3.1). Steps are frames of the video at `fps`; `clip` is asked about a video that ends
    L steps early, since its last frames start no flow, and each of its times is moved to the nearest step. Flow always
    passes the eight bits in which it is kept, so that an example is the same whether its flow was kept or not.

    Args:
        clip: the frames, a sampler of `selfsup.data.clips`.
        length: L.
        fps: steps a second, at most the video's own; null: the video's own.
        algorithm: of the flow; null: DIS.
        bound_pixels: longer motions are cut to it; it becomes 1.
        without_mean: subtract each field's mean, which is mostly the camera.
        cache_folder: where flow is kept once it is computed, for all videos; null: nowhere. A field of 129 x 172
            pixels took 6 to 20 kB.

    Raises ValueError for a length, rate or bound that is not positive, and in use for a video that is too short.
    """

    clip: TimedSampler = field(default_factory=Segments)
    length: int = 10
    fps: float | None = None
    algorithm: FlowAlgorithm | None = None
    bound_pixels: float = 20.0
    without_mean: bool = True
    cache_folder: str | None = None

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length={self.length}: a stack holds at least 1 flow field")
        for name, value in (("fps", self.fps), ("bound_pixels", self.bound_pixels)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value:g}: give a positive number")

    def rate_hz(self, info: VideoInfo) -> float:
        """Steps a second. Never above the video's own rate: a repeated frame would look like a standstill."""
        return min(self.fps or info.fps, info.fps)

    def steps(self, info: VideoInfo) -> int:
        """Frames of the video at this rate; one more than it has flow fields."""
        return math.floor(last_seconds(info) * self.rate_hz(info) + ROUNDING) + 1

    def shortened(self, info: VideoInfo) -> VideoInfo:
        """The video as `clip` may see it: without the frames from which there are not `length` steps more."""
        seconds = self.length / self.rate_hz(info)
        return replace(
            info,
            duration_seconds=info.duration_seconds - seconds,
            num_frames=max(1, info.num_frames - round(seconds * info.fps)),
        )

    def refuse(self, info: VideoInfo) -> str | None:
        steps = self.steps(info)
        if steps <= self.length:
            return (
                f"has {steps} frames at {self.rate_hz(info):.4g} a second, a stack of {self.length} flow fields needs "
                f"{self.length + 1}; shorten length"
            )
        return self.clip.refuse(self.shortened(info))

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        if reason := self.refuse(info):
            raise ValueError(f"{info.path}: {reason}")
        rate = self.rate_hz(info)
        times = self.clip.times_seconds(self.shortened(info), generator)
        # The same side for every time that lies half-way, or a window at the video's own rate would repeat a frame.
        starts = np.floor(times * rate + 0.5 + ROUNDING).astype(np.int64)
        starts = np.clip(starts, 0, self.steps(info) - 1 - self.length)
        example = shown(video, starts / rate)
        frames = example["clip"].transpose(0, 1)
        numbers = np.unique(starts[:, None] + np.arange(self.length))
        fields = dequantise(self._fields(video, info, numbers, frames.shape), self.bound_pixels)
        if self.without_mean:
            fields = subtract_mean(fields)
        stacks = stack(fields, self.length, torch.from_numpy(np.searchsorted(numbers, starts)))
        return {**example, "flow": to_unit(stacks, self.bound_pixels)}

    def to_pack(self, info: VideoInfo, short_side_pixels: int) -> Iterator[tuple[dict[str, str | int | float], bytes]]:
        """The flow of the whole video at this size, in parts."""
        if (reason := self.refuse(info)) is not None:
            raise ValueError(f"{info.path}: {reason}")
        with info.open(short_side_pixels=short_side_pixels) as video:
            store = self._store(video, info, video.frames([0.0]).shape)
            yield from store.to_pack(lambda first, stop: self._computed(video, info, first, stop))

    def _fields(self, video: VideoReader, info: VideoInfo, numbers: np.ndarray, shape: Sequence[int]) -> Tensor:
        """Int8 (N, 2, H, W)."""
        store = self._store(video, info, shape)
        if (packed := store.packed(numbers)) is not None:
            return torch.from_numpy(packed)
        if self.cache_folder is None:
            runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
            fields = [self._computed(video, info, int(run[0]), int(run[-1]) + 1) for run in runs]
            return torch.from_numpy(np.concatenate(fields))
        return torch.from_numpy(store.read(numbers, lambda first, stop: self._computed(video, info, first, stop)))

    def _computed(self, video: VideoReader, info: VideoInfo, first: int, stop: int) -> np.ndarray:
        """Fields `first` to `stop`, int8 (stop - first, 2, H, W)."""
        frames = video.frames((np.arange(first, stop + 1) / self.rate_hz(info)).tolist())
        try:
            return quantise(flow(frames, self.algorithm or Dis()), self.bound_pixels).numpy()
        except ValueError as error:
            raise ValueError(f"{info.path}: {error}") from error

    def _store(self, video: VideoReader, info: VideoInfo, shape: Sequence[int]) -> FlowStore:
        key: dict[str, str | int | float] = {
            "video": info.checksum,
            "algorithm": (self.algorithm or Dis()).name,
            "rate_hz": round(self.rate_hz(info), 6),
            "bound_pixels": self.bound_pixels,
            "reader": video.backend,  # decoders differ in the last bit
        }
        folder = Path(self.cache_folder or "")
        return FlowStore(folder, key, self.steps(info) - 1, shape[-2], shape[-1], info.kept)


@dataclass(frozen=True)
class FlowViews:
    """The views of a test with the flow of each: `clips` says when, `flow` how; `flow.clip` is not used."""

    clips: ViewSampler
    flow: FlowClip

    def views(self, info: VideoInfo) -> list[FlowClip]:
        if self.flow.refuse(info):
            return [self.flow]  # which says why when it is asked
        return [replace(self.flow, clip=view) for view in self.clips.views(self.flow.shortened(info))]
