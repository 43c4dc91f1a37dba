"""Files that are written whole or not at all, and never trusted unless they are.

A file is 16 bytes, the BLAKE2b digest of its key and its content; then the content. One whose digest does not hold,
because it is damaged, cut short or of another key, counts as absent.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

DIGEST_BYTES = 16


def read_checked(path: Path, key: bytes) -> bytes | None:
    """The content that was written under this key, or None. Raises OSError where the file cannot be read."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    content = whole[DIGEST_BYTES:]
    return content if whole[:DIGEST_BYTES] == _digest(key, content) else None


def write_checked(path: Path, key: bytes, content: bytes) -> None:
    """Writes the file, and its folder where there is none. Raises OSError, and then leaves what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        unfinished.write_bytes(_digest(key, content) + content)
        os.replace(unfinished, path)  # whole or not at all, whoever else writes the same
    finally:
        unfinished.unlink(missing_ok=True)


def named(folder: Path, key: bytes, ending: str) -> Path:
    """Where what has this key lies below `folder`; folders of two letters keep each of them small."""
    name = hashlib.blake2b(key, digest_size=16).hexdigest()
    return folder / name[:2] / f"{name}{ending}"


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(key + content, digest_size=DIGEST_BYTES).digest()
