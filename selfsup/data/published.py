"""The published data sets UCF101, HMDB51 and Kinetics, by their official files."""

import os
import re
from pathlib import Path

from selfsup.data.listing import (
    VIDEO_SUFFIXES,
    Listing,
    Video,
    existing,
    files_below,
    plural,
    printable,
    read_lines,
    read_table,
    refuse_missing,
    some,
    sorted_by_path,
    split_name,
)


def ucf101(root: str | os.PathLike[str], annotations: str | os.PathLike[str], split_number: int = 1) -> Listing:
    """UCF101 (Soomro et al. 2012, arXiv 1212.0402): `root`/CLASS/v_CLASS_g08_c01.avi, or all files in `root`.

    `annotations` is the folder of the official trainlist0N.txt and testlist0N.txt. The clips of a class
    were cut from 25 groups of source videos, g01 to g25: the group here is `CLASS_g08`. There is no
    official val.
    """
    root, annotations = existing(root), existing(annotations)
    _check_split_number(split_number, "UCF101")
    videos = []
    for split in ("train", "test"):
        names = annotations / f"{split}list{split_number:02d}.txt"
        for line, text in read_lines(names):
            found = re.fullmatch(r"([^/]+)/([^/]+_(g\d+)_c\d+\.\w+)( \d+)?", text)
            if found is None:
                raise ValueError(
                    f"{printable(names)}, line {line}: {text!r} is not CLASS/v_CLASS_g01_c01.avi; use the official list"
                )
            label, name, group, _ = found.groups()
            videos.append(Video(_locate(root, label, name), label, f"{label}_{group}", split))
    return _complete(videos, root, annotations, [])


def hmdb51(root: str | os.PathLike[str], annotations: str | os.PathLike[str], split_number: int = 1) -> Listing:
    """HMDB51 (Kuehne et al., ICCV 2011): `root`/CLASS/NAME.avi, or all files in `root`.

    `annotations` is the folder of the official CLASS_test_splitN.txt, with rows `NAME.avi 1` (train), 2
    (test) or 0 (in neither: left out and counted). NAME is SOURCE_CLASS_u_nm_np1_ba_goo_0: the group is
    `CLASS/SOURCE`. Inside a class the official splits keep a source together; across classes they do not
    (one film serves several classes). There is no official val.
    """
    root, annotations = existing(root), existing(annotations)
    _check_split_number(split_number, "HMDB51")
    ending = f"_test_split{split_number}.txt"
    lists = [file for file in files_below(annotations) if file.name.endswith(ending)]
    if not lists:
        raise FileNotFoundError(f"{printable(annotations)}: no file CLASS{ending} in it; give the official split files")
    videos, unused = [], 0
    for names in lists:
        label = names.name.removesuffix(ending)
        for line, text in read_lines(names):
            found = re.fullmatch(r"(\S.*\.\w+)\s+([012])", text)
            if found is None:
                raise ValueError(
                    f"{printable(names)}, line {line}: {text!r} is not NAME.avi and 0, 1 or 2; use the official list"
                )
            name, use = found.groups()
            if use == "0":
                unused += 1
                continue
            source = re.sub(r"_[a-z]_(nm|cm)_np\d+_(fr|ba|le|ri)_(goo|med|bad)_\d+$", "", Path(name).stem)
            group = f"{label}/{source.removesuffix('_' + label)}"
            videos.append(Video(_locate(root, label, name), label, group, "train" if use == "1" else "test"))
    notes = [f"HMDB51 split {split_number}: left out {plural(unused, 'clip')} of neither train nor test"]
    return _complete(videos, root, annotations, notes if unused else [])


def _check_split_number(number: int, name: str) -> None:
    if number not in (1, 2, 3):
        raise ValueError(f"split_number {number}: {name} has the splits 1, 2 and 3; choose one of them")


def _locate(root: Path, label: str, name: str) -> Path:
    """`root`/label/name, or `root`/name where only that exists."""
    nested = root / label / name
    return root / name if not nested.exists() and (root / name).exists() else nested


def _complete(videos: list[Video], root: Path, annotations: Path, notes: list[str]) -> Listing:
    """The listing, where every file is on disk: a published split with holes is another split."""
    if missing := [video.path for video in videos if not video.path.exists()]:
        refuse_missing(annotations, missing, len(videos), root)
    return Listing(sorted_by_path(videos), notes)


def kinetics(root: str | os.PathLike[str], annotations: str | os.PathLike[str]) -> Listing:
    """Kinetics (Kay et al. 2017, arXiv 1705.06950): ID_000010_000020.mp4, or ID.mp4, at any depth of `root`.

    `annotations` is a CSV, or a folder of them, with the columns youtube_id, time_start, time_end, split
    and, but for unpublished test labels, label. The group is the YouTube id. Clips that are not on disk, as
    the videos that YouTube has taken down, are counted in the notes.
    """
    root, annotations = existing(root), existing(annotations)
    tables = [annotations]
    if annotations.is_dir():
        tables = [file for file in files_below(annotations) if file.suffix.lower() == ".csv"]
    if not tables:
        raise FileNotFoundError(f"{printable(annotations)}: no CSV file in it; give the annotation files")
    on_disk: dict[str, list[Path]] = {}
    for file in files_below(root):
        if file.suffix.lower() in VIDEO_SUFFIXES:
            on_disk.setdefault(file.stem, []).append(file)
    videos: dict[Path, Video] = {}
    missing = []
    for table in tables:
        for line, row in read_table(table, required=("youtube_id", "time_start", "time_end", "split")):
            where = f"{printable(table)}, line {line}"
            split, label = split_name(row["split"], where), row.get("label") or None
            try:
                times = int(float(row["time_start"])), int(float(row["time_end"]))
            except ValueError as error:
                raise ValueError(f"{where}: time_start and time_end must be seconds: {error}") from error
            name = f"{row['youtube_id']}_{times[0]:06d}_{times[1]:06d}"
            files = on_disk.get(name) or on_disk.get(row["youtube_id"])
            if not files:
                missing.append(name)
                continue
            folders = {row["split"], split, label, (label or "").replace(" ", "_")}
            # A copy may lie in two folders: the one named after this row's split and label is meant.
            file = max(files, key=lambda file: len(folders.intersection(file.relative_to(root).parts)))
            if file in videos:
                raise ValueError(f"{where}: {printable(file)} is listed twice; keep one row for each file")
            videos[file] = Video(file, label, row["youtube_id"], split)
    if not videos:
        refuse_missing(annotations, missing, len(missing), root)
    total = len(videos) + len(missing)
    notes = [f"Kinetics: {len(missing)} of {total} clips are not on disk ({some(missing)})"] if missing else []
    return Listing(sorted_by_path(videos.values()), notes)
