"""Learning features by watching objects move: which pixels of a still frame belong to what moves?

Pathak, Girshick, Dollár, Darrell and Hariharan, CVPR 2017, arXiv 1612.06370, sections 3 to 5. A labeller that sees the
video around the frame says what moves by itself; the network sees the frame alone, and can only know it by knowing
objects. The decoder is that of DeepMask (Pinheiro et al. 2015, arXiv 1506.06204, section 3): one linear map from all
features to all pixels of a small mask. It is thrown away, and the encoder is what stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torchvision.utils import flow_to_image

from selfsup.data.sampling import ClipSampler
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.task import Task


class MaskDecoder(nn.Module):
    """Feature map (B, D, H', W') to the logits (B, mask_pixels, mask_pixels) of a mask.

    Args:
        dim: D.
        grid: side to which the map is pooled.
        width: channels that each cell of the grid is reduced to.
        bottleneck: units between all cells and all pixels of the mask.
        mask_pixels: side of the mask.
    """

    def __init__(self, dim: int, grid: int, width: int, bottleneck: int, mask_pixels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(grid),
            nn.Conv2d(dim, width, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * grid**2, bottleneck),
            nn.Linear(bottleneck, mask_pixels**2),
            nn.Unflatten(1, (mask_pixels, mask_pixels)),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


class MotionSegmentation(Task):
    """Foreground of one still frame, on any encoder, taught by labels from motion.

    Its figures are means over frames of the intersection over union of the mask at a logit of 0: "iou" with the label,
    where the label is sure, and "iou, truth" with the true mask, where there is one. Two constant answers stand beside
    each, all foreground and the mean label of the training; the better of the two is what a guess scores. Where
    the truth is known, "iou, truth, the labels themselves" says how good the teacher is, on the frames it teaches by.

    Args:
        encoder, sampler, optimizer, schedule, augment: see `Task`.
        grid, width, bottleneck, mask_pixels: see `MaskDecoder`.
        foreground_above, background_below: labels, in [0, 1], that are sure. Pixels between teach nothing.
        picture_sampler: see `Task`.

    Raises ValueError where the two bounds are not in order within [0, 1].
    """

    label_sum: Tensor
    label_count: Tensor

    def __init__(
        self,
        encoder: Encoder,
        sampler: ClipSampler,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        augment: Sequence[nn.Module] = (),
        grid: int = 7,
        width: int = 128,
        bottleneck: int = 512,
        mask_pixels: int = 56,
        foreground_above: float = 0.7,
        background_below: float = 0.4,
        picture_sampler: ClipSampler | None = None,
    ) -> None:
        super().__init__(encoder, sampler, optimizer, schedule, augment)
        if not 0 <= background_below <= foreground_above <= 1:
            raise ValueError(
                f"task.background_below={background_below:g} and task.foreground_above={foreground_above:g}: "
                "give 0 <= background_below <= foreground_above <= 1"
            )
        self.mask_pixels = mask_pixels
        self.foreground_above = foreground_above
        self.background_below = background_below
        self.picture_sampler = picture_sampler
        self.decoder = MaskDecoder(encoder.dim, grid, width, bottleneck, mask_pixels)
        self.chance: dict[str, float] = {"iou": 0.0}  # no foreground at all; told by the test
        self.register_buffer("label_sum", torch.zeros(mask_pixels, mask_pixels))
        self.register_buffer("label_count", torch.zeros(()))

    def forward(self, clip: Tensor) -> Tensor:
        """One frame (B, C, 1, H, W) to the logits (B, mask_pixels, mask_pixels) of its foreground."""
        still = clip.expand(-1, -1, self.encoder.minimum_frames, -1, -1)  # a 3-D encoder sees a still clip
        return self.decoder(self.encoder(still).mean(dim=2))

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss over the pixels whose label is sure, and the figures."""
        logits = self(batch["clip"]).float()
        label = self._resized(batch["mask"])
        foreground = label > self.foreground_above
        sure = foreground | (label < self.background_below)
        losses = F.binary_cross_entropy_with_logits(logits, foreground.float(), reduction="none")
        outputs = {"loss": (losses * sure).sum() / sure.sum().clamp(min=1)}
        if self.training:
            self.label_sum += foreground.sum(dim=0)
            self.label_count += len(foreground)
        answers = {"": logits.detach() > 0}
        if not self.training:
            answers |= {name: answer.expand_as(sure) for name, answer in self.constants().items()}
        truth = self._resized(batch["truth"]) > 0.5 if "truth" in batch else None
        for name, answer in answers.items():
            outputs[f"iou{name}"] = mean_iou(answer, foreground, sure)
            if truth is not None:
                outputs[f"iou, truth{name}"] = mean_iou(answer, truth)
        if truth is not None:
            outputs["iou, truth, the labels themselves"] = mean_iou(label > 0.5, truth)
        return outputs

    def constants(self) -> dict[str, Tensor]:
        """Answers, bool (mask_pixels, mask_pixels), that do not look at the frame."""
        mean = self.label_sum / self.label_count.clamp(min=1)
        return {
            ", all foreground": torch.ones_like(mean, dtype=torch.bool),
            ", mean label": mean >= mean.max() / 2,  # at one half of all frames there is often nothing
        }

    @torch.no_grad()
    def pictures(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Frame, flow where there is any, label, answer, and the true mask where there is one."""
        answer = self(self.prepare(batch["clip"])).float().sigmoid()[:, None]
        frame = batch["clip"][:, :, 0].float() / 255
        masks = [batch["mask"][:, :, 0].float(), answer]
        if "truth" in batch:
            masks.append(batch["truth"][:, :, 0].float())
        shown = [frame]
        if "flow" in batch:  # each on its own scale
            shown.append(torch.stack([flow_to_image(field) for field in batch["flow"][:, :, 0].float()]) / 255)
        return [*shown, *(F.interpolate(mask, frame.shape[-2:]).expand_as(frame) for mask in masks)]

    def on_test_end(self) -> None:
        """What a guess scores is known now."""
        known = self.logged("test")
        self.chance = {
            figure: max(float(known[f"{figure}{name}"]) for name in self.constants())
            for figure in ("iou", "iou, truth")
            if figure in known
        }

    def _resized(self, mask: Tensor) -> Tensor:
        """Mask (B, 1, 1, H, W), float of any kind, to float32 (B, mask_pixels, mask_pixels)."""
        size = [self.mask_pixels, self.mask_pixels]
        return F.interpolate(mask[:, :, 0].float(), size, mode="bilinear", antialias=True)[:, 0]


def mean_iou(answer: Tensor, target: Tensor, counted: Tensor | None = None) -> Tensor:
    """Mean over frames of the intersection over union of masks, bool (B, H, W); 1 where both are empty.

    Only pixels of `counted`, bool (B, H, W), count; by default all. Region similarity J of DAVIS (Perazzi et al. 2016).
    """
    if counted is not None:
        answer, target = answer & counted, target & counted
    both = (answer & target).sum(dim=(1, 2)).float()
    either = (answer | target).sum(dim=(1, 2)).float()
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both)).mean()
