"""Dense optical flow between consecutive frames, by one of three algorithms.

The sign: flow (u, v) of a pixel says where the point that is seen there lies in the next frame, minus the pixel. What
moves to the right has u > 0; what moves down has v > 0. Units are pixels of the frames that were given.

OpenCV is an optional dependency: `pip install 'selfsup[flow]'`. Nothing is downloaded.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.optical_flow import raft_large, raft_small

from selfsup.data.index import checksum

DIS_PRESETS = ("ultrafast", "fast", "medium")
DIS_LEAST_PIXELS = 32  # of either side; OpenCV 5.0 crashes on some smaller ones, such as 24 x 96
RAFT_LEAST_PIXELS = 128  # of either side, padded to it
RAFT_SIZES: dict[str, Callable[..., nn.Module]] = {"small": raft_small, "large": raft_large}


class FlowAlgorithm(Protocol):
    """From frames to flow; a pure function of every two frames, so that what is kept on disk can be made again."""

    @property
    def name(self) -> str:
        """Tells this algorithm and its settings from all others; part of the key of what is kept."""
        ...

    def __call__(self, frames: Tensor) -> Tensor:
        """Uint8 (T, C, H, W), C 1 or 3, T at least 2, to float32 (T - 1, 2, H, W)."""
        ...


@dataclass(frozen=True)
class Dis:
    """Dense inverse search (Kroeger et al. 2016, arXiv 1603.03590), OpenCV's: fast and good enough for two streams.

    `preset` is "ultrafast", "fast" or "medium". Frames must be at least 32 pixels high and wide.
    """

    preset: str = "medium"

    def __post_init__(self) -> None:
        if self.preset not in DIS_PRESETS:
            raise ValueError(f"preset={self.preset!r}: give one of {', '.join(DIS_PRESETS)}")
        import_cv2()  # said here rather than for each video

    @property
    def name(self) -> str:
        return f"dis-{self.preset}"

    def __call__(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        if min(height, width) < DIS_LEAST_PIXELS:
            raise ValueError(
                f"frames of {width} x {height} pixels: DIS flow needs {DIS_LEAST_PIXELS} either way; read them larger "
                "or use Farneback"
            )
        cv2 = import_cv2()
        search = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{self.preset.upper()}"))
        return _of_pairs(frames, lambda before, after: search.calc(before, after, None))


@dataclass(frozen=True)
class Farneback:
    """Polynomial expansion (Farnebäck 2003, SCIA), OpenCV's. Arguments are those of cv2.calcOpticalFlowFarneback."""

    pyramid_scale: float = 0.5
    levels: int = 3
    window_pixels: int = 15
    iterations: int = 3
    neighbourhood_pixels: int = 5
    neighbourhood_sigma: float = 1.2

    def __post_init__(self) -> None:
        import_cv2()  # said here rather than for each video

    @property
    def name(self) -> str:
        return (
            f"farneback-{self.pyramid_scale:g}-{self.levels}-{self.window_pixels}-{self.iterations}"
            f"-{self.neighbourhood_pixels}-{self.neighbourhood_sigma:g}"
        )

    def __call__(self, frames: Tensor) -> Tensor:
        settings = (
            self.pyramid_scale,
            self.levels,
            self.window_pixels,
            self.iterations,
            self.neighbourhood_pixels,
            self.neighbourhood_sigma,
            0,  # flags
        )
        calculate = import_cv2().calcOpticalFlowFarneback
        return _of_pairs(frames, lambda before, after: calculate(before, after, None, *settings))


