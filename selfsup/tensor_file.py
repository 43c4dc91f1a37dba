"""A safetensors file that describes itself: tensors, and as JSON what they are and how the network is built again.

What `weights` (encoders) and `classifier_weights` share. A file is written whole or not at all, and read strictly.
"""

import inspect
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

import selfsup
from selfsup.encoders.state_dict import explain_mismatch, shapes

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        noun: what the file holds, as "encoder"; its own name is by convention `NOUN.safetensors`.
        key: of the description in the metadata. One key: a safetensors header does not fix the order of several, and
            one network should give one file.
        format: raised when a file of today's kind can no longer be read by yesterday's code.
        fields: of the description, and their types.
        cure: what to do with a file that holds tensors alone.
    """

    noun: str
    key: str
    format: int
    fields: Mapping[str, type]
    cure: str

    @property
    def again(self) -> str:
        """What to do with a file that does not hold."""
        return f"export the {self.noun} again"

    @property
    def one(self) -> str:
        """The noun with its article."""
        return f"a{'n' if self.noun[0] in 'aeiou' else ''} {self.noun}"


def save(network: nn.Module, path: str | Path, kind: Kind, description: Mapping[str, Any]) -> None:
    """Writes the tensors of `network`, copied to the CPU, and `description`, whole or not at all.

    Raises ValueError where JSON cannot hold the description, OSError where the file could not be written.
    """
    path = Path(path)
    described = {"format": kind.format, **description, "version": selfsup.__version__}
    metadata = {kind.key: to_json(described, f"{path}: the description of the {kind.noun}")}
    # Cloned: safetensors refuses tensors that share memory. Contiguous: it knows no channels_last.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    _write(path, to_bytes(tensors, metadata), kind)


def read_description(path: str | Path, kind: Kind) -> dict[str, Any]:
    """What the file says of itself. Builds nothing.

    Raises:
        ValueError: the file is missing, damaged, of another kind, or written by a newer selfsup.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the path of {kind.one}.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(kind.key)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or cut short ({error}); copy or export it again") from error
    if text is None:
        raise ValueError(f"{path}: holds tensors but no description of {kind.one}; {kind.cure}")
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the description is not JSON ({error}); {kind.again}") from error
    _check_fields(path, metadata, kind)
    return metadata


def _check_fields(path: Path, metadata: Any, kind: Kind) -> None:
    if not isinstance(metadata, dict):
        raise ValueError(f"{path}: the description is a {type(metadata).__name__}; {kind.again}")
    written = metadata.get("format")
    if isinstance(written, int) and written > kind.format:
        raise ValueError(
            f"{path}: written by selfsup {metadata.get('version')} in format {written}, but selfsup "
            f"{selfsup.__version__} reads up to format {kind.format}; upgrade selfsup"
        )
    for field, expected in kind.fields.items():
        if type(metadata.get(field)) is not expected:
            raise ValueError(
                f"{path}: {field!r} of the description is {metadata.get(field)!r}, not a {expected.__name__}; "
                f"{kind.again}"
            )


def restore(path: Path, kind: Kind, build: Callable[[], Network], architecture: str, version: str) -> Network:
    """The network that `build` makes, with the tensors of the file, on the CPU.

    Args:
        path: a file of which the description holds.
        kind: of the file.
        build: called twice: without memory, to compare, and for good.
        architecture: what it builds, in words, for errors.
        version: of the package that wrote the file, for errors.

    Raises:
        ValueError: the file holds another architecture's tensors, or of another kind of number.
    """
    with torch.device("meta"):  # no memory is taken until the file is known to hold this very architecture
        expected = shapes(build().state_dict())
    with safe_open(path, framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        if difference := explain_mismatch(expected, found):
            raise ValueError(
                f"{path}: the tensors are not those of {architecture} ({difference}); "
                f"the file was altered, or written by another version than {selfsup.__version__} "
                f"(it says {version}); {kind.again}"
            )
        with torch.random.fork_rng(devices=[]):  # loading leaves the seed of the run alone
            network = build()
        state = {name: file.get_tensor(name) for name in found}
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() != state[name].is_floating_point():
            raise ValueError(f"{path}: {name} holds {state[name].dtype}, not {tensor.dtype}; {kind.again}")
    network.load_state_dict(state, strict=True)
    return network


def call(path: Path, kind: Kind, cls: Callable[..., Network], arguments: Mapping[str, Any], *given: Any) -> Network:
    """`cls(*given, **arguments)`; ValueError where the file gives it what it does not take, or it cannot be built."""
    name = import_path(cls)
    unknown = set(arguments) - set(list(inspect.signature(cls).parameters)[len(given) :])
    if unknown or arguments.get("weights_path") is not None:
        wrong = min(unknown, default="weights_path")
        raise ValueError(
            f"{path}: gives {name} the argument {wrong}={arguments[wrong]!r}, which a file may "
            f"not give; upgrade selfsup ({selfsup.__version__}) or {kind.again}"
        )
    try:
        return cls(*given, **arguments)
    except (TypeError, ValueError, RuntimeError, OverflowError, AssertionError) as error:
        raise ValueError(
            f"{path}: {name} cannot be built with {dict(arguments)} ({str(error).splitlines()[0]}); {kind.again}"
        ) from error


def import_path(cls: Any) -> str:
    """Where a class is imported from."""
    return f"{cls.__module__}.{cls.__qualname__}"


def to_json(value: Any, what: str) -> str:
    """The value as text; ValueError, beginning with `what`, where JSON cannot hold it."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be written as JSON ({error}); give numbers, text, lists and dicts") from error


def _write(path: Path, content: bytes, kind: Kind) -> None:
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
            f"{path}: could not write the {len(content)} bytes of the {kind.noun} ({error.strerror}), and what "
            "was there before is unchanged; free some space or choose another folder",
        ) from error
