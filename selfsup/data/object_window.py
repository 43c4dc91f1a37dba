"""The square around an object, roughly: what a network sees that learns to cut objects out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from selfsup.data.sampling import uniform


@dataclass(frozen=True)
class ObjectWindow:
    """A square around the foreground of a mask, moved and scaled at random.

    After DeepMask (Pinheiro et al. 2015, arXiv 1506.06204), whose objects are roughly centred and of one size. A square
    that does not fit in the frame is made smaller and shifted inwards.

    Args:
        context: side of the square over the longer side of the foreground.
        shift_share: the centre moves by up to this share of the side, either way.
        scale_octaves: the side changes by a factor of up to 2 to this power, either way.

    Raises ValueError for a context that is not positive, or a negative shift or scale.
    """

    context: float = 1.75
    shift_share: float = 0.07
    scale_octaves: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.context < math.inf:
            raise ValueError(f"window.context={self.context:g}: give a positive number")
        for name in ("shift_share", "scale_octaves"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"window.{name}={getattr(self, name):g}: give 0 or a positive number")

    def __call__(self, mask: Tensor, generator: torch.Generator) -> tuple[int, int, int]:
        """Top, left and side, in pixels, of the square in a mask (H, W) in [0, 1].

        Foreground is what is at least half as sure as the surest pixel; of a mask without any, the whole frame.
        """
        height, width = mask.shape
        rows, columns = (mask >= mask.max() / 2).nonzero(as_tuple=True)
        top, bottom = int(rows.min()), int(rows.max()) + 1
        left, right = int(columns.min()), int(columns.max()) + 1
        factor = self.context * 2 ** uniform(-self.scale_octaves, self.scale_octaves, generator)
        wanted = factor * max(bottom - top, right - left)
        side = min(max(1, round(wanted)), height, width)
        reach = self.shift_share * side
        starts = [
            (near + far - side) / 2 + uniform(-reach, reach, generator) for near, far in ((top, bottom), (left, right))
        ]
        top, left = (
            min(max(0, round(start)), length - side) for start, length in zip(starts, (height, width), strict=True)
        )
        return top, left, side
