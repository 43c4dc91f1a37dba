"""Measures labels against true masks: `selfsup evaluate foreground foreground=… data=davis data.root=… [key=value …]`.

Its foreground.json can be given to `selfsup evaluate compare`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.utils import make_grid

from selfsup.data.catalogue import SPLITS
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.foreground import LEAST_PIXELS, Labeller, ShotLabeller, settings_of
from selfsup.data.foreground_labels import told
from selfsup.data.index import VideoInfo
from selfsup.data.sampling import UniformSampler
from selfsup.data.true_masks import read_masks
from selfsup.data.videos import Listing, printable
from selfsup.evaluation.answers import Answers
from selfsup.evaluation.figure import Figure, figure_of
from selfsup.evaluation.foreground import (
    LEAST_FRAMES,
    MaskedVideo,
    Score,
    constant_masks,
    read_masked,
    region_similarity,
    score,
)
from selfsup.evaluation.report import to_markdown, write_figures
from selfsup.records import foreground_protocol, names_of
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence, tell_notes

SHOWN = 30  # videos in the terminal; the files have all
PICTURES = 10  # videos of which a frame is shown
PICTURE_PIXELS = 160  # height of a frame


@dataclass
class Row:
    """One way to find foreground: a labeller, or a constant that looks at nothing; and J of each video."""

    name: str
    labeller: Labeller | None = None
    similarities: list[float] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return sum(score.frames for score in self.scores)

    @property
    def cpu_seconds_a_frame(self) -> float:
        return sum(score.cpu_seconds for score in self.scores) / max(1, self.frames)

    @property
    def rejected(self) -> dict[str, int]:
        """How many frames, by reason, the most frequent first."""
        total: Counter[str] = Counter()
        for one in self.scores:
            total.update({reason.value: count for reason, count in one.rejected.items()})
        return dict(total.most_common())


@dataclass(frozen=True)
class Chosen:
    """The videos that are measured on, with their names and groups; see `names_of` and `groups_of`."""

    infos: list[VideoInfo]
    names: list[str]
    groups: tuple[str, ...] | None

    @property
    def shown(self) -> list[str]:
        return [str(Path(name).with_suffix("")) for name in self.names]


def evaluate_foreground(config: DictConfig, folder: Path) -> list[Figure]:
    """Writes foreground.json, foreground.md, foreground.png and left_out.json into `folder`, and prints the table."""
    check_complete(config)
    check_settings(config)
    console = Console(markup=False, highlight=False)
    torch.set_num_threads(1)  # threads that wait for one another would be counted as work
    rows = rows_of(config)
    check_lengths(rows, config.max_frames)
    data, splits = read_data(config)
    tell_notes(console, data)
    data.catalogue.write_left_out(folder / "left_out.json")
    videos = chosen(data, splits)
    picture = measure(rows, videos, config)
    figures = figures_of(rows, videos, config, data)
    labellers = [
        {
            "name": row.name,
            "cpu_seconds_a_frame": row.cpu_seconds_a_frame,
            "frames": row.frames,
            "rejected": row.rejected,
        }
        for row in rows
        if row.labeller is not None
    ]
    write_figures(folder / "foreground.json", figures, {"labellers": labellers})
    F.to_pil_image(picture).save(folder / "foreground.png")
    text = f"{markdown(table_of(rows, figures, videos.shown))}\n{to_markdown(figures)}\n{rejections(rows)}"
    (folder / "foreground.md").write_text(text, encoding="utf-8")
    print_table(table_of(rows, figures, videos.shown, SHOWN), console)
    console.print(rejections(rows), end="", soft_wrap=True)
    console.print(f"run folder: {folder}", soft_wrap=True)
    return figures


def check_settings(config: DictConfig) -> None:
    """ValueError for a value out of its bounds."""
    if config.split is not None and config.split not in SPLITS:
        raise ValueError(f"split={config.split}: choose one of {', '.join(SPLITS)}, or null for all videos")
    if config.max_frames is not None and config.max_frames < LEAST_FRAMES:
        raise ValueError(
            f"max_frames={config.max_frames}: J leaves out the first and the last; give 3 or more, or null"
        )
    if config.short_side_pixels < LEAST_PIXELS:
        raise ValueError(f"short_side_pixels={config.short_side_pixels}: give {LEAST_PIXELS} or more")
    if not 0 <= config.threshold < 1:
        raise ValueError(f"threshold={config.threshold}: give 0 or more, and less than 1")


def check_lengths(rows: Sequence[Row], max_frames: int | None) -> None:
    """ValueError where a labeller would reject every frame, whatever it shows, and J say nothing of it."""
    for row in rows:
        if isinstance(row.labeller, ShotLabeller) and (least := row.labeller.shots.min_frames) > (max_frames or least):
            raise ValueError(
                f"max_frames={max_frames}: {row.name} rejects shots of fewer than {least} frames, and its J would be "
                f"0; give {least} or more, or null"
            )


def read_data(config: DictConfig) -> tuple[VideoDataModule, tuple[str, ...]]:
    """The videos, and the splits of them that are looked at.

    Nothing is trained here: where all are wanted, or the data name no training video, what is wanted counts as train.
    """
    make = partial(instantiate(config.data, _partial_=True), sampler=UniformSampler(1))
    asked: VideoDataModule = make()
    listing = asked.list_videos(**asked.source)
    named = {video.split for video in listing.videos if video.split is not None}
    if config.split is None or (named and "train" not in named):
        listing = as_training(listing, config.split)
        data, splits = make(videos=lambda **_: listing, fractions={"train": 1.0}), ("train",)
    else:
        data, splits = make(videos=lambda **_: listing), (config.split,)
    data.setup()
    return data, splits


def as_training(listing: Listing, split: str | None) -> Listing:
    """The videos of a split, or all, as training videos; ValueError where there is none."""
    wanted = [replace(video, split="train") for video in listing.videos if split in (None, video.split)]
    if not wanted:
        names = " and ".join(sorted({str(video.split) for video in listing.videos if video.split}))
        raise ValueError(f"split={split}: the data name {names} alone; give that, or split=null for all videos")
    return Listing(wanted, listing.notes)


def rows_of(config: DictConfig) -> list[Row]:
    """The chosen labeller first, then the baseline, where it is another one."""
    choices = HydraConfig.get().runtime.choices
    rows = [Row(choices["foreground"], instantiate(config.foreground))]
    baseline = instantiate(config.get("baseline"))  # none after ~foreground@baseline
    if baseline is not None and settings_of(baseline) != settings_of(rows[0].labeller):
        rows.append(Row(f"baseline {choices['foreground@baseline']}", baseline))
    return rows + [Row(name) for name in constant_masks((1, LEAST_PIXELS, LEAST_PIXELS))]


def chosen(data: VideoDataModule, splits: Sequence[str]) -> Chosen:
    """The videos of some splits. ValueError where there is none, or one has no true masks."""
    infos = [info for name in splits for info in data.videos[name]]
    if not infos:
        raise ValueError(f"split={splits[0]}: no video is in it; name its videos, or give split=null for all")
    if lacking := [info.path for info in infos if read_masks(info.path) is None]:
        raise ValueError(
            f"{len(lacking)} of {len(infos)} videos have no true masks, the first is {printable(lacking[0])}; give "
            "data=davis or data=synthetic"
        )
    names = [name for one in splits for name in names_of(data, one, range(len(data.videos[one])))]
    groups = tuple(printable(group) for name in splits for group in data.catalogue.groups[name])
    return Chosen(infos, names, groups if data.catalogue.grouped and len(set(groups)) > 1 else None)


def measure(rows: Sequence[Row], videos: Chosen, config: DictConfig) -> Tensor:
    """Fills the rows; a picture, uint8 (3, H, W): on each line a frame, its truth and the first labeller's mask."""
    pictures: list[Tensor] = []
    size: list[int] = []
    for info in track(videos.infos, "labelling videos", transient=True):
        video = read_masked(info.path, config.short_side_pixels, config.max_frames)
        constants = constant_masks(video.truth.shape)
        for row in rows:
            if row.labeller is None:
                row.similarities.append(region_similarity(constants[row.name], video.truth))
                continue
            try:
                row.scores.append(score(row.labeller, video, config.threshold))
            except ValueError as error:
                raise ValueError(f"{printable(info.path)}: {error}") from error
            row.similarities.append(row.scores[-1].similarity)
        size = size or [PICTURE_PIXELS, round(PICTURE_PIXELS * video.truth.shape[2] / video.truth.shape[1])]
        if len(pictures) < 3 * PICTURES:
            pictures += drawn(video, rows[0].scores[-1].picture, size)
    return (make_grid(torch.stack(pictures), nrow=3) * 255).round().byte()


