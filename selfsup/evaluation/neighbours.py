"""Nearest sounds of a frame, and nearest frames of a sound: as pictures, as sounds, and as a page that plays them."""

from __future__ import annotations

import html
import json
import os
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.utils import make_grid

from selfsup.data.index import VideoInfo
from selfsup.data.listing import printable

SIDE_PIXELS = 112
BORDER_PIXELS = 4
OWN, OTHER = (0.1, 0.7, 0.2), (1.0, 1.0, 1.0)  # colours of the border: of the query's own video, and of others
DIRECTIONS = ("frame to sound", "sound to frame")
RECORD = "neighbours.json"


@dataclass(frozen=True)
class Moment:
    """A frame of a video and the sound around it, by their seconds."""

    info: VideoInfo
    label: str | None
    shown_seconds: float
    heard_seconds: float


@dataclass(frozen=True)
class Shown:
    """What was written of one direction: the picture, uint8 (3, H, W), and the sounds of all its cells, row by row."""

    path: Path
    picture: Tensor
    sounds: list[Path]
    captions: list[str]


def nearest(similarities: Tensor, query: int, count: int) -> list[int]:
    """The `count` columns of (V, V) that are most like row `query`, the first of equal ones first."""
    return torch.argsort(similarities[query], descending=True, stable=True)[:count].tolist()


def read_moment(moment: Moment, sound_seconds: float, rate_hz: int) -> tuple[Tensor, Tensor]:
    """Frame uint8 (3, 112, 112), the square in its middle, and sound float32 (N,) in [-1, 1].

    Raises ValueError or OSError where the file cannot be read any more.
    """
    with moment.info.open(short_side_pixels=SIDE_PIXELS) as video:
        frame = video.frames([min(moment.shown_seconds, video.duration_seconds)])[0]
        # Seconds were kept in float32: the last sound of a long video may seem to end after it.
        start = max(0.0, min(moment.heard_seconds, moment.info.heard_seconds - sound_seconds))
        sound = video.audio(start, start + sound_seconds, rate_hz)
    return F.center_crop(frame, [SIDE_PIXELS, SIDE_PIXELS]), sound


def write_wave(path: Path, sound: Tensor, rate_hz: int) -> None:
    """Writes float (N,) in [-1, 1] as 16-bit PCM, mono."""
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((sound.clamp(-1, 1) * 32767).round().short().numpy().tobytes())


