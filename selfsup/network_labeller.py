"""What a run of `task=motion_segmentation` has learned, as a labeller: the foreground of each frame by itself."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from yaml import YAMLError

from selfsup.callbacks.checkpoint import LAST
from selfsup.data.foreground import Labels, MaskFilter, certainty, settings_of
from selfsup.data.index import checksum
from selfsup.encoders.state_dict import explain_mismatch, shapes
from selfsup.tasks.motion_segmentation import MotionSegmentation

CONFIG = Path("config", "config.yaml")  # in the folder of a run
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
        config = _read_config(folder)
        self.task = _load(config, folder)
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


def _read_config(folder: Path) -> DictConfig:
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give foreground.run the folder of a run of task=motion_segmentation")
    try:
        config = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not the configuration of a run; give the folder of another one") from error
    wanted = f"{MotionSegmentation.__module__}.{MotionSegmentation.__qualname__}"
    found = OmegaConf.select(config, "task._target_")
    if not isinstance(config, DictConfig) or found != wanted or "encoder" not in config or "data" not in config:
        raise ValueError(
            f"{folder}: a run of {found or 'no task'}, which tells no foreground; give one of task=motion_segmentation"
        )
    return config


def _load(config: DictConfig, folder: Path) -> MotionSegmentation:
    """The task with the weights of the last checkpoint, in eval mode."""
    path = folder / LAST
    if not path.is_file():
        raise ValueError(f"{path}: no such file; the run has not ended its first epoch, go on with resume=last")
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable checkpoint ({reason}); copy it again, or train again") from error
    config.task.sampler = config.task.picture_sampler = None  # the labels that taught it are of no use here
    with torch.random.fork_rng(devices=[]):  # loading leaves the seed of the run alone
        task: MotionSegmentation = instantiate(config.task, _partial_=True)(encoder=instantiate(config.encoder))
    if difference := explain_mismatch(shapes(task.state_dict()), shapes(state)):
        raise ValueError(f"{path}: its tensors are not those of {folder / CONFIG} ({difference}); train again")
    task.load_state_dict(state)
    return task.eval()
