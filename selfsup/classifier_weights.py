"""The file that crosses from recognition to use: `classifier.safetensors`, a classifier with its encoder inside.

Beside all tensors it holds how both are built again, the names of the classes, and what the classifier was trained to
see. As with an encoder's file, reading it runs no code from it: only classes of selfsup.classifiers and
selfsup.encoders may be named.

    trained = selfsup.classifier_weights.load("classifier.safetensors")
    logits = trained.classifier(clip)  # of trained.classes
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from selfsup import tensor_file, weights
from selfsup.classifiers.by_name import find_classifier
from selfsup.classifiers.classifier import Classifier
from selfsup.encoders.encoder import Encoder, InputSpecification
from selfsup.tensor_file import Kind, import_path

Labels = Literal["video", "frame"]
GIVEN = ("encoder", "num_classes")  # arguments of every classifier that are not written down as such
KIND = Kind(
    noun="classifier",
    key="selfsup_classifier",
    format=1,
    fields={
        "format": int,
        "class": str,
        "arguments": dict,
        "encoder": dict,
        "classes": list,
        "labels": str,
        "input": dict,
        "clip": dict,
        "task": str,
        "data": dict,
        "version": str,
    },
    cure="give the classifier.safetensors of a run of task=action_recognition",
)


@dataclass(frozen=True)
class ClipSpecification:
    """The clips that a classifier was trained and tested on.

    Args:
        num_frames: T.
        fps: frames a second; None for the video's own rate, or where frames were spread over the video.
        spread: frames were spread over the whole video, in place of one after the other.
        short_side_pixels: at which frames are read.
        stretch: frames are squeezed into the square, in place of the square being cut out.

    Raises:
        ValueError: a number out of its range.
    """

    num_frames: int
    fps: float | None
    spread: bool
    short_side_pixels: int
    stretch: bool

    def __post_init__(self) -> None:
        for name in ("num_frames", "short_side_pixels"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"clip.{name} is {value!r}; give a whole number of at least 1")
        for name in ("spread", "stretch"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"clip.{name} is {getattr(self, name)!r}; give true or false")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ValueError(f"clip.fps is {self.fps}; give a positive number, or null")


@dataclass(frozen=True)
class Trained:
    """A classifier that was loaded, and what it is for.

    Attributes:
        classifier: in evaluation mode.
        classes: the K names, in the order of the logits.
        labels: of what it was trained with: "video", one class each, or "frame", any number of classes each.
        input: what its encoder sees.
        clip: what it was trained on.
        source: the description in the file.
    """

    classifier: Classifier
    classes: tuple[str, ...]
    labels: Labels
    input: InputSpecification
    clip: ClipSpecification
    source: Mapping[str, Any]


def save(
    classifier: Classifier,
    path: str | Path,
    *,
    encoder: Encoder,
    arguments: Mapping[str, Any],
    classes: Sequence[str],
    labels: Labels,
    input: InputSpecification,
    clip: ClipSpecification,
    task: str,
    data: dict[str, object],
) -> None:
    """Writes the classifier, encoder and all, to `path`, whole or not at all; a file that was there stays until then.

    Args:
        classifier: its tensors are copied to the CPU.
        path: by convention ends in `.safetensors`; its folder is made where it is missing.
        encoder: one like that which the constructor was given, whatever the constructor made of it.
        arguments: of the constructor besides (encoder, num_classes); defaults are added.
        classes: the K names.
        labels, input, clip: see `Trained`.
        task: what taught it.
        data: what it was taught on; anything that JSON can hold.

    Raises:
        ValueError: an argument that the constructor does not take, another number of classes, or what JSON cannot hold.
        OSError: the file could not be written.
    """
    cls = type(classifier)
    defaults = {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}
    if unknown := sorted(set(arguments) - set(defaults) | set(arguments) & set(GIVEN)):
        raise ValueError(f"{import_path(cls)}: takes no {', '.join(unknown)} beside {' and '.join(GIVEN)}")
    if len(classes) != classifier.num_classes:
        raise ValueError(f"{len(classes)} classes for a classifier of {classifier.num_classes}; give each a name")
    description = {
        "class": import_path(cls),
        "arguments": {name: arguments.get(name, value) for name, value in defaults.items() if name not in GIVEN},
        "encoder": weights.architecture(encoder),
        "classes": list(classes),
        "labels": labels,
        "input": asdict(input),
        "clip": asdict(clip),
        "task": task,
        "data": data,
    }
    tensor_file.save(classifier, path, KIND, description)


def load(path: str | Path, encoder_classes: Sequence[type[Encoder]] = ()) -> Trained:
    """Builds the classifier that `save` wrote, on the CPU and in evaluation mode.

    Args:
        path: a file that `save` wrote.
        encoder_classes: classes outside this package that the file may name.

    Raises:
        ValueError: the file is missing, damaged, of another kind, written by a newer selfsup, names a class that may
            not be named or arguments that it does not take, or holds another architecture's tensors.
    """
    path = Path(path)
    metadata = tensor_file.read_description(path, KIND)
    classes, labels = _names(path, metadata)
    specification = weights.input_of(path, metadata["input"], KIND)
    clip = _clip(path, metadata["clip"])
    cls = _find_class(path, metadata["class"])
    encoder_class, encoder_arguments = _encoder(path, metadata["encoder"], encoder_classes)

    def build() -> Classifier:
        encoder = tensor_file.call(path, KIND, encoder_class, encoder_arguments)
        return tensor_file.call(path, KIND, cls, metadata["arguments"], encoder, len(classes))

    architecture = f"{metadata['class']} with {metadata['arguments']} on {import_path(encoder_class)}"
    classifier = tensor_file.restore(path, KIND, build, architecture, metadata["version"])
    if (encoder := classifier.encoders().get("clip")) is not None:
        encoder.input = specification
    return Trained(classifier.eval(), classes, labels, specification, clip, metadata)


def _names(path: Path, metadata: Mapping[str, Any]) -> tuple[tuple[str, ...], Labels]:
    classes, labels = metadata["classes"], metadata["labels"]
    if not all(isinstance(name, str) for name in classes) or len(set(classes)) != len(classes) or len(classes) < 2:
        raise ValueError(f"{path}: the classes are {classes}, not two names or more, each once; {KIND.again}")
    if labels not in get_args(Labels):
        raise ValueError(f"{path}: the labels are of {labels!r}, not video or frame; {KIND.again}")
    return tuple(classes), labels


def _clip(path: Path, fields: Mapping[str, Any]) -> ClipSpecification:
    try:
        return ClipSpecification(**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: the clips {fields} do not hold ({error}); {KIND.again}") from error


def _find_class(path: Path, name: str) -> type[Classifier]:
    if (found := find_classifier(name)) is not None:
        return found
    raise ValueError(f"{path}: names the class {name!r}, which is no classifier of selfsup.classifiers; {KIND.again}")


def _encoder(
    path: Path, written: Mapping[str, Any], encoder_classes: Sequence[type[Encoder]]
) -> tuple[type[Encoder], dict[str, Any]]:
    name, arguments = written.get("class"), written.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError(f"{path}: the encoder is {dict(written)}, not a class with its arguments; {KIND.again}")
    return weights.find_class(path, name, encoder_classes), arguments
