"""Measures what an encoder knows: `selfsup evaluate encoder.path=… data=… [key=value …]`.

`selfsup evaluate compare A.json B.json` prints the paired differences of two evaluations.
"""

from __future__ import annotations

import copy
import importlib.metadata
import os
import sys
from dataclasses import replace
from pathlib import Path

import hydra
import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table

from selfsup import weights
from selfsup.data.catalogue import SPLITS
from selfsup.data.clips import ViewSampler
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.subsets import labelled_subset
from selfsup.encoders.encoder import Encoder
from selfsup.evaluation.features import Features, extract_features
from selfsup.evaluation.figure import Answers, Figure, accuracy_figure, compare
from selfsup.evaluation.frozen import UNTRAINED, Labelled, frozen_figures, readings
from selfsup.evaluation.protocol import Protocol, file_checksum, git_commit
from selfsup.evaluation.report import differences_to_markdown, read_figures, to_markdown, write_figures
from selfsup.tasks.action_recognition import ActionRecognition
from selfsup.tasks.task import channels_last
from selfsup.train import trainer_settings
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence

FEW_UNITS = 10  # simulated: 78 of 100 intervals over 3 groups held the truth, 91 over 10
DISTRIBUTIONS = {"pyav": "av", "decord": "decord2", "torchcodec": "torchcodec"}


def evaluate(config: DictConfig, folder: Path) -> list[Figure]:
    """Writes evaluation.json, evaluation.md, evaluation.png and left_out.json into `folder`, and prints the table."""
    check_complete(config)
    console = Console()
    pl.seed_everything(config.seed, verbose=False)
    encoder: Encoder = instantiate(config.encoder)
    untrained = weights.untrained(encoder)
    views: ViewSampler = instantiate(config.clips.evaluation)
    data: VideoDataModule = instantiate(config.data, _partial_=True)(
        sampler=instantiate(config.clips.training), evaluation_sampler=views
    )
    data.setup()
    for note in data.catalogue.notes:
        console.print(f"  {note}", highlight=False, soft_wrap=True)
    data.catalogue.write_left_out(folder / "left_out.json")
    if encoder.input is not None and (warning := encoder.input.warning(data.size_pixels)):
        console.print(warning, highlight=False, soft_wrap=True)
    held_out = "test" if data.videos["test"] else "val"
    check_labelled(data, held_out)

    fractions = possible_fractions(list(config.finetune_fractions or ()), data, console)
    features, videos = read_all(encoder, untrained, data, config)
    protocol = protocol_of(config, data, held_out, len(videos[held_out].videos))
    figures = frozen_figures(features, videos, protocol, config.seed, held_out)
    for fraction in fractions:
        for end, start in (("", encoder), (UNTRAINED, untrained)):
            figures.append(finetuned(config, folder, start, fraction, end, protocol))
    write_figures(folder / "evaluation.json", figures)
    (folder / "evaluation.md").write_text(to_markdown(figures), encoding="utf-8")
    draw(figures, folder / "evaluation.png")
    print_figures(figures, console)
    units = min(figure.interval.units for figure in figures if figure.interval is not None)
    if units < FEW_UNITS:
        console.print(
            f"the intervals are drawn over {units} groups: too few for them to hold the truth in 95 of 100 cases",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)
    return figures


def check_labelled(data: VideoDataModule, held_out: str) -> None:
    """ValueError where a figure cannot be had from these videos."""
    if not data.videos[held_out]:
        raise ValueError("no held-out video: give a manifest with a split, or raise data.fractions.test")
    for split in SPLITS:
        if None in data.catalogue.labels[split]:
            place = data.catalogue.labels[split].index(None)
            raise ValueError(
                f"{data.videos[split][place].path}: no label; an evaluation needs one of every video: put the videos "
                f"into a folder a class, or give a manifest with data.label=COLUMN"
            )