@dataclass(frozen=True)
class Raft:
    """Recurrent all-pairs field transforms (Teed and Deng 2020, arXiv 2003.12039), torchvision's.

    Args:
        weights_path: a local state dict of torchvision's raft_small or raft_large, .pth or .safetensors.
        size: "small" or "large".
        updates: of the field, each a pass of the recurrent part.
        device: where it runs; workers that read videos share no GPU, so leave "cpu" in them.

    Raises ValueError for weights that are missing, unreadable or of another network.
    """

    weights_path: str | None = None
    size: str = "large"
    updates: int = 12
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.size not in RAFT_SIZES:
            raise ValueError(f"size={self.size!r}: give one of {', '.join(RAFT_SIZES)}")
        if self.weights_path is None:
            raise ValueError(
                f"RAFT needs weights and none are downloaded: set weights_path to a local state dict of torchvision's "
                f"raft_{self.size}, or use DIS"
            )
        if not Path(self.weights_path).is_file():
            raise ValueError(f"{self.weights_path}: no such file; give weights_path a local .pth or .safetensors file")

    @property
    def _weights(self) -> tuple[str, int]:
        """The file as it is now: one that is written anew is read anew."""
        return str(self.weights_path), Path(str(self.weights_path)).stat().st_mtime_ns

    @property
    def name(self) -> str:
        return f"raft-{self.size}-{self.updates}-{_digest(*self._weights)}"

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Tensor:
        network = _load_raft(*self._weights, self.size, self.device)
        height, width = frames.shape[-2:]
        high, wide = (max(RAFT_LEAST_PIXELS, -(-side // 8) * 8) for side in (height, width))
        images = frames.expand(-1, 3, -1, -1).to(self.device).float() / 127.5 - 1
        images = F.pad(images, (0, wide - width, 0, high - height), mode="replicate")
        pairs = pairwise(images)  # one at a time: a field depends on its own frames alone
        fields = [network(one[None], other[None], num_flow_updates=self.updates)[-1] for one, other in pairs]
        return torch.cat(fields)[..., :height, :width].cpu().clone()


def flow(frames: Tensor, algorithm: FlowAlgorithm | None = None) -> Tensor:
    """Flow from each frame to the next: uint8 (T, C, H, W) to float32 (T - 1, 2, H, W), u then v, in pixels a frame.

    `algorithm` is `Dis()` by default. Raises ValueError for fewer than two frames, for anything but grey or RGB
    bytes, and for frames too small for the algorithm.
    """
    if frames.ndim != 4 or frames.shape[1] not in (1, 3) or frames.dtype != torch.uint8:
        raise ValueError(
            f"flow of {frames.dtype} {tuple(frames.shape)}: give uint8 (T, C, H, W) with C = 1 (grey) or 3 (RGB)"
        )
    if len(frames) < 2:
        raise ValueError(f"flow of {len(frames)} frame(s): the last frame has none, give at least 2")
    return (algorithm or Dis())(frames)


def _of_pairs(frames: Tensor, calculate: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Tensor:
    cv2 = import_cv2()
    images = [np.ascontiguousarray(image) for image in frames.permute(0, 2, 3, 1).numpy()]
    grey = [image[..., 0] if image.shape[-1] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    with one_thread(cv2):
        fields = [calculate(before, after) for before, after in pairwise(grey)]
    return torch.from_numpy(np.stack(fields).astype(np.float32)).permute(0, 3, 1, 2).contiguous()


@contextmanager
def one_thread(cv2: ModuleType) -> Iterator[None]:
    """The workers are the parallelism: OpenCV would start a thread a core in each."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def import_cv2() -> ModuleType:
    """OpenCV, which is an optional dependency; ValueError says how to install it."""
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise ValueError("DIS and Farneback flow and camera motion need OpenCV: pip install 'selfsup[flow]'") from error
    return cv2


@lru_cache(maxsize=4)
def _digest(path: str, mtime_ns: int) -> str:
    return checksum(Path(path), digest_bytes=8)


@lru_cache(maxsize=1)
def _load_raft(path: str, mtime_ns: int, size: str, device: str) -> nn.Module:
    try:
        state: Any = load_file(path) if path.endswith(".safetensors") else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: not a readable state dict; download or write it again") from error
    network = RAFT_SIZES[size](weights=None)
    try:
        if not isinstance(state, Mapping):
            raise RuntimeError(f"holds a {type(state).__name__}")
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"{path}: is not a state dict of torchvision's raft_{size}; set size or weights_path to match"
        ) from error
    return network.eval().to(device)
