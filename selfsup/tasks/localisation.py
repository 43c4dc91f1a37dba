"""Where in the frame does it sound? The pointing game (Zhang et al. 2016, arXiv 1608.00507, section 4.2), and pictures.

The peak of the similarity map, taken at the middle of its cell and without tolerance, must lie in the sounding object.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from selfsup.tasks.correspondence import Embedded
from selfsup.tasks.fusion import Localise


def pointing(
    head: Localise, encode: Callable[[Tensor], Tensor], examples: Embedded, batch: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Of each frame of a batch whether the peak is in its object, and what guesses get: float (B,) on the CPU.

    "pointing" is of the frame itself. For "pointing, mosaic" four frames lie side by side, one of which sounds; NaN in
    a batch of fewer. Each is followed by ", centre", the middle of the picture, and ", anywhere", a random place.

    Args:
        head: gives the map.
        encode: normalised frames (B, C, 1, H, W) to what the head compares, (B, 1, D, H', W').
        examples: the batch as the head compares it.
        batch: "clip", normalised, and "truth" (B, 1, M, H, W); the first of M moments is taken.
    """
    clip, truth = batch["clip"][:, :, 0], batch["truth"][:, 0, 0].float() > 0.5
    sounds = examples.sounds[:, 0]
    hits = told("pointing", head.similarity(examples.frames[:, 0], sounds), truth)
    if len(clip) >= 4:
        tiles, where = mosaic(clip, truth)
        hits |= told("pointing, mosaic", head.similarity(encode(tiles[:, :, None])[:, 0], sounds), where)
    else:
        hits |= {
            f"pointing, mosaic{end}": torch.full((len(clip),), torch.nan) for end in ("", ", centre", ", anywhere")
        }
    return {**hits, "videos": examples.videos.cpu()}


def told(name: str, similarity: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Whether maps (B, H', W') peak in masks, bool (B, H, W), and what guesses get; float (B,) on the CPU."""
    height, width = truth.shape[-2:]
    rows, columns = similarity.shape[-2:]
    peak = similarity.flatten(1).argmax(dim=1)
    y = ((peak // columns + 0.5) * height / rows).long()
    x = ((peak % columns + 0.5) * width / columns).long()
    hits = {
        name: truth[torch.arange(len(truth), device=truth.device), y, x],
        f"{name}, centre": truth[:, height // 2, width // 2],
        f"{name}, anywhere": truth.float().mean(dim=(1, 2)),
    }
    return {name: hit.float().cpu() for name, hit in hits.items()}


def mosaic(frames: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Frames (B, C, H, W) and masks (B, H, W) to mosaics (B, C, 2 H, 2 W) of four frames, and where the first's is.

    The other three of row n are frames from a quarter, a half and three quarters of the batch further on. Its own is
    top left for n = 0, and then goes round.
    """
    batch = len(frames)
    others = [(torch.arange(batch, device=frames.device) + step * batch // 4) % batch for step in range(4)]
    turn = torch.arange(batch, device=frames.device) % 4
    tiles, masks = [], []
    for place in range(4):
        step = (place - turn) % 4  # 0: the sounding frame itself
        chosen = torch.stack(others)[step, torch.arange(batch, device=frames.device)]
        tiles.append(frames[chosen])
        masks.append(truth & (step == 0)[:, None, None])
    joined = [
        torch.cat([torch.cat(parts[:2], dim=-1), torch.cat(parts[2:], dim=-1)], dim=-2) for parts in (tiles, masks)
    ]
    return joined[0], joined[1]


def heat_map(frames: Tensor, similarity: Tensor) -> Tensor:
    """Maps (B, H', W') laid over frames (B, 3, H, W) in [0, 1]: from the least, grey and dark, to the greatest, red."""
    low, high = similarity.amin(dim=(1, 2), keepdim=True), similarity.amax(dim=(1, 2), keepdim=True)
    heat = ((similarity - low) / (high - low).clamp(min=1e-6))[:, None]
    heat = F.interpolate(heat, frames.shape[-2:], mode="bilinear").clamp(0, 1)
    red = torch.tensor([1.0, 0.1, 0.0], device=frames.device).view(1, 3, 1, 1)
    grey = frames.mean(dim=1, keepdim=True)
    return (1 - 0.6 * heat) * (0.4 + 0.3 * heat) * grey / 0.7 + 0.6 * heat * red
