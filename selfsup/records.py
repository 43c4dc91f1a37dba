"""How a verb measured, for the record that each of its figures carries."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import selfsup
from selfsup.data.resumable import ResumableDataModule
from selfsup.data.videos import printable
from selfsup.evaluation.answers import Answers, Draws
from selfsup.evaluation.figure import Figure, figure_of
from selfsup.evaluation.protocol import Protocol, file_checksum, git_commit
from selfsup.tasks.action_recognition import ActionRecognition
from selfsup.tasks.answers import FrameAnswers, VideoAnswers

CHANGE_NO_ANSWER = {"controls", "cache_folder"}  # settings that runs to be averaged need not share
DISTRIBUTIONS = {"pyav": "av", "decord": "decord2", "torchcodec": "torchcodec", "packed": "simplejpeg"}
NAMED = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "av",
    "numpy",
    "scikit-learn",
)


def write_environment(folder: Path) -> None:
    """Writes environment.json: what a run was made with, as `selfsup report` shows it. A resumed run writes it anew."""
    accelerators = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    environment = {
        "selfsup": selfsup.__version__,
        "commit": git_commit(),
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cores": os.cpu_count(),
        "accelerators": ", ".join(accelerators) or "none",
        **{name: importlib.metadata.version(name) for name in NAMED},
    }
    text = json.dumps(environment, indent=1, ensure_ascii=False)
    (folder / "environment.json").write_text(text + "\n", encoding="utf-8")


def names_of(data: ResumableDataModule, split: str, rows: Sequence[int]) -> tuple[str, ...]:
    """Paths below the deepest folder that holds all videos: the same wherever the folder lies."""
    every = [info.path.absolute() for of in data.videos.values() for info in of]
    root = os.path.commonpath([path.parent for path in every])
    return tuple(printable(data.videos[split][row].path.absolute().relative_to(root).as_posix()) for row in rows)


def groups_of(data: ResumableDataModule, split: str, rows: Sequence[int]) -> tuple[str, ...] | None:
    """The groups of these videos; None where the data name none, or one alone: nothing can be drawn over it."""
    groups = tuple(printable(data.catalogue.groups[split][row]) for row in rows)
    return groups if data.catalogue.grouped and len(set(groups)) > 1 else None


def protocol_of(config: DictConfig, data: ResumableDataModule, seen: int, how: Mapping[str, Any]) -> Protocol:
    """How figures of the reported split are measured, on `seen` videos of it.

    `how` is what else they hang on: parts of the configuration, and plain values.
    """
    held_out = data.catalogue.reported
    dataset, checksum = _listed(data)
    clips, crops = data.views(held_out)
    named = {"num_segments", "num_frames"} & set(config.clips.evaluation)
    frames = data.frames or (int(config.clips.evaluation[named.pop()]) if named else None)
    return Protocol(
        dataset=dataset,
        checksum=checksum,
        split=held_out,
        groups_kept=data.catalogue.grouped,
        clips=clips,
        crops=crops,
        level="video",
        input_size=(frames, data.size_pixels, data.size_pixels) if frames else None,
        decoder=data.reader,
        decoder_version=importlib.metadata.version(DISTRIBUTIONS[data.reader]),
        videos_seen=seen,
        videos_refused=sum(left.video.split == held_out for left in data.catalogue.left_out)
        + len(data.videos[held_out])
        - seen,
        seeds=(config.seed,),
        label_fraction=float(data.labels_fraction),
        settings=settings_of({**how, "clips": None if data.frames else config.clips, "stretch": data.stretch}),
        commit=git_commit(),
    )


def foreground_protocol(config: DictConfig, data: ResumableDataModule, seen: int, how: Mapping[str, Any]) -> Protocol:
    """How foreground is measured on `seen` videos, whole, of `config.split`; `how` is what else J hangs on."""
    keys = ("short_side_pixels", "max_frames", "threshold")
    return Protocol(
        **_of_whole_files(config, data),
        split=config.split or "all",
        groups_kept=data.catalogue.grouped,
        clips=1,
        videos_seen=seen,
        videos_refused=sum(config.split in (None, left.video.split) for left in data.catalogue.left_out),
        label_fraction=0.0,
        settings=settings_of({**how, **{key: config[key] for key in keys}}),
    )


def audio_protocol(
    config: DictConfig, data: ResumableDataModule, seen: int, windows: int, how: Mapping[str, Any]
) -> Protocol:
    """How classes of `seen` sounds are told, fold by fold, from `windows` of each; `how` is what else they hang on."""
    return Protocol(
        **_of_whole_files(config, data),
        split="folds",
        groups_kept=True,
        clips=windows,
        videos_seen=seen,
        videos_refused=0,
        settings=settings_of(how),
    )


def whole_file_protocol(config: DictConfig, data: ResumableDataModule, seen: int, how: Mapping[str, Any]) -> Protocol:
    """How `seen` videos of the reported split are answered, each as a whole; `how` is what else the answers hang on."""
    split = data.catalogue.reported
    return Protocol(
        **_of_whole_files(config, data),
        split=split,
        groups_kept=data.catalogue.grouped,
        clips=1,
        videos_seen=seen,
        videos_refused=sum(left.video.split == split for left in data.catalogue.left_out)
        + len(data.videos[split])
        - seen,
        settings=settings_of(how),
    )


def _of_whole_files(config: DictConfig, data: ResumableDataModule) -> dict[str, Any]:
    """What the records of files that are read whole, and by PyAV, have in common."""
    dataset, checksum = _listed(data)
    return {
        "dataset": dataset,
        "checksum": checksum,
        "crops": 1,
        "level": "video",
        "input_size": None,
        "decoder": "pyav",
        "decoder_version": importlib.metadata.version(DISTRIBUTIONS["pyav"]),
        "seeds": (config.seed,),
        "commit": git_commit(),
    }


def _listed(data: ResumableDataModule) -> tuple[str, str | None]:
    """The name of the data set, and the checksum of the file that lists its videos, if one does."""
    if "manifest" not in data.source:
        return HydraConfig.get().runtime.choices["data"], None
    listed = Path(str(data.source["manifest"]))
    return listed.absolute().parent.name, file_checksum(listed) if listed.exists() else None


def settings_of(how: Mapping[str, Any]) -> str:
    """Settings as one line of text, without those that change no answer."""
    # Resolved where they stand: their interpolations look at the whole tree.
    plain = {
        name: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for name, value in how.items()
    }
    return json.dumps(_that_matter(plain), sort_keys=True)


def _that_matter(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _that_matter(inner) for name, inner in value.items() if name not in CHANGE_NO_ANSWER}


def recognition_figures(
    name: str, end: str, task: ActionRecognition, config: DictConfig, data: ResumableDataModule, epochs: int
) -> list[Figure]:
    """Of a classifier that was tested, accuracy over videos, or mean average precision of their frames.

    One figure for the clips as they are, and one for what is left of it under each control. Their names are `name`,
    that of the control, and `end`. Raises ValueError where there are too few videos, or groups of them, for an
    interval, or no frame shows a class.
    """
    figures = []
    taught = (task.encoder.source or {}).get("task")  # by what, where it comes from a file
    how = {
        "task": config.task,
        "encoder": type(task.encoder).__name__,
        "taught": taught,
        "epochs": epochs,
        "batch_size": data.batch_size,
    }
    for control, answers in task.answers.items():
        found = _answers_of(answers, data)
        protocol = protocol_of(config, data, len(found.videos), how)
        figures.append(
            figure_of(
                f"{name}, {control}{end}" if control else f"{name}{end}",
                found,
                task.chance[task.scoring.headline],
                protocol if isinstance(found, Answers) else replace(protocol, level="frame"),
            )
        )
    return figures


def _answers_of(answers: VideoAnswers | FrameAnswers, data: ResumableDataModule) -> Answers | Draws:
    """With the names and groups of the videos that were seen."""
    split = data.catalogue.reported
    if isinstance(answers, VideoAnswers):
        rows, correct = answers.told()
        return Answers(names_of(data, split, rows), tuple(map(float, correct)), groups_of(data, split, rows))
    videos, truth, scores = (values.numpy() for values in answers.ranked())
    seen, video_of_frame = np.unique(videos, return_inverse=True)
    rows = seen.tolist()
    return Draws.of_ranking(names_of(data, split, rows), groups_of(data, split, rows), video_of_frame, truth, scores)
