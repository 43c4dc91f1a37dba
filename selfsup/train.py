"""Pretrains an encoder: `python train.py`, `selfsup train` or `python -m selfsup.train`, with key=value overrides."""

from __future__ import annotations

import copy
import csv
import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.loggers import CSVLogger, Logger
from rich.console import Console
from rich.table import Table

from selfsup import weights
from selfsup.callbacks.checkpoint import Stopped, find_checkpoint
from selfsup.callbacks.finite_loss import FiniteLoss
from selfsup.callbacks.quarantine import Quarantine
from selfsup.callbacks.throughput import Throughput
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.foreground_clip import ForegroundClip
from selfsup.data.listing import plural
from selfsup.data.resumable import ResumableDataModule
from selfsup.encoders.encoder import Encoder, InputSpecification
from selfsup.encoders.stored import Stored
from selfsup.heard import save_audio_encoder, write_retrieval
from selfsup.joined import parts_of
from selfsup.precision import best_precision
from selfsup.probed import probe_videos, probed
from selfsup.recognised import save_classifier, write_answers
from selfsup.records import write_environment
from selfsup.tasks.action_recognition import ActionRecognition
from selfsup.tasks.audio_visual import AudioVisual
from selfsup.tasks.joint import Joint
from selfsup.tasks.task import Task
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence, tell_notes

LEAST_STEPS = 100  # of a training that is not called too short; the bare command has 170
AT_CHANCE = 0.05  # of the way from chance to being always right: what is no farther is called so


