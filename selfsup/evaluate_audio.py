"""Measures what an audio encoder knows: `selfsup evaluate audio encoder.path=… data=esc data.root=… [key=value …]`.

Sounds are told by logistic regression on windows of a second, by the authors' folds, as in Look, Listen and Learn
(arXiv 1705.08168, section 4.2); beside an untrained encoder and statistics that were never trained. Its audio.json can
be given to `selfsup evaluate compare`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from selfsup import weights
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.reader import read_sound_file
from selfsup.data.sampling import UniformSampler
from selfsup.data.spectrogram import LogMelSpectrogram, LogSpectrogram
from selfsup.data.videos import Video, printable
from selfsup.encoders.encoder import Encoder
from selfsup.evaluation.answers import Answers
from selfsup.evaluation.features import Reading
from selfsup.evaluation.figure import Figure, figure_of
from selfsup.evaluation.frozen import UNTRAINED
from selfsup.evaluation.report import to_markdown, write_figures
from selfsup.evaluation.sound_classes import Folds, cepstrum, statistics, tell_by_folds, windows
from selfsup.precision import best_device
from selfsup.records import audio_protocol
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence

LOG_MEL, MFCC = ", log-mel statistics", ", MFCC statistics"
SPECTROGRAMS = {f"{cls.__module__}.{cls.__name__}": cls for cls in (LogSpectrogram, LogMelSpectrogram)}
Vectors = Callable[[Tensor], Tensor]  # windows (B, N) to (B, D)


def evaluate_audio(config: DictConfig, folder: Path) -> list[Figure]:
    """Writes audio.json and audio.md into `folder`, and prints the table."""
    check_complete(config)
    console = Console(markup=False, highlight=False)
    pl.seed_everything(config.seed, verbose=False)
    encoder: Encoder = instantiate(config.encoder).eval()
    if getattr(encoder, "in_channels", 1) != 1:
        raise ValueError(
            f"the encoder takes {encoder.in_channels} channels, a spectrogram has one; give an audio encoder"
        )
    settings = spectrogram_settings(config, encoder)
    arguments = {name: value for name, value in settings.items() if name != "_target_"}
    spectrogram = SPECTROGRAMS[settings["_target_"]](**arguments)
    data: VideoDataModule = instantiate(config.data, _partial_=True)(sampler=UniformSampler(1))
    sounds = listed(data)
    rows = rows_of(encoder, spectrogram, config.stage)
    features, clips = read_all(sounds, rows, spectrogram.rate_hz, config)
    folds = {
        name: tell_by_folds(
            values, clips, [str(s.label) for s in sounds], [s.labels["fold"] for s in sounds], list(config.strengths)
        )
        for name, values in track(features.items(), "telling classes", transient=True)
    }
    most = int(np.bincount(clips).max())
    how = {"stage": config.stage, "spectrogram": settings, "seconds": [config.window_seconds, config.hop_seconds]}
    protocol = audio_protocol(config, data, len(sounds), most, {**how, "strengths": config.strengths})
    chance = Counter(sound.label for sound in sounds).most_common(1)[0][1] / len(sounds)
    root = os.path.commonpath([sound.path.absolute().parent for sound in sounds])
    names = tuple(printable(sound.path.absolute().relative_to(root).as_posix()) for sound in sounds)
    groups = tuple(str(sound.group or name) for sound, name in zip(sounds, names, strict=True))
    figures = [
        figure_of(f"accuracy{end}", Answers(names, tuple(map(float, of.correct)), groups), chance, protocol)
        for end, of in folds.items()
    ]
    write_figures(
        folder / "audio.json", figures, {"folds": {f"accuracy{end}": asdict(of) for end, of in folds.items()}}
    )
    (folder / "audio.md").write_text(to_markdown(figures), encoding="utf-8")
    print_table(figures, folds, console)
    console.print(f"run folder: {folder}", soft_wrap=True)
    return figures


def spectrogram_settings(config: DictConfig, encoder: Encoder) -> dict[str, Any]:
    """The spectrogram of the configuration, else the one that the encoder's file says it was taught with."""
    if config.spectrogram is not None:
        settings: Any = OmegaConf.to_container(config.spectrogram, resolve=True)
    else:
        settings = (encoder.source or {}).get("data", {}).get("sound", {}).get("spectrogram")
    if not isinstance(settings, dict) or settings.get("_target_") not in SPECTROGRAMS:
        raise ValueError(
            "the encoder does not say by what spectrogram it was taught; give one, as "
            "spectrogram={_target_:selfsup.data.spectrogram.LogMelSpectrogram}"
        )
    return settings


