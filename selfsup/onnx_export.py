"""A network as an ONNX file, and whether ONNX Runtime computes with it what PyTorch does."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from selfsup.encoders.encoder import InputSpecification


@dataclass(frozen=True)
class Checked:
    """How far ONNX Runtime was from PyTorch.

    Attributes:
        largest: absolute difference, over all clips.
        share: the same, as a share of the largest absolute number that PyTorch gave.
        shapes: (B, C, T, H, W) of the clips.
    """

    largest: float
    share: float
    shapes: tuple[tuple[int, ...], ...]


class WithNormalization(nn.Module):
    """A network that takes clips as they are shown, float32 in [0, 1], for whoever has no `InputSpecification`."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, specification: InputSpecification) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(specification.mean).view(-1, 1, 1, 1))
        self.register_buffer("std", torch.tensor(specification.std).view(-1, 1, 1, 1))

    def forward(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W), float32 in [0, 1], to what the network gives."""
        return self.network((clip - self.mean) / self.std)


def export_onnx(network: nn.Module, clip: Tensor, path: Path, output: str, about: Mapping[str, Any]) -> bool:
    """Writes the network as ONNX; the batch is free, and the number of frames where the network allows it.

    Args:
        network: takes one clip, in evaluation mode.
        clip: float32 (B, C, T, H, W), B at least 2: the exporter takes a size of 1 for a constant.
        path: to write.
        output: the name of what the network gives; what it takes is called "clip".
        about: kept in the file's metadata, each value as JSON.

    Returns:
        Whether the number of frames is free.

    Raises:
        ValueError: the network refuses the clip, or branches on its data, which PyTorch's exporter cannot follow.
    """
    with torch.inference_mode():
        network(clip)  # what it refuses, it refuses in clearer words than the exporter has
    sizes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.AUTO}
    try:
        with _silent():
            program = torch.onnx.export(
                network,
                (clip,),
                dynamo=True,
                verbose=False,
                input_names=["clip"],
                output_names=[output],
                dynamic_shapes=(sizes,),
            )
    except Exception as error:  # the exporter's errors have no class in common but this
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        name = type(network.network if isinstance(network, WithNormalization) else network).__name__
        raise ValueError(f"{name}: cannot be exported ({cause}); export its encoder, or another classifier") from error
    assert program is not None, "dynamo=True gives one"
    for name, value in about.items():
        program.model.metadata_props[name] = json.dumps(value, ensure_ascii=False)
    program.save(path)
    shape = program.model.graph.inputs[0].shape
    assert shape is not None, "that of the clip"
    return not isinstance(shape[2], int)


def check_onnx(path: Path, network: nn.Module, clips: Sequence[Tensor]) -> Checked:
    """Compares ONNX Runtime, on the CPU, with PyTorch on some clips (B, C, T, H, W)."""
    from onnxruntime import InferenceSession  # an extra

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    differences, sizes = [], []
    for clip in clips:
        with torch.inference_mode():
            expected = network(clip)
        (found,) = session.run(None, {"clip": clip.numpy()})
        if found.shape != tuple(expected.shape):
            raise ValueError(f"{path}: gives {found.shape} where PyTorch gives {tuple(expected.shape)}; report this")
        differences.append((torch.from_numpy(found) - expected).abs().max())
        sizes.append(expected.abs().max())
    # Python's max would pass over what is not a number, which is the worst of all differences.
    largest, size = torch.stack(differences).max().item(), torch.stack(sizes).max().item()
    return Checked(largest, largest / size if size else largest, tuple(tuple(clip.shape) for clip in clips))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The exporter speaks of its progress, of libraries not used here, and where it fails, of the whole graph."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        said = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
