"""What a training's encoder knows of labelled videos: those it learns from, or others, `data@probe_data=…`."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from selfsup.data.catalogue import SPLITS, SpanCatalogue
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.resumable import ResumableDataModule
from selfsup.data.sampling import UniformSampler
from selfsup.encoders.encoder import Encoder
from selfsup.evaluation.features import usual_frames
from selfsup.evaluation.probe import Probe
from selfsup.tasks.task import Task


def probe_videos(config: DictConfig, data: ResumableDataModule, encoder: Encoder) -> VideoDataModule | None:
    """The videos of `config.probe_data`, listed, split and indexed; None where none are given.

    They are read at the size of the pretraining's, whatever their own configuration says: it is the size that the
    encoder learns. A probe fits on train, chooses on val and reports on test, so that each split must have videos.

    Raises:
        ValueError: a video without a label, labels of frames, fewer than two classes, an empty split, a class that
            train lacks, or nothing that can be read.
    """
    if config.get("probe_data") is None:
        return None
    videos = instantiate(config.probe_data, _partial_=True)(
        sampler=UniformSampler(usual_frames(encoder)), size_pixels=data.size_pixels
    )
    if not isinstance(videos, VideoDataModule):
        raise ValueError(
            "probe_data: these are no videos; give data@probe_data=manifest, folder or another kind of them"
        )
    try:
        videos.setup()
    except ValueError as error:
        raise ValueError(f"probe_data: {error}") from error
    check_labels(videos)
    return videos


def check_labels(videos: VideoDataModule) -> None:
    """ValueError where a probe could not be fitted on these videos, and judged."""
    catalogue = videos.catalogue
    if isinstance(catalogue, SpanCatalogue):
        raise ValueError("probe_data: frames have labels here (labels=frame), and a probe wants one a video")
    unlabelled = sum(label is None for split in SPLITS for label in catalogue.labels[split])
    if unlabelled:
        total = sum(len(videos.videos[split]) for split in SPLITS)
        raise ValueError(f"probe_data: {unlabelled} of {total} videos have no label; give each one, or leave them out")
    if len(classes := catalogue.classes()) < 2:
        raise ValueError(f"probe_data: every training video has the label {classes[0]!r}; give videos of two classes")
    for split in SPLITS:
        if not videos.videos[split]:
            raise ValueError(
                f"probe_data: no {split} video; give more videos, or groups, than splits, or a column split that "
                "names train, val and test"
            )
        if new := sorted({str(label) for label in catalogue.labels[split]} - set(classes)):
            raise ValueError(
                f"probe_data: {split} has the class {new[0]!r}, and train has none of it; give more videos of it, or "
                "a column split"
            )


def probed(
    probe: Probe | None,
    before: Encoder,
    task: Task,
    data: VideoDataModule,
    videos: VideoDataModule | None,
    console: Console,
) -> list[dict[str, Any]]:
    """The probe of the encoder before and after, on `videos`, or on those of the training where there are none.

    No row where it is not wanted, or where labels do not allow it; a note of `data` then says why.
    """
    if probe is None or not task.probes:
        return []
    try:
        return probe({"before": before, "learned": task.encoder}, videos or data, task.normalize)
    except ValueError as error:  # the encoder is there all the same
        note = f"no probes: {error}"
        data.catalogue.notes.append(note)
        console.print(note, soft_wrap=True)
        return []
