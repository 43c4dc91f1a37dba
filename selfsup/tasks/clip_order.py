"""In which order were these clips, or these frames, shown?

Clips: VCOP (Xu, Xiao, Zhao, Shao, Xie and Zhuang, CVPR 2019, "Self-supervised spatiotemporal learning via video clip
order prediction", section 3): three clips of 16 frames, 8 frames apart, 3! classes. Frames: OPN (Lee, Huang, Singh and
Yang, ICCV 2017, arXiv 1708.01246, section 3): four frames, and an order and its reverse are one class, so that there
are 4!/2. Both encode each piece alone and compare all pairs of pieces before they answer.

The pieces are encoded once, and the head is asked about all their orders. The loss is the mean that drawing one order
at a time would have, and no order is ever more frequent than another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from selfsup.data.clips import fits, is_a_frame, last_seconds
from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import ClipSampler, motion_weighted_start
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.task import Task

MOST_CLIPS = 5  # of which there are 120 orders


@dataclass(frozen=True)
class ClipsInOrder:
    """Pieces of a video in their order, "clip" uint8 (C, clips x num_frames, H, W), from a window drawn by its motion.

    Args:
        clips: pieces.
        num_frames: frames of a piece; 1 for single frames.
        stride_seconds: from one frame of a piece to the next.
        gap_seconds: from the last frame of a piece to the first of the next.

    Raises ValueError for a value out of its bounds.
    """

    clips: int = 3
    num_frames: int = 16
    stride_seconds: float = 0.04
    gap_seconds: float = 0.32

    def __post_init__(self) -> None:
        if not 2 <= self.clips <= MOST_CLIPS or self.num_frames < 1:
            raise ValueError(
                f"task.sampler: clips={self.clips} must lie between 2 and {MOST_CLIPS}, num_frames={self.num_frames} "
                f"not below 1"
            )
        if self.stride_seconds <= 0 or self.gap_seconds <= 0:
            raise ValueError(
                f"task.sampler: stride_seconds={self.stride_seconds:g} and gap_seconds={self.gap_seconds:g} must lie "
                f"above 0"
            )

    @property
    def window_seconds(self) -> float:
        """From the first frame to the last."""
        return float(self.offsets_seconds()[-1])

    def offsets_seconds(self) -> np.ndarray:
        """When the frames are shown after the first of them, float64 (clips x num_frames,)."""
        inside = np.arange(self.num_frames) * self.stride_seconds
        starts = np.arange(self.clips) * (inside[-1] + self.gap_seconds)
        return (starts[:, None] + inside).flatten()

    def refuse(self, info: VideoInfo) -> str | None:
        """Why the pieces cannot be drawn, or None."""
        if not fits(info, self.window_seconds):
            return (
                f"too short for the order of clips: lasts {info.duration_seconds:.2f} s, {self.clips} x "
                f"{self.num_frames} frames need {self.window_seconds + 1 / info.fps:.2f} s; lower task.sampler."
                f"stride_seconds or gap_seconds"
            )
        if not is_a_frame(info, self.gap_seconds):
            return (
                f"shows a frame every {1 / info.fps:.3f} s, so that two clips could share one; raise "
                f"task.sampler.gap_seconds={self.gap_seconds:g}"
            )
        return None

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        start = motion_weighted_start(info, self.window_seconds + 1 / info.fps, generator)
        times = np.clip(start + self.offsets_seconds(), 0.0, last_seconds(info))
        return {"clip": video.frames(times.tolist()).transpose(0, 1)}


class ClipOrder(Task):
    """The order of clips or frames, on any encoder.

    Args:
        encoder, sampler, optimizer, schedule, augment: see `Task`. The sampler is one like `ClipsInOrder`.
        clips: pieces that the sampler gives.
        reversible: an order and its reverse are one class, as in OPN: single frames seldom tell which way time runs.
        head_dim: width of the layers that read a piece, and a pair of them, both with BatchNorm.
        dropout: of what the last layer reads.

    Raises ValueError for a value out of its bounds.
    """

    pairs: Tensor
    labels: Tensor

    def __init__(
        self,
        encoder: Encoder,
        sampler: ClipSampler,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        augment: Sequence[nn.Module] = (),
        clips: int = 3,
        reversible: bool = False,
        head_dim: int = 512,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(encoder, sampler, optimizer, schedule, augment)
        if not 2 <= clips <= MOST_CLIPS or (reversible and clips < 3):
            raise ValueError(
                f"task.clips={clips}: give {2 + reversible} to {MOST_CLIPS}"
                + ("; two in a row and their reverse are one class" if reversible else "")
            )
        self.clips = clips
        orders = list(permutations(range(clips)))
        classes = {order: min(order, order[::-1]) if reversible else order for order in orders}
        numbers = {name: number for number, name in enumerate(dict.fromkeys(classes.values()))}
        self.chance = {"accuracy": 1 / len(numbers)}
        number_of_pair = {pair: number for number, pair in enumerate(permutations(range(clips), 2))}
        places = list(combinations(range(clips), 2))
        shown = [[number_of_pair[order[left], order[right]] for left, right in places] for order in orders]
        self.register_buffer("pairs", torch.tensor(shown), persistent=False)  # (P, pairs of an order)
        self.register_buffer("labels", torch.tensor([numbers[classes[order]] for order in orders]), persistent=False)
        self.project = _layer(encoder.dim, head_dim)
        self.compare = _layer(2 * head_dim, head_dim)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(len(places) * head_dim, len(numbers)))

    def forward(self, clip: Tensor) -> Tensor:
        """Pieces in their order (B, C, clips x T, H, W) to the logits (B, P, K) of all P orders of them."""
        pieces = clip.unflatten(2, (self.clips, -1)).transpose(1, 2).flatten(0, 1)  # (B clips, C, T, H, W)
        if pieces.shape[2] == 1:
            pieces = pieces.expand(-1, -1, self.encoder.minimum_frames, -1, -1)  # a 3-D encoder sees a still clip
        features = self.project(self.encoder(pieces).mean(dim=(2, 3, 4))).unflatten(0, (len(clip), -1))
        pairs = [features[:, list(pair)].flatten(1) for pair in permutations(range(self.clips), 2)]
        compared = self.compare(torch.cat(pairs)).unflatten(0, (len(pairs), -1))  # (pairs, B, head_dim)
        return self.head(compared[self.pairs].permute(2, 0, 1, 3).flatten(2))  # of (P, pairs of an order, B, head_dim)

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss and accuracy, over all orders."""
        logits = self(batch["clip"]).float()
        labels = self.labels.expand(len(logits), -1)
        right = (logits.argmax(dim=-1) == labels).float()
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten()), "accuracy": right.mean()}


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())
