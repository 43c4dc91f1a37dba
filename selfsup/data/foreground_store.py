"""Foreground labels that were made once, on disk: one file a video and labeller, each frame packed by itself.

A file (see `checked_file`) holds a header in JSON, its length before it as four bytes, and the masks. One that is
damaged, cut short, another video's or of other settings counts as absent, so that its labels are made again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from selfsup.data.checked_file import named, read_checked, write_checked
from selfsup.data.foreground import Labels, Rejection

LEVELS = 20  # steps of 0.05 in which a mask is kept
SHORT_SIDE_PIXELS = 112  # of a mask that is kept, twice the head's 56; smaller ones stay as they are
VERSION = 1  # of the format; part of the key


@dataclass(frozen=True)
class Verdicts:
    """What is kept of T frames besides their masks; see `foreground.Labels`."""

    times_seconds: Tensor
    confidence: Tensor
    rejections: tuple[Rejection | None, ...]


@dataclass(frozen=True)
class ForegroundStore:
    """The labels of one video by one labeller.

    Args:
        folder: of the files of all videos; made when the first is written.
        key: everything that the labels depend on: the video's checksum, its frames' rate and size, and
            `foreground.settings_of` the labeller.
        kept: of the video, see `VideoInfo.kept`; labels that lie there come before those in the folder.
    """

    folder: Path
    key: Mapping[str, str | int | float]
    kept: Callable[[Mapping[str, str | int | float]], bytes | None] = lambda key: None

    @cached_property
    def path(self) -> Path:
        """The file, whether it is there or not."""
        return named(self.folder, self._text, ".foreground")

    def write(self, labels: Labels) -> None:
        """Keeps the labels, their masks in 20 steps and at a short side of at most 112 pixels.

        Raises OSError where that is impossible; what was there before is then still there, and nothing else is.
        """
        height, width = labels.masks.shape[-2:]
        codes = [_encode(mask) for mask in labels.masks]
        packed = [zlib.compress(_differences(code).tobytes(), 9) if code.any() else b"" for code in codes]
        header = {
            "height": height,
            "width": width,
            "kept": list(codes[0].shape),
            "times_seconds": labels.times_seconds.tolist(),
            "confidence": [round(value, 4) for value in labels.confidence.tolist()],
            "rejections": [rejection and rejection.name for rejection in labels.rejections],
            "bytes": [len(part) for part in packed],
        }
        text = json.dumps(header).encode()
        write_checked(self.path, self._text, b"".join([len(text).to_bytes(4, "little"), text, *packed]))

    def read(self, numbers: Sequence[int] | None = None) -> Labels | None:
        """The labels of some frames, by default of all, at the size they were made; None where none are kept.

        Raises OSError where the file cannot be read.
        """
        if (parts := self._parts()) is None:
            return None
        header, packed = parts
        ends = np.cumsum([0, *header["bytes"]])
        chosen = list(range(len(header["bytes"]))) if numbers is None else list(numbers)
        masks = [_decode(packed[ends[number] : ends[number + 1]], header) for number in chosen]
        verdicts = _verdicts(header)
        return Labels(
            verdicts.times_seconds[chosen],
            torch.stack(masks),
            verdicts.confidence[chosen],
            tuple(verdicts.rejections[number] for number in chosen),
        )

    def verdicts(self) -> Verdicts | None:
        """Which frames are fit to learn from, without unpacking a mask; None and OSError as for `read`."""
        parts = self._parts()
        return _verdicts(parts[0]) if parts is not None else None

    @property
    def whole_key(self) -> dict[str, str | int | float]:
        """The key, and the version of the format."""
        return {**self.key, "version": VERSION}

    def content(self) -> bytes | None:
        """All that is kept, as it lies on disk; None and OSError as for `read`."""
        content = self.kept(self.whole_key)
        return read_checked(self.path, self._text) if content is None else content

    def _parts(self) -> tuple[dict[str, Any], bytes] | None:
        """The header, and all masks as they are packed."""
        if (content := self.content()) is None:
            return None
        start = 4 + int.from_bytes(content[:4], "little")
        return json.loads(content[4:start]), content[start:]

    @cached_property
    def _text(self) -> bytes:
        return json.dumps(self.whole_key, sort_keys=True).encode()


def _verdicts(header: dict[str, Any]) -> Verdicts:
    return Verdicts(
        torch.tensor(header["times_seconds"], dtype=torch.float64),
        torch.tensor(header["confidence"]),
        tuple(name and Rejection[name] for name in header["rejections"]),
    )


def _encode(mask: Tensor) -> NDArray[np.uint8]:
    """Mask float32 (H, W) to steps uint8 (h, w), 0 to 20."""
    scale = SHORT_SIDE_PIXELS / min(mask.shape)
    if scale < 1:
        size = [round(side * scale) for side in mask.shape]
        mask = F.resize(mask[None], size, antialias=True)[0].clamp(0, 1)
    return (mask * LEVELS).round().byte().numpy()


def _decode(packed: bytes, header: dict[str, Any]) -> Tensor:
    """Undoes `_encode` and the packing, but for what was rounded: float32 (H, W)."""
    size = [header["height"], header["width"]]
    if not packed:
        return torch.zeros(size)
    steps = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(header["kept"])
    mask = torch.from_numpy(np.cumsum(steps, axis=1, dtype=np.uint8)).float() / LEVELS
    return mask if list(mask.shape) == size else F.resize(mask[None], size, antialias=False)[0]


def _differences(code: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """From left to right, modulo 256: what is even packs to nothing."""
    return np.diff(code, axis=1, prepend=np.uint8(0))