def drawn(video: MaskedVideo, mask: Tensor, size: list[int]) -> list[Tensor]:
    """The frame in the middle, its truth and its mask, float (3, H, W) in [0, 1] of one size."""
    middle = len(video.frames) // 2
    truth = torch.from_numpy(video.truth[middle]).float()
    images = [video.frames[middle].float() / 255, truth.expand(3, -1, -1), mask.expand(3, -1, -1)]
    return [F.resize(image, size, antialias=True).clamp(0, 1) for image in images]


def figures_of(rows: Sequence[Row], videos: Chosen, config: DictConfig, data: VideoDataModule) -> list[Figure]:
    """J of each row with its interval over videos, or their groups; what the best constant gets is a labeller's chance.

    The chosen labeller's is named J alone, so that those of two runs compare.
    """
    guess = max(float(np.mean(row.similarities)) for row in rows if row.labeller is None)
    figures = []
    for number, row in enumerate(rows):
        labeller = None if row.labeller is None else json.loads(settings_of(row.labeller))
        protocol = foreground_protocol(config, data, len(videos.infos), {"row": row.name, "labeller": labeller})
        answers = Answers(tuple(videos.names), tuple(row.similarities), videos.groups)
        name, chance = f"J, {row.name}" if number else "J", None if row.labeller is None else guess
        if len(videos.infos) > 1:
            figures.append(figure_of(name, answers, chance, protocol))
        else:  # nothing to draw among
            figures.append(Figure(name, row.similarities[0], None, chance, protocol, answers))
    return figures


