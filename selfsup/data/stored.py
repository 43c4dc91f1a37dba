"""Features that were extracted once, in one HDF5 file, and the data module that serves them in place of videos.

A file has a group a split with the datasets "features", float16 (V, T', D), chunked by video, "label", "group" and
"path", and as attribute the JSON record of how it was made. `h5dump`, `h5ls` and every HDF5 library read it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from selfsup.data.catalogue import SPLITS, Catalogue
from selfsup.data.clips import ViewSampler
from selfsup.data.dataset import Key, collate
from selfsup.data.index import checksum
from selfsup.data.resumable import ResumableDataModule
from selfsup.data.sampling import ClipSampler

FORMAT = 2
KEY = "selfsup"


@dataclass(frozen=True)
class StoredVideo:
    """A video of which only the features are at hand."""

    path: Path
    row: int


@dataclass(frozen=True)
class StoredSplit:
    """`features` float16 (V, T', D); row i is of `paths[i]`, with its label and group."""

    features: np.ndarray
    paths: list[str]
    labels: list[str | None]
    groups: list[str]


def write_features(path: Path, splits: Mapping[str, StoredSplit], record: Mapping[str, Any]) -> None:
    """Writes the file whole or not at all. `record` is anything that JSON can hold.

    Raises ValueError where a feature is not finite in float16, or OSError where the file could not be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = h5py.string_dtype()
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs[KEY] = json.dumps({"format": FORMAT, **record}, sort_keys=True)
            for name, split in splits.items():
                if not (np.abs(split.features) <= np.finfo(np.float16).max).all():  # false for a NaN too
                    raise ValueError(
                        f"{path}: features of the {name} videos exceed the range of float16 (65504); "
                        f"the encoder has diverged, or ends in a stage without normalisation"
                    )
                values = split.features.astype(np.float16)
                group = file.create_group(name)
                chunks = (1, *values.shape[1:]) if len(values) else None
                group.create_dataset("features", data=values, chunks=chunks, fletcher32=bool(len(values)))
                for field, column in (("path", split.paths), ("group", split.groups)):
                    group.create_dataset(field, data=np.array(column, dtype=object), dtype=text)
                # No label and the empty label are one in HDF5; labels are never empty.
                labels = np.array([label or "" for label in split.labels], dtype=object)
                group.create_dataset("label", data=labels, dtype=text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_record(path: str | Path) -> dict[str, Any]:
    """How the file was made. Raises ValueError where it is missing, cut short or of another kind."""
    with _opened(Path(path)) as file:
        return _record(Path(path), file)


def read_features(path: str | Path) -> dict[str, StoredSplit]:
    """All splits of the file. Raises ValueError where it is missing, cut short or of another kind."""
    path = Path(path)
    with _opened(path) as file:
        _record(path, file)
        try:
            return {
                name: StoredSplit(
                    features=file[name]["features"][:],
                    paths=file[name]["path"].asstr()[:].tolist(),
                    labels=[label or None for label in file[name]["label"].asstr()[:]],
                    groups=file[name]["group"].asstr()[:].tolist(),
                )
                for name in SPLITS
            }
        except (KeyError, OSError) as error:  # a checksum that does not match is an OSError
            raise ValueError(f"{path}: damaged or cut short ({error}); extract the features again") from error


def _opened(path: Path) -> h5py.File:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; make one with selfsup extract")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not an HDF5 file, or cut short ({error}); extract the features again") from error


def _record(path: Path, file: h5py.File) -> dict[str, Any]:
    try:
        record = json.loads(file.attrs[KEY])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: holds no record of selfsup extract; extract the features again") from error
    if record.get("format") != FORMAT:
        raise ValueError(f"{path}: has format {record.get('format')}, this version reads {FORMAT}; extract it again")
    return dict(record)


class StoredDataset(Dataset[dict[str, Tensor]]):
    """Answers the key (epoch, index) with the features of video `index`, as a clip (D, T', 1, 1), float32."""

    def __init__(self, features: np.ndarray, labels: Sequence[int] | None) -> None:
        self.features = torch.from_numpy(features)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        number = key[1]
        example = {"clip": self.features[number].float().T[..., None, None], "video": torch.tensor(number)}
        return example if self.labels is None else {**example, "label": torch.tensor(self.labels[number])}


class FeatureDataModule(ResumableDataModule):
    """Serves the features of `selfsup extract` as the data module of videos serves clips.

    Args:
        path: the file.
        sampler, evaluation_sampler: not asked, the clips were drawn when the features were extracted.
        weights: the encoder.safetensors that must have made the features; None for any.
        seed, batch_size, labels_fraction: see `ResumableDataModule`.

    Raises:
        ValueError: in `setup`, where the file cannot be read or was made by other weights.
    """

    def __init__(
        self,
        path: str,
        sampler: ClipSampler | None = None,
        evaluation_sampler: ViewSampler | None = None,
        weights: str | None = None,
        seed: int = 0,
        batch_size: int = 32,
        labels_fraction: float = 1.0,
    ) -> None:
        super().__init__(seed, batch_size, labels_fraction)
        self.path = Path(path)
        self.weights = weights
        self.record: dict[str, Any] = {}
        self._features: dict[str, np.ndarray] = {}

    def read_catalogue(self) -> Catalogue:
        """The videos of the file, which all take part."""
        self.record = read_record(self.path)
        if self.weights is not None and (found := weights_checksum(Path(self.weights))) != self.record["weights"]:
            raise ValueError(
                f"{self.path}: the features were made by other weights ({self.record['weights'][:12]}) than those of "
                f"{self.weights} ({found[:12]}); extract them again, or leave data.weights out"
            )
        seen = self.record["input"]
        self.size_pixels, self.stretch, self.reader = seen["size_pixels"], seen["stretch"], seen["reader"]
        self.source, self.frames = self.record["data"], seen["frames"]
        splits = read_features(self.path)
        self._features = {name: split.features for name, split in splits.items()}
        return Catalogue(
            videos={
                name: [StoredVideo(Path(path), row) for row, path in enumerate(split.paths)]
                for name, split in splits.items()
            },
            labels={name: split.labels for name, split in splits.items()},
            groups={name: split.groups for name, split in splits.items()},
            left_out=[],
            notes=[],
        )

    def description(self) -> dict[str, object]:
        """What the encoder file and the summary record of the data."""
        return {"path": str(self.path), **self.record}

    def training_dataset(self) -> StoredDataset:
        """The features of the training videos."""
        return self._dataset("train")

    def held_out(self, split: str) -> DataLoader:
        """The features of val or test."""
        rank, world_size = self.place
        keys = [(0, index) for index in range(rank, len(self.videos[split]), world_size)]
        return DataLoader(self._dataset(split), batch_size=self.batch_size, sampler=keys, collate_fn=collate)

    def _dataset(self, split: str) -> StoredDataset:
        rows = [video.row for video in self.videos[split]]
        return StoredDataset(self._features[split][rows], self.catalogue.class_numbers(split))


def weights_checksum(path: Path) -> str:
    """Of an encoder.safetensors, 32 hexadecimal digits. Raises ValueError where there is no such file."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the path of an encoder.safetensors")
    return checksum(path)
