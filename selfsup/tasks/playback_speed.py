"""How fast is this clip played?

Pace prediction (Wang, Jiao and Liu, ECCV 2020, arXiv 2008.05861, section 3.1) and SpeedNet (Benaim et al., CVPR 2020,
arXiv 2004.06130, section 3). Every video is asked about at all speeds in the same batch, each clip with a crop, and so
a scale, of its own. A video must be long enough for the fastest clip, and have a frame for each moment of the slowest:
else its length, or frames that are shown twice, would tell the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from selfsup.data.clips import fits, is_a_frame, last_seconds
from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import ClipSampler, motion_weighted_start, uniform
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.task import Task
from selfsup.tasks.temporal_head import TemporalHead


@dataclass(frozen=True)
class SpeedSampler:
    """One clip of each speed, "clip" uint8 (S, C, T, H, W), from one window drawn by its motion.

    The window is as long as the fastest clip; a slower one lies anywhere in it, so that the times of all are centred
    alike.

    Args:
        speeds: how many strides each clip advances from one frame to the next, slowest first.
        num_frames: T.
        stride_seconds: of speed 1.

    Raises ValueError for a value out of its bounds.
    """

    speeds: Sequence[int] = (1, 2, 4, 8)
    num_frames: int = 16
    stride_seconds: float = 0.04

    def __post_init__(self) -> None:
        if len(self.speeds) < 2 or min(self.speeds) < 1 or list(self.speeds) != sorted(set(self.speeds)):
            raise ValueError(f"task.sampler.speeds={list(self.speeds)}: give two or more that rise, from 1 on")
        if self.num_frames < 2 or self.stride_seconds <= 0:
            raise ValueError(
                f"task.sampler: num_frames={self.num_frames} must not lie below 2, stride_seconds="
                f"{self.stride_seconds:g} must lie above 0"
            )

    def seconds(self, speed: int) -> float:
        """From the first frame of a clip to its last."""
        return (self.num_frames - 1) * speed * self.stride_seconds

    def refuse(self, info: VideoInfo) -> str | None:
        """Why not all speeds can be shown, or None."""
        fastest = self.seconds(self.speeds[-1])
        if not fits(info, fastest):
            return (
                f"too short for playback speed: lasts {info.duration_seconds:.2f} s, {self.num_frames} frames at speed "
                f"{self.speeds[-1]} need {fastest + 1 / info.fps:.2f} s; lower task.sampler.num_frames or speeds"
            )
        if not is_a_frame(info, self.speeds[0] * self.stride_seconds):
            return (
                f"shows a frame every {1 / info.fps:.3f} s, so that the slowest clip would show some twice; raise "
                f"task.sampler.stride_seconds={self.stride_seconds:g}"
            )
        return None

    def times_seconds(self, info: VideoInfo, generator: torch.Generator) -> np.ndarray:
        """When the frames of each clip are shown, float64 (S, T)."""
        longest = self.seconds(self.speeds[-1])
        window = motion_weighted_start(info, longest + 1 / info.fps, generator)
        starts = [window + uniform(0, longest - self.seconds(speed), generator) for speed in self.speeds]
        steps = np.arange(self.num_frames) * self.stride_seconds
        times = np.array(starts)[:, None] + np.array(self.speeds)[:, None] * steps
        return np.clip(times, 0.0, last_seconds(info))

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        frames = video.frames(self.times_seconds(info, generator).flatten().tolist())
        return {"clip": frames.unflatten(0, (len(self.speeds), -1)).transpose(1, 2)}


class PlaybackSpeed(Task):
    """The speed of a clip, on any encoder.

    Args:
        encoder, sampler, optimizer, schedule, augment: see `Task`. The sampler is one like `SpeedSampler`.
        speeds: those that the sampler gives.
        head_dim: width of the head, see `TemporalHead`.
    """

    def __init__(
        self,
        encoder: Encoder,
        sampler: ClipSampler,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        augment: Sequence[nn.Module] = (),
        speeds: Sequence[int] = (1, 2, 4, 8),
        head_dim: int = 128,
    ) -> None:
        super().__init__(encoder, sampler, optimizer, schedule, augment)
        self.chance = {"accuracy": 1 / len(speeds)}
        self.head = TemporalHead(encoder.dim, head_dim, len(speeds))

    def forward(self, clip: Tensor) -> Tensor:
        """Clips (B, C, T, H, W) to logits (B, S)."""
        return self.head(self.encoder(clip))

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss and accuracy over one clip of each speed, (B, S, C, T, H, W)."""
        clip = batch["clip"]
        logits = self(clip.flatten(0, 1)).float()
        labels = torch.arange(clip.shape[1], device=clip.device).repeat(len(clip))
        return {"loss": F.cross_entropy(logits, labels), "accuracy": (logits.argmax(dim=1) == labels).float().mean()}
