"""A fair table of the pretext tasks: `python benchmarks/tasks.py SETTINGS.yaml FOLDER data=… [--minutes 20]`.

Every task teaches the same encoder on the same videos for the same time, and is measured alike. The time is CPU time of
one thread, decoding included: a few steps of each task are timed first, and then it gets as many as fit, with its
schedule drawn over them. `selfsup evaluate` reads what the frozen encoder knows beside an untrained one, and
`task=action_recognition` fine-tunes it on shares of the labels beside the same network from scratch. Hyper-parameters
stand in SETTINGS.yaml (see benchmarks/tasks/), and none is chosen by the test videos.

Prints a Markdown table: the mean over seeds, and paired differences with their 95 % interval over videos. What FOLDER
holds already is not done again, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from seed_record import spread

from selfsup.evaluation.bootstrap import Interval, paired_difference
from selfsup.evaluation.figure import Figure, mean_over_seeds
from selfsup.evaluation.report import read_figures

SCRATCH = "scratch"  # in place of a task: no pretraining
FEW, MANY = 4, 14  # steps of the two runs whose difference is timed
PROBE, NEAREST = "linear probe", "k-NN"
UNTRAINED = ", untrained encoder"


class Table:
    """The runs of one table.

    Args:
        settings: of the file: words of the command line, see benchmarks/tasks/.
        folder: of the runs, FOLDER/TASK/SEED/….
        data: words that name the videos.
        minutes: CPU time of a pretraining.
        fractions: shares of the labels.
    """

    def __init__(
        self, settings: dict[str, Any], folder: Path, data: Sequence[str], minutes: float, fractions: Sequence[float]
    ) -> None:
        self.settings, self.folder, self.minutes, self.fractions = settings, folder, minutes, fractions
        self.common = [*data, *settings["data"], "data.num_workers=0"]

    def seconds_of_a_step(self, task: str) -> float:
        """CPU seconds of one training step, by the difference of two short runs."""
        kept = self.folder / task / "step.json"
        if not kept.exists():
            took = []
            for steps in (FEW, MANY):
                taught = self.folder / task / "timed"
                took.append(
                    run("selfsup.train", taught, *self.pretraining(task, steps), "+trainer.limit_test_batches=1")
                )
                shutil.rmtree(taught)
            kept.write_text(json.dumps({"seconds": (took[1] - took[0]) / (MANY - FEW)}), encoding="utf-8")
        return float(json.loads(kept.read_text(encoding="utf-8"))["seconds"])

    def pretraining(self, task: str, steps: int, seed: int = 0) -> list[str]:
        """The words of a pretraining."""
        encoder = [f"encoder={self.settings['encoder']}"]
        length = ["trainer.max_epochs=-1", f"+trainer.max_steps={steps}", "+trainer.limit_val_batches=0"]
        return [
            f"task={task}",
            *encoder,
            *self.common,
            *self.settings["tasks"][task],
            *length,
            f"seed={seed}",
            "probe=null",
        ]

    def fill(self, task: str, seed: int) -> None:
        """Teaches and measures one encoder, as far as that was not done."""
        folder = self.folder / task / str(seed)
        encoder = [f"encoder={self.settings['encoder']}"]
        if task != SCRATCH:
            steps = max(1, round(60 * self.minutes / self.seconds_of_a_step(task)))
            taught, measured = folder / "taught", folder / "measured"
            once("selfsup.train", taught, "summary.json", *self.pretraining(task, steps, seed))
            encoder = ["encoder=pretrained", f"encoder.path={taught / 'encoder.safetensors'}"]
            how = [*self.settings["evaluate"], f"seed={seed}", "finetune_fractions=null"]
            once("selfsup.evaluate", measured, "evaluation.json", *encoder[1:], *self.common, *how)
        for fraction in self.fractions:
            how = [*self.settings["classify"], f"data.labels_fraction={fraction}", f"seed={seed}"]
            length = f"trainer.max_epochs={round(self.settings['epochs'] / max(fraction, 0.1))}"
            tuned = folder / f"labels-{fraction:g}"
            once("selfsup.train", tuned, "evaluation.json", *self.common, *how, *encoder, length)

    def tuned(self, task: str, seeds: Sequence[int], fraction: float) -> Figure:
        """Accuracy after fine-tuning, over the seeds."""
        runs = [self.folder / task / str(seed) / f"labels-{fraction:g}" for seed in seeds]
        return mean_over_seeds([named(run, "accuracy") for run in runs])

    def row(self, task: str, seeds: Sequence[int]) -> str:
        """A line of the table."""
        taught = [self.folder / task / str(seed) / "taught" for seed in seeds]
        measured = [self.folder / task / str(seed) / "measured" for seed in seeds]
        summaries = [json.loads((one / "summary.json").read_text(encoding="utf-8")) for one in taught]
        costs = [json.loads((one / "cost.json").read_text(encoding="utf-8"))["cpu_seconds"] / 60 for one in taught]
        own = ""
        if summaries[0]["figures"]:
            figure = summaries[0]["figures"][0]
            values = [summary["figures"][0]["value"] for summary in summaries]
            own = f"{spread(values)}, chance {100 * figure['chance']:.1f}"
        cells = [f"`{task}`", f"{sum(costs) / len(costs):.1f}", own]
        for name in (NEAREST, PROBE):
            after = mean_over_seeds([named(one, name) for one in measured])
            before = mean_over_seeds([named(one, name + UNTRAINED) for one in measured])
            cells += [spread(after.seed_values), told(difference(after, before))]
        for fraction in self.fractions:
            after = self.tuned(task, seeds, fraction)
            cells += [spread(after.seed_values), told(difference(after, self.tuned(SCRATCH, seeds, fraction)))]
        return f"| {' | '.join(cells)} |"

    def markdown(self, tasks: Sequence[str], seeds: Sequence[int]) -> str:
        """The whole table."""
        names = ["task", "CPU minutes", "its own figure", "1-NN", "over untrained", PROBE, "over untrained"]
        baseline = ["untrained, scratch", "", ""]
        measured = [self.folder / tasks[0] / str(seed) / "measured" for seed in seeds]
        for name in (NEAREST, PROBE):
            baseline += [spread([named(one, name + UNTRAINED).value for one in measured]), ""]
        for fraction in self.fractions:
            names += [f"{fraction:.0%} of the labels", "over scratch"]
            baseline += [spread(self.tuned(SCRATCH, seeds, fraction).seed_values), ""]
        chances = [named(measured[0], name).chance for name in (NEAREST, PROBE)]
        chances += [self.tuned(SCRATCH, seeds, fraction).chance for fraction in self.fractions]
        chance = ["chance", "", ""] + [cell for value in chances for cell in (f"{100 * (value or 0):.1f}", "")]
        lines = [names, ["---"] + ["---:"] * (len(names) - 1), baseline]
        drawn = [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([*drawn, *(self.row(task, seeds) for task in tasks), f"| {' | '.join(chance)} |"])


def run(module: str, folder: Path, *words: str) -> float:
    """CPU seconds of a command on one thread. Ends the program where it fails, and says why."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *words, f"hydra.run.dir={folder.absolute()}"]
    print(f"{folder}: {module}", file=sys.stderr, flush=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def once(module: str, folder: Path, result: str, *words: str) -> None:
    """Runs a command that ends with the file `result` in `folder`, where that is not there; cost.json says the cost."""
    if not (folder / result).exists():
        shutil.rmtree(folder, ignore_errors=True)
        seconds = run(module, folder, *words)
        (folder / "cost.json").write_text(json.dumps({"cpu_seconds": seconds}), encoding="utf-8")
        for checkpoint in folder.glob("*.ckpt"):  # three times the weights, and nothing goes on from here
            checkpoint.unlink()


def named(run: Path, name: str) -> Figure:
    """The figure of this name that a run has measured."""
    return next(figure for figure in read_figures(run / "evaluation.json") if figure.name == name)


def difference(after: Figure, before: Figure) -> Interval:
    """The paired difference over videos."""
    assert after.answers is not None
    assert before.answers is not None
    known = dict(zip(before.answers.videos, before.answers.correct, strict=True))
    return paired_difference(after.answers.correct, [known[video] for video in after.answers.videos])


def told(interval: Interval) -> str:
    """ "+1.9 (+0.7 – +3.1)", bold where the interval excludes zero."""
    text = f"{100 * interval.estimate:+.1f} ({100 * interval.low:+.1f} – {100 * interval.high:+.1f})"
    return f"**{text}**" if interval.low > 0 or interval.high < 0 else text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", type=Path, help="a file as those of benchmarks/tasks/")
    parser.add_argument("folder", type=Path, help="of the runs")
    parser.add_argument("data", nargs="+", help="words that name the videos, as data=manifest data.manifest=FILE.csv")
    parser.add_argument("--minutes", type=float, default=20, help="CPU time of a pretraining")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", help="of the file; all where left out")
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.1, 1.0], help="of the labels")
    given = parser.parse_args()
    read: Any = OmegaConf.to_container(OmegaConf.load(given.settings))
    chosen = given.tasks or list(read["tasks"])
    if unknown := [task for task in chosen if task not in read["tasks"]]:
        parser.error(f"{given.settings} has no {', '.join(unknown)}; it has {', '.join(read['tasks'])}")
    given.folder.mkdir(parents=True, exist_ok=True)
    asked = {"settings": read, "data": given.data, "minutes": given.minutes}
    record = given.folder / "table.json"
    if record.exists() and json.loads(record.read_text(encoding="utf-8")) != asked:
        parser.error(f"{given.folder} holds runs with other settings, data or minutes; give another folder")
    record.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    table = Table(read, given.folder, given.data, given.minutes, given.fractions)
    for seed in given.seeds:
        for task in (SCRATCH, *chosen):
            table.fill(task, seed)
    print(table.markdown(chosen, given.seeds))
