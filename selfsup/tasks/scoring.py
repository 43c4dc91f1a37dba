"""How a classifier is taught and judged: by the one class of each video, or by the classes that each frame shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfsup.classifiers.classifier import Classifier
from selfsup.data.catalogue import SPLITS, Catalogue, SpanCatalogue
from selfsup.data.clips import ViewSampler
from selfsup.data.listing import some
from selfsup.tasks.answers import FrameAnswers, VideoAnswers

Control = Callable[[Tensor], Tensor]  # of selfsup.data.controls: clips (B, C, T, H, W) to clips


class VideoScoring:
    """One class a video: cross-entropy of each answer, accuracy over videos.

    Args:
        catalogue: for which `check_labels` has nothing to say.
        classifier: whose answers are scored.
        label_smoothing: share of the target that goes to all classes alike.
    """

    headline = "accuracy"

    def __init__(self, catalogue: Catalogue, classifier: Classifier, label_smoothing: float) -> None:
        self.classifier = classifier
        self.label_smoothing = label_smoothing
        self.labels = {split: torch.tensor(catalogue.class_numbers(split) or [], dtype=torch.long) for split in SPLITS}

    def outputs(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (B, K) or (B, T', K) to the loss, the mean over steps, and the accuracy of the clips."""
        steps = logits[:, self.classifier.warm_up :] if logits.ndim == 3 else logits[:, None]  # (B, T', K)
        labels = batch["label"][:, None].expand(-1, steps.shape[1])
        loss = F.cross_entropy(steps.flatten(0, 1), labels.flatten(), label_smoothing=self.label_smoothing)
        right = self.classifier.join(logits).argmax(dim=1) == batch["label"]
        return {"loss": loss, "clip_accuracy": right.float().mean()}

    def notes(self, sampler: ViewSampler) -> list[str]:
        """Nothing to say of the views."""
        return []

    def start(self, split: str) -> VideoAnswers:
        """No answers yet, to the videos of the split."""
        return VideoAnswers(self.labels[split], self.classifier.num_classes)

    def add(self, answers: Any, logits: Tensor, batch: dict[str, Tensor]) -> None:
        """Adds the answers to the clips of a batch."""
        answers.add(batch["video"], self.classifier.join(logits))

    def controlled(self, batch: dict[str, Tensor], control: Control) -> dict[str, Tensor]:
        """The batch with what `control` leaves of all that the classifier reads."""
        return {**batch, **{name: control(batch[name]) for name in self.classifier.inputs}}


