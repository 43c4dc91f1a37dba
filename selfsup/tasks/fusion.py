"""Heads that say whether a frame and a sound belong together, from the feature maps of their encoders.

`concat` is that of Look, Listen and Learn (Arandjelović and Zisserman 2017, arXiv 1705.08168, section 2); `distance`
and `localise` are AVE-Net and AVOL-Net of Objects that Sound (2018, arXiv 1712.06651, sections 3.1 and 4). Their
softmax over two classes is here the sigmoid of one logit, which is the same function. `contrastive` compares by the
cosine, for InfoNCE (van den Oord et al. 2018, arXiv 1807.03748).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fusion(nn.Module):
    """What the heads share: a frame and a sound are embedded each alone, and any two are compared.

    Maps (N, D, T', H', W') are max-pooled over all positions, as in the papers.

    Args:
        frame_dim, sound_dim: D of the two encoders.
        dim: width of the head.
    """

    def __init__(self, frame_dim: int, sound_dim: int, dim: int) -> None:
        super().__init__()
        self.frame_dim = frame_dim
        self.sound_dim = sound_dim
        self.dim = dim

    def frames(self, features: Tensor) -> Tensor:
        """Maps (N, D, T', H', W') of frames to what is compared, (N, …)."""
        return pooled(features)

    def sounds(self, features: Tensor) -> Tensor:
        """Maps (N, D, T', H', W') of spectrograms to what is compared, (N, …)."""
        return pooled(features)

    def forward(self, frames: Tensor, sounds: Tensor) -> Tensor:
        """Logits (N,) that row n of `frames` and of `sounds` belong together. Written by the subclass."""
        raise NotImplementedError(f"{type(self).__name__}.forward")  # abstract


class Concat(Fusion):
    """L3: both vectors side by side, a hidden layer, one logit."""

    def __init__(self, frame_dim: int, sound_dim: int, dim: int) -> None:
        super().__init__(frame_dim, sound_dim, dim)
        self.layers = nn.Sequential(nn.Linear(frame_dim + sound_dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, frames: Tensor, sounds: Tensor) -> Tensor:
        return self.layers(torch.cat([frames, sounds], dim=1))[:, 0]


class Distance(Fusion):
    """AVE-Net: L2-normalised embeddings, their Euclidean distance, and two parameters that make a logit of it.

    It starts undecided at the distance of two unrelated directions, and takes what is near to belong together.
    """

    def __init__(self, frame_dim: int, sound_dim: int, dim: int) -> None:
        super().__init__(frame_dim, sound_dim, dim)
        self.frame_layers, self.sound_layers = perceptron(frame_dim, dim), perceptron(sound_dim, dim)
        self.slope = nn.Parameter(torch.tensor(-4.0))
        self.offset = nn.Parameter(torch.tensor(4.0 * math.sqrt(2)))

    def frames(self, features: Tensor) -> Tensor:
        return F.normalize(self.frame_layers(pooled(features)).float(), dim=1)

    def sounds(self, features: Tensor) -> Tensor:
        return F.normalize(self.sound_layers(pooled(features)).float(), dim=1)

    def forward(self, frames: Tensor, sounds: Tensor) -> Tensor:
        # Clamped: the root has no slope at 0.
        distance = (frames - sounds).square().sum(dim=1).clamp(min=1e-12).sqrt()
        return self.slope * distance + self.offset


class Localise(Fusion):
    """AVOL-Net: the scalar product of the sound with each position of the frame, and the maximum over them."""

    def __init__(self, frame_dim: int, sound_dim: int, dim: int) -> None:
        super().__init__(frame_dim, sound_dim, dim)
        self.frame_layers = nn.Sequential(nn.Conv2d(frame_dim, dim, 1), nn.ReLU(), nn.Conv2d(dim, dim, 1))
        self.sound_layers = perceptron(sound_dim, dim)
        self.slope = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(torch.zeros(()))

    def frames(self, features: Tensor) -> Tensor:
        """To (N, dim, H', W'); the moments of a still clip are one."""
        return self.frame_layers(features.mean(dim=2))

    def sounds(self, features: Tensor) -> Tensor:
        return self.sound_layers(pooled(features))

    def similarity(self, frames: Tensor, sounds: Tensor) -> Tensor:
        """Logits (N, H', W') of each position."""
        return self.slope * torch.einsum("ndhw,nd->nhw", frames, sounds) + self.offset

    def forward(self, frames: Tensor, sounds: Tensor) -> Tensor:
        return self.similarity(frames, sounds).amax(dim=(1, 2))


class Contrastive(Distance):
    """L2-normalised embeddings and their cosine over a learned temperature, for InfoNCE.

    The temperature starts at 0.07 and stays above 0.01 (Radford et al. 2021, arXiv 2103.00020, section 2.5).
    """

    def __init__(self, frame_dim: int, sound_dim: int, dim: int) -> None:
        super().__init__(frame_dim, sound_dim, dim)
        del self.slope, self.offset
        self.log_scale = nn.Parameter(torch.tensor(-math.log(0.07)))

    @property
    def scale(self) -> Tensor:
        """By which the cosine is multiplied."""
        return self.log_scale.clamp(max=math.log(100)).exp()

    def forward(self, frames: Tensor, sounds: Tensor) -> Tensor:
        return self.scale * (frames * sounds).sum(dim=1)


FUSIONS: dict[str, type[Fusion]] = {
    "concat": Concat,
    "distance": Distance,
    "localise": Localise,
    "contrastive": Contrastive,
}


def pooled(features: Tensor) -> Tensor:
    """The greatest value of each channel, (N, D, T', H', W') to (N, D)."""
    return features.amax(dim=(2, 3, 4))


def perceptron(inputs: int, dim: int) -> nn.Sequential:
    """Two layers, both of `dim` units."""
    return nn.Sequential(nn.Linear(inputs, dim), nn.ReLU(), nn.Linear(dim, dim))
