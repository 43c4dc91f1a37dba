"""Figures of one run or of several as rows of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfsup.evaluation.figure import Figure, compare
from selfsup.reporting.run import Run

ABSENT = "–"
MOST_VALUES = 120  # letters of a setting that a table shows


@dataclass(frozen=True)
class Bar:
    """A share beside its interval and chance, all in percent, to be drawn."""

    value: float
    low: float
    high: float
    chance: float | None


def figure_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row a figure of any run's evaluation: a cell a run, chance, and where there is one run, a bar."""
    by_run = [{figure.name: figure for figure in run.figures} for run in runs]
    rows = []
    for name in dict.fromkeys(name for figures in by_run for name in figures):
        found = [figures.get(name) for figures in by_run]
        present = [figure for figure in found if figure is not None]
        chances = dict.fromkeys(figure.chance for figure in present if figure.chance is not None)
        rows.append(
            {
                "name": name,
                "cells": [_cell(figure) for figure in found],
                "chance": ", ".join(percent(chance) for chance in chances),
                "bar": _bar(present[0]) if len(runs) == 1 else None,
            }
        )
    return rows


def _cell(figure: Figure | None) -> tuple[str, str]:
    """The value, and its interval."""
    if figure is None:
        return ABSENT, ""
    if figure.interval is None:
        return (percent(figure.value) if figure.chance is not None else f"{figure.value:.4g}"), ""
    return percent(figure.value), f"{percent(figure.interval.low)} to {percent(figure.interval.high)}"


def _bar(figure: Figure) -> Bar | None:
    if figure.interval is None:
        return None
    chance = None if figure.chance is None else 100 * figure.chance
    return Bar(100 * figure.value, 100 * figure.interval.low, 100 * figure.interval.high, chance)


def protocols(run: Run) -> list[str]:
    """How the figures of a run were measured, each once, in words."""
    records = dict.fromkeys(figure.protocol for figure in run.figures)
    return [
        f"{record.videos_seen} {record.split} videos of {record.dataset}, {record.videos_refused} refused, "
        f"{record.clips} clips and {record.crops} crops each, {100 * record.label_fraction:g} % of the labels, "
        f"seeds {' '.join(map(str, record.seeds))}, decoder {record.decoder} {record.decoder_version}, "
        f"commit {record.commit or 'not known'}; {record.settings}"
        for record in records
    ]


def differences(runs: Sequence[Run]) -> tuple[list[dict[str, str]], list[str]]:
    """Paired differences of every run to the first, and why some could not be had."""
    rows, reasons = [], Counter[str]()
    of_first = {figure.name: figure for figure in runs[0].figures if figure.answers is not None}
    for run in runs[1:]:
        for other in run.figures:
            if other.name not in of_first or other.answers is None:
                continue
            try:
                found = compare(other, of_first[other.name])
            except ValueError as error:
                reasons[f"{run.name}: no paired difference to {runs[0].name} ({error})"] += 1
                continue
            low, high = 100 * found.interval.low, 100 * found.interval.high
            rows.append(
                {
                    "name": found.name,
                    "runs": f"{run.name} − {runs[0].name}",
                    "difference": f"{100 * found.interval.estimate:+.1f}",
                    "interval": f"{low:+.1f} to {high:+.1f}",
                    "drawn": f"{found.interval.units} {found.interval.unit}s",
                    "unlike": ", ".join(found.unlike),
                }
            )
    return rows, [reason for reason, _ in reasons.most_common(3)]


def closing_rows(run: Run) -> list[dict[str, Any]]:
    """What ended a run: its task's figures beside chance, and the probes before and after."""
    rows = []
    for row in run.summary.get("figures", []):
        name = f"{run.summary.get('task', '')} {row['figure']} ({row['split']} videos)"
        rows.append({"run": run.name, "name": name, "before": "", **_shares(row, learned="value")})
    for row in run.summary.get("probes", []):
        rows.append({"run": run.name, "name": row["figure"], **_shares(row, before="before", learned="learned")})
    return rows


def _shares(row: dict[str, Any], **columns: str) -> dict[str, str]:
    columns["chance"] = "chance"
    return {name: "" if row[key] is None else percent(row[key]) for name, key in columns.items()}


def retrieval_rows(run: Run) -> list[dict[str, str]]:
    """Retrieval between frames and sounds, each share with its chance in brackets."""
    rows = []
    for direction, of in run.retrieval.items():
        shares = {
            name: f"{percent(of[name]['10'])} ({percent(of[f'{name}_chance']['10'])})" if "10" in of[name] else ABSENT
            for name in ("own", "recall")
        }
        ndcg = ABSENT if of["ndcg"] is None else f"{of['ndcg']:.3f} ({of['ndcg_chance']:.3f})"
        rows.append({"direction": direction, **shares, "ndcg": ndcg})
    return rows


def setting_rows(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """The settings in which runs differ, but for the folders that they were written to."""
    rows = []
    for name in sorted({name for run in runs for name in run.settings}):
        values = [run.settings.get(name, ABSENT) for run in runs]
        if len(set(values)) > 1:
            rows.append((name, [_short(value) for value in values]))
    return rows


def reasons(run: Run) -> list[tuple[str, int, list[str]]]:
    """Why videos were left out: each reason, of how many, and which."""
    found: dict[str, list[str]] = {}
    for row in run.left_out:
        found.setdefault(str(row.get("reason", "no reason given")), []).append(str(row.get("path", "")))
    return sorted(((reason, len(paths), paths) for reason, paths in found.items()), key=lambda row: -row[1])


def percent(share: float) -> str:
    """A share in [0, 1], in percent."""
    return f"{100 * share:.1f} %"


def _short(value: str) -> str:
    return value if len(value) <= MOST_VALUES else value[:MOST_VALUES] + "…"
