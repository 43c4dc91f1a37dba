"""What a run of action recognition leaves behind: its classifier, and what it answered to each video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from selfsup import classifier_weights
from selfsup.classifier_weights import ClipSpecification
from selfsup.data.catalogue import SpanCatalogue
from selfsup.data.clips import DenseClip, Segments
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.flow_clip import FlowClip
from selfsup.data.resumable import ResumableDataModule
from selfsup.data.sampling import ClipSampler
from selfsup.encoders.encoder import Encoder, InputSpecification
from selfsup.encoders.stored import Stored
from selfsup.evaluation.report import write_figures
from selfsup.records import recognition_figures
from selfsup.tasks.action_recognition import ActionRecognition


def save_classifier(
    task: ActionRecognition, before: Encoder, data: ResumableDataModule, name: str, config: DictConfig, path: Path
) -> None:
    """Writes the classifier with its encoder, which `before` is like; not where features stood for an encoder."""
    if isinstance(before, Stored):
        return
    assert isinstance(data, VideoDataModule), "what is no features is videos"
    given: Any = OmegaConf.to_container(config.task.classifier, resolve=True)
    left_out = task.classifier.only_in_training
    classifier_weights.save(
        task.classifier,
        path,
        encoder=before,
        arguments={key: value for key, value in given.items() if not key.startswith("_") and key not in left_out},
        classes=data.catalogue.classes(),
        labels="frame" if isinstance(data.catalogue, SpanCatalogue) else "video",
        input=InputSpecification(size_pixels=data.size_pixels, mean=task.mean, std=task.std, fps=None),
        clip=clip_of(task.sampler, data),
        task=name,
        data=data.description(),
    )


def clip_of(sampler: ClipSampler, data: VideoDataModule) -> ClipSpecification:
    """The clips that `sampler` draws, as the classifier's file describes them."""
    sampler = sampler.clip if isinstance(sampler, FlowClip) else sampler
    frames, fps = getattr(sampler, "num_frames", 1), None
    if isinstance(sampler, Segments):
        frames = sampler.num_segments
    elif isinstance(sampler, DenseClip):
        fps = 1 / sampler.stride_seconds if sampler.stride_seconds else sampler.fps
    return ClipSpecification(frames, fps, isinstance(sampler, Segments), data.short_side_pixels, data.stretch)


def write_answers(
    task: ActionRecognition, config: DictConfig, data: ResumableDataModule, folder: Path, console: Console
) -> None:
    """Writes evaluation.json, video by video, for `selfsup evaluate compare`, and prints the interval."""
    try:
        figures = recognition_figures(task.scoring.headline, "", task, config, data, config.trainer.max_epochs)
    except ValueError as error:  # too few held-out videos, or no class in their frames
        console.print(f"no evaluation.json: {error}", soft_wrap=True)
        return
    write_figures(folder / "evaluation.json", figures)
    interval = figures[0].interval
    assert interval is not None, "all of these have one"
    console.print(
        f"95 % interval of the {figures[0].name}: {interval.low:.1%} – {interval.high:.1%}, drawn over "
        f"{interval.units} {interval.unit}s",
        soft_wrap=True,
    )
