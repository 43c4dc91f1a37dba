"""A vision transformer on clips, as VideoMAE has it (Tong, Song, Wang and Wang 2022, arXiv 2203.12602, section 3).

The network of Dosovitskiy et al. 2021, arXiv 2010.11929, on tokens that are cubes of a few frames and pixels: every
token attends to all others, of all times. There is no class token. Places are told by fixed sines and cosines. The
paper numbers the tokens in one row; here time, row and column have a third of the channels each, so that a place looks
the same in a clip of any size, and nothing is interpolated.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from selfsup.encoders.encoder import Encoder
from selfsup.encoders.state_dict import load_local


class ViT(Encoder):
    """Clip (B, in_channels, T, H, W) to features (B, dim, T / tubelet_frames, H / patch_pixels, W / patch_pixels).

    T' is rounded up: the last frame is repeated until the last tubelet is full, so that one frame is a still clip. H
    and W must be multiples of the patch. The stages are `embed`, `block1` and so on, and `norm`.

    Args:
        in_channels: channels of a frame.
        patch_pixels: side of a token.
        tubelet_frames: frames of a token.
        dim: D.
        depth: blocks.
        heads: of the attention; each has dim / heads channels.
        weights_path: a local state dict with this class's own names, such as one that selfsup wrote.

    Raises:
        ValueError: a number below 1, an odd `dim`, or one that the heads do not divide; weights that do not fit; in
            `forward`, frames that the patch does not divide.
    """

    def __init__(
        self,
        in_channels: int = 3,
        patch_pixels: int = 8,
        tubelet_frames: int = 2,
        dim: int = 192,
        depth: int = 4,
        heads: int = 3,
        weights_path: str | None = None,
    ) -> None:
        super().__init__()
        sizes = {"patch_pixels": patch_pixels, "tubelet_frames": tubelet_frames, "depth": depth}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"encoder.{name}={value}: give at least 1")
        check_width("encoder.dim", dim, "encoder.heads", heads)
        self.in_channels = in_channels
        self.patch_pixels = patch_pixels
        self.tubelet_frames = tubelet_frames
        self.dim = dim
        self.depth = depth
        self.heads = heads
        self.weights_path = weights_path
        self.minimum_pixels = patch_pixels

        stages: list[tuple[str, nn.Module]] = [("embed", Embed(in_channels, patch_pixels, tubelet_frames, dim))]
        stages += [(f"block{number}", OnMap(block(dim, heads))) for number in range(1, depth + 1)]
        stages.append(("norm", OnMap(nn.LayerNorm(dim, eps=1e-6))))
        self.stages = nn.Sequential(OrderedDict(stages))
        if weights_path is not None:
            load_local(self, weights_path, head_keys=())

    def check(self, clip: Tensor) -> None:
        """See `Encoder.check`; here frames that the patch does not divide are refused too."""
        super().check(clip)
        height, width = clip.shape[-2:]
        if height % self.patch_pixels or width % self.patch_pixels:
            raise ValueError(
                f"ViT cuts frames into patches of encoder.patch_pixels={self.patch_pixels}, which do not fill frames "
                f"of {height} x {width} pixels; give data.size_pixels a multiple of it"
            )

    def encode_visible(self, clip: Tensor, visible: Tensor) -> Tensor:
        """The features (B, V, dim) of the tokens that are visible; no other enters an attention.

        Args:
            clip: (B, C, T, H, W).
            visible: bool (B, T', H', W') with V true values in each row, which are read in this order.
        """
        self.check(clip)
        embed, *others = self.stages
        tokens = to_tokens(embed(clip))
        kept = tokens[visible.flatten(1)].unflatten(0, (len(clip), -1))
        for stage in others:
            assert isinstance(stage, OnMap)
            kept = stage.module(kept)
        return kept


class Embed(nn.Module):
    """The first stage: clip (B, C, T, H, W) to the token of each cube, with its place, (B, D, T', H', W')."""

    def __init__(self, in_channels: int, patch_pixels: int, tubelet_frames: int, dim: int) -> None:
        super().__init__()
        self.tubelet_frames = tubelet_frames
        cube = (tubelet_frames, patch_pixels, patch_pixels)
        self.project = nn.Conv3d(in_channels, dim, cube, cube)
        nn.init.xavier_uniform_(self.project.weight.data.view(dim, -1))  # it is a linear layer on a cube's values
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, clip: Tensor) -> Tensor:
        maps = self.project(filled(clip, self.tubelet_frames))
        places = positions(maps.shape[2:], maps.shape[1], maps.device)
        return maps + places.T.unflatten(1, maps.shape[2:]).to(maps.dtype)


class OnMap(nn.Module):
    """A module on tokens (B, N, D), from map (B, D, T', H', W') to map."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, maps: Tensor) -> Tensor:
        return self.module(to_tokens(maps)).transpose(1, 2).unflatten(2, maps.shape[2:])


def block(dim: int, heads: int) -> nn.TransformerEncoderLayer:
    """Attention and a perceptron of four times the width, each after a LayerNorm and beside a shortcut."""
    layer = nn.TransformerEncoderLayer(
        dim, heads, 4 * dim, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return layer


def check_width(dim_name: str, dim: int, heads_name: str, heads: int) -> None:
    """ValueError where a width cannot hold places, or be cut into heads."""
    if dim < 6 or dim % 2 or heads < 1 or dim % heads:
        raise ValueError(
            f"{dim_name}={dim} and {heads_name}={heads}: give an even width of at least 6 that the heads divide"
        )


def filled(clip: Tensor, tubelet_frames: int) -> Tensor:
    """Clip (B, C, T, H, W) with its last frame repeated until T is a multiple of `tubelet_frames`."""
    short = -clip.shape[2] % tubelet_frames
    return torch.cat([clip, clip[:, :, -1:].expand(-1, -1, short, -1, -1)], dim=2) if short else clip


def to_tokens(maps: Tensor) -> Tensor:
    """Map (B, D, T', H', W') to tokens (B, T'H'W', D)."""
    return maps.flatten(2).transpose(1, 2)


def positions(grid: tuple[int, ...] | torch.Size, dim: int, device: torch.device) -> Tensor:
    """Sines and cosines of time, row and column, float32 (T'H'W', dim), of wave lengths from 2 pi to 20,000 pi.

    Vaswani et al. 2017, arXiv 1706.03762, section 3.5, for each of the three. Row and column have equally many
    channels, and time what is left.
    """
    side = 2 * (dim // 6)
    axes = []
    for length, width in zip(grid, (dim - 2 * side, side, side), strict=True):
        rates = 10_000.0 ** (-torch.arange(width // 2, device=device) / (width // 2))
        angles = torch.arange(length, device=device)[:, None] * rates
        axes.append(torch.cat([angles.sin(), angles.cos()], dim=1))  # (length, width)
    time, row, column = axes
    return torch.cat(
        [
            time[:, None, None].expand(-1, grid[1], grid[2], -1),
            row[None, :, None].expand(grid[0], -1, grid[2], -1),
            column[None, None].expand(grid[0], grid[1], -1, -1),
        ],
        dim=3,
    ).flatten(0, 2)
