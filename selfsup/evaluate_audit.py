"""Asks what a pretext task was solved by: `selfsup evaluate audit run=RUN [data=… data.root=…]`.

The task of the run, head and all, answers the held-out videos as they are, without motion, and without what should not
matter. A task of motion that is solved without motion has a shortcut, and the features are worth what it is worth
(arXiv 2312.13008). Its audit.json can be given to `selfsup evaluate compare`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from selfsup.data.datamodule import VideoDataModule
from selfsup.data.dataset import derive_seed, watched
from selfsup.data.degraded import BESIDE_THE_POINT, MOTIONLESS
from selfsup.evaluation.answers import Answers
from selfsup.evaluation.bootstrap import paired_difference
from selfsup.evaluation.figure import Figure, figure_of
from selfsup.evaluation.report import to_markdown, write_figures
from selfsup.precision import best_device
from selfsup.records import groups_of, names_of, whole_file_protocol
from selfsup.runs import load_data, load_task, read_run
from selfsup.tasks.action_recognition import ActionRecognition
from selfsup.tasks.audio_visual import AudioVisual
from selfsup.tasks.task import Task
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence, tell_failures

KEPT = ("size_pixels", "read_scale", "stretch", "batch_size", "evaluation_clips_per_video")  # of the run's data
FELL = 0.05  # a share lost to what should not matter, from which on it is called a leak
FIGURES = ("accuracy", "two_choice")
AS_IT_IS = ""


def evaluate_audit(config: DictConfig, folder: Path) -> list[Figure]:
    """Writes audit.json and audit.md into `folder`, and prints the table."""
    check_complete(config)
    console = Console(markup=False, highlight=False)
    pl.seed_everything(config.seed, verbose=False)
    run = Path(config.run)
    trained = read_run(run, "run")
    if (data_given := config.get("data")) is not None:  # a group that nobody chose is no key
        trained.data = as_trained(data_given, trained.data)
    task, figure = trained_task(trained, run)
    data = load_data(trained, task)
    split = data.catalogue.reported
    if len(data.videos[split]) < 2:
        raise ValueError(f"{len(data.videos[split])} {split} videos can be asked; an interval needs two or more")
    task.to(best_device())
    failures: dict[int, str] = {}
    batches = track(watched(data.held_out(split), failures), f"{split} videos", transient=True)
    answers = told(task, figure, batches, config.seed)
    tell_failures(console, data, {split: failures})
    figures = figures_of(answers, figure, task.chance[figure], trained, data, config)
    verdicts = {one.name: verdict(one, figures[0]) for one in figures}
    write_figures(folder / "audit.json", figures, {"verdicts": verdicts})
    lines = [f"- {name}: {said}" for name, said in verdicts.items() if said]
    (folder / "audit.md").write_text(to_markdown(figures) + "\n" + "\n".join(lines) + "\n", encoding="utf-8")
    print_table(figures, verdicts, console)
    console.print(f"run folder: {folder}", soft_wrap=True)
    return figures


def trained_task(config: DictConfig, run: Path) -> tuple[Task, str]:
    """The task of the run, and the name of the figure that tells how often it is right; else ValueError."""
    found = get_object(config.task._target_)  # of task=joint a function
    if isinstance(found, type) and issubclass(found, Task) and not issubclass(found, ActionRecognition | AudioVisual):
        task = load_task(config, run, found)
        if figure := next((figure for figure in FIGURES if figure in task.chance), None):
            return task, figure
    name = config.task._target_.split(".")[-2]
    raise ValueError(
        f"{run}: a run of task={name}, whose answers are not right or wrong clip by clip; an audit asks tasks that "
        f"have an accuracy against chance, such as temporal_order. The table that ended the run has the controls of "
        f"task={name}"
    )


def as_trained(data: DictConfig, before: DictConfig) -> DictConfig:
    """Other videos, cut and batched as those of the run."""
    merged: Any = OmegaConf.merge(data, {key: before[key] for key in KEPT if key in before})
    with open_dict(merged):
        merged.seed = before.seed
    return merged


@torch.inference_mode()
def told(task: Task, figure: str, batches: Any, seed: int) -> dict[str, dict[int, float]]:
    """By row and number of the video, how often the task was right, in [0, 1]."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number, batch in enumerate(batches):
        if "clip" not in batch:
            continue
        clip = batch["clip"]
        rows = {AS_IT_IS: clip}
        for name, change in {**MOTIONLESS, **BESIDE_THE_POINT}.items():
            if name != "single frame of each view" or clip.ndim == 6:
                rows[name] = change(clip)
        for name, changed in rows.items():
            torch.manual_seed(derive_seed(seed, number))  # whatever a task draws, it draws for every row
            for few in questions(task, {**batch, "clip": changed}):
                outputs = task.step({**few, "clip": task.prepare(few["clip"])})
                if figure in outputs:
                    found[name][int(few["video"][0])].append(float(outputs[figure]))
    return {name: {video: sum(v) / len(v) for video, v in of.items()} for name, of in found.items()}


