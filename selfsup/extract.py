"""Writes an encoder's features once: `selfsup extract encoder.path=… data=… `, with key=value overrides.

Training a classifier on them (`data=features data.path=…`) takes seconds where decoding and encoding take minutes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import hydra
import numpy as np
import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

import selfsup
from selfsup.data.catalogue import SPLITS, SpanCatalogue
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.dataset import watched
from selfsup.data.sampling import UniformSampler
from selfsup.data.stored import StoredSplit, read_record, weights_checksum, write_features
from selfsup.data.videos import printable
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.stored import Stored
from selfsup.evaluation.features import Reading, Time, extract_features, usual_frames
from selfsup.precision import best_device
from selfsup.tasks.task import channels_last
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence, tell_failures, tell_notes

LEVELS: dict[str, Time] = {"frame": "concat", "clip": "mean"}


def extract(config: DictConfig, folder: Path) -> Path:
    """Writes `features.h5` into `folder`, and returns its path."""
    check_complete(config)
    if config.level not in LEVELS:
        raise ValueError(f"level={config.level!r}: choose one of {', '.join(LEVELS)}")
    console = Console(markup=False, highlight=False)
    pl.seed_everything(config.seed, verbose=False)
    encoder: Encoder = instantiate(config.encoder).eval()
    channels_last(encoder)
    if encoder.input is None:
        raise ValueError("encoder: extract reads an encoder from a file; give encoder.path=…/encoder.safetensors")
    frames = config.num_frames or usual_frames(encoder)
    sampler = UniformSampler(frames)
    data: VideoDataModule = instantiate(config.data, _partial_=True)(sampler=sampler)
    data.setup()
    if isinstance(data.catalogue, SpanCatalogue):
        raise ValueError(
            "data.labels=frame: features.h5 holds one label a video, and no spans; give a manifest with "
            "data.labels=video, or train on the videos with task.freeze=all"
        )
    tell_notes(console, data, encoder.input)
    data.catalogue.write_left_out(folder / "left_out.json")
    encoder.to(best_device())
    splits: dict[str, StoredSplit] = {}
    failures: dict[str, dict[int, str]] = {}
    for split in SPLITS:
        failures[split] = {}
        reading = Reading(encoder, encoder.input.normalize, time=LEVELS[config.level])
        splits[split] = _of_split(reading, data, split, sampler, failures[split])
    tell_failures(console, data, failures)
    record = {
        "weights": weights_checksum(Path(config.encoder.path)),
        "input": {
            "size_pixels": data.size_pixels,
            "stretch": data.stretch,
            "frames": frames,
            "level": config.level,
            "reader": data.reader,
        },
        "index": _index_checksum(data),
        "dim": encoder.dim,
        "data": data.description(),
        "version": selfsup.__version__,
    }
    path = folder / "features.h5"
    write_features(path, splits, record)
    size = path.stat().st_size / 2**20
    console.print(
        f"{sum(len(split.paths) for split in splits.values())} videos, {size:.1f} MiB: {path}", soft_wrap=True
    )
    return path


def stored_encoder(path: str) -> Stored:
    """The encoder that stands for the one whose features the file holds."""
    return Stored(int(read_record(path)["dim"]))


def _of_split(
    reading: Reading, data: VideoDataModule, split: str, sampler: UniformSampler, failures: dict[int, str]
) -> StoredSplit:
    if not data.videos[split]:
        return StoredSplit(np.zeros((0, 1, reading.encoder.dim), np.float16), [], [], [])
    batches = watched(data.clips(split, sampler), failures)
    found = extract_features({"": reading}, track(batches, split, transient=True))[""]
    rows = found.videos.tolist()
    return StoredSplit(
        features=found.values.numpy().reshape(len(rows), -1, reading.encoder.dim),
        paths=[printable(data.videos[split][row].path) for row in rows],
        labels=[data.catalogue.labels[split][row] for row in rows],
        groups=[printable(data.catalogue.groups[split][row]) for row in rows],
    )


def _index_checksum(data: VideoDataModule) -> str:
    """Of the content of the videos and their order."""
    digest = hashlib.blake2b(digest_size=16)
    for split in SPLITS:
        for info in data.videos[split]:
            digest.update(f"{split} {info.checksum}\n".encode())
    return digest.hexdigest()


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="extract")
def main(config: DictConfig) -> None:
    """Entry point; see `in_one_sentence` for how it ends."""
    with in_one_sentence():
        extract(config, Path(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    main()
