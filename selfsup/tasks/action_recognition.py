"""Action recognition: a classifier on an encoder, taught by labels.

Training takes one clip of each video. Held-out videos are seen in several views, clips and crops, whose answers are
averaged before the softmax (Wang et al. 2016, arXiv 1608.00859, section 3.1); accuracy is that of videos, never of
clips. Freezing the first stages (Karpathy et al. 2014: training the top beats training all) and a learning rate that
falls towards the input, as in the fine-tuning of VideoMAE, keep what was learned without labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from selfsup.classifiers.classifier import Classifier
from selfsup.data.catalogue import SPLITS, Catalogue
from selfsup.data.clips import ViewSampler
from selfsup.data.controls import CONTROLS
from selfsup.data.sampling import ClipSampler
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.freezing import frozen_stages, stop_gradients
from selfsup.tasks.answers import VideoAnswers
from selfsup.tasks.task import Task, channels_last


class ActionRecognition(Task):
    """Teaches a classifier on any encoder.

    Args:
        encoder, sampler, optimizer, schedule, augment: see `Task`.
        classifier: called with (encoder, num_classes), once the classes are known.
        evaluation_sampler: the views of a held-out video.
        freeze: "none", "all", or the name of the last stage that is not trained.
        layer_decay: learning rate of a stage over that of the next one; 1 for one rate.
        label_smoothing: share of the target that goes to all classes alike.
        controls: test on clips with shuffled frames, and on their middle frame alone, besides.
    """

    classifier: Classifier
    probes = False

    def __init__(
        self,
        encoder: Encoder,
        sampler: ClipSampler,
        evaluation_sampler: ViewSampler,
        classifier: Callable[..., Classifier],
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        augment: Sequence[nn.Module] = (),
        freeze: str = "none",
        layer_decay: float = 1.0,
        label_smoothing: float = 0.0,
        controls: bool = True,
    ) -> None:
        super().__init__(encoder, sampler, optimizer, schedule, augment)
        if not 0 < layer_decay <= 1:
            raise ValueError(f"task.layer_decay={layer_decay} must lie above 0, and not above 1")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"task.label_smoothing={label_smoothing} must lie in [0, 1)")
        if classifier is None:
            raise ValueError("classifier=null: action recognition needs one, as classifier=frame_pooling")
        frozen_stages(encoder, freeze)  # a misspelt stage should not wait for the videos
        self.evaluation_sampler = evaluation_sampler
        self.make_classifier = classifier
        self.freeze_until = freeze
        self.layer_decay = layer_decay
        self.label_smoothing = label_smoothing
        self.frozen: list[nn.Module] = []
        self.labels: dict[str, Tensor] = {}
        self.reported = "test"  # the split that a test is of
        self.controls = controls
        self.answers: dict[str, VideoAnswers] = {}  # of the last evaluation, by control; "" for the clips as they are

    def begin(self, catalogue: Catalogue) -> None:
        """Builds the classifier for the classes of the training videos.

        Raises ValueError where a video has no label, there are fewer than two classes, or a split has a class that
        train lacks.
        """
        check_labels(catalogue)
        self.classifier = self.make_classifier(self.encoder, len(catalogue.classes()))
        channels_last(self.classifier)
        encoders = self.classifier.encoders()
        self.encoder = encoders.get("clip", next(iter(encoders.values())))  # inflation makes another one
        for encoder in encoders.values():
            self.frozen += frozen_stages(encoder, self.freeze_until)
        stop_gradients(self.frozen)
        for split in SPLITS:
            self.labels[split] = torch.tensor(catalogue.class_numbers(split) or [], dtype=torch.long)
        self.reported = catalogue.reported
        held_out = self.labels[self.reported]
        uniform = 1 / len(catalogue.classes())
        majority = float(held_out.bincount().max() / len(held_out)) if len(held_out) else uniform
        self.chance = {"accuracy": majority, "balanced_accuracy": uniform}
        if self.controls:
            self.chance |= {f"accuracy, {name}": majority for name in CONTROLS}

    def train(self, mode: bool = True) -> ActionRecognition:
        """Training mode, but for the frozen stages."""
        super().train(mode)
        for stage in self.frozen:
            stage.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits (B, K), or (B, T', K) where the classifier answers at each step."""
        if missing := [name for name in self.classifier.inputs if name not in batch]:
            raise ValueError(
                f"{type(self.classifier).__name__} reads {' and '.join(missing)}, which the clips do not hold; choose "
                f"clips=flow, and other frames by clips.training.clip"
            )
        return self.classifier(*(batch[name].float() for name in self.classifier.inputs))  # flow travels as float16

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of each answer, and the accuracy of the clips."""
        logits = self(batch).float()
        joined = self.classifier.join(logits)
        steps = logits if logits.ndim == 3 else logits[:, None]  # (B, T', K)
        labels = batch["label"][:, None].expand(-1, steps.shape[1])
        loss = F.cross_entropy(steps.flatten(0, 1), labels.flatten(), label_smoothing=self.label_smoothing)
        for name, answers in () if self.training else self.answers.items():
            answers.add(batch["video"], joined if not name else self._controlled(batch, name))
        return {"loss": loss, "clip_accuracy": (joined.argmax(dim=1) == batch["label"]).float().mean()}

    def _controlled(self, batch: dict[str, Tensor], control: str) -> Tensor:
        """Logits (B, K) where every clip that the classifier reads is turned into what `control` leaves of it."""
        less = {name: CONTROLS[control](batch[name]) for name in self.classifier.inputs}
        return self.classifier.join(self(less).float())

    def on_validation_epoch_start(self) -> None:
        """Forgets the views of the last evaluation."""
        self._start("val")

    def on_test_epoch_start(self) -> None:
        """Forgets the views of the last evaluation."""
        self._start(self.reported, *(CONTROLS if self.controls else ()))

    def on_validation_epoch_end(self) -> None:
        """Logs the figures of whole videos."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Logs the figures of whole videos."""
        self._finish("test")

    def _start(self, split: str, *controls: str) -> None:
        self.answers = {name: VideoAnswers(self.labels[split], self.classifier.num_classes) for name in ("", *controls)}

    def _finish(self, stage: str) -> None:
        for control, answers in self.answers.items():
            answers.gather(self._add_up)
            for name, value in answers.figures().items():
                if control and name != "accuracy":
                    continue
                full = f"{stage}/{name}, {control}" if control else f"{stage}/{name}"
                self.log(full, value, prog_bar=full == "val/accuracy", rank_zero_only=False, sync_dist=False)

    def _add_up(self, sums: Tensor) -> Tensor:
        """The sum over processes."""
        added = self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum")
        assert isinstance(added, Tensor)
        return added

    def parameter_groups(self) -> Sequence[Any]:
        """A group a stage; `lr_scale` is what its learning rate is multiplied by."""
        groups: list[dict[str, Any]] = []
        taken: set[nn.Parameter] = set()
        for encoder in self.classifier.encoders().values():
            for depth, stage in enumerate(reversed(encoder.stages), start=1):
                parameters = [p for p in stage.parameters() if p.requires_grad]
                taken.update(parameters)
                groups.append({"params": parameters, "lr_scale": self.layer_decay**depth})
        rest = [p for p in self.parameters() if p.requires_grad and p not in taken]
        return [group for group in [{"params": rest, "lr_scale": 1.0}, *groups] if group["params"]]

    def configure_optimizers(self) -> Any:
        """The optimizer with a learning rate for each stage; the schedule multiplies them all."""
        build = self.optimizer

        def scaled(groups: Any) -> Optimizer:
            optimizer = build(groups)
            for group in optimizer.param_groups:
                group["lr"] *= group["lr_scale"]
            return optimizer

        self.optimizer = scaled
        try:
            return super().configure_optimizers()
        finally:
            self.optimizer = build


def check_labels(catalogue: Catalogue) -> None:
    """ValueError where the labels of the videos cannot teach a classifier."""
    for split in SPLITS:
        unlabelled = [
            info.path
            for info, label in zip(catalogue.videos[split], catalogue.labels[split], strict=True)
            if label is None
        ]
        if unlabelled:
            raise ValueError(
                f"{len(unlabelled)} of {len(catalogue.videos[split])} {split} videos have no label, the first is "
                f"{unlabelled[0]}; every video needs one here: put the videos into a folder a class, or give a "
                f"manifest with data.label=COLUMN"
            )
    classes = catalogue.classes()
    if len(classes) < 2:
        raise ValueError(f"every training video has the label {classes[0]!r}; a classifier needs two classes or more")
    for split in ("val", "test"):
        if new := sorted({str(label) for label in catalogue.labels[split]} - set(classes)):
            raise ValueError(
                f"the {split} videos have {len(new)} classes that the training videos lack ({', '.join(new[:3])}); "
                f"move a group of each into train, or leave them out"
            )
