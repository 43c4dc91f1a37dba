"""What a list of videos is made of: `Video`, `Listing`, and the reading of folders, tables and names."""

import csv
import io
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

from selfsup.data.index import Index

_SUFFIXES = """
.3g2 .3gp .asf .avi .divx .f4v .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob
.webm .wmv
"""
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split())
SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {"training": "train", "valid": "val", "validate": "val", "validation": "val", "dev": "val"}
_SPLIT_NAMES |= {"testing": "test"} | {split: split for split in SPLITS}


class Span(NamedTuple):
    """From when to when an action is seen: a frame is in it that is shown at start ≤ time < stop."""

    start_seconds: float
    stop_seconds: float
    label: str


@dataclass(frozen=True)
class Video:
    """One file: its class, what it was cut from, and its split; None where the data do not say.

    Videos of one `group` (a source video, a speaker) never lie in two splits. `labels` holds other columns. Where
    frames have labels, `spans` holds them, sorted, and is empty where no action is seen; `label` is then None.
    """

    path: Path
    label: str | None = None
    group: str | None = None
    split: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    spans: tuple[Span, ...] | None = None

    @property
    def classes(self) -> tuple[str | None, ...]:
        """What splits keep in proportion: the label, or those of the spans, sorted; (None,) where there is none."""
        if self.spans is None:
            return (self.label,)
        return tuple(sorted({span.label for span in self.spans})) or (None,)


class Listing(NamedTuple):
    """The videos, sorted by path, and sentences to print: what was ignored or missing, how it was split.

    `indexed` is there where the videos were indexed before they were listed.
    """

    videos: list[Video]
    notes: list[str]
    indexed: Index | None = None


def printable(path: str | os.PathLike[str]) -> str:
    r"""A path as text that any UTF-8 file can hold: bytes that are not UTF-8 are shown as `\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_split_name(name: str) -> bool:
    """Whether `name` is a usual spelling of train, val or test, in any case."""
    return name.strip().lower() in _SPLIT_NAMES


def split_name(name: str, where: str) -> str | None:
    """`train`, `val` or `test` for any usual spelling, None for a blank; else ValueError naming `where`."""
    if not name.strip():
        return None
    if not is_split_name(name):
        raise ValueError(
            f"{where}: unknown split {name.strip()!r}; write one of "
            f"{', '.join(sorted(_SPLIT_NAMES))}, or leave it blank"
        )
    return _SPLIT_NAMES[name.strip().lower()]


def some(names: Collection[str | Path], most: int = 3) -> str:
    """The first few names, for a message: `a.mp4, b.mp4, c.mp4, …`."""
    first = [
        printable(name.name if isinstance(name, Path) else name) for _, name in zip(range(most), names, strict=False)
    ]
    return ", ".join(first + ["…"] * (len(names) > most))


def plural(count: int, noun: str) -> str:
    """`1 video`, `3 videos`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def sorted_by_path(videos: Iterable[Video]) -> list[Video]:
    """Sorted by the bytes of the path, the same on every machine and in every locale."""
    return sorted(videos, key=lambda video: os.fsencode(video.path))


def existing(path: str | os.PathLike[str]) -> Path:
    """`path`, or FileNotFoundError where nothing lies there."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{printable(path)}: no such file or folder; correct the path")
    return Path(path)


def files_below(root: Path) -> list[Path]:
    """All files at any depth, sorted, without hidden ones; links to folders are followed, but once."""
    if not existing(root).is_dir():
        raise ValueError(f"{printable(root)}: a file, not a folder; give the folder that holds the videos")
    return sorted(_walk(root), key=os.fsencode)


def _walk(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> NoReturn:
        raise error  # os.walk would pass over a folder that it may not read

    seen = set()
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder above would be walked for ever
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in files if not name.startswith("."))


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a UTF-8 file (with or without BOM) that are not blank, each with its number from 1."""
    return [(number, line.strip()) for number, line in enumerate(_text(path).splitlines(), 1) if line.strip()]


def read_table(path: Path, required: Iterable[str], cure: str = "") -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file (commas, UTF-8 with or without BOM), each with its line number; a blank is "".

    Raises ValueError where a column of `required` is missing, which `cure` ends, a row has too many cells, or there
    is no row.
    """
    # newline="" keeps the line breaks inside quotes, and the line numbers true.
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), skipinitialspace=True, strict=True, restval="")
    rows = []
    try:
        columns = [name.strip() for name in reader.fieldnames or []]
        if absent := [name for name in required if name not in columns]:
            raise ValueError(
                f"{printable(path)}: no column {absent[0]!r}; its first line names, separated by commas, "
                f"{', '.join(map(repr, columns)) or 'nothing'}{cure}"
            )
        reader.fieldnames = columns
        for row in reader:
            if None in row:
                raise ValueError(
                    f"{printable(path)}, line {reader.line_num}: more cells than the {len(columns)} columns; "
                    f"put a path that has a comma between double quotes"
                )
            rows.append((reader.line_num, {k: v if k == "path" else v.strip() for k, v in row.items()}))
    except csv.Error as error:
        raise ValueError(f"{printable(path)}, below line {reader.line_num}: not CSV, {error}; save it again") from error
    if not rows:
        raise ValueError(f"{printable(path)}: no row below the header; list at least one video")
    return rows


def _text(path: Path) -> str:
    if existing(path).is_dir():
        raise ValueError(f"{printable(path)}: a folder, not a text file; give the file")
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{printable(path)}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def refuse_missing(source: Path, missing: Collection[str | Path], total: int, root: Path) -> NoReturn:
    """FileNotFoundError for files that `source` lists and `root` lacks."""
    raise FileNotFoundError(
        f"{printable(source)}: {len(missing):,} of {total:,} listed files are not in {printable(root)} "
        f"({some(missing)}); correct the paths or the root"
    )