def questions(task: Task, batch: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
    """A batch, cut into the smallest that the task can answer: an example, and where it needs others, the farthest."""
    examples = len(batch["clip"])
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor) and len(value) == examples}
    for first in range(examples):
        step = max(1, examples // max(task.minimum_batch, 1))
        rows = [(first + step * other) % examples for other in range(task.minimum_batch)]
        yield {name: value[rows].to(task.device) for name, value in tensors.items()}


def figures_of(
    answers: dict[str, dict[int, float]],
    figure: str,
    chance: float,
    trained: DictConfig,
    data: VideoDataModule,
    config: DictConfig,
) -> list[Figure]:
    """A figure a row, the first of the videos as they are."""
    if not answers:
        raise ValueError("no held-out video gave an answer; two of unlike videos are needed where views are compared")
    split, figures = data.catalogue.reported, []
    for name, of in answers.items():
        videos = sorted(of)
        protocol = whole_file_protocol(config, data, len(videos), {"task": trained.task})
        titled = f"{figure}, {name}" if name else figure
        correct = tuple(of[video] for video in videos)
        found = Answers(names_of(data, split, videos), correct, groups_of(data, split, videos))
        figures.append(figure_of(titled, found, chance, protocol))
    return figures


def verdict(figure: Figure, as_it_is: Figure) -> str:
    """What a row says of the task."""
    kind = figure.name.removeprefix(as_it_is.name).removeprefix(", ")
    assert figure.interval is not None
    assert figure.chance is not None
    value, chance = f"{figure.value:.0%}", f"{figure.chance:.0%}"
    if kind == AS_IT_IS:
        solved = figure.interval.low > figure.chance
        return "" if solved else "not above chance: there is nothing to audit, train longer"
    if kind in MOTIONLESS:
        if figure.interval.low > figure.chance:
            return f"solves it without motion: {value} > chance {chance}: look for a leak"
        return "no better than chance, as it should be"
    assert isinstance(figure.answers, Answers)
    assert isinstance(as_it_is.answers, Answers)
    lost = paired_difference(figure.answers.correct, as_it_is.answers.correct)
    if lost.high < 0 and lost.estimate < -FELL:
        return f"hangs on it: {100 * lost.estimate:+.0f} points"
    return "holds"


def print_table(figures: list[Figure], verdicts: dict[str, str], console: Console) -> None:
    """The table that ends an audit."""
    table = Table(title="shortcut audit")
    for column in ("figure", "value", "95 % interval", "chance", "verdict"):
        table.add_column(column, justify="left" if column in ("figure", "verdict") else "right")
    for figure in figures:
        assert figure.interval is not None
        bounds = f"{figure.interval.low:.1%} – {figure.interval.high:.1%}"
        table.add_row(figure.name, f"{figure.value:.1%}", bounds, f"{figure.chance:.1%}", verdicts[figure.name])
    console.print(table)


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="evaluate_audit")
def _main(config: DictConfig) -> None:
    with in_one_sentence():
        evaluate_audit(config, Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    """Entry point; see `in_one_sentence` for how it ends."""
    _main()


if __name__ == "__main__":
    main()
