"""The contract of every encoder: a clip goes in, a feature map comes out.

Axes: B batch, C channels, T time, H height, W width, D features.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class InputSpecification:
    """What an encoder was trained to see. How many channels, its architecture says.

    Args:
        size_pixels: height and width of the (square) crop.
        mean, std: one number a channel, on values in [0, 1]; the clip is (value - mean) / std.
        fps: frames a second of the clip, None where frames were not taken at a fixed rate.
    """

    size_pixels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fps: float | None

    def __post_init__(self) -> None:
        if isinstance(self.size_pixels, bool) or not isinstance(self.size_pixels, int) or self.size_pixels < 1:
            raise ValueError(f"input.size_pixels is {self.size_pixels!r}; give a whole number of at least 1")
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"input.mean {self.mean} and input.std {self.std} must hold one number a channel")
        if not all(map(math.isfinite, self.mean)):
            raise ValueError(f"input.mean {self.mean} must hold finite numbers")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise ValueError(f"input.std {self.std} must hold finite numbers above 0")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"input.fps is {self.fps}; give a number above 0, or None")

    def warning(self, size_pixels: int) -> str | None:
        """A sentence where clips of this size are not what the encoder was trained to see, else None."""
        if size_pixels == self.size_pixels:
            return None
        return (
            f"warning: the encoder was trained on {self.size_pixels} pixels and sees {size_pixels} here; "
            f"data.size_pixels={self.size_pixels} gives it what it knows (its mean and deviation are kept)"
        )

    def normalize(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W), uint8, or float in [0, 1], to what the encoder takes."""
        scaled = clip.float() / 255.0 if clip.dtype == torch.uint8 else clip
        mean, std = (scaled.new_tensor(numbers).view(-1, 1, 1, 1) for numbers in (self.mean, self.std))
        return (scaled - mean) / std


class Encoder(nn.Module):
    """Maps a clip (B, C, T, H, W), float, to a feature map (B, D, T', H', W').

    A subclass sets `stages` and `dim`, and keeps every constructor argument as an attribute of the same name,
    so that `selfsup.weights` can write down how to build it again.

    Attributes:
        stages: applied in order they are the encoder; freezing, clockwork and pipelines need nothing else.
        dim: D.
        minimum_frames: the shortest clip that it takes.
        minimum_pixels: the smallest height and width that it takes.
        input: what a loaded encoder was trained to see; None for a fresh one.
        source: the metadata of the file that a loaded encoder came from; None for a fresh one.
    """

    stages: nn.Sequential
    dim: int
    minimum_frames: int = 1
    minimum_pixels: int = 1
    input: InputSpecification | None = None
    source: Mapping[str, Any] | None = None

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(name for name, _ in self.stages.named_children())

    def forward(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to features (B, D, T', H', W').

        Raises:
            ValueError: the clip has not five axes, or is too short or too small.
        """
        self.check(clip)
        return self.stages(clip)

    def check(self, clip: Tensor) -> None:
        """Raises ValueError where `clip` cannot be encoded."""
        # Without this a (B, C, H, W) batch would pass through a 2-D network as unbatched frames.
        if clip.ndim != 5:
            raise ValueError(
                f"{type(self).__name__} takes a clip (B, C, T, H, W), but got shape {tuple(clip.shape)}; "
                "give an image a time axis with `image.unsqueeze(2)`"
            )
        frames, height, width = clip.shape[-3:]
        if frames < self.minimum_frames or min(height, width) < self.minimum_pixels:
            side = self.minimum_pixels
            raise ValueError(
                f"{type(self).__name__} takes {self.minimum_frames} or more frames of at least {side} x {side} pixels, "
                f"but got {frames} of {height} x {width}; lengthen the clip or enlarge the crop"
            )


class FrameEncoder(Encoder):
    """An encoder whose stages are 2-D, (N, C, H, W) -> (N, D, H', W'), and see each frame alone; T' = T.

    Time is folded into the batch: N = B * T, frame t of clip b at row b * T + t.
    """

    def forward(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to features (B, D, T, H', W').

        Raises:
            ValueError: the clip has not five axes, or is too short or too small.
        """
        self.check(clip)
        batch, frames = clip.shape[0], clip.shape[2]
        maps = self.stages(clip.transpose(1, 2).flatten(0, 1))  # (B*T, D, H', W')
        return maps.unflatten(0, (batch, frames)).transpose(1, 2)  # (B, D, T, H', W')
