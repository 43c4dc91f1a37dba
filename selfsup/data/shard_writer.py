"""The folder of shards in its making: finished shards stay whatever happens, and all else is cleared away."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfsup.data.listing import plural, printable
from selfsup.data.shard_format import (
    END_OF_ARCHIVE,
    INDEX,
    SUMS,
    UNFINISHED,
    VIDEOS,
    Contents,
    Shard,
    shard_head,
    shard_name,
)

_COPIED_BYTES = 2**20


class Packed(NamedTuple):
    """What a packing has come to.

    Attributes:
        contents: of the folder.
        rows: those of videos.jsonl.
        made: shards that were written now; the others were there.
        size: bytes of all shards.
    """

    contents: Contents
    rows: list[dict[str, Any]]
    made: int

    @property
    def size(self) -> int:
        return sum(shard.size for shard in self.contents.shards)

    @property
    def refused(self) -> dict[str, str]:
        """Why a video is not packed, by its path below the folder of all."""
        return {row["path"]: row["refused"] for row in self.rows if "refused" in row}

    @property
    def mute(self) -> dict[str, str]:
        """Why a video is packed without the sound that it has."""
        packed = [row for row in self.rows if "place" in row]
        return {row["path"]: row["place"]["sound_refused"] for row in packed if row["place"]["sound_refused"]}


class _Shard:
    """The shard that is being written."""

    def __init__(self, number: int, path: Path) -> None:
        self.number = number
        self.file = open(path, "wb")  # noqa: SIM115 (closed with the shard)
        self.digest = hashlib.sha256()
        self.size = 0

    def add(self, content: bytes) -> None:
        self.file.write(content)
        self.digest.update(content)
        self.size += len(content)


class ShardWriter:
    """The folder in its making. A shard is finished once it has its name; its rows have been written before."""

    def __init__(self, output: Path, settings: dict[str, Any], plan: str) -> None:
        self.output, self.settings, self.plan = output, settings, plan
        self.most_bytes = settings["shard_megabytes"] * 1e6
        self.folder = output / UNFINISHED
        self.run = uuid.uuid4().hex  # processes of a run that was killed may still write
        self.shards: list[Shard] = []
        self.rows: dict[int, dict[str, Any]] = {}
        self.new_rows: dict[int, dict[str, Any]] = {}  # since the last finished shard
        self.open: _Shard | None = None
        self.found = 0

    def resume(self) -> int:
        """Takes up the shards that are finished, and clears away the rest. Returns the first video that is missing.

        ValueError where something else lies here, or another process is at work.
        """
        plan = self.folder / "plan"
        if not plan.exists():
            if self.output.exists() and any(path.name != UNFINISHED for path in self.output.iterdir()):
                raise ValueError(f"{self.output}: is not empty, and no packing was begun in it; give another output")
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(plan, self.plan.encode())
        if plan.read_text() != self.plan:
            raise ValueError(
                f"{self.output}: a packing with other settings or of other videos was begun here; give another output, "
                "or remove this folder"
            )
        self.lock = open(plan, "rb")  # noqa: SIM115 (held until this process ends, however it ends)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{self.output}: another process is packing into it; wait for it, or end it") from None
        while (path := self.output / shard_name(len(self.shards))).exists():
            kept = json.loads(self._rows_file(len(self.shards)).read_bytes())
            if path.stat().st_size != kept["size"]:
                break
            self.shards.append(Shard(path.name, kept["size"], kept["sha256"]))
            self.rows |= {int(number): row for number, row in kept["rows"].items()}
        self.found = len(self.shards)
        self.clear()
        return max(self.rows, default=-1) + 1

    def part(self, number: int) -> Path:
        """Where a process writes a video."""
        return self.folder / f"{number:08d}-{self.run}.part"

    def take(self, number: int, part: Path, row: dict[str, Any]) -> None:
        """Adds a video, whose file is removed, or why there is none."""
        if "place" in row:
            size = part.stat().st_size
            if self.open is not None and self.open.size + size + len(END_OF_ARCHIVE) > self.most_bytes:
                self._close(self.open)
            shard = self.open = self.open or self._new()
            row = {**row, "place": {"shard": shard.number, **_moved(row["place"], shard.size)}}
            with open(part, "rb") as file:
                while content := file.read(_COPIED_BYTES):
                    shard.add(content)
        part.unlink(missing_ok=True)
        self.new_rows[number] = row

    def finish(self, listed: Sequence[dict[str, Any]], refused: Sequence[str | None]) -> Packed:
        """Closes the last shard and writes the index. ValueError where no video was packed."""
        if self.open is not None:
            self._close(self.open)
        known = self.rows | self.new_rows
        rows = [{**video, **known.get(number, {"refused": refused[number]})} for number, video in enumerate(listed)]
        if not self.shards:
            shutil.rmtree(self.folder)
            raise ValueError(
                f"none of {plural(len(rows), 'video')} can be packed, the first is {printable(rows[0]['path'])}: "
                f"{rows[0]['refused']}; give other videos"
            )
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        contents = Contents(self.settings, self.plan, self.shards, hashlib.sha256(text).hexdigest())
        _write(self.output / VIDEOS, text)
        _write(self.output / SUMS, contents.sums())
        _write(self.output / INDEX, contents.text())
        shutil.rmtree(self.folder)
        return Packed(contents, rows, len(self.shards) - self.found)

    def clear(self) -> None:
        """Removes what is not finished."""
        for path in [*self.folder.glob("*.part"), *self.folder.glob("*.tar")]:
            path.unlink(missing_ok=True)

    def _new(self) -> _Shard:
        shard = _Shard(len(self.shards), self.folder / "shard.tar")
        shard.add(shard_head(self.settings, self.plan, shard.number))
        return shard

    def _close(self, shard: _Shard) -> None:
        shard.add(END_OF_ARCHIVE)
        shard.file.close()
        name, digest = shard_name(shard.number), shard.digest.hexdigest()
        kept = {"size": shard.size, "sha256": digest, "rows": self.new_rows}
        _write(self._rows_file(shard.number), json.dumps(kept).encode())
        os.replace(self.folder / "shard.tar", self.output / name)
        self.shards.append(Shard(name, shard.size, digest))
        self.rows |= self.new_rows
        self.new_rows, self.open = {}, None

    def _rows_file(self, number: int) -> Path:
        return self.folder / f"{number:05d}.json"


def _moved(place: dict[str, Any], by: int) -> dict[str, Any]:
    """The place of a video `by` bytes further on."""
    table, sound = place["table"], place["sound"]
    return {
        **place,
        "table": [table[0] + by, *table[1:]],
        "frames": place["frames"] + by,
        "sound": None if sound is None else {**sound, "offset": sound["offset"] + by},
        "kept": {name: [extent[0] + by, *extent[1:]] for name, extent in place["kept"].items()},
    }


def _write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
