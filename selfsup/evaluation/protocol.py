"""How a figure was measured: the record without which a number can be neither believed nor compared."""

import subprocess
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import selfsup
from selfsup.data.index import checksum

Level = Literal["clip", "video", "frame"]


@dataclass(frozen=True)
class Protocol:
    """The record that every figure carries.

    Args:
        dataset: the name of the data set.
        checksum: of what lists its videos, `file_checksum(manifest)`; None where no file does.
        split: what the figure was measured on, as "test".
        groups_kept: no group lies in two splits; False where the videos have no groups.
        clips, crops: views of each video.
        level: "video" where a video's views are joined to one answer, "clip" where each counts by itself, "frame" where
            each frame of a video does.
        input_size: of one view, (frames, height, width); None where views differ.
        decoder, decoder_version: the library that decoded.
        videos_seen: of the split, measured on.
        videos_refused: of the split, left out, as they could not be read or were too short.
        seeds: of training and draws; several in a mean over seeds.
        label_fraction: share of the training labels that were used, in [0, 1]; 0 where no label was.
        settings: what else a figure hangs on, as text: how features are read, or how a classifier was trained.
        commit: git's, of the code, as `git_commit` gives it; None outside a checkout.
        version: of this package.

    Raises:
        ValueError: a value out of its bounds.
    """

    dataset: str
    checksum: str | None
    split: str
    groups_kept: bool
    clips: int
    crops: int
    level: Level
    input_size: tuple[int, int, int] | None
    decoder: str
    decoder_version: str
    videos_seen: int
    videos_refused: int
    seeds: tuple[int, ...]
    label_fraction: float = 1.0
    settings: str = ""
    commit: str | None = None
    version: str = selfsup.__version__

    def __post_init__(self) -> None:
        if self.level not in get_args(Level):
            raise ValueError(f"level {self.level!r}: choose one of {', '.join(get_args(Level))}")
        for name, least in (("clips", 1), ("crops", 1), ("videos_seen", 1), ("videos_refused", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: a protocol has at least {least}")
        if not 0 <= self.label_fraction <= 1:
            raise ValueError(f"label_fraction={self.label_fraction}: a protocol has a share in [0, 1]")

    def unlike(self, other: "Protocol", names: Collection[str]) -> str | None:
        """The first field of `names` in which the two differ; None where they agree."""
        return next((name for name in names if getattr(self, name) != getattr(other, name)), None)


FIELDS = tuple(field.name for field in fields(Protocol))


def file_checksum(path: Path) -> str:
    """16 hexadecimal digits (BLAKE2b) of the bytes of a file, such as a manifest. OSError where it cannot be read."""
    return checksum(path, digest_bytes=8)


def git_commit(folder: Path | None = None) -> str | None:
    """40 hexadecimal digits, and "-dirty" where tracked files were changed since; None outside a checkout.

    `folder` lies in the checkout; by default it is the package's own, and None is given where git does not track the
    package, as in an environment that happens to lie inside another project's checkout.
    """
    where = Path(selfsup.__file__).parent if folder is None else folder
    asked = [["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]]
    if folder is None:
        asked.insert(0, ["ls-files", "--error-unmatch", "__init__.py"])
    answer = ""
    for command in asked:
        try:
            done = subprocess.run(["git", "-C", str(where), *command], capture_output=True, text=True, check=False)
        except FileNotFoundError:  # no git on this machine
            return None
        if done.returncode != 0:
            return None
        answer = done.stdout.strip()
    return answer


def from_fields(kind: type, values: Any, where: str) -> dict[str, Any]:
    """`values` as arguments of the dataclass `kind`; ValueError, naming `where`, for a missing or unknown name."""
    names = [field.name for field in fields(kind)]
    if not isinstance(values, dict) or set(values) != set(names):
        found = sorted(values) if isinstance(values, dict) else values
        wrong = sorted(set(names) ^ set(values)) if isinstance(values, dict) else names
        raise ValueError(
            f"{where}: {kind.__name__} has the fields {', '.join(names)}, but this one differs in "
            f"{', '.join(map(str, wrong))} (it has {found}); evaluate again with this version"
        )
    return dict(values)
