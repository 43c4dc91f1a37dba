"""Read a local state dict, as torchvision and timm publish them, strictly."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


def load_local(network: nn.Module, path: str | Path, head_keys: Sequence[str]) -> None:
    """Copies the state dict of a local file into `network`; every key must match.

    Args:
        network: a network without its head.
        path: .safetensors, or what `torch.save(state_dict)` writes (read with weights_only=True).
        head_keys: the exact names of the head's tensors, left out where the file holds them.

    Raises:
        ValueError: no such file, not a state dict, or names or shapes that differ.
    """
    state = _read(Path(path))
    kept = {name: tensor for name, tensor in state.items() if name not in head_keys}
    try:
        network.load_state_dict(kept, strict=True)
    except RuntimeError as error:
        expected = shapes(network.state_dict())
        # Files older than BatchNorm's counter lack it, and torch fills it in: it is not what is wrong.
        counters = [name for name in expected if name.endswith("num_batches_tracked") and name not in kept]
        difference = explain_mismatch({k: v for k, v in expected.items() if k not in counters}, shapes(kept))
        raise ValueError(
            f"{path}: the weights are not those of this {type(network).__name__} ({difference}); "
            "give the weights_path of the same network with the same in_channels"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give weights_path a local .pth or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable state dict ({reason}); download or write it again") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"{path}: holds a {type(state).__name__} that does not map names to tensors; "
            "save the network's state_dict() alone"
        )
    return dict(state)


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name to shape."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def explain_mismatch(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], most: int = 3
) -> str:
    """What differs between the names and shapes of two state dicts; '' where nothing does.

    Names at most `most` tensors of a kind: missing, unexpected, of another shape.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    different = [
        f"{name} is {found[name]}, not {expected[name]}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    parts = []
    for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", different)):
        if names:
            more = f" and {len(names) - most} more" if len(names) > most else ""
            parts.append(f"{title}: {', '.join(names[:most])}{more}")
    return "; ".join(parts)
