"""The one file that crosses from pretraining to use: `encoder.safetensors`.

It holds the encoder's tensors and, as JSON in the file's metadata, what is needed to use them: the class and
its constructor arguments, the input specification, the task, the data and the package's version. Reading it
runs no code from it: only encoder classes of this package, or classes that the caller passes, may be named.

    encoder = selfsup.weights.load("encoder.safetensors")
    features = encoder(clip)  # (B, C, T, H, W) -> (B, D, T', H', W')
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selfsup import tensor_file
from selfsup.encoders.by_name import find_encoder
from selfsup.encoders.encoder import Encoder, InputSpecification
from selfsup.tensor_file import Kind, import_path

KEY = "selfsup"
FIELDS = {"format": int, "class": str, "arguments": dict, "input": dict, "task": str, "data": dict, "version": str}
KIND = Kind(
    noun="encoder",
    key=KEY,
    format=1,
    fields=FIELDS,
    cure="give a file written by selfsup.weights.save, or pass a plain state dict as `weights_path` of the encoder",
)


def save(encoder: Encoder, path: str | Path, *, input: InputSpecification, task: str, data: dict[str, object]) -> None:
    """Writes the encoder to `path`, whole or not at all; a file that was there stays until then.

    Args:
        encoder: its tensors are copied to the CPU; its dtype is kept.
        path: by convention ends in `.safetensors`; its folder is made where it is missing.
        input: what the encoder was trained to see.
        task: what taught it, in words or an import path.
        data: what it was taught on; anything that JSON can hold.

    Raises:
        ValueError: `data` or a constructor argument is not something JSON can hold, or the encoder does not
            keep a constructor argument as an attribute.
        OSError: the file could not be written.
    """
    description = {**architecture(encoder), "input": asdict(input), "task": task, "data": data}
    tensor_file.save(encoder, path, KIND, description)


def architecture(encoder: Encoder) -> dict[str, Any]:
    """How to build the encoder again: {"class": import path, "arguments": constructor arguments}.

    Raises:
        ValueError: an argument is not kept as an attribute of its name, or is not something JSON can hold.
    """
    cls = type(encoder)
    name = import_path(cls)
    arguments: dict[str, Any] = {}
    for argument, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ValueError(f"{name}: takes *{argument}, which cannot be written down; name every argument")
        if not hasattr(encoder, argument):
            raise ValueError(
                f"{name}: takes {argument!r} but keeps no attribute of that name; "
                f"write `self.{argument} = {argument}` in its constructor"
            )
        arguments[argument] = getattr(encoder, argument)
    if "weights_path" in arguments:  # a path on the machine that trained; the tensors are in this file
        arguments["weights_path"] = None
    tensor_file.to_json(arguments, f"{name}: the constructor's arguments")
    return {"class": name, "arguments": arguments}


def load(path: str | Path, encoder_classes: Sequence[type[Encoder]] = ()) -> Encoder:
    """Builds the encoder that `save` wrote, on the CPU and in eval mode (training calls `.train()` itself).

    Its `input` is the InputSpecification, its `source` the metadata of `read_metadata`.

    Args:
        path: a file that `save` wrote.
        encoder_classes: classes outside this package that the file may name.

    Raises:
        ValueError: the file is missing, damaged, of another kind, written by a newer selfsup, names a class
            that may not be named or arguments that it does not take, or holds another architecture's tensors.
    """
    path = Path(path)
    metadata = read_metadata(path)
    cls = find_class(path, metadata["class"], encoder_classes)
    arguments = metadata["arguments"]
    encoder = tensor_file.restore(
        path,
        KIND,
        lambda: tensor_file.call(path, KIND, cls, arguments),
        f"{metadata['class']} with {arguments}",
        metadata["version"],
    )
    encoder.input = input_of(path, metadata["input"], KIND)
    encoder.source = metadata
    return encoder.eval()


def untrained(encoder: Encoder) -> Encoder:
    """An encoder of the same architecture with fresh random weights, drawn from torch's generator, in eval mode."""
    fresh = type(encoder)(**architecture(encoder)["arguments"])
    fresh.input = encoder.input
    return fresh.eval()


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What the file says of itself: format, class, arguments, input, task, data, version. Builds nothing.

    Raises:
        ValueError: the file is missing, damaged, of another kind, or written by a newer selfsup.
    """
    metadata = tensor_file.read_description(path, KIND)
    input_of(Path(path), metadata["input"], KIND)
    return metadata


def input_of(path: Path, fields: Mapping[str, Any], kind: Kind) -> InputSpecification:
    """The input specification that a file writes down; ValueError where it does not hold."""
    try:
        mean, std = (tuple(float(value) for value in fields[name]) for name in ("mean", "std"))
        return InputSpecification(**{**fields, "mean": mean, "std": std})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the input specification {fields} does not hold ({error}); {kind.again}") from error


def find_class(path: Path, name: str, encoder_classes: Sequence[type[Encoder]]) -> type[Encoder]:
    """The class of that import path, if the caller passed it or it is an encoder of this package."""
    for cls in encoder_classes:
        if import_path(cls) == name:
            return cls
    if (found := find_encoder(name)) is not None:
        return found
    raise ValueError(
        f"{path}: names the class {name!r}, which is no encoder of selfsup.encoders; "
        "if you trust that class, pass it in `encoder_classes`"
    )
