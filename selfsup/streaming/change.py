"""How fast the maps of an encoder change, stage by stage: what clockwork lives on.

Shelhamer et al. 2016, arXiv 1608.03609, section 3: the proportional difference between adjacent frames.

Axes: T time, C channels, H height, W width, D features, K classes, S stages.
"""

import torch
from torch import Tensor

from selfsup.encoders.encoder import Encoder
from selfsup.streaming.stream import frame_encoder


def relative_change(new: Tensor, old: Tensor) -> float:
    """||new - old|| / ||old|| of two maps of one shape; 0 where both are 0, infinite where only the old one is."""
    difference, size = float((new - old).norm()), float(old.norm())
    if size:
        return difference / size
    return float("inf") if difference else 0.0


def changed_share(new: Tensor, old: Tensor) -> float:
    """The share of places, in [0, 1], whose class differs between two score maps (..., K, H, W).

    The class is the largest of K scores; where K is 1, whether the score is above 0.
    """
    first, second = ((scores > 0).squeeze(-3) if scores.shape[-3] == 1 else scores.argmax(-3) for scores in (new, old))
    return float((first != second).float().mean())


@torch.no_grad()
def velocities(encoder: Encoder, frames: Tensor) -> Tensor:
    """The relative change from each frame of a video to the next, by stage.

    Args:
        encoder: 2-D; it is put into evaluation mode.
        frames: (T, C, H, W), normalised float, T at least 2.

    Returns:
        Float (S + 1, T - 1): row 0 is of the frames themselves, row k of the map after k stages.

    Raises:
        ValueError: a 3-D encoder, or fewer than two frames.
    """
    if len(frames) < 2:
        raise ValueError(f"a video of {len(frames)} frame(s) has no change; give at least two frames")
    stages = frame_encoder(encoder).stages
    before: list[Tensor] = []
    columns = []
    for frame in frames:
        maps = [frame[None]]
        for stage in stages:
            maps.append(stage(maps[-1]))
        if before:
            columns.append([relative_change(new, old) for new, old in zip(maps, before, strict=True)])
        before = maps
    return torch.tensor(columns).T