def table_of(
    rows: Sequence[Row], figures: Sequence[Figure], names: Sequence[str], most: int | None = None
) -> list[list[str]]:
    """Lines of cells, the first the header: J in percent of each video, of at most `most` videos, and of all."""
    lines = [["J, %", *(row.name for row in rows)]]
    if most is None or len(names) <= most:
        columns = [row.similarities for row in rows]
        lines += [
            [name, *(f"{100 * value:.1f}" for value in line)] for name, *line in zip(names, *columns, strict=True)
        ]
    lines.append(["mean", *(f"{100 * figure.value:.1f}" for figure in figures)])
    bounds = [figure.interval for figure in figures]
    lines.append(["95 % interval", *(f"{100 * of.low:.1f} – {100 * of.high:.1f}" if of else "" for of in bounds)])
    lines.append(["CPU seconds a frame", *(f"{row.cpu_seconds_a_frame:.3f}" if row.labeller else "" for row in rows)])
    rejected = [f"{sum(row.rejected.values())} of {row.frames}" if row.labeller else "" for row in rows]
    return [*lines, ["frames rejected", *rejected]]


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table of these cells."""
    header, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([header, "|---|" + "---:|" * (len(lines[0]) - 1), *rest]) + "\n"


def rejections(rows: Sequence[Row]) -> str:
    """A sentence a labeller that rejects, each on its line."""
    return "".join(f"{row.name} rejected {told(row.rejected)}\n" for row in rows if row.rejected)


def print_table(lines: Sequence[Sequence[str]], console: Console) -> None:
    """The table that ends an evaluation."""
    table = Table(title="foreground")
    for number, title in enumerate(lines[0]):
        table.add_column(title, justify="right" if number else "left")
    for line in lines[1:]:
        table.add_row(*line)
    console.print(table)


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="evaluate_foreground")
def main(config: DictConfig) -> None:
    """Entry point; see `in_one_sentence` for how it ends."""
    with in_one_sentence():
        evaluate_foreground(config, Path(HydraConfig.get().runtime.output_dir))
