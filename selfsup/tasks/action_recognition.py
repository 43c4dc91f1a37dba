"""Action recognition: a classifier on an encoder, taught by labels.

Training takes one clip of each video. Held-out videos are seen in several views, clips and crops, whose answers are
averaged before the softmax (Wang et al. 2016, arXiv 1608.00859, section 3.1); accuracy is that of videos, never of
clips. Where frames have labels, each frame's answers are averaged over the views that show it: `scoring` knows both.
Freezing the first stages (Karpathy et al. 2014: training the top beats training all) and a learning rate that
falls towards the input, as in the fine-tuning of VideoMAE, keep what was learned without labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from selfsup.classifiers.classifier import Classifier
from selfsup.data.catalogue import Catalogue
from selfsup.data.clips import ViewSampler
from selfsup.data.controls import CONTROLS
from selfsup.data.sampling import ClipSampler
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.freezing import frozen_stages, stop_gradients
from selfsup.tasks.answers import FrameAnswers, VideoAnswers
from selfsup.tasks.scoring import FrameScoring, VideoScoring, scoring_of
from selfsup.tasks.task import Task, channels_last

Value = TypeVar("Value", Tensor, float)


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
    evaluation_sampler: ViewSampler
    scoring: VideoScoring | FrameScoring
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
        self.reported = "test"  # the split that a test is of
        self.controls = controls
        # Of the last evaluation, by control; "" for the clips as they are.
        self.answers: dict[str, VideoAnswers | FrameAnswers] = {}

    def begin(self, catalogue: Catalogue) -> None:
        """Builds the classifier for the classes of the training videos.

        Raises ValueError where a video has no label, there are fewer than two classes, a split has a class that train
        lacks, or the classifier cannot answer at each frame and frames have labels.
        """
        self.scoring = scoring_of(catalogue, partial(self.make_classifier, self.encoder), self.label_smoothing)
        self.classifier = self.scoring.classifier
        channels_last(self.classifier)
        encoders = self.classifier.encoders()
        self.encoder = encoders.get("clip", next(iter(encoders.values())))  # inflation makes another one
        for encoder in encoders.values():
            self.frozen += frozen_stages(encoder, self.freeze_until)
        stop_gradients(self.frozen)
        self.reported = catalogue.reported
        catalogue.notes.extend(self.scoring.notes(self.evaluation_sampler))
        told = ("", *(CONTROLS if self.controls else ()))
        self.chance = self._chance(dict.fromkeys(told, self.scoring.start(self.reported)))

    def train(self, mode: bool = True) -> ActionRecognition:
        """Training mode, but for the frozen stages."""
        super().train(mode)
        for stage in self.frozen:
            stage.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits (B, K), or (B, T', K) where the classifier answers at each step."""
        return self.answer(batch)[0]

    def answer(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits, and what the classifier says of them besides: see `Classifier.answer`."""
        if missing := [name for name in self.classifier.inputs if name not in batch]:
            raise ValueError(
                f"{type(self.classifier).__name__} reads {' and '.join(missing)}, which the clips do not hold; choose "
                f"clips=flow, and other frames by clips.training.clip"
            )
        # Flow travels as float16.
        return self.classifier.answer(*(batch[name].float() for name in self.classifier.inputs))

    def step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss of each answer, and what else `scoring` and the classifier say of a batch."""
        logits, said = self.answer(batch)
        logits = logits.float()
        outputs = {**said, **self.scoring.outputs(logits, batch)}
        if "loss" in said:
            outputs["loss"] = outputs["loss"] + said["loss"]
        for name, answers in () if self.training else self.answers.items():
            less = self.scoring.controlled(batch, CONTROLS[name]) if name else batch
            self.scoring.add(answers, self(less).float() if name else logits, less)
        return outputs

    def on_validation_epoch_start(self) -> None:
        """Forgets the answers of the last evaluation."""
        self._start("val")

    def on_test_epoch_start(self) -> None:
        """Forgets the answers of the last evaluation."""
        self._start(self.reported, *(CONTROLS if self.controls else ()))

    def on_validation_epoch_end(self) -> None:
        """Logs the figures of whole videos, or of their frames."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Logs the figures of whole videos, or of their frames."""
        self._finish("test")
        self.chance = self._chance(self.answers)  # of the frames that were shown
        self.details = self.answers[""].details()

    def _start(self, split: str, *controls: str) -> None:
        self.answers = {name: self.scoring.start(split) for name in ("", *controls)}

    def _finish(self, stage: str) -> None:
        for control, answers in self.answers.items():
            answers.gather(self._add_up)
            for name, value in self._titled(control, answers.figures()).items():
                shown = f"{stage}/{name}" == f"val/{self.scoring.headline}"
                self.log(f"{stage}/{name}", value, prog_bar=shown, rank_zero_only=False, sync_dist=False)

    def _titled(self, control: str, figures: Mapping[str, Value]) -> dict[str, Value]:
        """The figures by the names under which they are logged; of a control the headline alone."""
        headline = self.scoring.headline
        if not control:
            return dict(figures)
        return {f"{headline}, {control}": figures[headline]} if headline in figures else {}

    def _chance(self, told: Mapping[str, VideoAnswers | FrameAnswers]) -> dict[str, float]:
        """What a guess scores in each figure of the answers, given by control."""
        of_each = [self._titled(control, answers.chance()) for control, answers in told.items()]
        return {name: value for figures in of_each for name, value in figures.items()}

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
