"""Contrast: which of these clips are of one video?

SimCLR (Chen, Kornblith, Norouzi and Hinton, ICML 2020, arXiv 2002.05709) and MoCo (He, Fan, Wu, Xie and Girshick, CVPR
2020, arXiv 1911.05722) over clips of one video at different times, as Feichtenhofer, Fan, Xiong, Girshick and He (CVPR
2021, arXiv 2104.14558, section 3) carry them over to video. Other videos of the batch, of all processes, are the
negatives; with `momentum` the keys come from a slow copy of the network, and `queue` keeps those of earlier batches.

Two examples of one video are never negatives of each other, neither in the batch nor in the queue.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchvision.ops import MLP

from selfsup.data.sampling import ClipSampler
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.embeddings import encode_views, spread, two_choice
from selfsup.tasks.info_nce import Queue, gathered, gathered_rows, info_nce_of_views
from selfsup.tasks.task import Task


class Contrastive(Task):
    """InfoNCE over views of videos, on any encoder.

    Its figure is "two_choice": how often another view of the same video is nearer than one of another video.

    Args:
        encoder, sampler, optimizer, schedule, augment: see `Task`. The sampler gives views, as `ClipViews` does.
        dim: width of the embedding that is compared.
        hidden_dim: width of the layer before it.
        temperature: by which the cosine is divided.
        momentum: share of itself that the slow network keeps at a step; None for SimCLR, which has none.
        queue: keys of earlier batches that are kept as negatives; wants `momentum`.

    Raises ValueError for a value out of its bounds.
    """

    chance = {"two_choice": 0.5}  # noqa: RUF012
    minimum_batch = 2
    queue_keys: Tensor
    queue_videos: Tensor

    def __init__(
        self,
        encoder: Encoder,
        sampler: ClipSampler,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        augment: Sequence[nn.Module] = (),
        dim: int = 128,
        hidden_dim: int = 512,
        temperature: float = 0.1,
        momentum: float | None = None,
        queue: int = 0,
    ) -> None:
        super().__init__(encoder, sampler, optimizer, schedule, augment)
        if temperature <= 0 or queue < 0:
            raise ValueError(f"task.temperature={temperature:g} must lie above 0, task.queue={queue} not below 0")
        if momentum is not None and not 0 <= momentum < 1:
            raise ValueError(f"task.momentum={momentum:g} must lie in [0, 1), or be null")
        if queue and momentum is None:
            raise ValueError(
                f"task.queue={queue} keeps keys of a slow network, and there is none; give task.momentum, or queue=0"
            )
        self.temperature = temperature
        self.project = MLP(encoder.dim, [hidden_dim, dim], norm_layer=nn.BatchNorm1d)
        self.momentum = momentum
        if momentum is not None:
            self.slow_encoder = copy.deepcopy(encoder).requires_grad_(False)
            self.slow_project = copy.deepcopy(self.project).requires_grad_(False)
        self.register_buffer("queue_keys", torch.zeros(queue, dim))
        self.register_buffer("queue_videos", torch.full((queue,), -1))

    def embed(self, clip: Tensor) -> Tensor:
        """Views (B, V, C, T, H, W) to L2-normalised embeddings (B, V, dim)."""
        return _embedded(self.encoder, self.project, clip)

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss, how often another view of the video is the nearer of two, and the spread of the embeddings."""
        clip, videos = batch["clip"], batch["video"]
        queries = self.embed(clip)
        keys, queue = queries, None
        if self.training and self.momentum is not None:
            keys = self._slow_keys(clip)
            queue = Queue(self.queue_keys.clone(), self.queue_videos.clone())
        loss, _ = info_nce_of_views(queries, keys, videos, 1 / self.temperature, queue, everywhere=self.training)
        if queue is not None:
            self._remember(keys, videos)
        told = {"loss": loss, "spread": spread(queries.flatten(0, 1))}
        nearer = two_choice(queries, queries, videos)
        return told if nearer is None else {**told, "two_choice": nearer}

    @torch.no_grad()
    def _slow_keys(self, clip: Tensor) -> Tensor:
        """Lets the slow network follow, and asks it."""
        assert self.momentum is not None
        follow = get_ema_multi_avg_fn(self.momentum)
        for slow, fast in ((self.slow_encoder, self.encoder), (self.slow_project, self.project)):
            follow(list(slow.parameters()), list(fast.parameters()), None)
        return _embedded(self.slow_encoder, self.slow_project, clip)

    @torch.no_grad()
    def _remember(self, keys: Tensor, videos: Tensor) -> None:
        """Puts the keys of all processes in front of the queue."""
        rows, owners = keys.flatten(0, 1), videos.repeat_interleave(keys.shape[1])
        _, every = gathered_rows(len(rows), rows.device)
        rows, owners = gathered(rows, every), gathered(owners[:, None].double(), every)[:, 0].long()
        kept = len(self.queue_keys)
        self.queue_keys.copy_(torch.cat([rows.to(self.queue_keys), self.queue_keys])[:kept])
        self.queue_videos.copy_(torch.cat([owners, self.queue_videos])[:kept])


def _embedded(encoder: Encoder, project: nn.Module, clip: Tensor) -> Tensor:
    """Views (B, V, C, T, H, W) to L2-normalised embeddings (B, V, dim)."""
    rows = project(encode_views(encoder, clip).flatten(0, 1)).float()
    return F.normalize(rows, dim=1).unflatten(0, clip.shape[:2])
