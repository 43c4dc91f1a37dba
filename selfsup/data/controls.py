"""Clips that tell less than they did: what an answer to them is still worth shows what it hangs on."""

from collections.abc import Callable

import torch
from torch import Tensor


def shuffled(clip: Tensor) -> Tensor:
    """Clip (B, C, T, H, W) with its frames in another order, one for all clips, drawn by T alone.

    The frame that is drawn for a place is never the one that was there, where there is more than one.
    """
    frames = clip.shape[2]
    generator = torch.Generator().manual_seed(frames)
    order = torch.randperm(frames, generator=generator)
    while frames > 1 and (order == torch.arange(frames)).any():
        order = torch.randperm(frames, generator=generator)
    return clip[:, :, order.to(clip.device)]


def single_frame(clip: Tensor) -> Tensor:
    """Clip (B, C, T, H, W) with its middle frame in every place."""
    middle = clip.shape[2] // 2
    return clip[:, :, middle : middle + 1].expand_as(clip)


CONTROLS: dict[str, Callable[[Tensor], Tensor]] = {"shuffled frames": shuffled, "single frame": single_frame}
