"""From decoded frames to what an encoder sees.

Cropping and flipping run in the workers on uint8; floats, colour and normalisation come later, on the device.
Everything that torchvision.transforms.v2 has is taken from there. All chance comes from torch's global generator,
which the dataset and the task seed for each example and each step.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

# Means and deviations of ImageNet's pixels, red, green and blue, in [0, 1] (torchvision's presets).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def train_crop(size_pixels: int, scale: tuple[float, float], flip: bool, stretch: bool) -> nn.Module:
    """Frames (..., H, W) -> (..., size, size): one random crop and flip for all frames of a clip.

    Args:
        size_pixels: side of the result.
        scale: least and greatest share of the area that the crop keeps.
        flip: mirror half of the clips.
        stretch: squeeze the whole frame into a square first, rather than keep its aspect.
    """
    ratio = (1.0, 1.0) if stretch else (3 / 4, 4 / 3)
    steps: list[nn.Module] = [v2.RandomResizedCrop(size_pixels, scale=tuple(scale), ratio=ratio, antialias=True)]
    if stretch:
        steps.insert(0, v2.Resize((size_pixels, size_pixels), antialias=True))
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose(steps)


def evaluation_crop(size_pixels: int, stretch: bool) -> nn.Module:
    """Frames (..., H, W) -> (..., size, size): the central square, or the whole frame where `stretch`."""
    return evaluation_crops(size_pixels, stretch, 1)[0]


def evaluation_crops(size_pixels: int, stretch: bool, crops: int) -> list[nn.Module]:
    """Crops like `evaluation_crop`: 1, the centre, or 3 along the longer side, from its start to its end.

    Three are the usual test of 3-D networks (Wang et al. 2018, arXiv 1711.07971). Raises ValueError for another number,
    or where `stretch` leaves nothing to choose.
    """
    if crops not in (1, 3) or (stretch and crops == 3):
        raise ValueError(
            f"data.evaluation_crops={crops}: give 1 or 3, and 1 where data.stretch=true, which sees the whole frame"
        )
    if stretch:
        return [v2.Resize((size_pixels, size_pixels), antialias=True)]
    resize = v2.Resize(size_pixels, antialias=True)
    if crops == 1:
        return [v2.Compose([resize, v2.CenterCrop(size_pixels)])]
    return [v2.Compose([resize, SideCrop(size_pixels, share)]) for share in (0.0, 0.5, 1.0)]


class SideCrop(v2.Transform):
    """The square of side `size_pixels` that lies at `share` of the room, 0 to 1, along the longer side."""

    def __init__(self, size_pixels: int, share: float) -> None:
        super().__init__()
        self.size_pixels = size_pixels
        self.share = share

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        top, left = (round(self.share * (side - self.size_pixels)) for side in inpt.shape[-2:])
        return v2.functional.crop(inpt, top, left, self.size_pixels, self.size_pixels)


class EachClip(nn.Module):
    """Applies `transform` to each clip of a batch (B, C, T, H, W) in [0, 1] with chance of its own."""

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, clip: Tensor) -> Tensor:
        frames = clip.transpose(1, 2)  # v2 wants (..., C, H, W)
        return torch.stack([self.transform(one) for one in frames]).transpose(1, 2)


class EachFrame(nn.Module):
    """Applies `transform` to each frame of a batch (B, C, T, H, W) in [0, 1] with chance of its own.

    Colour that jumps from frame to frame cannot be tracked, which forbids the low-level shortcut (Wang et al. 2020,
    arXiv 2008.05861).

    Args:
        transform: of frames (..., C, H, W).
        frames: frames in a row that share a draw, such as those of one clip of several; T must be a multiple.
    """

    def __init__(self, transform: nn.Module, frames: int = 1) -> None:
        super().__init__()
        self.transform = transform
        self.frames = frames

    def forward(self, clip: Tensor) -> Tensor:
        batch = clip.shape[0]
        runs = clip.transpose(1, 2).unflatten(1, (-1, self.frames)).flatten(0, 1)  # (B T / frames, frames, C, H, W)
        done = torch.stack([self.transform(one) for one in runs])
        return done.flatten(0, 1).unflatten(0, (batch, -1)).transpose(1, 2)


class SpatialJitter(nn.Module):
    """Shifts each frame of (B, C, T, H, W) by up to `pixels` in x and y, each by its own draw.

    Without it the order of frames can be read off small displacements (Lee et al. 2017, arXiv 1708.01246). The
    border is filled by reflection.

    Args:
        pixels: the greatest shift.
        frames: frames in a row that share a draw; T must be a multiple.
    """

    def __init__(self, pixels: int, frames: int = 1) -> None:
        super().__init__()
        self.pixels = pixels
        self.frames = frames

    def forward(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to one of the same shape."""
        batch, _, time, height, width = clip.shape
        reach = self.pixels
        frames = clip.transpose(1, 2).flatten(0, 1)  # (B T, C, H, W)
        padded = F.pad(frames, (reach, reach, reach, reach), mode="reflect")
        shifts = torch.randint(0, 2 * reach + 1, (2, len(frames) // self.frames), device=clip.device)
        shifts = shifts.repeat_interleave(self.frames, dim=1)  # (2, B T)
        rows = shifts[0, :, None] + torch.arange(height, device=clip.device)  # (B T, H)
        columns = shifts[1, :, None] + torch.arange(width, device=clip.device)
        which = torch.arange(len(frames), device=clip.device)
        moved = padded[which[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (B T, H, W, C)
        return moved.permute(0, 3, 1, 2).unflatten(0, (batch, time)).transpose(1, 2)


class ChannelSplitting(nn.Module):
    """Replaces each frame of (B, 3, T, H, W), with the given probability, by one of its channels, three times.

    Chromatic aberration and colour are then no cue (Lee et al. 2017, arXiv 1708.01246).

    Args:
        probability: that a frame is replaced.
        frames: frames in a row that share a draw; T must be a multiple.
    """

    def __init__(self, probability: float = 1.0, frames: int = 1) -> None:
        super().__init__()
        self.probability = probability
        self.frames = frames

    def forward(self, clip: Tensor) -> Tensor:
        batch, channels, time = clip.shape[:3]
        draws = (batch, 1, time // self.frames, 1, 1)
        chosen = torch.randint(0, channels, draws, device=clip.device).repeat_interleave(self.frames, dim=2)
        split = clip.gather(1, chosen.expand(-1, -1, -1, *clip.shape[3:])).expand_as(clip)
        keep = (torch.rand(draws, device=clip.device) >= self.probability).repeat_interleave(self.frames, dim=2)
        return torch.where(keep, clip, split)
