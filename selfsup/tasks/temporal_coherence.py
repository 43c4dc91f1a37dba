"""Temporal coherence: what is near in time should look alike to the network.

Three losses on an anchor frame, one soon before or after it, and one far from it in the same video:
- `slow`: the slowest uncorrelated features, of unit variance (slow feature analysis: Wiskott and Sejnowski 2002, Neural
  Computation 14(4), by gradient as in Schüler, Hlynsson and Wiskott 2019, arXiv 1808.08833);
- `margin`: near frames close by, far ones no closer than a margin, both by L1 (Mobahi, Collobert and Weston, ICML 2009,
  "Deep learning from temporal coherence in video", section 3);
- `triplet`: by the cosine nearer to the near frame than to the hardest frames of other videos (Wang and Gupta, ICCV
  2015, arXiv 1505.00687, section 4).

Each frame has a crop and colours of its own: else what never changes in a clip, such as its place, would be slowest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torchvision.ops import MLP

from selfsup.data.clips import fits, is_a_frame, last_seconds
from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import ClipSampler, uniform
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.embeddings import encode_views, spread
from selfsup.tasks.info_nce import gathered, gathered_rows
from selfsup.tasks.task import Task

FORMS = ("slow", "margin", "triplet")


@dataclass(frozen=True)
class NearAndFar:
    """An anchor, a frame near it and one far from it, "clip" uint8 (3, C, 1, H, W).

    Before or after is drawn by a coin, so that no frame is more often early than late.

    Args:
        near_seconds: greatest distance of the near frame; the least is one frame.
        far_seconds: least distance of the far frame.

    Raises ValueError for a value out of its bounds.
    """

    near_seconds: float = 0.1
    far_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.near_seconds < self.far_seconds:
            raise ValueError(
                f"task.sampler: near_seconds={self.near_seconds:g} must lie between 0 and far_seconds="
                f"{self.far_seconds:g}"
            )

    def refuse(self, info: VideoInfo) -> str | None:
        """Why no frames can be drawn, or None."""
        if not fits(info, self.far_seconds):
            return (
                f"too short for temporal coherence: lasts {info.duration_seconds:.2f} s, frames "
                f"task.sampler.far_seconds={self.far_seconds:g} apart need {self.far_seconds + 1 / info.fps:.2f} s"
            )
        if not is_a_frame(info, self.near_seconds):
            return (
                f"shows a frame every {1 / info.fps:.3f} s, none within task.sampler.near_seconds={self.near_seconds:g}"
            )
        return None

    def times_seconds(self, info: VideoInfo, generator: torch.Generator) -> list[float]:
        """When anchor, near and far frame are shown."""
        last = last_seconds(info)
        anchor = uniform(0, last - self.far_seconds, generator)
        far = uniform(anchor + self.far_seconds, last, generator)
        distance = max(1 / info.fps, uniform(0, self.near_seconds, generator))
        side = 1 if anchor < distance or uniform(0, 1, generator) < 0.5 else -1
        times = [anchor, anchor + side * distance, far]
        return times if uniform(0, 1, generator) < 0.5 else [last - time for time in times]

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        return {"clip": video.frames(self.times_seconds(info, generator)).unsqueeze(2)}


class TemporalCoherence(Task):
    """Coherence of frames, on any encoder.

    Its figure is "two_choice": how often the near frame is nearer to the anchor than the far one, by the cosine.
    "spread" tells a collapse.

    Args:
        encoder, sampler, optimizer, schedule, augment: see `Task`. The sampler is one like `NearAndFar`.
        form: "slow", "margin" or "triplet".
        dim: width of the embedding; of `slow` a batch needs more frames than this.
        hidden_dim: width of the layer before it.
        margin: of `margin`, in L1 per dimension; of `triplet`, in cosine.
        hardest: frames of other videos that `triplet` takes, the nearest; None for all. From random weights a few
            make all embeddings one.

    Raises ValueError for a value out of its bounds.
    """

    chance = {"two_choice": 0.5}  # noqa: RUF012

    def __init__(
        self,
        encoder: Encoder,
        sampler: ClipSampler,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        augment: Sequence[nn.Module] = (),
        form: str = "triplet",
        dim: int = 16,
        hidden_dim: int = 256,
        margin: float = 0.5,
        hardest: int | None = None,
    ) -> None:
        super().__init__(encoder, sampler, optimizer, schedule, augment)
        if form not in FORMS:
            raise ValueError(f"task.form={form!r}: choose one of {', '.join(FORMS)}")
        if margin <= 0 or (hardest is not None and hardest < 1):
            raise ValueError(f"task.margin={margin:g} must lie above 0, task.hardest={hardest} not below 1, or be null")
        self.form = form
        self.margin = margin
        self.hardest = hardest
        self.minimum_batch = {"slow": dim // 3 + 1, "margin": 1, "triplet": 2}[form]
        self.project = MLP(encoder.dim, [hidden_dim, dim], norm_layer=nn.BatchNorm1d)

    def forward(self, clip: Tensor) -> Tensor:
        """Frames (B, 3, C, 1, H, W) to embeddings (B, 3, dim)."""
        return self.project(encode_views(self.encoder, clip).flatten(0, 1)).unflatten(0, clip.shape[:2])

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss, how often the near frame is the nearer of two, and the spread of the embeddings."""
        embeddings = self(batch["clip"]).float()
        anchor, near, far = embeddings.unbind(1)
        with torch.autocast(embeddings.device.type, enabled=False):  # inverses and small differences
            if self.form == "slow":
                loss = slowness(embeddings, everywhere=self.training)
            elif self.form == "margin":
                loss = coherence(anchor, near, far, self.margin)
            else:
                loss = ranking(anchor, near, embeddings, batch["video"], self.margin, self.hardest)
        nearer = F.cosine_similarity(anchor, near) - F.cosine_similarity(anchor, far)
        better = (nearer > 0).float() + 0.5 * (nearer == 0)
        return {"loss": loss, "two_choice": better.mean(), "spread": spread(embeddings.flatten(0, 1))}


