"""Shuffle and Learn: is the middle frame of three between the other two?

Misra, Zitnick and Hebert, ECCV 2016, arXiv 1603.08561, section 3. Five frames a < b < c < d < e come from a window of
much motion. (b, c, d) is in order; (b, a, d) and (b, e, d) are not. The reversed tuples carry the same label, since
order is asked for and not direction. Frames b and d are the same in all tuples, so the distance between the outer
frames tells nothing.

The five frames are encoded once and all six tuples are built from their features. The loss is the mean that sampling
one tuple at a time, with the paper's share of negatives, would have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import ClipSampler, motion_weighted_start, uniform
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.task import Task

# Tuples as positions in (a, b, c, d, e); the first two are in order.
_TUPLES = ((1, 2, 3), (3, 2, 1), (1, 0, 3), (3, 0, 1), (1, 4, 3), (3, 4, 1))
_IN_ORDER = (1, 1, 0, 0, 0, 0)


@dataclass(frozen=True)
class OrderSampler:
    """Five frames in order, "clip" uint8 (C, 5, H, W), from a window drawn by its motion.

    All distances shrink by one factor where the video is shorter than the window.

    Args:
        span_seconds: greatest distance of b and d; the least is half of it. The paper's 60 frames at 25 fps.
        gap_seconds: least distance of a and b, and of d and e. The paper's 15 frames.
        reach_seconds: greatest distance of a and b, and of d and e.
        minimum_seconds: shorter videos are refused.
        minimum_motion: videos whose mean frame difference, in [0, 1], is lower are refused as static.
        minimum_difference: c must differ from a and from e by this mean squared difference of RGB in [0, 1], or
            the frames are drawn again.
        tries: draws, of which the one with the most distinct middle frames is kept.
    """

    span_seconds: float = 2.4
    gap_seconds: float = 0.6
    reach_seconds: float = 1.2
    minimum_seconds: float = 0.3
    minimum_motion: float = 0.0
    minimum_difference: float = 0.0005
    tries: int = 3

    @property
    def window_seconds(self) -> float:
        """Longest distance of a and e."""
        return self.span_seconds + 2 * self.reach_seconds

    def refuse(self, info: VideoInfo) -> str | None:
        """Why five frames in order cannot be drawn, or None."""
        if info.num_frames < 5:
            return f"too short for temporal order: {info.num_frames} frames, at least 5 are needed"
        if info.duration_seconds < self.minimum_seconds:
            return (
                f"too short for temporal order: {info.duration_seconds:.2f} s, less than "
                f"task.sampler.minimum_seconds={self.minimum_seconds:g}"
            )
        motion = float(info.motion.mean())
        if motion < self.minimum_motion:
            return f"static: mean motion below task.sampler.minimum_motion={self.minimum_motion:g}"
        return None

    def times(
        self, info: VideoInfo, generator: torch.Generator, shown_seconds: np.ndarray | None = None
    ) -> list[float]:
        """Seconds of a < b < c < d < e, which fall on five different frames.

        `shown_seconds` are the presentation times of the frames, where their rate may vary.
        """
        step = 1.0 / info.fps
        shown = np.arange(info.num_frames) * step if shown_seconds is None else shown_seconds
        borders = (shown[1:] + shown[:-1]) / 2
        last = info.duration_seconds - step / 2
        scale = min(1.0, last / self.window_seconds)
        window = scale * self.window_seconds
        start = motion_weighted_start(info, window + step / 2, generator)
        for _ in range(20):
            span = scale * uniform(0.5, 1.0, generator) * self.span_seconds
            b = start + uniform(scale * self.reach_seconds, window - scale * self.reach_seconds - span, generator)
            d = b + span
            a = b - scale * uniform(self.gap_seconds, self.reach_seconds, generator)
            e = d + scale * uniform(self.gap_seconds, self.reach_seconds, generator)
            c = b + span * uniform(0.25, 0.75, generator)
            frames = np.searchsorted(borders, (a, b, c, d, e)).tolist()
            if all(left < right for left, right in pairwise(frames)):
                return [a, b, c, d, e]
        # Few frames: five evenly spaced ones are the only safe draw.
        return [start + window * position / 4 for position in range(5)]

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        best, most = torch.empty(0), -1.0
        for _ in range(self.tries):
            frames = video.frames(self.times(info, generator, video.times_seconds))  # (5, C, H, W)
            a, _, c, _, e = frames.float() / 255.0
            difference = min(F.mse_loss(c, a).item(), F.mse_loss(c, e).item())
            if difference > most:
                best, most = frames, difference
            if difference >= self.minimum_difference:
                break
        return {"clip": best.transpose(0, 1)}


class TemporalOrder(Task):
    """Shuffle and Learn on any encoder.

    Args:
        encoder, sampler, optimizer, schedule, augment: see `Task`.
        head_dim: width of a layer that each frame passes before the concatenation, as fc6 and fc7 in the paper, and
            of one after it, both with BatchNorm: much faster to learn than a plain perceptron. None for a single
            linear layer on the encoder's features, for an encoder that holds fc6 and fc7 itself.
        negative_share: weight of the tuples out of order in the loss. The paper found 0.75 best.
    """

    chance = {"accuracy": 0.5}  # noqa: RUF012
    tuple_weights: Tensor
    in_order: Tensor
    log_prior: Tensor

    def __init__(
        self,
        encoder: Encoder,
        sampler: ClipSampler,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        augment: Sequence[nn.Module] = (),
        head_dim: int | None = 128,
        negative_share: float = 0.75,
    ) -> None:
        super().__init__(encoder, sampler, optimizer, schedule, augment)
        if not 0 < negative_share < 1:
            raise ValueError(f"task.negative_share={negative_share} must lie between 0 and 1")
        self.project: nn.Module = nn.Identity()
        self.head: nn.Module = nn.Linear(3 * encoder.dim, 2)
        if head_dim is not None:
            self.project = nn.Sequential(nn.Linear(encoder.dim, head_dim), nn.BatchNorm1d(head_dim), nn.ReLU())
            self.head = nn.Sequential(
                nn.Linear(3 * head_dim, head_dim), nn.BatchNorm1d(head_dim), nn.ReLU(), nn.Linear(head_dim, 2)
            )
        weights = [(1 - negative_share) / 2 if right else negative_share / 4 for right in _IN_ORDER]
        self.register_buffer("tuple_weights", torch.tensor(weights), persistent=False)
        self.register_buffer("in_order", torch.tensor(_IN_ORDER), persistent=False)
        prior = torch.tensor([negative_share, 1 - negative_share])  # class 0 is out of order
        self.register_buffer("log_prior", prior.log(), persistent=False)

    def forward(self, clip: Tensor) -> Tensor:
        """Five frames (B, C, 5, H, W) to the logits (B, 6, 2) of their six tuples."""
        frames = clip.transpose(1, 2).flatten(0, 1).unsqueeze(2)  # (B 5, C, 1, H, W)
        frames = frames.expand(-1, -1, self.encoder.minimum_frames, -1, -1)  # a 3-D encoder sees a still clip
        features = self.project(self.encoder(frames).mean(dim=(2, 3, 4))).unflatten(0, (len(clip), 5))  # (B, 5, D)
        tuples = torch.stack([features[:, list(order)].flatten(1) for order in _TUPLES], dim=1)  # (B, 6, 3 D)
        return self.head(tuples.flatten(0, 1)).unflatten(0, (len(clip), len(_TUPLES)))  # (B, 6, 2)

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss, and accuracy balanced over tuples in and out of order.

        The decision that is best for balanced accuracy is where the odds exceed those of the training weights.
        """
        logits = self(batch["clip"]).float()
        labels = self.in_order.expand(len(logits), -1)
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
        right = ((logits - self.log_prior).argmax(dim=-1) == labels).float()
        accuracy = (right[:, :2].mean() + right[:, 2:].mean()) / 2
        return {"loss": (losses * self.tuple_weights).sum(dim=1).mean(), "accuracy": accuracy}
