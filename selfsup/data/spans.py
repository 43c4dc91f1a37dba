"""Labels of frames: rows of a manifest that say from when to when an action is seen, and what a file shows of it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from selfsup.data.index import VideoInfo
from selfsup.data.listing import (
    Listing,
    Span,
    Video,
    plural,
    printable,
    read_table,
    refuse_missing,
    sorted_by_path,
    split_name,
)


def read_spans(path: Path, base: Path, label: str = "label") -> Listing:
    """A CSV file with the columns `path`, `start`, `stop` (seconds) and `label`, and where known `group` and `split`.

    The rows of one path make one video; a row with blank start, stop and label says that no action is seen in it.
    `label` names the column of the classes. A row that stands twice counts once.

    Raises FileNotFoundError or ValueError, with the file, the line and the cure.
    """
    required = ("path", "start", "stop", label)
    cure = f"; data.labels=frame reads {', '.join(required)}, data.labels=video a row a video"
    rows = read_table(path, required, cure)
    listed: dict[str, Video] = {}
    missing, repeated = [], 0
    for line, row in rows:
        where = f"{printable(path)}, line {line}"
        if not row["path"]:
            raise ValueError(f"{where}: no path in this row; write one or remove the row")
        span = _span(row, label, where)
        split = split_name(row.get("split", ""), where)
        video = Video(base / row["path"], None, row.get("group") or None, split, spans=(span,) if span else ())
        first = listed.setdefault(key := os.path.normpath(video.path), video)
        if first is not video:
            listed[key] = _joined(first, video, row["path"], where)
            repeated += span in (first.spans or (None,))
        elif not video.path.exists():
            missing.append(f"{row['path']} (line {line})")
    if missing:
        refuse_missing(path, missing, len(listed), base)
    notes = [f"{printable(path)}: {plural(repeated, 'row')} repeated, read once"] if repeated else []
    return Listing(sorted_by_path(listed.values()), notes)


def _span(row: Mapping[str, str], label: str, where: str) -> Span | None:
    """The span of a row, None where the row says that there is no action."""
    cells = {name: row[name] for name in ("start", "stop", label)}
    if not any(cells.values()):
        return None
    if blank := [name for name, cell in cells.items() if not cell]:
        filled = next(name for name, cell in cells.items() if cell)
        raise ValueError(
            f"{where}: {filled} is {cells[filled]!r}, but {blank[0]} is blank; write start, stop and {label}, or leave "
            f"all three blank for a video without action"
        )
    start, stop = _seconds(row["start"], f"{where}: start"), _seconds(row["stop"], f"{where}: stop")
    if stop <= start:
        raise ValueError(f"{where}: {row[label]!r} stops at {stop:g} s, not after its start at {start:g} s; swap them")
    return Span(start, stop, row[label])


def _seconds(text: str, what: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{what} is {text!r}; give seconds from the start of the video, as 12.5")
    return seconds


def _joined(first: Video, other: Video, name: str, where: str) -> Video:
    """The video of two rows."""
    if (first.group, first.split) != (other.group, other.split):
        raise ValueError(f"{where}: {name} is listed before with another group or split; give all its rows the same")
    if bool(first.spans) != bool(other.spans):
        raise ValueError(
            f"{where}: one row of {name} has an action, and another says that there is none; remove the blank one"
        )
    return replace(first, spans=tuple(sorted({*(first.spans or ()), *(other.spans or ())})))


def cut_spans(video: Video, info: VideoInfo) -> tuple[tuple[Span, ...], float]:
    """The spans as far as the file shows them, and by how many seconds the longest was cut.

    A stop beyond the last frame is rounding, or the length of another encoding. ValueError for a span that begins only
    there: its times are then not those of this file.
    """
    assert video.spans is not None, "only asked where frames have labels"
    end = info.duration_seconds
    for span in video.spans:
        if span.start_seconds >= end:
            raise ValueError(
                f"{printable(video.path)}: {span.label!r} starts at {span.start_seconds:g} s, the video ends at "
                f"{end:.2f} s; correct the row, whose times are seconds from the first frame of this file, or remove it"
            )
    latest = max((span.stop_seconds for span in video.spans), default=0.0)
    cut = tuple(span._replace(stop_seconds=min(span.stop_seconds, end)) for span in video.spans)
    return cut, max(0.0, latest - end)