def listed(data: VideoDataModule) -> list[Video]:
    """The sounds. ValueError where one has no label or no fold."""
    sounds = data.list_videos(**data.source).videos
    if lacking := [sound.path for sound in sounds if not sound.label or not sound.labels.get("fold")]:
        raise ValueError(
            f"{len(lacking)} of {len(sounds)} sounds have no label or no fold, the first is {printable(lacking[0])}; "
            "give data=esc, or a manifest with the columns label and fold"
        )
    return sounds


def rows_of(encoder: Encoder, spectrogram: LogSpectrogram | LogMelSpectrogram, stage: int | None) -> dict[str, Vectors]:
    """What is measured, by the end of the name of its figure."""
    device = best_device()
    log_mel = LogMelSpectrogram(spectrogram.rate_hz)
    spectrogram.to(device)

    def read(network: Encoder) -> Vectors:
        normalize = None if encoder.input is None else encoder.input.normalize
        reading = Reading(network.to(device).eval(), normalize, stage)
        return lambda waveform: reading(spectrogram(waveform.to(device)))

    return {
        "": read(encoder),
        UNTRAINED: read(weights.untrained(encoder)),
        LOG_MEL: lambda waveform: statistics(log_mel(waveform)[:, 0, 0]),
        MFCC: lambda waveform: statistics(cepstrum(log_mel(waveform)[:, 0, 0])),
    }


def read_all(
    sounds: list[Video], rows: Mapping[str, Vectors], rate_hz: int, config: DictConfig
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features (W, D) of all windows by row, and the number of each window's clip, int64 (W,)."""
    window, hop = round(config.window_seconds * rate_hz), round(config.hop_seconds * rate_hz)
    if window < 1 or hop < 1:
        raise ValueError(f"window_seconds={config.window_seconds}, hop_seconds={config.hop_seconds}: give more than 0")
    parts: dict[str, list[Tensor]] = {name: [] for name in rows}
    clips: list[int] = []
    with torch.no_grad():
        for number, sound in enumerate(track(sounds, "hearing", transient=True)):
            pieces = windows(read_sound_file(sound.path, rate_hz), window, hop)
            for name, vectors in rows.items():
                parts[name].append(vectors(pieces))
            clips += [number] * len(pieces)
    return {name: torch.cat(of).numpy() for name, of in parts.items()}, np.array(clips, np.int64)


def print_table(figures: list[Figure], folds: Mapping[str, Folds], console: Console) -> None:
    """The table that ends an evaluation."""
    table = Table(title="audio")
    for column in ("figure", "value", "95 % interval", "chance", "by fold"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for figure, of in zip(figures, folds.values(), strict=True):
        assert figure.interval is not None
        bounds = f"{figure.interval.low:.1%} – {figure.interval.high:.1%}"
        by_fold = " ".join(f"{100 * share:.1f}" for share in of.accuracy.values())
        table.add_row(figure.name, f"{figure.value:.1%}", bounds, f"{figure.chance:.1%}", by_fold)
    console.print(table)


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="evaluate_audio")
def main(config: DictConfig) -> None:
    """Entry point; see `in_one_sentence` for how it ends."""
    with in_one_sentence():
        evaluate_audio(config, Path(HydraConfig.get().runtime.output_dir))
