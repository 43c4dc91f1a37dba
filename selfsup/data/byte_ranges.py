"""Ranges of bytes of files on disk, or of objects that fsspec reaches (`s3://…`), each held against its checksum."""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import fsspec

JOINED_BYTES = 64 * 2**10  # what lies between two ranges is read with them rather than asked for again


class Extent(NamedTuple):
    """Where bytes lie in a file, and their CRC-32."""

    offset: int
    size: int
    crc32: int


Range = tuple[int, int]  # the first byte, and the one after the last


def is_local(url: str) -> bool:
    """Whether it is a path of this machine rather than a URL of fsspec."""
    return "://" not in url and "::" not in url


def read_ranges(url: str, ranges: Sequence[Range]) -> list[memoryview]:
    """The bytes of each range; ranges rise.

    Raises OSError where the file cannot be read, ValueError where it ends before a range does.
    """
    joined: list[Range] = []
    places = []
    for start, stop in ranges:
        if not 0 <= start <= stop:
            raise ValueError(
                f"{url}: there are no bytes {start} to {stop}; copy the file again, or pack the videos anew"
            )
        if joined and start - joined[-1][1] <= JOINED_BYTES:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
        places.append((len(joined) - 1, start - joined[-1][0]))
    parts = _read_local(url, joined) if is_local(url) else _read_remote(url, joined)
    for part, (start, stop) in zip(parts, joined, strict=True):
        if len(part) != stop - start:
            raise ValueError(f"{url}: byte {stop} is needed, and the file ends before it; copy it again")
    views = [memoryview(part) for part in parts]
    return [views[number][at : at + stop - start] for (number, at), (start, stop) in zip(places, ranges, strict=True)]


def read_extent(url: str, extent: Extent, what: str) -> memoryview:
    """The bytes of an extent. Raises as `read_ranges` does, and ValueError where the checksum does not hold."""
    (content,) = read_ranges(url, [(extent.offset, extent.offset + extent.size)])
    if zlib.crc32(content) != extent.crc32:
        raise damaged(url, what)
    return content


def damaged(url: str, what: str) -> ValueError:
    """That bytes are not those that were written."""
    return ValueError(f"{url}: {what} does not match its checksum; copy the file again, or pack the videos anew")


def read_whole(url: str) -> bytes:
    """All bytes of a file. Raises FileNotFoundError where there is none, OSError where it cannot be read."""
    if is_local(url):
        with open(url, "rb") as file:
            return file.read()
    with _told(url):
        return _filesystem(os.getpid(), url.rpartition("/")[0])[0].cat_file(_inside(url))


def sizes_below(folder: str) -> dict[str, int]:
    """The size in bytes of each file of a folder, by name. Raises FileNotFoundError where there is no such folder."""
    if is_local(folder):
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    with _told(folder):
        filesystem, root = _filesystem(os.getpid(), folder)
        entries = filesystem.ls(root, detail=True)
    return {entry["name"].rpartition("/")[2]: entry["size"] for entry in entries if entry["type"] == "file"}


def _read_local(path: str, ranges: Sequence[Range]) -> list[bytes]:
    # Opened anew each time: that costs microseconds, and nothing is shared with a forked worker.
    file = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(file).st_size  # no buffer is made for what a damaged table promises
        return [os.pread(file, max(0, min(stop, size) - start), start) for start, stop in ranges]
    finally:
        os.close(file)


def _read_remote(url: str, ranges: Sequence[Range]) -> list[bytes]:
    with _told(url):
        filesystem, _ = _filesystem(os.getpid(), url.rpartition("/")[0])
        inside = _inside(url)
        starts, stops = map(list, zip(*ranges, strict=True))
        return filesystem.cat_ranges([inside] * len(ranges), starts, stops, on_error="raise")


@functools.lru_cache(maxsize=16)
def _filesystem(process: int, folder: str) -> tuple[Any, str]:
    """The file system of a folder's URL and the folder's name in it.

    By process: connections and their threads do not survive a fork. ValueError where its package is missing.
    """
    try:
        return fsspec.core.url_to_fs(folder, skip_instance_cache=True)
    except ImportError as error:
        cure = "pip install 'selfsup[s3]'" if folder.startswith("s3:") else "install the package that it names"
        raise ValueError(f"{folder}: {error}; {cure}") from error


def _inside(url: str) -> str:
    """The name of a file in its file system."""
    folder, _, name = url.rpartition("/")
    return f"{_filesystem(os.getpid(), folder)[1]}/{name}"


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Errors of any file system as an OSError that names the URL: each brings classes of its own."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{url}: no such file, folder or bucket; correct the address") from error
    except ValueError:
        raise
    except Exception as error:
        raise OSError(f"{url}: cannot be read ({error}); see that it can be reached, and may be") from error