def possible_fractions(fractions: list[float], data: VideoDataModule, console: Console) -> list[float]:
    """Those shares of the labels that hold every class; the others are named, before anything was measured."""
    labels, groups = data.catalogue.labels["train"], data.catalogue.groups["train"]
    possible = []
    for fraction in fractions:
        try:
            labelled_subset(labels, groups, fraction, data.seed)
        except ValueError as error:
            console.print(f"no fine-tuning on {fraction:.0%} of the labels: {error}", highlight=False, soft_wrap=True)
        else:
            possible.append(fraction)
    return possible


def read_all(
    encoder: Encoder, untrained: Encoder, data: VideoDataModule, config: DictConfig
) -> tuple[dict[str, dict[str, Features]], dict[str, Labelled]]:
    """Features by split and reading, and the videos that they are of. Every clip is decoded once."""
    specification = encoder.input
    assert specification is not None, "weights.load gives every encoder its input specification"
    for network in (encoder, untrained):
        channels_last(network)
    how = readings(encoder, untrained, specification.normalize, stage=config.stage, time=config.time)
    root = Path(common_folder([info.path for split in SPLITS for info in data.videos[split]]))
    features: dict[str, dict[str, Features]] = {}
    videos: dict[str, Labelled] = {}
    for split in SPLITS:
        if not data.videos[split]:
            continue
        loader = data.held_out(split)
        features[split] = extract_features(how, track(loader, f"{split} videos", transient=True))
        rows = features[split][""].videos.tolist()
        videos[split] = Labelled(
            videos=tuple(data.videos[split][row].path.relative_to(root).as_posix() for row in rows),
            labels=tuple(str(data.catalogue.labels[split][row]) for row in rows),
            groups=groups_of(data, split, rows),
        )
    return features, videos


def groups_of(data: VideoDataModule, split: str, rows: list[int]) -> tuple[str, ...] | None:
    """The groups of these videos; None where the data name none, or one alone: nothing can be drawn over it."""
    groups = tuple(data.catalogue.groups[split][row] for row in rows)
    return groups if has_groups(data) and len(set(groups)) > 1 else None


def common_folder(paths: list[Path]) -> str:
    """The deepest folder that holds all files."""
    return os.path.commonpath([path.parent for path in paths])


def has_groups(data: VideoDataModule) -> bool:
    """Whether the data name groups; without, every video is a group of its own."""
    return any(
        group != str(info.path)
        for split in SPLITS
        for info, group in zip(data.videos[split], data.catalogue.groups[split], strict=True)
    )


def protocol_of(config: DictConfig, data: VideoDataModule, held_out: str, seen: int) -> Protocol:
    """How the figures of frozen features are measured: without labels but for the probe's."""
    named = None if "manifest" not in data.source else str(data.source["manifest"])
    views = (
        [len(data.evaluation_sampler.views(info)) for info in data.videos[held_out]] if data.evaluation_sampler else [1]
    )
    frames = {"num_segments", "num_frames"} & set(config.clips.evaluation)
    return Protocol(
        dataset=HydraConfig.get().runtime.choices["data"] if named is None else Path(named).parent.name,
        checksum=None if named is None else file_checksum(Path(named)),
        split=held_out,
        groups_kept=has_groups(data),
        clips=max(views),
        crops=len(data.evaluation_crops),
        level="video",
        input_size=(int(config.clips.evaluation[frames.pop()]), data.size_pixels, data.size_pixels) if frames else None,
        decoder=data.reader,
        decoder_version=importlib.metadata.version(DISTRIBUTIONS[data.reader]),
        videos_seen=seen,
        videos_refused=sum(left.video.split == held_out for left in data.catalogue.left_out)
        + len(data.videos[held_out])
        - seen,
        seeds=(config.seed,),
        label_fraction=float(data.labels_fraction),
        commit=git_commit(),
    )


