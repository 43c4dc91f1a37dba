"""ESC-10 and ESC-50, environmental sounds of five seconds (Piczak 2015, doi 10.1145/2733373.2806390)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from selfsup.data.listing import (
    Listing,
    Video,
    existing,
    files_below,
    printable,
    read_table,
    refuse_missing,
    sorted_by_path,
)

NAME = re.compile(r"(\d+)-(\d+)-[A-Z](-\d+)?\.\w+")  # fold, source recording, take, class number in ESC-50


def esc(root: str | os.PathLike[str], only_esc10: bool = False) -> Listing:
    """The sounds, none of which has a picture: for `selfsup evaluate audio` alone.

    `root` is ESC-50 as published (meta/esc50.csv and audio/), ESC-10 as published (folders `001 - Dog bark` of files
    `1-30226-A.ogg`), or a folder with a manifest.csv that has the columns path, label, group and fold. The fold, which
    the authors gave each source recording, is in `Video.labels`; the group is the source recording.

    Raises FileNotFoundError or ValueError, with the file, the line and the cure.
    """
    root = existing(root)
    table = root / "meta" / "esc50.csv"
    if table.exists():
        videos = list(_published(root, table, only_esc10))
    elif (root / "manifest.csv").exists():
        videos = list(_listed(root, root / "manifest.csv"))
    else:
        videos = list(_named(root))
    if not videos:
        raise ValueError(
            f"{printable(root)}: no sound of ESC in it; give the folder with meta/esc50.csv, a manifest.csv, or "
            "one folder a class of files named as 1-30226-A.ogg"
        )
    if missing := [video.path for video in videos if not video.path.exists()]:
        refuse_missing(table if table.exists() else root / "manifest.csv", missing, len(videos), root)
    return Listing(sorted_by_path(videos), [])


def _published(root: Path, table: Path, only_esc10: bool) -> Iterator[Video]:
    for line, row in read_table(table, required=("filename", "fold", "category", "esc10", "src_file")):
        if only_esc10 and row["esc10"].lower() != "true":
            continue
        path = root / "audio" / row["filename"]
        yield Video(path, row["category"], row["src_file"], None, {"fold": _fold(row["fold"], table, line)})


def _listed(root: Path, table: Path) -> Iterator[Video]:
    for line, row in read_table(table, required=("path", "label", "group", "fold")):
        yield Video(root / row["path"], row["label"], row["group"], None, {"fold": _fold(row["fold"], table, line)})


def _named(root: Path) -> Iterator[Video]:
    for path in files_below(root):
        if (found := NAME.fullmatch(path.name)) is not None and path.parent != root:
            label = re.sub(r"^\d+ - ", "", printable(path.parent.name))
            yield Video(path, label, found[2], None, {"fold": found[1]})


def _fold(text: str, table: Path, line: int) -> str:
    if not text.isdecimal():
        raise ValueError(f"{printable(table)}, line {line}: fold {text!r} is no whole number; use the authors' file")
    return text
