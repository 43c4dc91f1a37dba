"""A vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) as stages that pass on maps.

Tokens (N, P + H'W', D), of which the first P are class and register tokens, travel as a token map
(N, D, R + H', W'): its first R rows hold the P prefix tokens, then zeros. So every stage gives one tensor
with four axes, of any aspect ratio, and the composition of the stages is the network.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Embed(nn.Module):
    """The first stage, timm's transformer less blocks and norm: frames (N, C, H, W) to a token map."""

    def __init__(self, network: Any, patch_pixels: tuple[int, int]) -> None:
        super().__init__()
        self.network = network  # what is left of its forward_features is the embedding
        self.patch_width = patch_pixels[1]

    def forward(self, frames: Tensor) -> Tensor:
        tokens = self.network.forward_features(frames)
        return to_map(tokens, self.network.num_prefix_tokens, frames.shape[-1] // self.patch_width)


class OnTokens(nn.Module):
    """A block, or the last norm, from token map to token map."""

    def __init__(self, block: nn.Module, prefix: int) -> None:
        super().__init__()
        self.block = block
        self.prefix = prefix

    def forward(self, token_map: Tensor) -> Tensor:
        return to_map(self.block(to_tokens(token_map, self.prefix)), self.prefix, token_map.shape[-1])


class Patches(nn.Module):
    """Drops the prefix rows: (N, D, R + H', W') to (N, D, H', W')."""

    def __init__(self, prefix: int) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, token_map: Tensor) -> Tensor:
        return token_map[:, :, prefix_rows(self.prefix, token_map.shape[-1]) :]


def prefix_rows(prefix: int, width: int) -> int:
    """R, the rows of a map of that width that so many tokens before the picture's own fill."""
    return -(-prefix // width)


def to_map(tokens: Tensor, prefix: int, width: int) -> Tensor:
    """Tokens (N, prefix + H'W', D) to a map (N, D, R + H', W')."""
    empty = prefix_rows(prefix, width) * width - prefix
    filled = torch.cat([tokens[:, :prefix], F.pad(tokens[:, prefix:], (0, 0, empty, 0))], dim=1)
    return filled.transpose(1, 2).unflatten(2, (-1, width))


def to_tokens(token_map: Tensor, prefix: int) -> Tensor:
    """The inverse of `to_map`."""
    tokens = token_map.flatten(2).transpose(1, 2)
    first_patch = prefix_rows(prefix, token_map.shape[-1]) * token_map.shape[-1]
    return torch.cat([tokens[:, :prefix], tokens[:, first_patch:]], dim=1)
