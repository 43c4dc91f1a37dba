"""What a run of `task=motion_segmentation` has learned, as a labeller: the foreground of each frame by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from selfsup.callbacks.checkpoint import LAST
from selfsup.data.foreground import Labels, MaskFilter, certainty, settings_of
from selfsup.data.index import checksum
from selfsup.runs import load_task, read_config
from selfsup.tasks.motion_segmentation import MotionSegmentation

BATCH_FRAMES = 16


class NetworkLabeller:
    """Labels frames with a trained network that sees no motion: for `selfsup evaluate foreground`, or as a teacher.

    A frame is squeezed into the square that the network was trained on, and its mask is stretched to the frame: as the
    training shows frames where `data.stretch` is true.

    Args:
        run: folder of a run of task=motion_segmentation, with config/config.yaml and last.ckpt.
        mask_filter: is asked about each mask.

    Attributes:
        name: of what the labels depend on, as text; part of the key of labels that are kept.

    Raises ValueError where the folder is none of such a run, or a file of it is missing, damaged or of another network.
    """

    def __init__(self, run: str, mask_filter: MaskFilter) -> None:
        folder = Path(run)
        config = read_config(folder, MotionSegmentation, "foreground.run", "tells no foreground")
        config.task.sampler = config.task.picture_sampler = None  # the labels that taught it are of no use here
        self.task = load_task(config, folder, MotionSegmentation)
        self.size_pixels = int(config.data.size_pixels)
        self.mask_filter = mask_filter
        self.name = f"network {checksum(folder / LAST)} at {self.size_pixels} pixels, {settings_of(mask_filter)}"

    def __call__(self, frames: Tensor, times_seconds: Sequence[float]) -> Labels:
        """Labels of frames uint8 (T, 3, H, W) shown at T times."""
        masks = torch.cat([self._masks(part) for part in frames.split(BATCH_FRAMES)])
        rejections = tuple(self.mask_filter(mask.numpy()) for mask in masks)
        sure = [certainty(mask) if reason is None else 0.0 for mask, reason in zip(masks, rejections, strict=True)]
        return Labels(torch.as_tensor(times_seconds, dtype=torch.float64), masks, torch.tensor(sure), rejections)

    @torch.no_grad()
    def _masks(self, frames: Tensor) -> Tensor:
        """Frames uint8 (B, 3, H, W) to masks float32 (B, H, W) in [0, 1]."""
        seen = F.resize(frames, [self.size_pixels, self.size_pixels], antialias=True)
        logits = self.task(self.task.prepare(seen.unsqueeze(2)))  # (B, mask_pixels, mask_pixels)
        return F.resize(logits.float().sigmoid(), list(frames.shape[-2:]), antialias=True).clamp(0, 1)
