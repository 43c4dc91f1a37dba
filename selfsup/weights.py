"""The one file that crosses from pretraining to use: `encoder.safetensors`.

It holds the encoder's tensors and, as JSON in the file's metadata, what is needed to use them: the class and
its constructor arguments, the input specification, the task, the data and the package's version. Reading it
runs no code from it: only encoder classes of this package, or classes that the caller passes, may be named.

    encoder = selfsup.weights.load("encoder.safetensors")
    features = encoder(clip)  # (B, C, T, H, W) -> (B, D, T', H', W')
"""

import inspect
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

import selfsup
from selfsup.encoders.by_name import find_encoder
from selfsup.encoders.encoder import Encoder, InputSpecification
from selfsup.encoders.state_dict import explain_mismatch, shapes

FORMAT = 1  # raised when a file of today's kind can no longer be read by yesterday's code
# One key: a safetensors header does not fix the order of several, and one encoder should give one file.
KEY = "selfsup"
FIELDS = {"format": int, "class": str, "arguments": dict, "input": dict, "task": str, "data": dict, "version": str}


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
    description = {
        "format": FORMAT,
        **architecture(encoder),
        "input": asdict(input),
        "task": task,
        "data": data,
        "version": selfsup.__version__,
    }
    metadata = {KEY: _to_json(description, f"{path}: the description of the encoder")}
    # Cloned: safetensors refuses tensors that share memory. Contiguous: it knows no channels_last.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in encoder.state_dict().items()}
    _write(Path(path), to_bytes(tensors, metadata))


def architecture(encoder: Encoder) -> dict[str, Any]:
    """How to build the encoder again: {"class": import path, "arguments": constructor arguments}.

    Raises:
        ValueError: an argument is not kept as an attribute of its name, or is not something JSON can hold.
    """
    cls = type(encoder)
    name = _import_path(cls)
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
    _to_json(arguments, f"{name}: the constructor's arguments")
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
    cls = _find_class(path, metadata["class"], encoder_classes)
    arguments = metadata["arguments"]
    with torch.device("meta"):  # no memory is taken until the file is known to hold this very architecture
        expected = shapes(_build(path, cls, arguments).state_dict())
    with safe_open(path, framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        if difference := explain_mismatch(expected, found):
            raise ValueError(
                f"{path}: the tensors are not those of {metadata['class']} with {arguments} ({difference}); "
                f"the file was altered, or written by another version than {selfsup.__version__} "
                f"(it says {metadata['version']}); export the encoder again"
            )
        with torch.random.fork_rng(devices=[]):  # loading leaves the seed of the run alone
            encoder = _build(path, cls, arguments)
        state = {name: file.get_tensor(name) for name in found}
    for name, tensor in encoder.state_dict().items():
        if tensor.is_floating_point() != state[name].is_floating_point():
            raise ValueError(f"{path}: {name} holds {state[name].dtype}, not {tensor.dtype}; export the encoder again")
    encoder.load_state_dict(state, strict=True)
    encoder.input = _input(path, metadata["input"])
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
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the path of an encoder.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or cut short ({error}); copy or export it again") from error
    if text is None:
        raise ValueError(
            f"{path}: holds tensors but no description of an encoder; give a file written by "
            "selfsup.weights.save, or pass a plain state dict as `weights_path` of the encoder"
        )
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the description is not JSON ({error}); export the encoder again") from error
    _check_metadata(path, metadata)
    return metadata


def _check_metadata(path: Path, metadata: Any) -> None:
    if not isinstance(metadata, dict):
        raise ValueError(f"{path}: the description is a {type(metadata).__name__}; export the encoder again")
    written = metadata.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise ValueError(
            f"{path}: written by selfsup {metadata.get('version')} in format {written}, but selfsup "
            f"{selfsup.__version__} reads up to format {FORMAT}; upgrade selfsup"
        )
    for field, kind in FIELDS.items():
        if type(metadata.get(field)) is not kind:
            raise ValueError(
                f"{path}: {field!r} of the description is {metadata.get(field)!r}, not a {kind.__name__}; "
                "export the encoder again"
            )
    _input(path, metadata["input"])


def _input(path: Path, fields: dict[str, Any]) -> InputSpecification:
    try:
        mean, std = (tuple(float(value) for value in fields[name]) for name in ("mean", "std"))
        return InputSpecification(**{**fields, "mean": mean, "std": std})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: the input specification {fields} does not hold ({error}); export the encoder again"
        ) from error


def _find_class(path: Path, name: str, encoder_classes: Sequence[type[Encoder]]) -> type[Encoder]:
    """The class of that import path, if the caller passed it or it is an encoder of this package."""
    for cls in encoder_classes:
        if _import_path(cls) == name:
            return cls
    if (found := find_encoder(name)) is not None:
        return found
    raise ValueError(
        f"{path}: names the class {name!r}, which is no encoder of selfsup.encoders; "
        "if you trust that class, pass it in `encoder_classes`"
    )


def _build(path: Path, cls: type[Encoder], arguments: dict[str, Any]) -> Encoder:
    unknown = set(arguments) - set(inspect.signature(cls).parameters)
    if unknown or arguments.get("weights_path") is not None:
        name = min(unknown, default="weights_path")
        raise ValueError(
            f"{path}: gives {_import_path(cls)} the argument {name}={arguments[name]!r}, which a file may "
            f"not give; upgrade selfsup ({selfsup.__version__}) or export the encoder again"
        )
    try:
        return cls(**arguments)
    except (TypeError, ValueError, RuntimeError, OverflowError, AssertionError) as error:
        raise ValueError(
            f"{path}: {_import_path(cls)} cannot be built with {arguments} ({str(error).splitlines()[0]}); "
            "export the encoder again"
        ) from error


def _import_path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _to_json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be written as JSON ({error}); give numbers, text, lists and dicts") from error


def _write(path: Path, content: bytes) -> None:
    """Replaces `path` by `content`; after an error or a crash the old file is still there."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path}: could not write the {len(content)} bytes of the encoder ({error.strerror}), and what "
            "was there before is unchanged; free some space or choose another folder",
        ) from error