def finetuned(
    config: DictConfig, folder: Path, start: Encoder, fraction: float, end: str, protocol: Protocol
) -> Figure:
    """Accuracy of a classifier that was trained, encoder and all, on a share of the labels."""
    pl.seed_everything(config.seed, verbose=False)
    task: ActionRecognition = instantiate(config.task, _partial_=True)(encoder=copy.deepcopy(start).train())
    data: VideoDataModule = instantiate(config.data, _partial_=True)(
        sampler=task.sampler, evaluation_sampler=task.evaluation_sampler, labels_fraction=fraction
    )
    data.setup()
    task.begin(data.catalogue)
    trainer: pl.Trainer = instantiate(trainer_settings(config), logger=False, default_root_dir=folder)
    trainer.fit(task, data)
    trainer.test(task, data.test_dataloader() or data.val_dataloader(), verbose=False)
    rows, correct = task.told
    paths = [data.videos[protocol.split][row].path for row in rows]
    root = Path(common_folder([info.path for split in SPLITS for info in data.videos[split]]))
    answers = Answers(
        videos=tuple(path.relative_to(root).as_posix() for path in paths),
        correct=tuple(map(float, correct)),
        groups=groups_of(data, protocol.split, rows),
    )
    chance = task.chance["accuracy"]
    record = replace(protocol, label_fraction=fraction, videos_seen=len(rows))
    return accuracy_figure(f"fine-tuning on {fraction:.0%} of the labels{end}", answers, chance, record)


def print_figures(figures: list[Figure], console: Console) -> None:
    """The table that ends an evaluation."""
    table = Table(title="evaluation")
    for column in ("figure", "value", "95 % interval", "chance"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for figure in figures:
        share = figure.interval is not None
        bounds = f"{figure.interval.low:.1%} – {figure.interval.high:.1%}" if figure.interval is not None else ""
        chance = "" if figure.chance is None else f"{figure.chance:.1%}"
        table.add_row(figure.name, f"{figure.value:.1%}" if share else f"{figure.value:.1f}", bounds, chance)
    console.print(table)


def draw(figures: list[Figure], path: Path) -> None:
    """A picture of the shares: a bar a figure with its interval, and chance as a line."""
    from matplotlib.figure import Figure as Picture  # a second to import, and needed here alone

    shares = [figure for figure in figures if figure.interval is not None]
    picture = Picture(figsize=(8, 0.3 * len(shares) + 1.2), layout="constrained")
    axes = picture.subplots()
    rows = range(len(shares), 0, -1)
    axes.barh(rows, [figure.value for figure in shares], color=["C1" if ", " in f.name else "C0" for f in shares])
    for row, figure in zip(rows, shares, strict=True):
        assert figure.interval is not None
        axes.plot([figure.interval.low, figure.interval.high], [row, row], color="black", linewidth=1)
        if figure.chance is not None:
            axes.plot([figure.chance] * 2, [row - 0.4, row + 0.4], color="red", linewidth=1)
    axes.set_yticks(rows, [figure.name for figure in shares], fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the videos; black: 95 % interval; red: chance; orange: what knows less")
    picture.savefig(path, dpi=120)


def compare_files(first: Path, second: Path) -> str:
    """The paired differences, first minus second, of the figures that both files have, as a table in Markdown."""
    others = {figure.name: figure for figure in read_figures(second)}
    both = [(figure, others[figure.name]) for figure in read_figures(first) if figure.name in others]
    pairs = [(one, other) for one, other in both if one.answers is not None]
    if not pairs:
        raise ValueError(f"{first} and {second} have no figure in common; evaluate both alike")
    return differences_to_markdown([compare(one, other) for one, other in pairs])


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="evaluate")
def _main(config: DictConfig) -> None:
    with in_one_sentence():
        evaluate(config, Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    """Entry point; see `in_one_sentence` for how it ends."""
    if sys.argv[1:2] != ["compare"]:
        _main()
        return
    with in_one_sentence():
        if len(sys.argv) != 4:
            raise ValueError("usage: selfsup evaluate compare A.json B.json")
        print(compare_files(Path(sys.argv[2]), Path(sys.argv[3])), end="")


if __name__ == "__main__":
    main()
