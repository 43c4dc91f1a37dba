"""Measures what an encoder knows: `selfsup evaluate encoder.path=… data=… [key=value …]`.

`selfsup evaluate compare A.json B.json` prints the paired differences of two evaluations; several seeds of each are
averaged first, `A0.json,A1.json B0.json,B1.json`. `selfsup evaluate foreground …` is `selfsup.evaluate_foreground`,
`selfsup evaluate audio …` is `selfsup.evaluate_audio`, `selfsup evaluate audit …` is `selfsup.evaluate_audit`.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import hydra
import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table

from selfsup import evaluate_audio, evaluate_audit, evaluate_foreground, weights
from selfsup.callbacks.quarantine import Quarantine
from selfsup.data.catalogue import SPLITS, SpanCatalogue
from selfsup.data.clips import ViewSampler
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.dataset import watched
from selfsup.data.subsets import labelled_subset
from selfsup.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from selfsup.encoders.encoder import Encoder, InputSpecification
from selfsup.encoders.stored import Stored
from selfsup.evaluation.features import Features, extract_features
from selfsup.evaluation.figure import Figure
from selfsup.evaluation.frozen import UNTRAINED, Labelled, frozen_figures, readings
from selfsup.evaluation.report import compare_files, to_markdown, write_figures
from selfsup.evaluation.video_neighbours import Featured, write_video_neighbours
from selfsup.precision import best_device
from selfsup.records import groups_of, names_of, protocol_of, recognition_figures, write_environment
from selfsup.tasks.action_recognition import ActionRecognition
from selfsup.tasks.scoring import check_labels
from selfsup.tasks.task import channels_last
from selfsup.train import trainer_settings
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence, tell_failures, tell_notes

MOST_EPOCHS = 10  # times those of all labels
FEW_UNITS = 10  # simulated: 78 of 100 intervals over 3 groups held the truth, 91 over 10


def evaluate(config: DictConfig, folder: Path) -> list[Figure]:
    """Prints the table of figures, and writes them and what is seen beside them into `folder`.

    Files: evaluation.json, evaluation.md, evaluation.png, left_out.json, environment.json, and nearest videos in
    pictures/neighbours/.
    """
    check_complete(config)
    write_environment(folder)
    console = Console(markup=False, highlight=False)
    pl.seed_everything(config.seed, verbose=False)
    if config.trainer.devices != 1:
        raise ValueError(f"trainer.devices={config.trainer.devices}: evaluate runs in one process; give trainer=auto")
    if isinstance(config.finetune_fractions, int | float):
        raise ValueError(
            f"finetune_fractions={config.finetune_fractions}: give a list, as [{config.finetune_fractions}], or null"
        )
    encoder: Encoder = instantiate(config.encoder).eval()
    if isinstance(encoder, Stored):
        raise ValueError("data=features: evaluate reads videos, shuffled and still ones too; give their data")
    untrained = weights.untrained(encoder)
    views: ViewSampler = instantiate(config.clips.evaluation)
    data: VideoDataModule = instantiate(config.data, _partial_=True)(
        sampler=instantiate(config.clips.training), evaluation_sampler=views
    )
    data.setup()
    tell_notes(console, data)
    data.catalogue.write_left_out(folder / "left_out.json")
    for network in (encoder, untrained):  # a fresh encoder, such as one with ImageNet's weights, takes what they took
        network.input = encoder.input or InputSpecification(data.size_pixels, IMAGENET_MEAN, IMAGENET_STD, None)
    assert encoder.input is not None, "given above"
    if warning := encoder.input.warning(data.size_pixels):
        console.print(warning, soft_wrap=True)
    held_out = data.catalogue.reported
    check_labelled(data, held_out)

    fractions = possible_fractions(list(config.finetune_fractions or ()), data, console)
    features, videos, failures = read_all(encoder, untrained, data, config)
    tell_failures(console, data, failures)
    how = {"stage": config.stage, "time": config.time}
    protocol = protocol_of(config, data, len(videos[held_out].videos), how)
    figures = frozen_figures(features, videos, protocol, config.seed, held_out)
    for fraction in fractions:
        for end, start in (("", encoder), (UNTRAINED, untrained)):
            figures += finetuned(config, folder, start, fraction, end)
    write_figures(folder / "evaluation.json", figures)
    (folder / "evaluation.md").write_text(to_markdown(figures), encoding="utf-8")
    draw(figures, folder / "evaluation.png")
    print_figures(figures, console)
    show_neighbours(features, data, held_out, folder, console)
    units, unit = min((f.interval.units, f.interval.unit) for f in figures if f.interval is not None)
    if units < FEW_UNITS:
        console.print(
            f"the intervals are drawn over {units} {unit}s: too few for them to hold the truth in 95 of 100 cases",
            soft_wrap=True,
        )
    console.print(f"run folder: {folder}", soft_wrap=True)
    return figures


def check_labelled(data: VideoDataModule, held_out: str) -> None:
    """ValueError where a figure cannot be had from these videos."""
    if isinstance(data.catalogue, SpanCatalogue):
        raise ValueError(
            "data.labels=frame: the figures of evaluate are of whole videos, with one label each; give a manifest with "
            "data.labels=video, or measure frames by train.py task=action_recognition classifier=cnn_rnn"
        )
    if not data.videos[held_out]:
        raise ValueError("no held-out video: give a manifest with a split, or raise data.fractions.test")
    if len(data.videos[held_out]) < 2:
        raise ValueError(f"one {held_out} video, {data.videos[held_out][0].path}; an interval needs two or more")
    check_labels(data.catalogue)


def possible_fractions(fractions: list[float], data: VideoDataModule, console: Console) -> list[float]:
    """Those shares of the labels that hold every class; the others are named, before anything was measured."""
    labels, groups = data.catalogue.labels["train"], data.catalogue.groups["train"]
    possible = []
    for fraction in fractions:
        try:
            labelled_subset(labels, groups, fraction, data.seed)
        except ValueError as error:
            console.print(f"no fine-tuning on {100 * fraction:g} % of the labels: {error}", soft_wrap=True)
        else:
            possible.append(fraction)
    return possible


def read_all(
    encoder: Encoder, untrained: Encoder, data: VideoDataModule, config: DictConfig
) -> tuple[dict[str, dict[str, Features]], dict[str, Labelled], dict[str, dict[int, str]]]:
    """Features by split and reading, the videos that they are of, and those that failed. Clips are decoded once."""
    specification = encoder.input
    assert specification is not None, "weights.load gives every encoder its input specification"
    for network in (encoder, untrained):
        channels_last(network)
        network.to(best_device())
    how = readings(encoder, untrained, specification.normalize, stage=config.stage, time=config.time)
    features: dict[str, dict[str, Features]] = {}
    failures: dict[str, dict[int, str]] = {}
    videos: dict[str, Labelled] = {}
    for split in SPLITS:
        if not data.videos[split]:
            continue
        failures[split] = {}
        batches = watched(data.held_out(split), failures[split])
        features[split] = extract_features(how, track(batches, f"{split} videos", transient=True))
        rows = features[split][""].videos.tolist()
        videos[split] = Labelled(
            videos=names_of(data, split, rows),
            labels=tuple(str(data.catalogue.labels[split][row]) for row in rows),
            groups=groups_of(data, split, rows),
        )
    for network in (encoder, untrained):
        network.cpu()
    return features, videos, failures


def show_neighbours(
    features: dict[str, dict[str, Features]], data: VideoDataModule, held_out: str, folder: Path, console: Console
) -> None:
    """Writes some held-out videos and their nearest training videos into pictures/neighbours/."""

    def featured(split: str) -> Featured:
        found = features[split][""]
        rows = found.videos.tolist()
        videos, labels = data.videos[split], data.catalogue.labels[split]
        return Featured([videos[row] for row in rows], [labels[row] for row in rows], found.values)

    try:
        write_video_neighbours(folder / "pictures" / "neighbours", featured(held_out), featured("train"))
    except (ValueError, OSError) as error:  # a file is gone since; the figures are there all the same
        console.print(f"no pictures of neighbours: {error}", soft_wrap=True)


def finetuned(config: DictConfig, folder: Path, start: Encoder, fraction: float, end: str) -> list[Figure]:
    """Accuracy of a classifier that was trained, encoder and all, on a share of the labels."""
    pl.seed_everything(config.seed, verbose=False)
    task: ActionRecognition = instantiate(config.task, _partial_=True)(encoder=copy.deepcopy(start).train())
    data: VideoDataModule = instantiate(config.data, _partial_=True)(
        sampler=task.sampler, evaluation_sampler=task.evaluation_sampler, labels_fraction=fraction
    )
    data.setup()
    task.begin(data.catalogue)
    # Few labels make short epochs: as many steps as with all labels, down to a tenth of them.
    epochs = round(config.trainer.max_epochs * min(1 / fraction, MOST_EPOCHS))
    trainer: pl.Trainer = instantiate(
        {**trainer_settings(config), "max_epochs": epochs},
        logger=False,
        default_root_dir=folder,
        callbacks=[Quarantine(data, data.max_failed_fraction)],
    )
    trainer.fit(task, data)
    trainer.test(task, data.held_out(data.catalogue.reported), verbose=False)
    name = f"fine-tuning on {100 * fraction:g} % of the labels"
    return recognition_figures(name, end, task, config, data, epochs)


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


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="evaluate")
def _main(config: DictConfig) -> None:
    with in_one_sentence():
        evaluate(config, Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    """Entry point; see `in_one_sentence` for how it ends."""
    others = {"foreground": evaluate_foreground.main, "audio": evaluate_audio.main, "audit": evaluate_audit.main}
    if len(sys.argv) > 1 and sys.argv[1] in others:
        others[sys.argv.pop(1)]()
        return
    if sys.argv[1:2] != ["compare"]:
        _main()
        return
    with in_one_sentence():
        if len(sys.argv) != 4:
            raise ValueError("usage: selfsup evaluate compare A.json[,A1.json…] B.json[,B1.json…]")
        first, second = ([Path(name) for name in names.split(",")] for names in sys.argv[2:])
        print(compare_files(first, second), end="")


if __name__ == "__main__":
    main()
