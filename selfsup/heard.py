"""What a run of task=audio_visual leaves besides its encoder of frames: that of sounds, and retrieval across both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from rich.console import Console
from rich.table import Table

from selfsup import weights
from selfsup.callbacks.pictures import log_picture, log_sounds
from selfsup.data.resumable import ResumableDataModule
from selfsup.encoders.encoder import InputSpecification
from selfsup.evaluation.cross_modal import CrossModal, cross_modal
from selfsup.evaluation.neighbours import Moment, write_neighbours
from selfsup.tasks.audio_visual import AudioVisual


def save_audio_encoder(task: AudioVisual, data: ResumableDataModule, name: str, config: DictConfig, path: Path) -> None:
    """Writes the encoder of sounds, with how they became spectrograms as "sound" of its data."""
    sound = {
        "sound_seconds": config.task.sampler.sound_seconds,
        "spectrogram": OmegaConf.to_container(config.task.spectrogram, resolve=True),
    }
    # One channel, as it is; the size is that of the frequency axis.
    with torch.no_grad():
        bins = task.spectrogram.cpu()(torch.zeros(1, round(sound["sound_seconds"] * config.task.sampler.rate_hz)))
    specification = InputSpecification(size_pixels=bins.shape[-2], mean=(0.0,), std=(1.0,), fps=None)
    about = {**data.description(), "sound": sound}
    weights.save(task.audio_encoder.cpu(), path, input=specification, task=name, data=about)


def write_retrieval(
    task: AudioVisual,
    data: ResumableDataModule,
    config: DictConfig,
    folder: Path,
    console: Console,
    loggers: Sequence[Logger] = (),
    step: int = 0,
) -> None:
    """Writes retrieval between the frames and the sounds of held-out videos into a run's folder, and prints it.

    retrieval.json holds the four directions, pictures/retrieval/ some neighbours to see and to hear; loggers that take
    pictures or sounds are given them, at `step`.
    """
    split = data.catalogue.reported
    labels = data.catalogue.labels[split]
    try:
        if not task.held_out:
            raise ValueError("0 videos with frame and sound; retrieval needs two or more")
        numbers, seconds, similarities = task.similarities()
        videos = numbers.tolist()
        found = cross_modal(similarities, [labels[video] for video in videos])
    except ValueError as error:
        console.print(f"no retrieval: {error}", soft_wrap=True)
        return
    text = json.dumps({name: asdict(of) for name, of in found.items()}, indent=1)
    (folder / "retrieval.json").write_text(text + "\n", encoding="utf-8")
    console.print(retrieval_table(found, f"retrieval, {len(videos)} {split} videos (chance)"))
    at = zip(videos, seconds.tolist(), strict=True)
    moments = [Moment(data.videos[split][video], labels[video], shown, heard) for video, (shown, heard) in at]
    sampler = config.task.sampler
    try:
        written = write_neighbours(
            folder / "pictures" / "retrieval",
            moments,
            similarities,
            sound_seconds=sampler.sound_seconds,
            rate_hz=sampler.rate_hz,
        )
    except (ValueError, OSError) as error:  # a file is gone since; the figures are there all the same
        console.print(f"no pictures of retrieval: {error}", soft_wrap=True)
        return
    for direction, of in written.items():
        log_picture(loggers, f"retrieval, {direction}", of.path, of.picture, step)
        log_sounds(loggers, f"retrieval, {direction}, sounds", of.sounds, of.captions, step)


def retrieval_table(found: dict[str, CrossModal], title: str) -> Table:
    """A row a direction, each share beside its chance."""
    table = Table(title=title)
    for column in ("direction", "own video in first 10", "its class in first 10", "nDCG@30"):
        table.add_column(column, justify="left" if column == "direction" else "right")
    for name, of in found.items():
        shares = [(of.own.get(10), of.own_chance.get(10)), (of.recall.get(10), of.recall_chance.get(10))]
        cells = [f"{share:.1%} ({chance:.1%})" if share is not None else "" for share, chance in shares]
        table.add_row(name, *cells, f"{of.ndcg:.3f} ({of.ndcg_chance:.3f})" if of.ndcg is not None else "")
    return table