def train(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Runs one training and returns its summary.

    Writes encoder.safetensors, last.ckpt, metrics.csv, summary.json, left_out.json and environment.json into `folder`,
    and of action recognition classifier.safetensors.
    """
    check_complete(config)
    write_environment(folder)
    console = Console(markup=False, highlight=False)
    pl.seed_everything(config.seed, verbose=False)
    encoder: Encoder = instantiate(config.encoder).train()  # a loaded one comes ready for use
    task: Task = instantiate(config.task, _partial_=True)(encoder=encoder)
    check_fit(config, task, encoder)
    data: VideoDataModule = instantiate(config.data, _partial_=True)(
        sampler=task.sampler, evaluation_sampler=task.evaluation_sampler
    )
    probe = instantiate(config.probe)
    before = copy.deepcopy(encoder)

    data.setup()
    task.begin(data.catalogue)
    tell_data(data, encoder, console)
    probing = probe_videos(config, data, encoder)
    data.catalogue.write_left_out(folder / "left_out.json")
    checkpoint = find_checkpoint(config.resume, folder)
    if checkpoint is not None:
        console.print(f"resuming from {checkpoint}", soft_wrap=True)
    quarantine = Quarantine(data, data.max_failed_fraction)
    chosen = [instantiate(config[name]) for name in ("checkpoint", "pictures", "collapse")]
    if probing is not None and config.online_probe is not None:
        chosen.insert(0, instantiate(config.online_probe, _partial_=True)(data=probing))  # a checkpoint comes after it
    throughput: Throughput | None = instantiate(config.throughput)
    # Throughput comes last: what the others do between two batches is work, and no waiting for data.
    callbacks = [callback for callback in (FiniteLoss(), quarantine, *chosen, throughput) if callback is not None]
    if task.probes:
        callbacks.insert(0, LambdaCallback(on_train_start=partial(tell_few_steps, data, console)))
    trainer = make_trainer(config, folder, callbacks, checkpoint)
    trainer.fit(task, data, ckpt_path=checkpoint)
    if throughput is not None and throughput.advice is not None:
        tell(throughput.advice, data, console)
    held_out = data.catalogue.reported
    measured = measure(trainer, task, data, console)
    if not trainer.is_global_zero:
        return {}
    if task.probes and (advice := chance_advice(task.chance, measured, trainer.global_step)):
        tell(advice, data, console)

    name = HydraConfig.get().runtime.choices["task"]
    task.encoder.cpu()
    save_encoder(task, data, name, folder / "encoder.safetensors")
    for part, own in parts_of(task, config):
        if isinstance(part, AudioVisual):
            save_audio_encoder(part, data, name, own, folder / "audio_encoder.safetensors")
            write_retrieval(part, data, own, folder, console, trainer.loggers, trainer.global_step)
    rows = probed(probe, before, task, data, probing, console)
    if isinstance(task, ActionRecognition):
        save_classifier(task, before, data, name, config, folder / "classifier.safetensors")
        write_answers(task, config, data, folder, console)
    summary = {
        "task": name,
        "data": data.description(),
        "seed": config.seed,
        "figures": [
            {"figure": figure, "split": held_out, "value": measured[f"test/{figure}"], "chance": chance}
            for figure, chance in task.chance.items()
            if f"test/{figure}" in measured
        ],
        "measured": {name.removeprefix("test/"): value for name, value in measured.items()},
        "details": task.details,
        "probes": rows,
        "notes": data.catalogue.notes,
        "quarantined": quarantine.rows(),
        "throughput": {} if throughput is None else throughput.summary(),
        "folder": str(folder),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print_summary(summary, console)
    return summary


def tell_data(data: VideoDataModule, encoder: Encoder, console: Console) -> None:
    """Prints how many videos take part, the notes on them, and whether they are as the encoder knows them."""
    counts = ", ".join(f"{len(videos)} {split}" for split, videos in data.videos.items())
    console.print(f"videos: {counts}")
    tell_notes(console, data, encoder.input)


def tell_few_steps(data: VideoDataModule, console: Console, trainer: pl.Trainer, task: pl.LightningModule) -> None:
    """Prints a sentence where a training is over before a pretext task can be learned."""
    steps = trainer.estimated_stepping_batches
    if steps >= LEAST_STEPS or not trainer.is_global_zero:
        return
    epochs, clips = plural(trainer.max_epochs or 0, "epoch"), plural(data.clips_per_video, "clip")
    console.print(
        f"  this training takes {plural(int(steps), 'step')}: {epochs} of {clips} each of "
        f"{plural(len(data.videos['train']), 'video')}, {data.batch_size} at a time; a pretext task takes hundreds and "
        "more. Raise data.clips_per_video, or trainer.max_epochs",
        soft_wrap=True,
    )


def measure(trainer: pl.Trainer, task: Task, data: VideoDataModule, console: Console) -> dict[str, float]:
    """The task's figures on the split that is reported, by Lightning's names; none where that has no video."""
    held_out = data.catalogue.reported
    if not data.videos[held_out]:
        tell("nothing was measured: no test or val video takes part; left_out.json says why", data, console)
        return {}
    return dict(trainer.test(task, data.held_out(held_out), verbose=False)[0])


def chance_advice(chances: Mapping[str, float], measured: Mapping[str, float], steps: int) -> str | None:
    """A sentence where a figure is hardly above chance, else None; controls, named after a comma, are meant to be."""
    for figure, chance in chances.items():
        value = measured.get(f"test/{figure}", float("inf"))
        if "," not in figure and value < chance + AT_CHANCE * (1 - chance):
            return (
                f"{figure} is {value:.1%}, and chance {chance:.1%}: {steps} steps have taught next to nothing; train "
                "longer (trainer.max_epochs, data.clips_per_video), then look at what is asked: "
                "notebooks/02_pretext_tasks.ipynb"
            )
    return None


def tell(note: str, data: VideoDataModule, console: Console) -> None:
    """Prints a sentence, and keeps it for the summary."""
    data.catalogue.notes.append(note)
    console.print(note, soft_wrap=True)


def save_encoder(task: Task, data: ResumableDataModule, name: str, path: Path) -> None:
    """Writes what the task `name` has taught, where it is an encoder of frames: stored features have their file."""
    specification = InputSpecification(size_pixels=data.size_pixels, mean=task.mean, std=task.std, fps=None)
    if task.sees_frames:
        weights.save(task.encoder, path, input=specification, task=name, data=data.description())


def check_fit(config: DictConfig, task: Task, encoder: Encoder) -> None:
    """ValueError where the parts of a configuration were not made for one another."""
    recognition = isinstance(task, ActionRecognition)
    parts = list(task.parts.values()) if isinstance(task, Joint) else [task]
    if config.get("foreground") is not None and not any(isinstance(part.sampler, ForegroundClip) for part in parts):
        raise ValueError("this task learns from no labels of foreground; add task=motion_segmentation")
    if config.get("audio_encoder") is not None and not any(isinstance(part, AudioVisual) for part in parts):
        raise ValueError("this task hears no sound; add task=audio_visual")
    if config.get("classifier") is not None and not recognition:
        raise ValueError("a classifier wants labels, and this task asks for none; add task=action_recognition")
    if config.get("probe_data") is not None and not task.probes:
        raise ValueError("probe_data: this task is not probed, it learns from labels itself; leave data@probe_data out")
    if config.data.batch_size < task.minimum_batch:
        raise ValueError(
            f"data.batch_size={config.data.batch_size}: this task holds the examples of a batch against one another, "
            f"and learns nothing from fewer than {task.minimum_batch}; raise it"
        )
    if isinstance(encoder, Stored) and not recognition:
        raise ValueError("stored features cannot be asked a pretext question; add task=action_recognition")
    if isinstance(encoder, Stored) and config.classifier._target_.endswith((".I3D", ".TwoStream")):
        raise ValueError(
            "this classifier reads frames, and stored features are none; train it on videos, or choose "
            "classifier=frame_pooling or cnn_rnn"
        )


def make_trainer(config: DictConfig, folder: Path, callbacks: list[pl.Callback], checkpoint: Path | None) -> pl.Trainer:
    """The Lightning trainer of the configuration."""
    loggers: dict[str, Logger] = {name: instantiate(logger) for name, logger in config.logger.items()}
    if checkpoint is not None:
        keep_metrics(loggers["csv"], folder / "metrics.csv", torch.load(checkpoint, weights_only=True)["global_step"])
    return instantiate(trainer_settings(config), callbacks=callbacks, logger=list(loggers.values()))


def trainer_settings(config: DictConfig) -> dict[str, Any]:
    """The trainer's part of the configuration, its precision chosen where it says auto."""
    settings = OmegaConf.to_container(config.trainer, resolve=True)
    assert isinstance(settings, dict)
    if settings.get("precision") == "auto":
        settings["precision"] = best_precision(settings["accelerator"])
    return {str(name): value for name, value in settings.items()}


def keep_metrics(logger: Logger, path: Path, step: int) -> None:
    """Lets a resumed run go on in the metrics.csv of the run before it, from `step`.

    Lightning's CSVLogger would remove the file when it opens it.
    """
    assert isinstance(logger, CSVLogger), "conf/logger keeps a CSV logger in every option"
    if not path.exists():
        return
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if int(row["step"]) < step]
    writer = logger.experiment
    writer.metrics_keys = sorted(reader.fieldnames or [])
    writer.metrics = [{name: value for name, value in row.items() if value != ""} for row in rows]


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """The table that ends a run."""
    table = Table(title=f"{summary['task']}, seed {summary['seed']}")
    for column in ("figure", "before", "learned", "chance"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for row in summary["figures"]:
        name = f"{summary['task']} {row['figure']} ({row['split']} videos)"
        table.add_row(name, "", f"{row['value']:.1%}", f"{row['chance']:.1%}")
    for row in summary["probes"]:
        table.add_row(row["figure"], f"{row['before']:.1%}", f"{row['learned']:.1%}", f"{row['chance']:.1%}")
    console.print(table)
    shown = {row["figure"] for row in summary["figures"]}
    if besides := [f"{name} {value:.3f}" for name, value in summary["measured"].items() if name not in shown]:
        console.print(f"measured besides: {', '.join(besides)}", soft_wrap=True)
    if summary["quarantined"]:
        console.print(f"{len(summary['quarantined'])} videos failed during the run: see summary.json")
    console.print(f"run folder: {summary['folder']}", soft_wrap=True)


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="train")
def main(config: DictConfig) -> None:
    """Entry point. What a user can mend ends in one sentence and exit code 2; a stop by signal n in 128 + n."""
    if not os.environ.get("WANDB_API_KEY") and not Path("~/.netrc").expanduser().exists():
        os.environ.setdefault("WANDB_MODE", "offline")
    with in_one_sentence():
        try:
            train(config, Path(HydraConfig.get().runtime.output_dir))
        except Stopped as stop:
            print(stop, file=sys.stderr)
            sys.exit(128 + stop.signal_number)


if __name__ == "__main__":
    main()
