"""Is this clip played forwards or backwards?

Wei, Lim, Zisserman and Freeman, CVPR 2018, "Learning and using the arrow of time" (first asked by Pickup et al., CVPR
2014). Each clip is shown both ways in the same batch, with the same crop and colours, so that no frame, no place and no
length is more frequent in one class, and only the order of the frames differs.
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

from selfsup.data.clips import fits, last_seconds
from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import ClipSampler, motion_weighted_start
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.task import Task
from selfsup.tasks.temporal_head import TemporalHead


@dataclass(frozen=True)
class MovingClip:
    """One clip, "clip" uint8 (C, T, H, W), from a window drawn by its motion, across no cut where that can be.

    Args:
        num_frames: T.
        stride_seconds: from one frame to the next.
        minimum_motion: videos whose mean frame difference, in [0, 1], is lower are refused as static.

    Raises ValueError for a value out of its bounds.
    """

    num_frames: int = 16
    stride_seconds: float = 0.08
    minimum_motion: float = 0.0

    def __post_init__(self) -> None:
        if self.num_frames < 2 or self.stride_seconds <= 0:
            raise ValueError(
                f"task.sampler: num_frames={self.num_frames} must not lie below 2, stride_seconds="
                f"{self.stride_seconds:g} must lie above 0"
            )

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return (self.num_frames - 1) * self.stride_seconds

    def refuse(self, info: VideoInfo) -> str | None:
        """Why no clip can be drawn, or None."""
        if not fits(info, self.seconds):
            return (
                f"too short for the arrow of time: lasts {info.duration_seconds:.2f} s, {self.num_frames} frames need "
                f"{self.seconds + 1 / info.fps:.2f} s; lower task.sampler.num_frames or stride_seconds"
            )
        if float(info.motion.mean()) < self.minimum_motion:
            return f"static: mean motion below task.sampler.minimum_motion={self.minimum_motion:g}"
        return None

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        start = motion_weighted_start(info, self.seconds + 1 / info.fps, generator)
        times = np.clip(start + np.arange(self.num_frames) * self.stride_seconds, 0.0, last_seconds(info))
        return {"clip": video.frames(times.tolist()).transpose(0, 1)}


class ArrowOfTime(Task):
    """The direction of a clip, on any encoder.

    Args:
        encoder, sampler, optimizer, schedule, augment: see `Task`.
        head_dim: width of the head, see `TemporalHead`.
    """

    chance = {"accuracy": 0.5}  # noqa: RUF012

    def __init__(
        self,
        encoder: Encoder,
        sampler: ClipSampler,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        augment: Sequence[nn.Module] = (),
        head_dim: int = 128,
    ) -> None:
        super().__init__(encoder, sampler, optimizer, schedule, augment)
        self.head = TemporalHead(encoder.dim, head_dim, 1)

    def forward(self, clip: Tensor) -> Tensor:
        """Clips (B, C, T, H, W) to logits (B,) that they are played forwards."""
        return self.head(self.encoder(clip))[:, 0]

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss and accuracy over the clips played both ways; an undecided answer is half right."""
        clip = batch["clip"]
        forward, backward = self(torch.cat([clip, clip.flip(2)])).float().chunk(2)
        right = torch.cat([forward, -backward])  # how sure of the right answer
        accuracy = ((right > 0).float() + 0.5 * (right == 0)).mean()
        return {"loss": F.softplus(-right).mean(), "accuracy": accuracy}
