"""Invariance without negatives: views of one video have one embedding, and embeddings of all videos are a Gaussian.

LeJEPA (Balestriero and LeCun 2025, arXiv 2511.08544) and its form for video, LeVJEPA (arXiv 2608.27395): one encoder
and a small projector. Every view, global or local, is pulled to the centre of the global views of its video. SIGReg
keeps that from collapsing: along random directions it holds the embeddings against a normal distribution by the test of
Epps and Pulley (1983). No negatives, no slow network, no stopped gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchvision.ops import MLP

from selfsup.data.sampling import ClipSampler
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.embeddings import encode_views, two_choice
from selfsup.tasks.task import Task


class InvariantPrediction(Task):
    """LeJEPA over views of videos, on any encoder.

    Its figure is "two_choice": how often another view of the same video is nearer than one of another video. Beside it
    stand the parts of the loss, "invariance" and "gaussian", which is about 1.05 for a Gaussian; and "deviation", of a
    dimension, 1 for a Gaussian and 0 where all embeddings are one.

    Args:
        encoder, sampler, optimizer, schedule, augment: see `Task`. The sampler gives views, as `ClipViews` does.
        global_views: how many of the sampler's views are seen whole; the others are local.
        local_crop: what local views (B, C, T, H, W) are cut by, in training; held-out videos are seen whole.
        dim: width of the embedding.
        hidden_dim: width of the layer before it.
        gaussian_weight: lambda, the share of SIGReg in the loss; the rest is the invariance.
        directions: random ones, along which SIGReg looks at each step.

    Raises ValueError for a value out of its bounds, or where lightly is not installed.
    """

    chance = {"two_choice": 0.5}  # noqa: RUF012
    minimum_batch = 2  # of one, SIGReg asks for an embedding of 0

    def __init__(
        self,
        encoder: Encoder,
        sampler: ClipSampler,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        augment: Sequence[nn.Module] = (),
        global_views: int = 2,
        local_crop: nn.Module | None = None,
        dim: int = 64,
        hidden_dim: int = 512,
        gaussian_weight: float = 0.02,
        directions: int = 1024,
    ) -> None:
        super().__init__(encoder, sampler, optimizer, schedule, augment)
        if global_views < 1 or directions < 1:
            raise ValueError(f"task.global_views={global_views} and task.directions={directions}: give at least 1")
        if not 0 < gaussian_weight < 1:
            raise ValueError(f"task.gaussian_weight={gaussian_weight:g} must lie between 0 and 1")
        self.global_views = global_views
        self.local_crop = local_crop if local_crop is not None else nn.Identity()
        self.gaussian_weight = gaussian_weight
        self.project = MLP(encoder.dim, [hidden_dim, dim], norm_layer=nn.BatchNorm1d)
        losses = _import_lightly()
        self.invariance = losses.lejepa_invariance_loss
        self.gaussian = losses.SIGReg(num_vectors=directions, gather_distributed=True)

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss and its parts, how often another view of the video is the nearer of two, and the deviation."""
        whole, local = batch["clip"][:, : self.global_views], batch["clip"][:, self.global_views :]
        if self.training:
            local = self.local_crop(local.flatten(0, 1)).unflatten(0, local.shape[:2])
        features = torch.cat([encode_views(self.encoder, views) for views in (whole, local) if views.shape[1]], dim=1)
        embeddings = self.project(features.flatten(0, 1)).unflatten(0, features.shape[:2]).float()  # (B, V, dim)
        with torch.autocast(embeddings.device.type, enabled=False):  # cosines of small differences
            views = embeddings.transpose(0, 1)
            invariance = self.invariance(all_proj=views, global_proj=views[: self.global_views])
            self.gaussian.gather_distributed = self.training  # of held-out videos processes may have unequal batches
            gaussian = self.gaussian(views)
        loss = self.gaussian_weight * gaussian + (1 - self.gaussian_weight) * invariance
        deviation = embeddings.detach().flatten(0, 1).std(dim=0, correction=0).mean()
        told = {"loss": loss, "invariance": invariance, "gaussian": gaussian, "deviation": deviation}
        nearer = two_choice(embeddings, embeddings, batch["video"])
        return told if nearer is None else {**told, "two_choice": nearer}


def _import_lightly() -> ModuleType:
    try:
        from lightly import loss
    except ModuleNotFoundError as error:
        raise ValueError("task=invariant_prediction needs lightly: pip install 'selfsup[lightly]'") from error
    return loss.lejepa_loss
