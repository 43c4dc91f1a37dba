"""Writes an encoder's map of videos for browsers of embeddings: `selfsup embed encoder.path=… data=…`, with overrides.

No label is needed. The nearest videos of some held-out ones are written too, for `selfsup report`.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from selfsup.data.catalogue import SPLITS
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.dataset import watched
from selfsup.data.listing import plural
from selfsup.data.sampling import UniformSampler
from selfsup.encoders.encoder import Encoder
from selfsup.evaluation.embedding import Embedded, write_projector, write_table
from selfsup.evaluation.features import Reading, extract_features, usual_frames
from selfsup.evaluation.video_neighbours import Featured, write_video_neighbours
from selfsup.precision import best_device
from selfsup.tasks.task import channels_last
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence, tell_failures, tell_notes


def embed(config: DictConfig, folder: Path) -> list[Embedded]:
    """Writes videos.csv, projector/ and pictures/neighbours/ into `folder`, and returns what was embedded."""
    check_complete(config)
    if config.most_videos < 2:
        raise ValueError(f"most_videos={config.most_videos}: a map needs two videos or more")
    console = Console(markup=False, highlight=False)
    pl.seed_everything(config.seed, verbose=False)
    encoder: Encoder = instantiate(config.encoder).eval()
    if encoder.input is None:
        raise ValueError("encoder: embed reads an encoder from a file; give encoder.path=…/encoder.safetensors")
    sampler = UniformSampler(config.num_frames or usual_frames(encoder))
    data: VideoDataModule = instantiate(config.data, _partial_=True)(sampler=sampler)
    data.setup()
    tell_notes(console, data, encoder.input)
    data.catalogue.write_left_out(folder / "left_out.json")
    videos = embedded(encoder, data, sampler, config.most_videos, console)
    if len(videos) < 2:
        raise ValueError(f"{plural(len(videos), 'video')} could be read; a map needs two or more")
    table, thumbnails = write_table(folder, track(videos, "clips", transient=True))
    console.print(f"{len(videos)} videos, D = {encoder.dim}: {table}", soft_wrap=True)
    if find_spec("tensorboard") is None:
        console.print("no projector: tensorboard is not installed, pip install 'selfsup[tensorboard]'")
    else:
        write_projector(folder / "projector", videos, thumbnails)
        console.print(f"tensorboard --logdir {folder / 'projector'}", soft_wrap=True)
    if near := neighbours(videos, data.catalogue.reported):
        write_video_neighbours(folder / "pictures" / "neighbours", *near)
        console.print(f"selfsup report {folder}", soft_wrap=True)
    return videos


def embedded(
    encoder: Encoder, data: VideoDataModule, sampler: UniformSampler, most: int, console: Console
) -> list[Embedded]:
    """The features of the videos of all splits that can be read; of random ones where there are more than `most`."""
    assert encoder.input is not None, "embed has looked"
    channels_last(encoder)
    encoder.to(best_device())
    reading = Reading(encoder, encoder.input.normalize)
    every = sum(len(videos) for videos in data.videos.values())
    failures: dict[str, dict[int, str]] = {}
    found = []
    for split in filter(data.videos.get, SPLITS):
        failures[split] = {}
        share = max(1, len(data.videos[split]) * most // every)
        clips = watched(data.clips(split, sampler, share), failures[split])
        features = extract_features({"": reading}, track(clips, f"{split} videos", transient=True))[""]
        labels, groups = data.catalogue.labels[split], data.catalogue.groups[split]
        for row, values in zip(features.videos.tolist(), features.values, strict=True):
            found.append(Embedded(data.videos[split][row], split, labels[row], groups[row], values))
    tell_failures(console, data, failures)
    return found


def neighbours(videos: list[Embedded], held_out: str) -> tuple[Featured, Featured] | None:
    """The held-out videos and those of the training; None where there are none of either."""
    sides = [[video for video in videos if video.split == split] for split in (held_out, "train")]
    if not all(sides) or held_out == "train":
        return None
    queries, gallery = (
        Featured(
            [video.info for video in side],
            [video.label for video in side],
            torch.stack([video.features for video in side]),
        )
        for side in sides
    )
    return queries, gallery


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="embed")
def main(config: DictConfig) -> None:
    """Entry point; see `in_one_sentence` for how it ends."""
    with in_one_sentence():
        embed(config, Path(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    main()
