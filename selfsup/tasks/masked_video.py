"""What is behind the mask? A clip is rebuilt from a tenth of its patches.

VideoMAE (Tong, Song, Wang and Wang, NeurIPS 2022, arXiv 2203.12602, section 3). Tubes are hidden: the same places in
all frames, so that no neighbour in time gives the answer away. The encoder is given the visible tokens alone, and a
narrower decoder, which is thrown away, tells the pixels of the others. Each patch of the target is normalised by its
own mean and deviation (He et al. 2022, arXiv 2111.06377, section 4.1): what is asked for is what it shows, not how
bright it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from selfsup.data.dataset import derive_seed
from selfsup.data.sampling import ClipSampler
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.vit import ViT, block, check_width, positions
from selfsup.tasks.task import Task

DEVIATION_FLOOR = 1e-6  # of a patch that is all one colour


class MaskedVideo(Task):
    """Tube-masked reconstruction, on a vision transformer.

    There is no accuracy. "explained" is the share of the variance within hidden patches that is told: 1 for the very
    pixels, 0 for the mean of each patch, which nobody has told the network, and less for a wrong answer.

    Args:
        encoder, sampler, optimizer, schedule, augment: see `Task`. The encoder is a `ViT`.
        mask_ratio: share of the places that are hidden, to the nearest whole number of them.
        decoder_dim, decoder_depth, decoder_heads: of the decoder.
        picture_sampler: see `Task`.

    Raises ValueError for another encoder, or a value out of its bounds.
    """

    encoder: ViT
    chance = {"explained": 0.0}  # noqa: RUF012

    def __init__(
        self,
        encoder: Encoder,
        sampler: ClipSampler,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        augment: Sequence[nn.Module] = (),
        mask_ratio: float = 0.9,
        decoder_dim: int = 96,
        decoder_depth: int = 2,
        decoder_heads: int = 3,
        picture_sampler: ClipSampler | None = None,
    ) -> None:
        if not isinstance(encoder, ViT):
            raise ValueError(
                f"task=masked_video hides patches from the encoder, and {type(encoder).__name__} sees whole frames; "
                "choose encoder=vit"
            )
        super().__init__(encoder, sampler, optimizer, schedule, augment)
        if not 0 < mask_ratio < 1:
            raise ValueError(f"task.mask_ratio={mask_ratio:g} must lie between 0 and 1")
        if decoder_depth < 1:
            raise ValueError(f"task.decoder_depth={decoder_depth}: give at least 1")
        check_width("task.decoder_dim", decoder_dim, "task.decoder_heads", decoder_heads)
        self.mask_ratio = mask_ratio
        self.picture_sampler = picture_sampler
        self.narrow = nn.Linear(encoder.dim, decoder_dim)
        self.hidden_token = nn.Parameter(0.02 * torch.randn(decoder_dim))
        values = encoder.in_channels * encoder.tubelet_frames * encoder.patch_pixels**2
        self.decoder = nn.Sequential(
            *(block(decoder_dim, decoder_heads) for _ in range(decoder_depth)),
            nn.LayerNorm(decoder_dim, eps=1e-6),
            nn.Linear(decoder_dim, values),
        )

    def forward(self, clip: Tensor, hidden: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) and what is hidden of it, bool (B, T', H', W'), to patches (B, T'H'W', C, P) as told.

        P are the pixels of a tubelet.
        """
        seen = self.narrow(self.encoder.encode_visible(clip, ~hidden))
        tokens = self.hidden_token.to(seen.dtype).expand(len(clip), hidden[0].numel(), -1)
        tokens = tokens.masked_scatter(~hidden.flatten(1)[:, :, None], seen)
        places = positions(hidden.shape[1:], tokens.shape[2], tokens.device)
        return self.decoder(tokens + places).unflatten(2, (self.encoder.in_channels, -1))

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean squared error over hidden patches, that of their means, and the share of the variance that is told.

        Held-out videos tell besides what the mean of the visible patches of a clip would explain.
        """
        clip = batch["clip"]
        hidden = self.hide(clip, None if self.training else batch["video"])
        target, _, _ = normalised(patches(clip.float(), self.encoder.tubelet_frames, self.encoder.patch_pixels))
        told = self(clip, hidden).float()
        asked = hidden.flatten(1)
        loss = F.mse_loss(told[asked], target[asked])
        of_means = target[asked].square().mean()
        scale = of_means.clamp(min=DEVIATION_FLOOR)  # clips of one colour have no variance
        outputs = {"loss": loss, "loss, patch means": of_means, "explained": 1 - loss.detach() / scale}
        if not self.training:
            visible = target[~asked].unflatten(0, (len(clip), -1)).mean(dim=1, keepdim=True).expand_as(target)
            outputs["explained, mean of visible"] = 1 - F.mse_loss(visible[asked], target[asked]) / scale
        return outputs

    def hide(self, clip: Tensor, videos: Tensor | None) -> Tensor:
        """What is hidden of clips (B, C, T, H, W): `tube_mask` of their grid.

        Of the numbers (B,) of held-out videos all chance follows, so that they are asked the same in each epoch.

        Raises ValueError for frames that tubelets do not fill.
        """
        frames, height, width = clip.shape[-3:]
        tubelet, patch = self.encoder.tubelet_frames, self.encoder.patch_pixels
        self.encoder.check(clip)
        if frames % tubelet:
            raise ValueError(
                f"task=masked_video: tubelets of encoder.tubelet_frames={tubelet} do not fill clips of {frames} "
                "frames; give task.sampler.num_frames a multiple of it"
            )
        generator = None
        if videos is not None:
            generator = torch.Generator().manual_seed(derive_seed(*videos.tolist()))
        grid = (frames // tubelet, height // patch, width // patch)
        return tube_mask(len(clip), grid, self.mask_ratio, generator).to(clip.device)

    @torch.no_grad()
    def pictures(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """The frame in the middle, what is visible of it, and the same with what was told in the gaps.

        What was told has neither brightness nor contrast: those of the hidden patches are lent to it.
        """
        clip = self.prepare(batch["clip"])
        hidden = self.hide(clip, batch["video"])
        tubelet, patch = self.encoder.tubelet_frames, self.encoder.patch_pixels
        shown = batch["clip"].float() / 255
        cut = patches(shown, tubelet, patch)
        _, mean, deviation = normalised(cut)
        told = self(clip, hidden).float() * deviation + mean
        gaps = hidden.flatten(1)[:, :, None, None]
        columns = [cut, torch.where(gaps, 0.5, cut), torch.where(gaps, told, cut).clamp(0, 1)]
        middle = shown.shape[2] // 2
        return [joined(column, hidden.shape[1:], tubelet, patch)[:, :, middle] for column in columns]


def tube_mask(batch: int, grid: tuple[int, int, int], ratio: float, generator: torch.Generator | None = None) -> Tensor:
    """What is hidden, bool (B, T', H', W'): of each example other places, the same at all times, equally many.

    Args:
        batch: B.
        grid: T', H' and W'.
        ratio: of the places, in (0, 1); their number is rounded.
        generator: of the CPU; None for torch's own.

    Raises ValueError where no place would be hidden, or none visible.
    """
    time, rows, columns = grid
    places = rows * columns
    count = round(ratio * places)
    if not 0 < count < places:
        raise ValueError(
            f"task.mask_ratio={ratio:g} hides {count} of the {places} patches of a frame, {rows} x {columns}; give a "
            "ratio that hides some and leaves some, a smaller encoder.patch_pixels, or a larger data.size_pixels"
        )
    ranks = torch.rand(batch, places, generator=generator).argsort(dim=1).argsort(dim=1)
    return (ranks < count).view(batch, 1, rows, columns).expand(-1, time, -1, -1)


def patches(clip: Tensor, tubelet_frames: int, patch_pixels: int) -> Tensor:
    """Clip (B, C, T, H, W) to its tubelets (B, T'H'W', C, P) of P = tubelet_frames x patch_pixels² values."""
    cut = clip.unflatten(4, (-1, patch_pixels)).unflatten(3, (-1, patch_pixels)).unflatten(2, (-1, tubelet_frames))
    # (B, C, T', t, H', h, W', w) -> (B, T', H', W', C, t, h, w)
    return cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(5).flatten(1, 3)


def joined(cut: Tensor, grid: torch.Size, tubelet_frames: int, patch_pixels: int) -> Tensor:
    """The inverse of `patches`, for a grid of T', H' and W'."""
    cubes = cut.unflatten(1, grid).unflatten(5, (tubelet_frames, patch_pixels, patch_pixels))
    return cubes.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6).flatten(4, 5).flatten(2, 3)


def normalised(cut: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Patches (..., P) less their mean, divided by their deviation; and mean and deviation (..., 1), by channel."""
    variance, mean = torch.var_mean(cut, dim=-1, keepdim=True)
    deviation = variance.sqrt() + DEVIATION_FLOOR
    return (cut - mean) / deviation, mean, deviation
