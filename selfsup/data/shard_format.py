"""What a folder of packed videos is made of, in bytes.

    index.json          what was packed how, and the shards; written last
    videos.jsonl        a row a video: its label, what the index knows of it, and where it lies
    shard-00000.tar     the videos, in the order of their paths
    SHA256SUMS          of the above, for `sha256sum -c`

A shard is a plain tar, as WebDataset reads it: for each video NUMBER.json, NUMBER.mjpeg (its frames, one JPEG after
the other, which players show), NUMBER.npy (when each is shown and where it lies), NUMBER.wav, and what a task keeps of
it. Bytes are read by their place in videos.jsonl. Nothing in it is ever run: JSON, numbers, PCM and JPEG.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from selfsup.data.byte_ranges import Extent, read_ranges, read_whole, sizes_below

FORMAT = 1
INDEX, VIDEOS, SUMS = "index.json", "videos.jsonl", "SHA256SUMS"
UNFINISHED = ".unfinished"  # the folder of a packing that has not ended
END_OF_ARCHIVE = bytes(2 * tarfile.BLOCKSIZE)


class Shard(NamedTuple):
    """One shard: its length in bytes, and the SHA-256 of all of them."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """What index.json says.

    Attributes:
        settings: how the videos were packed.
        plan: digest of the settings, the videos and their labels; packings with one plan give the same bytes.
        shards: in their order.
        videos_sha256: of videos.jsonl.
    """

    settings: Mapping[str, Any]
    plan: str
    shards: Sequence[Shard]
    videos_sha256: str

    def text(self) -> bytes:
        """The file."""
        shards = [shard._asdict() for shard in self.shards]
        record = {"format": FORMAT, "settings": self.settings, "plan": self.plan, "videos_sha256": self.videos_sha256}
        return (json.dumps({**record, "shards": shards}, indent=1) + "\n").encode()

    def sums(self) -> bytes:
        """SHA256SUMS."""
        rows = [(shard.sha256, shard.name) for shard in self.shards]
        rows += [(self.videos_sha256, VIDEOS), (hashlib.sha256(self.text()).hexdigest(), INDEX)]
        return "".join(f"{digest}  {name}\n" for digest, name in rows).encode()


def shard_name(number: int) -> str:
    """The file of a shard, counted from 0."""
    return f"shard-{number:05d}.tar"


def member(name: str, size: int) -> bytes:
    """The header of a file of the tar; nothing in it depends on when and by whom it is written."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """What follows a file of this size, up to the next block."""
    return bytes(-size % tarfile.BLOCKSIZE)


def shard_head(settings: Mapping[str, Any], plan: str, number: int) -> bytes:
    """The first file of a shard, which says what it belongs to."""
    text = json.dumps({"format": FORMAT, "shard": number, "plan": plan, "settings": settings}, indent=1).encode()
    return member("selfsup.json", len(text)) + text + padding(len(text))


class NoRoomError(OSError):
    """A file of the shards cannot be written; told from a video that cannot be read."""


class TarWriter:
    """Files of a tar, one after the other, in a file that is open for reading and writing.

    Raises NoRoomError where it cannot be written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def add(self, name: str, content: bytes, skip: int = 0) -> Extent:
        """Writes a file. Returns where it lies, less its first `skip` bytes."""
        self._write(member(name, len(content)))
        at = self.file.tell() + skip
        self._write(content + padding(len(content)))
        return Extent(at, len(content) - skip, zlib.crc32(content[skip:]))

    def stream(self, name: str, pieces: Iterator[bytes]) -> tuple[int, str]:
        """Writes a file whose length is known at its end. Returns where it begins, and its BLAKE2b digest."""
        start, size, digest = self.file.tell(), 0, hashlib.blake2b(digest_size=16)
        self._write(member(name, 0))
        for piece in pieces:
            self._write(piece)
            digest.update(piece)
            size += len(piece)
        self._write(padding(size))
        end = self.file.tell()
        self.file.seek(start)
        self._write(header := member(name, size))
        self.file.seek(end)
        return start + len(header), digest.hexdigest()

    def back_to(self, place: int) -> None:
        """Forgets all from `place` on."""
        self.file.seek(place)
        self.file.truncate()

    def _write(self, content: bytes) -> None:
        try:
            self.file.write(content)
        except OSError as error:
            raise NoRoomError(*error.args) from error


