"""What a fresh shallow map says of a stale deep one: the skip connection of clockwork, fitted without labels.

In the network of Shelhamer et al. 2016 (arXiv 1608.03609, section 4) a linear map of the shallow features, which are
new, is added to what the deep features, which may be old, have given: the skips of FCN-8s (Long et al. 2015, arXiv
1411.4038). Our encoders have no such sum, but it can be made afterwards: with W the linear map, the deep map is
W * shallow and a rest, the rest is old and the shallow map is new, so that

    deep(t) ≈ W * shallow(t) + (deep(s) - W * shallow(s)) = deep(s) + W * (shallow(t) - shallow(s)),

s the last frame with a deep map. Nothing is lost where nothing changes, and t = s gives the encoder's own map.

Axes: T time, C channels, H height, W width, D features, E features of the shallow map.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from selfsup.encoders.encoder import Encoder
from selfsup.streaming.stream import frame_encoder

KERNEL = 3  # side, in cells of the deep map, of the square that the linear map looks at
QUARTERS = 2  # parts of a cell, either way
BATCH_FRAMES = 16


class LinearSkip(nn.Module):
    """The deep map now, from the held one and the change of the shallow map since.

    The change is averaged over the quarters of each cell of the deep map. No value is below the least that was seen in
    the fit, which is 0 after a ReLU.

    Args:
        weight: (D, E * QUARTERS ** 2, KERNEL, KERNEL).
        floor: (D,), the least values.
    """

    weight: Tensor
    floor: Tensor

    def __init__(self, weight: Tensor, floor: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("floor", floor)

    def forward(self, shallow: Tensor, shallow_held: Tensor, deep_held: Tensor) -> Tensor:
        """Shallow maps (1, E, h, w), now and of the held deep map (1, D, H', W'), to the deep map now.

        Raises:
            ValueError: maps of other stages than it was fitted to.
        """
        change = _pooled(shallow - shallow_held, deep_held)
        given, known = (change.shape[1], deep_held.shape[1]), (self.weight.shape[1], self.weight.shape[0])
        if given != known:
            raise ValueError(
                f"the skip was fitted to maps of {known[0] // QUARTERS**2} and {known[1]} channels, but the stages "
                f"give {given[0] // QUARTERS**2} and {given[1]}; give method.watched_stages and the encoder of its fit"
            )
        moved = deep_held + F.conv2d(change, self.weight, padding=KERNEL // 2)
        return torch.maximum(moved, self.floor.view(-1, 1, 1))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file that `load_skip` reads."""
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, path)


def load_skip(path: str) -> LinearSkip:
    """What `LinearSkip.save` has written; ValueError for any other file."""
    try:
        tensors = load_file(path)
        return LinearSkip(tensors["weight"], tensors["floor"])
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(f"{path}: not a skip that LinearSkip.save has written ({error}); fit it again") from error


@torch.no_grad()
def fit_skip(
    encoder: Encoder,
    videos: Iterable[Tensor],
    watched_stages: int,
    gaps_frames: Sequence[int] = (1, 2, 3, 4),
    penalty: float = 1.0,
) -> LinearSkip:
    """The linear map with the least squared error on videos, which need no labels; ridge regression.

    Args:
        encoder: 2-D; it is put into evaluation mode.
        videos: of frames (T, C, H, W), normalised float; not those that the stream will be judged on.
        watched_stages: as in `Clockwork`.
        gaps_frames: from the held frame to the present one.
        penalty: on squared weights, as a multiple of the mean square that a feature changes by, summed over examples.

    Raises:
        ValueError: a 3-D encoder, or no video that is longer than the least gap.
    """
    stages = frame_encoder(encoder).stages
    squares, targets, channels = torch.zeros(()), torch.zeros(()), 0
    floor = torch.full((encoder.dim,), float("inf"))
    for frames in videos:
        shallow, deep = _maps(stages, frames, watched_stages)
        pooled = _pooled(shallow, deep)
        channels = pooled.shape[1]
        cells = F.unfold(pooled, KERNEL, padding=KERNEL // 2).transpose(1, 2)
        floor = torch.minimum(floor, deep.amin(dim=(0, 2, 3)))
        values = deep.flatten(2).transpose(1, 2)  # (T, cells, D)
        for gap in gaps_frames:
            if gap < len(frames):
                change = (cells[gap:] - cells[:-gap]).flatten(0, 1)
                squares = squares + change.T @ change
                targets = targets + change.T @ (values[gap:] - values[:-gap]).flatten(0, 1)
    if not squares.ndim:
        raise ValueError(f"no video of more than {min(gaps_frames)} frame(s) to fit the skip to; give longer ones")
    squares.diagonal().add_(penalty * squares.diagonal().mean())
    weight = torch.linalg.solve(squares, targets).T  # (D, channels * KERNEL ** 2)
    return LinearSkip(weight.unflatten(1, (channels, KERNEL, KERNEL)).contiguous(), floor)


def _maps(stages: nn.Sequential, frames: Tensor, watched_stages: int) -> tuple[Tensor, Tensor]:
    """The watched map (T, E, h, w) and the last (T, D, H', W') of frames (T, C, H, W)."""
    shallow, deep = [], []
    for part in frames.split(BATCH_FRAMES):
        shallow.append(stages[:watched_stages](part))
        deep.append(stages[watched_stages:](shallow[-1]))
    return torch.cat(shallow), torch.cat(deep)


def _pooled(shallow: Tensor, deep: Tensor) -> Tensor:
    """A shallow map (T, E, h, w) on the cells of a deep one: (T, E * QUARTERS ** 2, H', W')."""
    height, width = deep.shape[-2:]
    return F.pixel_unshuffle(F.adaptive_avg_pool2d(shallow, (height * QUARTERS, width * QUARTERS)), QUARTERS)
