"""The contract of every task: how an encoder is taught."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from selfsup.data.catalogue import Catalogue
from selfsup.data.clips import ViewSampler
from selfsup.data.dataset import derive_seed
from selfsup.data.sampling import ClipSampler
from selfsup.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from selfsup.encoders.encoder import Encoder


class Task(pl.LightningModule):
    """Teaches an encoder. A subclass writes one method, `step`.

    All chance of a training step, that of dropout too, follows from (seed, epoch, batch, process), so a run that was
    interrupted goes on as if it had not been. The seed is the one given to `pytorch_lightning.seed_everything`.

    Args:
        encoder: what is taught. Its normalisation is kept where it was loaded from a file.
        sampler: the question that the data module puts to each video.
        optimizer: called with the parameters.
        schedule: called with (optimizer, total_steps=…); None keeps the learning rate.
        augment: modules on float clips (B, C, T, H, W) in [0, 1], applied in training only, on the device.

    Attributes:
        chance: what a guess scores, for the figures that can be guessed.
        details: what else a run's summary should hold, as JSON can.
        evaluation_sampler: names the clips of a held-out video whose answers are joined; None where held-out videos get
            the same question.
        picture_sampler: draws the examples that `pictures` is given; None: there is nothing to show.
        probes: whether nearest neighbours and a linear probe are of interest after the training.
        minimum_batch: the fewest examples of a batch from which `step` can learn.
        whole: the task that this one is a part of, and its name there; None where it is the whole.
    """

    chance: Mapping[str, float] = {}
    details: Mapping[str, object] = {}
    evaluation_sampler: ViewSampler | None = None
    picture_sampler: ClipSampler | None = None
    probes = True
    minimum_batch: int = 1
    whole: tuple[Task, str] | None = None

    def __init__(
        self,
        encoder: Encoder,
        sampler: ClipSampler,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        augment: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        channels_last(encoder)
        self.encoder = encoder
        self.sampler = sampler
        self.optimizer = optimizer
        self.schedule = schedule
        self.augment = nn.Sequential(*augment)
        known = encoder.input
        mean, std = (known.mean, known.std) if known is not None else (IMAGENET_MEAN, IMAGENET_STD)
        self.mean, self.std = tuple(mean), tuple(std)

    @property
    def sees_frames(self) -> bool:
        """Whether the encoder takes a video's frames: not stored features, which have no parameters, nor flow alone."""
        learned = any(True for _ in self.encoder.parameters())
        return learned and getattr(self.encoder, "in_channels", 3) == len(self.mean)

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One batch, "clip" normalised float (B, C, T, H, W), to scalars: "loss", and what else is logged.

        Where the sampler gives V views of a video, "clip" is (B, V, C, T, H, W). Written by the subclass.
        """
        raise NotImplementedError(f"{type(self).__name__}.step")  # abstract

    def begin(self, catalogue: Catalogue) -> None:
        """Called once, when the videos are known and nothing has been trained. A subclass may build on them.

        Raises ValueError where they do not serve the task.
        """

    def pictures(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Images (B, 3, H, W) in [0, 1], all of one size, that show a batch of `picture_sampler` side by side.

        "clip" is as the data module gives it. Written by a subclass that sets `picture_sampler`.
        """
        raise NotImplementedError(f"{type(self).__name__}.pictures")  # abstract

    def normalize(self, clip: Tensor) -> Tensor:
        """Float clip (B, C, T, H, W) in [0, 1] to zero mean and unit deviation a channel."""
        mean = clip.new_tensor(self.mean).view(-1, 1, 1, 1)
        std = clip.new_tensor(self.std).view(-1, 1, 1, 1)
        return (clip - mean) / std

    def prepare(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W), uint8, to the normalised float that `step` takes; augmented in training mode.

        Of views (B, V, C, T, H, W) each is augmented as a clip of its own. Stored features, which are float, stay as
        they are.
        """
        if clip.is_floating_point():
            return clip
        if clip.ndim == 6:
            return self.prepare(clip.flatten(0, 1)).unflatten(0, clip.shape[:2])
        scaled = clip.float() / 255.0
        return self.normalize(self.augment(scaled) if self.training else scaled)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        """Seeds the step, then `step`. A batch in which no video could be read is skipped."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
        torch.manual_seed(derive_seed(seed, self.current_epoch, batch_idx, self.global_rank))
        return self._logged_step(batch, "train")

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """`step` without augmentation, averaged over the split and over processes."""
        self._logged_step(batch, "val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """`step` without augmentation, averaged over the split and over processes."""
        self._logged_step(batch, "test")

    def _logged_step(self, batch: dict[str, Any], stage: str) -> Tensor | None:
        if "clip" not in batch:
            return None
        outputs = self.step({**batch, "clip": self.prepare(batch["clip"])})
        for name, value in outputs.items():
            self.log(
                f"{stage}/{name}",
                value.detach(),
                batch_size=len(batch["clip"]),
                prog_bar=name in ("loss", *self.chance),
                on_step=stage == "train",
                on_epoch=stage != "train",
                sync_dist=stage != "train",
            )
        return outputs["loss"]

    def log(self, name: str, value: Any, *arguments: Any, **options: Any) -> None:
        """See Lightning; "test/accuracy" of a part is "test/NAME/accuracy" of the whole."""
        if self.whole is None:
            super().log(name, value, *arguments, **options)
            return
        whole, part = self.whole
        stage, _, figure = name.partition("/")
        whole.log(f"{stage}/{part}/{figure}", value, *arguments, **options)

    def logged(self, stage: str) -> dict[str, Tensor]:
        """What this task has logged last in a stage, by figure."""
        prefix = f"{stage}/" if self.whole is None else f"{stage}/{self.whole[1]}/"
        known = self.trainer.callback_metrics.items()
        return {name.removeprefix(prefix): value for name, value in known if name.startswith(prefix)}

    def parameter_groups(self) -> Sequence[Any]:
        """What the optimizer is called with: the parameters that want a gradient."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def configure_optimizers(self) -> Any:
        """The optimizer over the parameters that want a gradient, and the schedule, stepped after each batch."""
        optimizer = self.optimizer(self.parameter_groups())
        if self.schedule is None:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.schedule(optimizer, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def channels_last(network: nn.Module) -> None:
    """Lays out convolutions as CPUs and tensor cores want them (measured 1.5 to 2.5 times as fast)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
        elif isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
