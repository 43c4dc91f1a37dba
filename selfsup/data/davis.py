"""DAVIS: objects that move, and their true masks; folders of pictures that are packed into videos once.

Perazzi et al. 2016 (CVPR), "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", and
Pont-Tuset et al. 2017, arXiv 1704.00675. A sequence is JPEGImages/[480p/]NAME/00000.jpg and on, and as many masks in
Annotations/[480p/]NAME/00000.png; what is not black is foreground (0 and 255 in 2016, numbers of objects in 2017).

The bytes of the JPEG files go into a video as they are, so that all that reads videos reads these.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from selfsup.data.cache import cache_folder
from selfsup.data.listing import Listing, Video, existing, plural, printable, read_lines, some, sorted_by_path
from selfsup.data.true_masks import write_masks

FPS = 24  # of all sequences; the pictures themselves have no times
VERSION = 1  # of what is packed; part of the key of the cache
LISTS = ("2016", "480p", "2017")  # folders of ImageSets; the second has lists of pictures


@dataclass(frozen=True)
class _Sequence:
    pictures: list[Path]
    masks: list[Path]


def davis(root: str | os.PathLike[str], test_sequences: Sequence[str] | None = None) -> Listing:
    """The sequences of DAVIS 2016 or 2017, each a group of its own, without labels.

    Where ImageSets/2016, 480p or 2017 have train.txt or val.txt, sequences of the first are "train" and of the second,
    on which figures are published, "test"; the others have no split.

    Args:
        root: holds JPEGImages and Annotations, either with or without 480p between them and the sequences.
        test_sequences: these are "test" and all others "train", whatever ImageSets say.

    Raises:
        FileNotFoundError, ValueError: a folder that is missing or empty, a picture without its mask or of another size,
            a file that is no JPEG, an unknown name among `test_sequences`.
        OSError: the cache folder cannot be written to.
    """
    root = existing(root)
    sequences = _find(root)
    splits, notes = _splits(root, sequences, test_sequences)
    folder = _packed(sequences)
    videos = [Video(_video(folder, name), None, name, splits.get(name)) for name in sequences]
    return Listing(sorted_by_path(videos), notes)


def _find(root: Path) -> dict[str, _Sequence]:
    """The files of each sequence, by name; ValueError where a picture lacks its mask."""
    folders = [root / name / "480p" for name in ("JPEGImages", "Annotations")]
    pictures, annotations = (folder if folder.is_dir() else folder.parent for folder in folders)
    if not pictures.is_dir():
        raise ValueError(
            f"{printable(root)}: no folder JPEGImages in it; give data.root a folder of DAVIS, with JPEGImages and "
            "Annotations"
        )
    found = {}
    for folder in sorted(path for path in pictures.iterdir() if path.is_dir() and not path.name.startswith(".")):
        sequence = _Sequence(_files(folder, ".jpg"), _files(annotations / folder.name, ".png"))
        if not sequence.pictures:
            raise ValueError(f"{printable(folder)}: no .jpg file in it; remove the folder or fetch the sequence again")
        names, known = ([path.stem for path in files] for files in (sequence.pictures, sequence.masks))
        if names != known:
            alone = sorted(set(names) ^ set(known))
            raise ValueError(
                f"{printable(folder)}: {plural(len(names), 'frame')} but {plural(len(known), 'mask')} in "
                f"{printable(annotations / folder.name)}, {some(alone)} in one alone; give each frame the mask of its "
                "name, or remove the sequence"
            )
        found[folder.name] = sequence
    if not found:
        raise ValueError(f"{printable(pictures)}: no folder of a sequence in it; give data.root a folder of DAVIS")
    return found


def _files(folder: Path, suffix: str) -> list[Path]:
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in files if path.suffix.lower() == suffix and not path.name.startswith("."))


def _splits(
    root: Path, sequences: dict[str, _Sequence], test_sequences: Sequence[str] | None
) -> tuple[dict[str, str], list[str]]:
    """The split of each sequence that has one, and what is to be told."""
    if test_sequences is not None:
        if unknown := [name for name in test_sequences if name not in sequences]:
            raise ValueError(
                f"test_sequences: no sequence {unknown[0]!r} in {printable(root)}; there are {', '.join(sequences)}"
            )
        return {name: "test" if name in test_sequences else "train" for name in sequences}, []
    folders = [root / "ImageSets" / name for name in LISTS]
    lists = next((folder for folder in folders if any(map(Path.exists, _lists(folder)))), None)
    if lists is None:
        return {}, []
    named = {name: split for split, file in zip(("train", "test"), _lists(lists), strict=True) for name in _names(file)}
    missing = [name for name in named if name not in sequences]
    note = f"DAVIS: {len(missing)} of {plural(len(named), 'sequence')} are not on disk ({some(missing)})"
    return named, [note] if missing else []


def _lists(folder: Path) -> tuple[Path, Path]:
    """Of the sequences to train on, and of those that figures are published on."""
    return folder / "train.txt", folder / "val.txt"


def _names(path: Path) -> list[str]:
    """The sequences of a list of names, or of pictures: /JPEGImages/480p/NAME/00000.jpg and their masks."""
    first = [text.split()[0] for _, text in read_lines(path)] if path.exists() else []
    return list(dict.fromkeys(Path(text).parent.name if "/" in text else text for text in first))


def _packed(sequences: dict[str, _Sequence]) -> Path:
    """The folder of the videos, keyed by the names, sizes and times of all files; it is there whole or not at all."""
    every = {name: [*sequence.pictures, *sequence.masks] for name, sequence in sequences.items()}
    status = {name: [(path.name, path.stat()) for path in files] for name, files in every.items()}
    known = {name: [(file, of.st_size, of.st_mtime_ns) for file, of in files] for name, files in status.items()}
    key = json.dumps({"version": VERSION, "fps": FPS, "files": known}, sort_keys=True)
    folder = cache_folder() / "davis" / hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name in track(sequences, "packing sequences", transient=True):
            _pack(sequences[name], _video(unfinished, name))
        try:
            os.rename(unfinished, folder)
        except OSError:
            if not folder.exists():  # else another process was quicker
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _video(folder: Path, name: str) -> Path:
    """As `read_masks` wants it."""
    return folder / "videos" / "davis" / f"{name}.mov"


def _pack(sequence: _Sequence, path: Path) -> None:
    """Writes the video of a sequence, the same bytes every time, and its masks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    masks = []
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as video:
        stream = None
        for number, (picture, mask) in enumerate(zip(sequence.pictures, sequence.masks, strict=True)):
            with _opened(picture, "mjpeg", "JPEG") as (source, origin):
                if stream is None:
                    stream = video.add_stream_from_template(origin)
                    stream.time_base = Fraction(1, FPS)
                size = (origin.height, origin.width)
                packet = next(source.demux(origin))
            masks.append(_mask(mask))
            if not size == masks[-1].shape == masks[0].shape:
                raise ValueError(
                    f"{printable(picture)}: {size[1]} x {size[0]} pixels, its mask {_size(masks[-1])}, the first mask "
                    f"of the sequence {_size(masks[0])}; all must be of one size: fetch the sequence again"
                )
            packet.stream, packet.time_base = stream, Fraction(1, FPS)
            packet.pts = packet.dts = number
            packet.duration = 1
            video.mux(packet)
    write_masks(path, np.stack(masks))


@contextmanager
def _opened(path: Path, codec: str, kind: str) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """A file of one picture; ValueError where it is of another kind."""
    try:
        with av.open(str(path), options={"pattern_type": "none"}) as source:  # % is a letter like any other
            found = [stream for stream in source.streams.video if stream.codec_context.name == codec and stream.width]
            if not found:
                raise ValueError(f"{printable(path)}: no {kind} file, whatever its name says; fetch the sequence again")
            yield source, found[0]
    except av.FFmpegError as error:
        raise ValueError(f"{printable(path)}: no {kind} file ({error.strerror}); fetch the sequence again") from error


def _mask(path: Path) -> NDArray[np.bool_]:
    """(H, W), True where the picture is not black."""
    with _opened(path, "png", "PNG") as (source, _):
        picture = next(source.decode(video=0)).to_ndarray(format="rgb24")
    return np.any(picture > 0, axis=2)


def _size(mask: NDArray[np.bool_]) -> str:
    return f"{mask.shape[1]} x {mask.shape[0]}"
