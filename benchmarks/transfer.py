"""What pretraining gains: `python benchmarks/transfer.py --scratch RUN… --pretrained RUN… [--picture FILE.png]`.

Reads the evaluation.json of runs of task=action_recognition, three seeds of each share of the labels, and prints a
Markdown table: accuracy from scratch and from a pretrained encoder, and the paired difference with its 95 % interval.
The picture is the label-efficiency curve.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from selfsup.evaluation.bootstrap import paired_difference
from selfsup.evaluation.figure import Figure, compare, mean_over_seeds
from selfsup.evaluation.report import read_figures


def by_share(runs: Sequence[Path], name: str) -> dict[float, Figure]:
    """The figure `name` of each share of the labels, averaged over the seeds of its runs."""
    found = defaultdict(list)
    for run in runs:
        for figure in read_figures(run / "evaluation.json"):
            if figure.name == name:
                found[figure.protocol.label_fraction].append(figure)
    if not found:
        raise ValueError(f"no figure {name!r} in {len(runs)} runs; give runs of task=action_recognition")
    return {share: mean_over_seeds(figures) for share, figures in sorted(found.items())}


def table(scratch: dict[float, Figure], pretrained: dict[float, Figure]) -> str:
    """A row a share of the labels that both sides have."""
    lines = [
        "| labels | from scratch | pretrained | difference | 95 % over videos | 95 % over groups | chance |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for share in sorted(set(scratch) & set(pretrained)):
        before, after = scratch[share], pretrained[share]
        difference = compare(after, before)
        assert after.answers is not None
        assert before.answers is not None
        order = {video: row for row, video in enumerate(before.answers.videos)}
        aligned = [before.answers.correct[order[video]] for video in after.answers.videos]
        videos = paired_difference(after.answers.correct, aligned)
        over = [videos, difference.interval if difference.interval.unit == "group" else None]
        bounds = [f"{100 * one.low:+.1f} – {100 * one.high:+.1f} ({one.units})" if one else "" for one in over]
        lines.append(
            f"| {share:.0%} | {spread(before)} | {spread(after)} | {100 * difference.interval.estimate:+.1f} "
            f"| {bounds[0]} | {bounds[1]} | {before.chance:.1%} |"
        )
    return "\n".join(lines)


def spread(figure: Figure) -> str:
    """ "31.0 (29.1 32.2 31.7) %": the mean and the value of each seed."""
    values = " ".join(f"{100 * value:.1f}" for value in figure.seed_values)
    return f"{100 * figure.value:.1f} ({values}) %"


def draw(sides: dict[str, dict[float, Figure]], path: Path) -> None:
    """The label-efficiency curve: accuracy against the share of the labels, with each seed as a dot."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(5, 3.4), layout="constrained")
    axes = picture.subplots()
    for (name, side), colour in zip(sides.items(), ("C7", "C0"), strict=True):
        shares = [100 * share for share in side]
        axes.plot(shares, [100 * figure.value for figure in side.values()], color=colour, marker="o", label=name)
        for share, figure in zip(shares, side.values(), strict=True):
            axes.scatter([share] * len(figure.seed_values), [100 * v for v in figure.seed_values], s=8, color=colour)
    chance = next(iter(next(iter(sides.values())).values())).chance
    assert chance is not None
    axes.axhline(100 * chance, color="red", linewidth=1, label="chance")
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{share:.0f} %" for share in shares])
    axes.minorticks_off()
    axes.set_xlabel("share of the training labels")
    axes.set_ylabel("accuracy on test videos, %")
    axes.legend(frameon=False)
    picture.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", nargs="+", type=Path, required=True, help="folders of runs that began untrained")
    parser.add_argument("--pretrained", nargs="+", type=Path, required=True, help="of runs that began pretrained")
    parser.add_argument("--figure", default="accuracy", help="its name in evaluation.json")
    parser.add_argument("--picture", type=Path, help="where to draw the curve")
    given = parser.parse_args()
    before, after = by_share(given.scratch, given.figure), by_share(given.pretrained, given.figure)
    print(table(before, after))
    if given.picture is not None:
        draw({"from scratch": before, "pretrained": after}, given.picture)
