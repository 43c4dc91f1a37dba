"""Pictures, sounds and videos of a run as text inside the page, as far as there is room for them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfsup.evaluation.neighbours import RECORD

TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
}
KINDS = ("image", "sound", "video")
DRAWN = ("evaluation", "foreground")  # pictures of figures that the page has as a table with bars


@dataclass
class Room:
    """How many bytes of files may still go into the page; `refused` names those that found no room."""

    bytes_left: int
    refused: list[str] = field(default_factory=list)

    def uri(self, path: Path) -> str | None:
        """The file as a data URI; None where there is no room for it."""
        if (size := path.stat().st_size) > self.bytes_left:
            self.refused.append(f"{path}, {size / 1e6:.1f} MB")
            return None
        content = path.read_bytes()
        self.bytes_left -= len(content)
        return f"data:{TYPES[path.suffix.lower()]};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True)
class Shown:
    """A file on the page: its name, its data URI, and "image", "audio" or "video"."""

    name: str
    uri: str
    kind: str


def neighbours(folder: Path, room: Room) -> list[dict[str, Any]]:
    """The tables of all neighbours.json below pictures/, each file as a data URI.

    Raises ValueError where one is damaged, or names a file outside of its folder, which no page may carry away.
    """
    tables = []
    for record in sorted((folder / "pictures").rglob(RECORD)):
        try:
            for table in json.loads(record.read_text(encoding="utf-8")):
                rows = [[_cell(cell, record.parent, room) for cell in row] for row in table["rows"]]
                tables.append({"title": str(table["title"]), "rows": rows})
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{record}: not as selfsup writes it ({error}); run again") from error
    return tables


def _cell(cell: dict[str, str], folder: Path, room: Room) -> dict[str, str | None]:
    shown: dict[str, str | None] = {"kind": cell["kind"], "caption": cell["caption"]}
    for name in KINDS:
        if name in cell:
            shown[name] = room.uri(_inside(folder, cell[name]))
    return shown


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or path.suffix.lower() not in TYPES:
        raise ValueError(f"{folder / RECORD}: names {name!r}, which is no picture, sound or video of its folder")
    if not path.is_file():
        raise ValueError(f"{folder / RECORD}: names {name!r}, which is gone; run again")
    return path


def pictures(folder: Path, room: Room) -> list[Shown]:
    """What else lies below pictures/, and pictures of the run's own folder, the newest epoch first."""
    below = folder / "pictures"
    recorded = {record.parent for record in below.rglob(RECORD)}
    paths = [
        path
        for path in [*below.rglob("*"), *folder.glob("*.png")]
        if path.suffix.lower() in TYPES
        and path.is_file()
        and path.stem not in DRAWN
        and not recorded & set(path.parents)
    ]
    shown = []
    for path in sorted(paths, key=lambda path: path.relative_to(folder).as_posix(), reverse=True):
        if path.resolve().is_relative_to(folder.resolve()) and (uri := room.uri(path)) is not None:
            kind = TYPES[path.suffix.lower()].partition("/")[0]
            shown.append(Shown(path.relative_to(folder).as_posix(), uri, kind))
    return shown
