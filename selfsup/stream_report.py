"""`selfsup stream report=true`: accuracy, computation and latency of streams over the videos of a labelled data set.

Every frame of every held-out video is a question, and the answer that stands at this frame is held against the label of
this frame: a late answer is a wrong one, and where there is none yet, too. A video's accuracy is the share of its
frames that are answered rightly; intervals are drawn over videos, or their groups.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError
from rich.console import Console
from rich.progress import track
from torch import Tensor

from selfsup.classifier_weights import Trained
from selfsup.data.catalogue import SpanCatalogue
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.labels import multi_hot
from selfsup.data.live import FileFrames
from selfsup.data.packed import PackedInfo
from selfsup.data.sampling import UniformSampler
from selfsup.encoders.encoder import Encoder
from selfsup.evaluation.answers import Answers
from selfsup.evaluation.figure import Figure, figure_of
from selfsup.evaluation.report import to_markdown, write_figures
from selfsup.live import LiveNetwork, Steps, steps_of
from selfsup.precision import best_device
from selfsup.records import groups_of, names_of, whole_file_protocol
from selfsup.streaming.tally import Tally
from selfsup.verb import CONFIGURATION, tell_failures, tell_notes


@dataclass
class Method:
    """One way to run the network, and what was found of it.

    Attributes:
        name: with its keys.
        settings: what builds it.
        steps: what answers.
        tally: of all videos.
        skipped: frames that were passed over, in all videos.
        right: of each video that was read, by its row, the share of its frames that were answered rightly.
    """

    name: str
    settings: DictConfig
    steps: Steps
    tally: Tally = field(default_factory=Tally)
    skipped: int = 0
    right: dict[int, float] = field(default_factory=dict)


def report(config: DictConfig, trained: Trained, encoder: Encoder, folder: Path, console: Console) -> None:
    """Writes report.json, report.md and report.png into `folder`, and prints the table."""
    data: VideoDataModule = instantiate(config.data, _partial_=True)(sampler=UniformSampler(1))
    data.setup()
    tell_notes(console, data)
    data.catalogue.write_left_out(folder / "left_out.json")
    split = data.catalogue.reported
    if len(data.videos[split]) < 2:
        raise ValueError(f"{len(data.videos[split])} {split} videos; an interval needs two or more: give more videos")
    if isinstance(data.videos[split][0], PackedInfo):
        raise ValueError("data=shards: a stream reads files, and these videos are packed; give the data they come from")
    truth_of = truth(data, trained, split)
    trained.classifier.to(best_device())
    methods = [Method(name, node, steps_of(trained, encoder, instantiate(node))) for name, node in chosen(config)]
    failures: dict[int, str] = {}
    shown: dict[int, Tensor] = {}  # of each video the share of its frames that show each class, (K,)
    for row in track(range(len(data.videos[split])), f"{split} videos", transient=True, console=console):
        try:
            shown_here = watch(data.videos[split][row].path, trained, methods, row, truth_of[row])
        except (ValueError, OSError) as error:
            failures[row] = str(error)
            continue
        if shown_here is not None:
            shown[row] = shown_here
    tell_failures(console, data, {split: failures})
    chance = float(torch.stack([*shown.values()]).mean(dim=0).max()) if shown else None
    figures = [method_figure(method, config, trained, data, chance) for method in methods]
    curve = [row_of(method, figure) for method, figure in zip(methods, figures, strict=True)]
    write_figures(folder / "report.json", figures, {"curve": curve})
    (folder / "report.md").write_text(f"{table(curve)}\n{to_markdown(figures)}", encoding="utf-8")
    draw(curve, folder / "report.png")
    console.print(table(curve), soft_wrap=True)
    console.print(f"run folder: {folder}", soft_wrap=True)


def chosen(config: DictConfig) -> list[tuple[str, DictConfig]]:
    """The methods by their names: those of `methods`, "NAME KEY=VALUE …", else the chosen one.

    Raises ValueError for a name that is no option of conf/method, or a key that it does not have.
    """
    if config.methods is None:
        return [(HydraConfig.get().runtime.choices["method"], config.method)]
    options = {path.stem: path for path in sorted((CONFIGURATION / "method").glob("*.yaml"))}
    found = []
    for text in config.methods:
        name, *keys = str(text).split()
        if name not in options:
            raise ValueError(f"methods: there is no {name!r}; give some of {', '.join(options)}")
        node = OmegaConf.load(options[name])
        assert isinstance(node, DictConfig)
        OmegaConf.set_struct(node, True)
        try:
            node.merge_with_dotlist(keys)
        except (ConfigKeyError, ConfigAttributeError) as error:
            known = ", ".join(str(key) for key in node if not str(key).startswith("_"))
            raise ValueError(f"methods: {text!r} names a key that {name} does not have; it has {known}") from error
        found.append((str(text), node))
    return found


def truth(data: VideoDataModule, trained: Trained, split: str) -> list[Callable[[Tensor], Tensor]]:
    """For each video what its frames show, from their times (T,) to 0 or 1, (T, K).

    Raises ValueError where labels are missing, or are none of the classifier's classes.
    """
    catalogue = data.catalogue
    if isinstance(catalogue, SpanCatalogue):
        spans = catalogue.spans[split]
        named = {span.label for of_video in spans for span in of_video}
    else:
        labels = catalogue.labels[split]
        if None in labels:
            without = data.videos[split][labels.index(None)].path
            raise ValueError(f"{without}: no label, and others may lack one too; report=true wants labelled videos")
        named = {str(label) for label in labels}
    if new := sorted(named - set(trained.classes)):
        raise ValueError(
            f"the {split} videos have {len(new)} classes that the classifier does not know ({', '.join(new[:3])}); it "
            f"knows {', '.join(trained.classes)}"
        )
    classes = trained.classes
    if isinstance(catalogue, SpanCatalogue):
        return [partial(multi_hot, of_video, classes) for of_video in spans]
    return [partial(_always, classes.index(str(label)), len(classes)) for label in labels]


def _always(place: int, num_classes: int, times_seconds: Tensor) -> Tensor:
    """The same class at all times (T,), as (T, K)."""
    return torch.eye(num_classes)[place].expand(len(times_seconds), -1)


def watch(
    path: Path, trained: Trained, methods: Sequence[Method], row: int, truth_of: Callable[[Tensor], Tensor]
) -> Tensor | None:
    """Runs all methods on one video, which is decoded once.

    Returns the share (K,) of the frames with a label that show each class; None where no frame has one.
    """
    frames = FileFrames(path, trained.clip.short_side_pixels)
    try:
        shown = truth_of(torch.from_numpy(frames.times_seconds))  # (T, K)
        device = best_device()
        networks = [LiveNetwork(method.steps, trained.input, trained.clip, device, frames.fps) for method in methods]
        for method in methods:
            method.steps.reset()
        wanted, answers, right = [0] * len(methods), [-1] * len(methods), [0] * len(methods)
        for frame in frames:
            for place, (method, network) in enumerate(zip(methods, networks, strict=True)):
                if frame.number >= wanted[place]:
                    start = time.perf_counter()
                    logits = network.answer(frame.image)
                    method.tally.add(method.steps.work, 1000 * (time.perf_counter() - start), method.steps.lag_frames)
                    answers[place] = -1 if logits is None else int(logits.argmax())
                    wanted[place] = frame.number + 1 + network.skip()
                else:
                    method.skipped += 1
                right[place] += answers[place] >= 0 and bool(shown[frame.number, answers[place]])
    finally:
        frames.close()
    labelled = shown[shown.any(dim=1)]
    if not len(labelled):
        return None
    for method, count in zip(methods, right, strict=True):
        method.right[row] = count / len(labelled)
    return labelled.mean(dim=0)


def method_figure(
    method: Method, config: DictConfig, trained: Trained, data: VideoDataModule, chance: float | None
) -> Figure:
    """The accuracy of a method, with its interval and record."""
    split, rows = data.catalogue.reported, sorted(method.right)
    how = {
        "method": method.settings,
        "classifier": {key: trained.source[key] for key in ("class", "arguments", "encoder", "clip", "input", "data")},
        "question": "the answer that stands at each frame",
    }
    answers = Answers(
        videos=names_of(data, split, rows),
        correct=tuple(method.right[row] for row in rows),
        groups=groups_of(data, split, rows),
    )
    return figure_of(f"accuracy, {method.name}", answers, chance, whole_file_protocol(config, data, len(rows), how))


def row_of(method: Method, figure: Figure) -> dict[str, Any]:
    """One point of the curve."""
    assert figure.interval is not None, "every accuracy has one"
    counted: dict[str, Any] = method.tally.figures(method.skipped)
    return {
        "method": method.name,
        "accuracy": figure.value,
        "low": figure.interval.low,
        "high": figure.interval.high,
        "computation": counted["computation"],
        "latency_ms": counted["latency_ms"],
        "lag_frames": counted["lag_frames"],
        "frames": {"encoded": method.tally.encoded, "held": method.tally.held, "skipped": method.skipped},
    }


def table(curve: Sequence[dict[str, Any]]) -> str:
    """The curve as a table in Markdown."""
    lines = ["| method | accuracy | 95 % interval | computation | latency, ms: median, 95 % | lag, frames |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for row in curve:
        latency = row["latency_ms"]
        lines.append(
            f"| {row['method']} | {row['accuracy']:.1%} | {row['low']:.1%} – {row['high']:.1%} "
            f"| {row['computation']:.1%} | {latency['median']:.1f}, {latency['p95']:.1f} "
            f"| {row['lag_frames']['mean']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def draw(curve: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy, with its interval, against computation and against latency."""
    from matplotlib.figure import Figure as Picture  # a second to import, and needed here alone

    picture = Picture(figsize=(9, 3.6), layout="constrained")
    titles = ("share of computation", "latency, ms (median)")
    for axes, title in zip(picture.subplots(1, 2, sharey=True), titles, strict=True):
        for row in curve:
            x = row["computation"] if title == titles[0] else row["latency_ms"]["median"]
            height = row["accuracy"]
            bounds = [[max(0.0, height - row["low"])], [max(0.0, row["high"] - height)]]
            axes.errorbar(x, height, yerr=bounds, fmt="o", capsize=3, label=row["method"])
        axes.set_xlabel(title)
        axes.set_xlim(left=0)
    picture.axes[0].set_ylabel("accuracy, with 95 % interval")
    picture.axes[0].legend(fontsize=7)
    picture.savefig(path, dpi=120)
