"""Flow that was computed once, on disk: the bytes of some fields a file, beside a checksum.

A file (see `checked_file`) holds zlib of int8 fields. One that is damaged, cut short or another video's counts as
absent and is written again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
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
        kept: of the video, see `VideoInfo.kept`; `packed` reads the fields that lie there.
    """

    folder: Path
    key: Mapping[str, str | int | float]
    count: int
    height: int
    width: int
    kept: Callable[[Mapping[str, str | int | float]], bytes | None] = lambda key: None

    def read(self, numbers: np.ndarray, compute: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """Fields `numbers`, sorted int64 (N,), as int8 (N, 2, H, W).

        What is not there is made by `compute(first, stop)`, int8 (stop - first, 2, H, W), and written for the next
        time. Raises OSError where the folder cannot be read or written.
        """
        parts = []
        for chunk, first, stop, wanted in self._chunks(numbers):
            content = read_checked(self.path(chunk), self._key(chunk))
            if content is None:
                fields = compute(first, stop)
                write_checked(self.path(chunk), self._key(chunk), _compressed(fields))
            else:
                fields = self._fields(content, stop - first)
            parts.append(fields[wanted])
        return np.concatenate(parts)

    def packed(self, numbers: np.ndarray) -> np.ndarray | None:
        """Fields `numbers` as of `read` where they lie with the video; None where they do not."""
        parts = []
        for chunk, first, stop, wanted in self._chunks(numbers):
            content = self.kept(self._chunk_key(chunk))
            if content is None:
                return None
            parts.append(self._fields(content, stop - first)[wanted])
        return np.concatenate(parts)

    def to_pack(
        self, compute: Callable[[int, int], np.ndarray]
    ) -> Iterator[tuple[dict[str, str | int | float], bytes]]:
        """All fields, made by `compute` as of `read`, in parts: the key of each, and its bytes."""
        for chunk, first, stop, _ in self._chunks(np.arange(self.count)):
            yield self._chunk_key(chunk), _compressed(compute(first, stop))

    def path(self, chunk: int) -> Path:
        """The file of fields from `chunk * CHUNK_FIELDS` on."""
        return named(self.folder, self._text(), f"-{chunk:04d}.flow")

    def _chunks(self, numbers: np.ndarray) -> Iterator[tuple[int, int, int, np.ndarray]]:
        """The chunks in which sorted fields lie: number, first field, the one after the last, places in it (N',)."""
        assert len(numbers), "no field is asked for"
        assert 0 <= numbers.min() <= numbers.max() < self.count, "no such fields"
        for chunk in np.unique(numbers // CHUNK_FIELDS).tolist():
            first, stop = chunk * CHUNK_FIELDS, min((chunk + 1) * CHUNK_FIELDS, self.count)
            yield chunk, first, stop, numbers[(numbers >= first) & (numbers < stop)] - first

    def _fields(self, content: bytes, length: int) -> np.ndarray:
        return np.frombuffer(zlib.decompress(content), np.int8).reshape(length, 2, self.height, self.width)

    def _known(self) -> dict[str, str | int | float]:
        return {**self.key, "version": VERSION, "count": self.count, "height": self.height, "width": self.width}

    def _chunk_key(self, chunk: int) -> dict[str, str | int | float]:
        return {**self._known(), "chunk": chunk}

    def _text(self) -> bytes:
        return json.dumps(self._known(), sort_keys=True).encode()

    def _key(self, chunk: int) -> bytes:
        return self._text() + f"#{chunk}#".encode()


def _compressed(fields: np.ndarray) -> bytes:
    return zlib.compress(np.ascontiguousarray(fields, np.int8).tobytes(), 6)