class FrameScoring:
    """Any number of classes a frame: binary cross-entropy, mean over frames and classes; mean average precision.

    Answers at T' < T steps are those of T frames by time: step s is centred at frame (s + 1/2) T / T' - 1/2, and each
    frame takes the answer of the step whose centre is nearest, in the loss and in the figures. A step that covers
    frames with and without a class is so taught its share of them. Padding inside an encoder can shift its centres by
    half a step.

    Args:
        catalogue: for which `check_spans` has nothing to say.
        classifier: whose answers are scored.
        label_smoothing: must be 0.

    Raises ValueError for a classifier that answers once a clip, or label smoothing.
    """

    headline = "mAP"

    def __init__(self, catalogue: SpanCatalogue, classifier: Classifier, label_smoothing: float) -> None:
        if not classifier.each_moment:
            raise ValueError(
                f"{type(classifier).__name__} answers once a clip, and data.labels=frame asks at each moment; choose "
                f"classifier=cnn_rnn, or classifier.pooling=none"
            )
        if label_smoothing:
            raise ValueError(
                f"task.label_smoothing={label_smoothing:g} moves a share from the one class of a video to the others; "
                f"frames have any number of classes, so set it to 0 with data.labels=frame"
            )
        self.classifier = classifier
        self.catalogue = catalogue

    def outputs(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (B, T', K) to the loss."""
        if "label" not in batch:
            raise ValueError(
                "the clips do not say when their frames are shown; choose clips=windows, dense or segments"
            )
        first = self.classifier.warm_up
        answers = at_frames(logits, batch["label"].shape[1])
        return {"loss": F.binary_cross_entropy_with_logits(answers[:, first:], batch["label"][:, first:])}

    def notes(self, sampler: ViewSampler) -> list[str]:
        """A sentence where the views of `sampler` do not show every frame of the split that is reported."""
        split, chance = self.catalogue.reported, torch.Generator()
        shown = total = 0
        for info in self.catalogue.videos[split]:
            times = [clip.times_seconds(info, chance) for clip in sampler.views(info)]
            shown += min(info.num_frames, len(np.unique(np.round(np.concatenate(times) * info.fps))))
            total += info.num_frames
        note = f"the views show {shown:,} of the {total:,} {split} frames, and figures are of these"
        return [f"{note}; clips=windows shows all"] if shown < total else []

    def start(self, split: str) -> FrameAnswers:
        """No answers yet, to the frames of the split."""
        return FrameAnswers([info.num_frames for info in self.catalogue.videos[split]], self.catalogue.classes())

    def add(self, answers: Any, logits: Tensor, batch: dict[str, Tensor]) -> None:
        """Adds the answers to the frames of a batch."""
        first, told = self.classifier.warm_up, at_frames(logits, batch["label"].shape[1])
        answers.add(batch["video"], batch["frame"][:, first:], told[:, first:], batch["label"][:, first:])

    def controlled(self, batch: dict[str, Tensor], control: Control) -> dict[str, Tensor]:
        """The batch with what `control` leaves of all that the classifier reads; frames keep number and label."""
        less = {name: control(batch[name]) for name in self.classifier.inputs}
        for name in ("frame", "label"):  # (B, T) and (B, T, K), as clips of 1 and K channels and one pixel
            moments = batch[name].flatten(2) if batch[name].ndim > 2 else batch[name][..., None]
            less[name] = control(moments.transpose(1, 2)[..., None, None])[..., 0, 0].transpose(1, 2)
            less[name] = less[name].reshape(batch[name].shape)
        return {**batch, **less}


def scoring_of(
    catalogue: Catalogue, build: Callable[[int], Classifier], label_smoothing: float
) -> VideoScoring | FrameScoring:
    """By the labels of the catalogue, of a classifier that `build` makes for K classes.

    Raises ValueError where the labels cannot teach a classifier, or not this one.
    """
    if isinstance(catalogue, SpanCatalogue):
        check_spans(catalogue)
        return FrameScoring(catalogue, build(len(catalogue.classes())), label_smoothing)
    check_labels(catalogue)
    return VideoScoring(catalogue, build(len(catalogue.classes())), label_smoothing)


def at_frames(logits: Tensor, num_frames: int) -> Tensor:
    """Answers at steps (B, T', K) to answers at frames (B, T, K), T' ≤ T: each frame takes that of the nearest step."""
    steps = logits.shape[1]
    if steps == num_frames:
        return logits
    nearest = (2 * torch.arange(num_frames, device=logits.device) + 1) * steps // (2 * num_frames)
    return logits[:, nearest]


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


def check_spans(catalogue: SpanCatalogue) -> None:
    """ValueError where the spans of the videos cannot teach a classifier."""
    classes = catalogue.classes()
    if len(classes) < 2:
        raise ValueError(
            f"the spans of the training videos name {len(classes)} class{'es' * (not classes)} "
            f"({', '.join(classes)}); a classifier needs two or more: give what else is seen spans of its own"
        )
    for split in ("val", "test"):
        if new := sorted({span.label for spans in catalogue.spans[split] for span in spans} - set(classes)):
            raise ValueError(
                f"the spans of the {split} videos name {len(new)} classes that those of the training videos lack "
                f"({some(new)}); move a group of each into train, or remove their rows"
            )
