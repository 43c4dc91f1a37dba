"""Flow that was computed once, on disk: the bytes of some fields a file, beside a checksum.

A file (see `checked_file`) holds zlib of int8 fields. One that is damaged, cut short or another video's counts as
absent and is written again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfsup.data.checked_file import named, read_checked, write_checked

CHUNK_FIELDS = 32  # a file
VERSION = 1  # of the format; part of the key


@dataclass(frozen=True)
class FlowStore:
    """The fields of one video, at one rate, size and algorithm; int8 as of `flow_fields.quantise`.

    Args:
        folder: of the files of all videos; made when the first is written.
        key: everything that the fields depend on.
        count: fields that the video has.
        height, width: of a field, in pixels.
    """

    folder: Path
    key: Mapping[str, str | int | float]
    count: int
    height: int
    width: int

    def read(self, numbers: np.ndarray, compute: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """Fields `numbers`, sorted int64 (N,), as int8 (N, 2, H, W).

        What is not there is made by `compute(first, stop)`, int8 (stop - first, 2, H, W), and written for the next
        time. Raises OSError where the folder cannot be read or written.
        """
        assert len(numbers), "no field is asked for"
        assert 0 <= numbers.min() <= numbers.max() < self.count, "no such fields"
        parts = []
        for chunk in np.unique(numbers // CHUNK_FIELDS).tolist():
            first, stop = chunk * CHUNK_FIELDS, min((chunk + 1) * CHUNK_FIELDS, self.count)
            fields = self._load(chunk, stop - first)
            if fields is None:
                fields = compute(first, stop)
                self._save(chunk, fields)
            parts.append(fields[numbers[(numbers >= first) & (numbers < stop)] - first])
        return np.concatenate(parts)

    def path(self, chunk: int) -> Path:
        """The file of fields from `chunk * CHUNK_FIELDS` on."""
        return named(self.folder, self._text(), f"-{chunk:04d}.flow")

    def _load(self, chunk: int, length: int) -> np.ndarray | None:
        packed = read_checked(self.path(chunk), self._key(chunk))
        if packed is None:
            return None
        return np.frombuffer(zlib.decompress(packed), np.int8).reshape(length, 2, self.height, self.width)

    def _save(self, chunk: int, fields: np.ndarray) -> None:
        packed = zlib.compress(np.ascontiguousarray(fields, np.int8).tobytes(), 6)
        write_checked(self.path(chunk), self._key(chunk), packed)

    def _text(self) -> bytes:
        known = {**self.key, "version": VERSION, "count": self.count, "height": self.height, "width": self.width}
        return json.dumps(known, sort_keys=True).encode()

    def _key(self, chunk: int) -> bytes:
        return self._text() + f"#{chunk}#".encode()
