"""What benchmarks that learn share: a record of the seeds that have ended, and how their figures are told."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any


def recorded(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    names: Sequence[str],
    seeds: Sequence[int],
    run: Callable[[int], dict[str, Any]],
) -> list[dict[str, Any]]:
    """What `run` found for each seed; a seed that the file `options.record` holds is not run again.

    `names` are the options that figures depend on. Ends the program where the record was made with others.
    """
    settings = {name: getattr(options, name) for name in names}
    runs = json.loads(options.record.read_text(encoding="utf-8")) if options.record.exists() else {}
    if runs.setdefault("settings", settings) != settings:
        parser.error(f"{options.record} holds runs with {runs['settings']}; give another --record")
    for seed in seeds:
        if str(seed) not in runs:
            print(f"seed {seed}", file=sys.stderr, flush=True)
            runs[str(seed)] = run(seed)
            options.record.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    return [runs[str(seed)] for seed in seeds]


def spread(values: Sequence[float]) -> str:
    """ "53.9 (52.1 55.7)": the mean, and the value of each seed, in per cent."""
    return f"{100 * statistics.fmean(values):.1f} ({' '.join(f'{100 * value:.1f}' for value in values)})"
