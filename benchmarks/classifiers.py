"""Classifiers side by side: `python benchmarks/classifiers.py NAME=RUN,RUN,RUN …`.

The runs of a name are its seeds. Reads their evaluation.json, and prints a Markdown table, a row a name: accuracy with
its interval, and how much is lost when the same classifier sees its test frames in another order, or one alone.
"""

import argparse
from pathlib import Path

from selfsup.evaluation.bootstrap import Interval, accuracy_interval, paired_difference
from selfsup.evaluation.figure import Figure
from selfsup.evaluation.report import averaged

CONTROLS = ("shuffled frames", "single frame")


def lost(figures: dict[str, Figure], control: str) -> Interval:
    """Accuracy less that under `control`, drawn over the same videos."""
    whole, less = figures["accuracy"].answers, figures[f"accuracy, {control}"].answers
    assert whole is not None
    assert less is not None
    if whole.videos != less.videos:
        raise ValueError("one run answered other videos under its controls; test it again")
    return paired_difference(whole.correct, less.correct)


def row(name: str, figures: dict[str, Figure]) -> str:
    """One line of the table."""
    accuracy = figures["accuracy"]
    assert accuracy.answers is not None
    interval = accuracy_interval(accuracy.answers.correct)
    seeds = " ".join(f"{100 * value:.1f}" for value in accuracy.seed_values)
    cells = [name, f"{100 * accuracy.value:.1f} ({seeds}) %", f"{100 * interval.low:.1f} – {100 * interval.high:.1f} %"]
    for control in CONTROLS:
        if f"accuracy, {control}" not in figures:  # task.controls=false
            cells.append("")
            continue
        loss = lost(figures, control)
        change, low, high = (-100 * share + 0.0 for share in (loss.estimate, loss.high, loss.low))  # never -0.0
        cells.append(f"{change:+.1f} ({low:+.1f} – {high:+.1f})")
    return "| " + " | ".join([*cells, f"{accuracy.chance:.1%}"]) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="+", help="NAME=RUN,RUN,… with the folders of the runs of one classifier")
    print("| classifier | accuracy (seeds) | 95 % over videos | shuffled frames | single frame | chance |")
    print("|---|---:|---:|---:|---:|---:|")
    for given in parser.parse_args().rows:
        name, _, runs = given.partition("=")
        print(row(name, averaged([Path(run, "evaluation.json") for run in runs.split(",")])))
