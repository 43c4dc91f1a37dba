"""Lists of videos: from any folder, from a manifest, or from the files of a published data set.

Every function returns a `Listing`: the videos, sorted by path, and sentences on what was left out or decided.
Nothing is decoded here. `split_videos` fills in the splits that the data do not name.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from selfsup.data.davis import davis
from selfsup.data.esc import esc
from selfsup.data.listing import (
    VIDEO_SUFFIXES,
    Listing,
    Video,
    existing,
    files_below,
    is_split_name,
    plural,
    printable,
    read_table,
    refuse_missing,
    some,
    sorted_by_path,
    split_name,
)
from selfsup.data.published import hmdb51, kinetics, ucf101
from selfsup.data.spans import read_spans
from selfsup.data.splits import split_videos
from selfsup.data.synthetic import cached_synthetic
from selfsup.data.synthetic_changes import cached_changing

__all__ = [
    "Listing",
    "Video",
    "changing",
    "davis",
    "esc",
    "folder",
    "hmdb51",
    "kinetics",
    "manifest",
    "printable",
    "split_videos",
    "synthetic",
    "ucf101",
]


LABELS = ("video", "frame")


def folder(root: str | os.PathLike[str]) -> Listing:
    """Any folder of videos, searched to any depth; hidden files are skipped, files of other kinds counted.

    The first level of sub-folders gives the labels. Where all of its names are split names (train, val,
    test, …), it gives the splits, and the next level the labels. A video that lies in no sub-folder has no
    label.

    Raises FileNotFoundError where `root` is missing, ValueError where it is a file or holds no video.
    """
    root = Path(root)
    files = files_below(root)
    paths = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    others = [path for path in files if path.suffix.lower() not in VIDEO_SUFFIXES]
    if not paths:
        found = f"only {plural(len(others), 'other file')} ({some(others)})" if others else "the folder is empty"
        raise ValueError(
            f"{printable(root)}: no video here, {found}; give a folder that holds, at any depth, files named "
            f"*{', *'.join(sorted(VIDEO_SUFFIXES))}"
        )
    parents = [path.relative_to(root).parts[:-1] for path in paths]
    first_level = {parts[0] if parts else "" for parts in parents}
    by_split = all(is_split_name(name) for name in first_level)
    notes = []
    if others:
        notes.append(f"{printable(root)}: ignored {plural(len(others), 'file')} of other kinds ({some(others)})")
    if not by_split and (doubtful := sorted(filter(is_split_name, first_level))):
        rest = sorted(f"{name}/" if name else "the folder itself" for name in first_level.difference(doubtful))
        notes.append(
            f"{printable(root)}: {some(doubtful)} read as a label, not as a split, since videos "
            f"also lie in {some(rest)}"
        )
    videos = []
    for path, parts in zip(paths, parents, strict=True):
        split = split_name(parts[0], printable(path)) if by_split else None
        labels = parts[1:] if by_split else parts
        videos.append(Video(path, printable(labels[0]) if labels else None, None, split))
    return Listing(videos, notes)


def manifest(
    manifest: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    label: str | None = "label",
    labels: str = "video",
) -> Listing:
    """A CSV file (commas, UTF-8) with a column `path` and, where known, `label`, `group` and `split`.

    Paths are absolute, or relative to `root`, by default the manifest's own folder. `label` names the
    column that holds the classes; a column of any other name but `label` must be there, and with None no video has a
    class. The rest of the columns goes to `Video.labels`. A file listed twice with one label, group and split is read
    once.

    With `labels` "frame" a row is a span of a video, with the columns `start` and `stop`: see `spans.read_spans`.

    Raises FileNotFoundError or ValueError, with the file, the line and the cure.
    """
    path = Path(manifest)
    base = path.parent if root is None else existing(root)
    if labels not in LABELS:
        raise ValueError(f"data.labels={labels!r}: choose one of {', '.join(LABELS)}")
    if labels == "frame":
        if label is None:
            raise ValueError("data.label=null with data.labels=frame: spans need a class; give data.label=COLUMN")
        return read_spans(path, base, label)
    rows = read_table(path, required=("path",) if label in (None, "label") else ("path", label))
    listed: dict[str, Video] = {}
    missing, repeated = [], 0
    for line, row in rows:
        if not row["path"]:
            raise ValueError(f"{printable(path)}, line {line}: no path in this row; write one or remove the row")
        video = Video(
            base / row["path"],
            (row.get(label) if label is not None else None) or None,
            row.get("group") or None,
            split_name(row.get("split", ""), f"{printable(path)}, line {line}"),
            {k: v for k, v in row.items() if k not in ("path", "group", "split", label) and v},
        )
        key = os.path.normpath(video.path)
        first = listed.setdefault(key, video)
        if (first.label, first.group, first.split) != (video.label, video.group, video.split):
            raise ValueError(
                f"{printable(path)}, line {line}: {row['path']} is listed twice, with another label, group "
                f"or split; keep one row"
            )
        repeated += first is not video
        if not video.path.exists():
            missing.append(f"{row['path']} (line {line})")
    if missing:
        refuse_missing(path, missing, len(rows), base)
    notes = [f"{printable(path)}: {plural(repeated, 'row')} repeated, read once"] if repeated else []
    return Listing(sorted_by_path(listed.values()), notes)


def synthetic(
    videos: int = 240,
    synthetic_seed: int = 0,
    static: bool = False,
    texture: str = "coarse",
    size_pixels: int = 96,
    label: str = "label",
) -> Listing:
    """The embedded videos, written into the user's cache folder on first use; see selfsup.data.synthetic.

    `label` names the column of classes: label (the action), object or sound."""
    with _writing(videos) as told:
        path = cached_synthetic(
            videos=videos,
            seed=synthetic_seed,
            static=static,
            texture=texture,
            size_pixels=size_pixels,
            progress=told,
        )
    return manifest(path, label=label)


def changing(
    videos: int = 120, synthetic_seed: int = 0, size_pixels: int = 96, actions: int = 4, seconds: float = 1.2
) -> Listing:
    """Embedded videos whose action changes, with labels of frames; see selfsup.data.synthetic_changes."""
    with _writing(videos) as told:
        path = cached_changing(
            videos=videos,
            seed=synthetic_seed,
            size_pixels=size_pixels,
            actions=actions,
            seconds=seconds,
            progress=told,
        )
    return manifest(path, labels="frame")


@contextmanager
def _writing(videos: int) -> Iterator[Callable[[int, int], None]]:
    """A bar, and what tells it of (videos written, videos in all)."""
    with Progress(TextColumn("writing synthetic videos"), BarColumn(), TimeRemainingColumn(), transient=True) as bar:
        row = bar.add_task("write", total=videos)
        yield lambda done, total: bar.update(row, completed=done, total=total)