def slowness(embeddings: Tensor, epsilon: float = 1e-4, everywhere: bool = True) -> Tensor:
    """Mean squared change from anchor to near frame of the whitened features, over the batches of all processes.

    The trace of the inverse covariance times that of the changes, over D: no linear map of the features changes it, so
    that they cannot be slow by shrinking, nor by being all the same. Of features that are unrelated in time it is 2.

    Args:
        embeddings: anchor, near and far frames (B, 3, D).
        epsilon: share of the mean variance that is added to each.
        everywhere: over all processes; False where one may have fewer batches than another, as of held-out videos.
    """
    _, every = gathered_rows(len(embeddings), embeddings.device, everywhere)
    frames = gathered(embeddings.flatten(1), every).unflatten(1, embeddings.shape[1:])  # (all, 3, D)
    values = frames.flatten(0, 1)
    values = values - values.mean(dim=0)
    change = frames[:, 1] - frames[:, 0]
    covariance = values.T @ values / len(values)
    floor = epsilon * covariance.diagonal().mean() + torch.finfo(values.dtype).tiny
    covariance = covariance + floor * torch.eye(len(covariance), device=values.device)
    changes = change.T @ change / len(change)
    return torch.linalg.solve(covariance, changes).diagonal().mean()


def coherence(anchor: Tensor, near: Tensor, far: Tensor, margin: float) -> Tensor:
    """Mobahi's loss on embeddings (B, D): the L1 distance to the near frame, and what that to the far one lacks."""
    close, apart = (anchor - near).abs().mean(dim=1), (anchor - far).abs().mean(dim=1)
    return (close + F.relu(margin - apart)).mean()


def ranking(anchor: Tensor, near: Tensor, others: Tensor, videos: Tensor, margin: float, hardest: int | None) -> Tensor:
    """Wang and Gupta's loss: max(0, D(anchor, near) - D(anchor, other) + margin), D one less the cosine.

    Args:
        anchor, near: (B, D).
        others: (B, V, D), frames of which those of other videos are negatives.
        videos: int64 (B,).
        margin: in cosine.
        hardest: the nearest negatives that count, of each anchor; None for all.

    Returns:
        The mean, 0 where there is one video.
    """
    unit = F.normalize(anchor, dim=1)
    alike = unit @ F.normalize(others.flatten(0, 1), dim=1).T  # (B, B V)
    other = videos[:, None] != videos.repeat_interleave(others.shape[1])
    own = (unit * F.normalize(near, dim=1)).sum(dim=1, keepdim=True)
    losses = F.relu(alike - own + margin)
    if hardest is not None:
        kept = alike.masked_fill(~other, -torch.inf).topk(min(hardest, alike.shape[1]), dim=1).indices
        other = other & torch.zeros_like(other).scatter(1, kept, True)
    return (losses * other).sum() / other.sum().clamp(min=1)
