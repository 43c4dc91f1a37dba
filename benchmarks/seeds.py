"""Mean and spread over seeds: `python benchmarks/seeds.py RUN…` reads the summary.json of each run.

Prints a Markdown table, one row a figure: mean ± standard deviation of the learned encoder and of the encoder before
training, chance, and the paired difference where both are known.
"""

import argparse
import json
import statistics
from pathlib import Path


def spread(values: list[float]) -> str:
    """ "76.1 ± 0.8 %", or one value where there is one run."""
    mean = 100 * statistics.fmean(values)
    return f"{mean:.1f} %" if len(values) == 1 else f"{mean:.1f} ± {100 * statistics.stdev(values):.1f} %"


def table(summaries: list[dict]) -> str:
    """Markdown of runs that differ in nothing but the seed; ValueError where they do."""
    data = {json.dumps(summary["data"], sort_keys=True) for summary in summaries}
    if len(data) > 1:
        raise ValueError("the runs saw different data: " + "; ".join(sorted(data)))
    seeds = sorted(summary["seed"] for summary in summaries)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"the runs repeat seeds: {seeds}")
    lines = [
        f"| figure (seeds {', '.join(map(str, seeds))}) | before | learned | difference | chance |",
        "|---|---|---|---|---|",
    ]
    for position, row in enumerate(summaries[0]["figures"]):
        values = [summary["figures"][position]["value"] for summary in summaries]
        name = f"{summaries[0]['task']} {row['figure']} ({row['split']} videos)"
        lines.append(f"| {name} | | {spread(values)} | | {row['chance']:.1%} |")
    for position, row in enumerate(summaries[0]["probes"]):
        rows = [summary["probes"][position] for summary in summaries]
        before, learned = [one["before"] for one in rows], [one["learned"] for one in rows]
        gain = [after - first for after, first in zip(learned, before, strict=True)]
        lines.append(
            f"| {row['figure']} | {spread(before)} | {spread(learned)} | {spread(gain)} | {row['chance']:.1%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders that hold a summary.json")
    print(table([json.loads((run / "summary.json").read_text()) for run in parser.parse_args().runs]))
