"""Embeddings of views of videos: how they are computed, and what tells whether they are worth anything."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from selfsup.encoders.encoder import Encoder


def encode_views(encoder: Encoder, clip: Tensor) -> Tensor:
    """Views (B, V, C, T, H, W) to features (B, V, D), the mean of all positions; a 3-D encoder sees a frame as a still
    clip."""
    views = clip.flatten(0, 1)
    if views.shape[2] == 1:
        views = views.expand(-1, -1, encoder.minimum_frames, -1, -1)
    return encoder(views).mean(dim=(2, 3, 4)).unflatten(0, clip.shape[:2])


def two_choice(queries: Tensor, keys: Tensor, videos: Tensor) -> Tensor | None:
    """How often the key of another view of the same video is nearer to a query than that of another video.

    Over all such pairs, by the cosine; ties count half, so that a guess and collapsed embeddings score one half.

    Args:
        queries, keys: (B, V, D).
        videos: int64 (B,).

    Returns:
        A scalar, or None where there is one video, or one view.
    """
    views = queries.shape[1]
    alike = F.normalize(queries.flatten(0, 1), dim=1) @ F.normalize(keys.flatten(0, 1), dim=1).T  # (B V, B V)
    owners = videos.repeat_interleave(views)
    other = owners[:, None] != owners
    if views == 1 or not other.any():
        return None
    number, better = torch.arange(len(owners), device=alike.device), []
    for shift in range(1, views):
        own = alike[number, number - number % views + (number + shift) % views, None]
        better.append(((own > alike).float() + 0.5 * (own == alike))[other])
    return torch.cat(better).mean()


def spread(embeddings: Tensor) -> Tensor:
    """Deviation of unit-length embeddings (N, D), the mean over D times the root of D: 0 collapsed, 1 not.

    SimSiam, Chen and He 2021, arXiv 2011.10566, section 4.1, as `selfsup.evaluation.collapse.feature_std`.
    """
    unit = F.normalize(embeddings.detach().float(), dim=1)
    return unit.std(dim=0, correction=0).mean() * embeddings.shape[1] ** 0.5