def write_neighbours(
    folder: Path,
    moments: Sequence[Moment],
    similarities: Mapping[str, Tensor],
    *,
    sound_seconds: float,
    rate_hz: int,
    queries: int = 6,
    count: int = 4,
) -> dict[str, Shown]:
    """Writes `count` neighbours of some queries across the modalities, and `index.html` to see and hear them.

    The folder holds a picture a direction, a row a query: its frame, then those of its neighbours, in green where they
    are of the query's own video. frames/ and sounds/ hold what the page shows, by the place of the video.

    Args:
        folder: written to, made where it is missing.
        moments: of V videos.
        similarities: (V, V) by direction; rows are queries.
        sound_seconds, rate_hz: of each sound.
        queries: spread evenly over the videos.
        count: of neighbours each.

    Raises ValueError or OSError where a file cannot be read any more.
    """
    asked = torch.linspace(0, len(moments) - 1, min(queries, len(moments))).long().tolist()
    rows = {
        direction: [[query, *nearest(similarities[direction], query, count)] for query in asked]
        for direction in DIRECTIONS
    }
    for name in ("frames", "sounds"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    frames = {}
    for place in sorted({place for of in rows.values() for row in of for place in row}):
        frames[place], sound = read_moment(moments[place], sound_seconds, rate_hz)
        F.to_pil_image(frames[place]).save(folder / "frames" / f"{place:04d}.png")
        write_wave(folder / "sounds" / f"{place:04d}.wav", sound, rate_hz)
    shown = {}
    for direction, of in rows.items():
        path, picture = folder / f"{direction.replace(' ', '_')}.png", _grid(frames, of)
        F.to_pil_image(picture).save(path)
        sounds = [folder / "sounds" / f"{place:04d}.wav" for row in of for place in row]
        captions = [
            f"row {number}, {f'neighbour {column}' if column else 'query'}: {_caption(moments[place])}"
            for number, row in enumerate(of, start=1)
            for column, place in enumerate(row)
        ]
        shown[direction] = Shown(path, picture, sounds, captions)
    (folder / "index.html").write_text(_page(moments, rows), encoding="utf-8")
    cells = {
        _TITLES[way]: [[_record(moments, row, at) for at in range(len(row))] for row in of] for way, of in rows.items()
    }
    write_record(folder, cells)
    return shown


def write_record(folder: Path, tables: Mapping[str, Sequence[Sequence[Mapping[str, str]]]]) -> Path:
    """Writes neighbours.json, from which `selfsup report` makes tables that play, and returns its path.

    `tables` holds rows of cells by title. A cell has a `caption`, a `kind` (query, own or other), and files relative to
    the folder: `image`, `sound`, `video`.
    """
    path = folder / RECORD
    text = json.dumps([{"title": title, "rows": rows} for title, rows in tables.items()], indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _grid(frames: Mapping[int, Tensor], rows: Sequence[Sequence[int]]) -> Tensor:
    """Uint8 (3, H, W); the first of each row is the query."""
    cells = []
    for query, *others in rows:
        cells.append(_framed(frames[query], (0.0, 0.0, 0.0)))
        cells += [_framed(frames[place], OWN if place == query else OTHER) for place in others]
    return make_grid(torch.stack(cells), nrow=len(rows[0]), pad_value=255)


def _framed(frame: Tensor, colour: tuple[float, float, float]) -> Tensor:
    side = SIDE_PIXELS + 2 * BORDER_PIXELS
    framed = (255 * torch.tensor(colour)).byte().view(3, 1, 1).repeat(1, side, side)
    framed[:, BORDER_PIXELS:-BORDER_PIXELS, BORDER_PIXELS:-BORDER_PIXELS] = frame
    return framed


def _caption(moment: Moment) -> str:
    name = printable(moment.info.path.name)
    label = "" if moment.label is None else f"{printable(moment.label)}, "
    return f"{label}{name} at {moment.heard_seconds:.2f} s"


_STYLE = """body { font: 14px sans-serif; margin: 2em } td { padding: 4px; vertical-align: top; width: 190px }
img { border: 4px solid #ddd } .query img { border-color: black } .own img { border-color: green }
audio { display: block; width: 180px; height: 32px; margin: 4px 0 }"""
_TITLES = {
    "frame to sound": "Nearest sounds for a frame",
    "sound to frame": "Nearest frames for a sound",
}


def _page(moments: Sequence[Moment], rows: Mapping[str, Sequence[Sequence[int]]]) -> str:
    parts = []
    for direction, of in rows.items():
        lines = ["".join(_cell(moments, row, column) for column in range(len(row))) for row in of]
        table = "\n".join(f"<tr>{line}</tr>" for line in lines)
        parts.append(f"<h2>{_TITLES[direction]}</h2>\n<table>\n{table}\n</table>")
    about = (
        "A row is a query, on the left, and what lies nearest to it; green where that is of the query's own video. "
        "Every cell shows a frame and plays the sound around it; only the one that the heading names was compared."
    )
    head = f'<meta charset="utf-8"><title>Retrieval</title><style>{_STYLE}</style>'
    body = "\n".join([f"<p>{about}</p>", *parts])
    return f"<!doctype html>\n<html><head>{head}</head>\n<body>\n<h1>Frames and sounds</h1>\n{body}\n</body></html>\n"


def _record(moments: Sequence[Moment], row: Sequence[int], column: int) -> dict[str, str]:
    place = row[column]
    return {
        "kind": "query" if column == 0 else "own" if place == row[0] else "other",
        "caption": _caption(moments[place]),
        "image": f"frames/{place:04d}.png",
        "sound": f"sounds/{place:04d}.wav",
    }


def _cell(moments: Sequence[Moment], row: Sequence[int], column: int) -> str:
    shown = _record(moments, row, column)
    return (
        f'<td class="{shown["kind"]}"><img src="{shown["image"]}" alt="">'
        f'<audio controls preload="none" src="{shown["sound"]}"></audio>'
        f"{html.escape(shown['caption'])}</td>"
    )