def read_contents(root: str) -> Contents:
    """What the folder holds, once all shards are found to be whole and its own.

    Raises FileNotFoundError where there is no such folder, ValueError for a folder without an index, of another
    version, with a shard that is missing, cut short or of another packing; OSError where it cannot be read.
    """
    root = root.rstrip("/")
    sizes = sizes_below(root)
    if INDEX not in sizes:
        raise ValueError(
            f"{root}: no {INDEX} here; give the folder that selfsup prepare output=… has packed, and where it was "
            "stopped, run it again first"
        )
    contents = _contents(f"{root}/{INDEX}", read_whole(f"{root}/{INDEX}"))
    for number, shard in enumerate(contents.shards):
        _check_shard(f"{root}/{shard.name}", shard, sizes.get(shard.name), contents, number)
    return contents


def read_rows(root: str, contents: Contents) -> list[dict[str, Any]]:
    """The rows of videos.jsonl. Raises ValueError where it is not the one that was written with the index."""
    url = f"{root.rstrip('/')}/{VIDEOS}"
    text = read_whole(url)
    if hashlib.sha256(text).hexdigest() != contents.videos_sha256:
        raise ValueError(f"{url}: does not match its checksum in {INDEX}; copy both again, or pack the videos anew")
    return [json.loads(line) for line in text.splitlines()]


def _contents(url: str, text: bytes) -> Contents:
    try:
        record = json.loads(text)
        version = record["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{url}: not an index of packed videos; give a folder that selfsup prepare packed") from error
    if version != FORMAT:
        raise ValueError(f"{url}: has format {version}, this version reads {FORMAT}; pack the videos anew")
    try:
        shards = [Shard(str(row["name"]), int(row["size"]), str(row["sha256"])) for row in record["shards"]]
        contents = Contents(dict(record["settings"]), str(record["plan"]), shards, str(record["videos_sha256"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{url}: is damaged ({error!r}); copy it again, or pack the videos anew") from error
    # A name from elsewhere must not lead out of the folder.
    if strange := [shard.name for number, shard in enumerate(shards) if shard.name != shard_name(number)]:
        raise ValueError(f"{url}: names a shard {strange[0]!r}, which is none; pack the videos anew")
    return contents


def _check_shard(url: str, shard: Shard, size: int | None, contents: Contents, number: int) -> None:
    if size is None:
        raise ValueError(f"{url}: this shard is missing; copy it again, or pack the videos anew")
    if size != shard.size:
        kind = "cut short" if size < shard.size else "too long"
        raise ValueError(f"{url}: {kind}, it has {size:,} bytes of {shard.size:,}; copy it again, or pack anew")
    expected = shard_head(contents.settings, contents.plan, number)
    (head,) = read_ranges(url, [(0, len(expected))])
    if head == expected:
        return
    told = _told_by(bytes(head))
    if told.get("format", FORMAT) != FORMAT:
        raise ValueError(f"{url}: has format {told['format']}, this version reads {FORMAT}; pack the videos anew")
    raise ValueError(
        f"{url}: belongs to another packing than {INDEX}; keep the shards of each packing in a folder of their own"
        + _differences(told.get("settings"), contents.settings)
    )


def _told_by(head: bytes) -> dict[str, Any]:
    """What the first file of a shard says, as far as it can be read."""
    try:
        entry = tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "replace")
        return dict(json.loads(head[tarfile.BLOCKSIZE :][: entry.size]))
    except (tarfile.HeaderError, ValueError, TypeError):
        return {}


def _differences(told: Any, settings: Mapping[str, Any]) -> str:
    """The settings in which two packings differ, as the end of a sentence."""
    if not isinstance(told, dict):
        return ""
    names = [name for name in settings if told.get(name) != settings[name]]
    return f" ({', '.join(f'{name}: {told.get(name)}, not {settings[name]}' for name in names)})" if names else ""
