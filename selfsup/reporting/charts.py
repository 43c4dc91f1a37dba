"""Curves of one run or of several, as figures that Plotly draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from selfsup.reporting.run import Curve, Run

COLOURS = ("#3b82f6", "#e8820c", "#12a150", "#e5484d", "#a855f7", "#0d9ba8", "#d6409f", "#7c8a12")
DASHES = {"train": "dot", "val": "solid", "test": "dash"}
MOST_MARKERS = 60  # more points than these are drawn as a line alone


@dataclass(frozen=True)
class Chart:
    """One metric: its title, Plotly's figure as plain data, and a table of what the curves begin and end with."""

    title: str
    figure: dict[str, Any]
    rows: list[dict[str, Any]]


def curve_charts(runs: Sequence[Run]) -> list[Chart]:
    """A chart a metric, its splits and the runs in one: what has a chance first, then loss and learning rate."""
    metrics: dict[str, list[tuple[Run, str, Curve]]] = {}
    for run in runs:
        for key, curve in run.curves.items():
            split, _, metric = key.rpartition("/")
            # What is measured once, at the end, is in the closing table; chance is a line among the probe's curves.
            if split != "test" and key != "probe/chance":
                metrics.setdefault(metric, []).append((run, split, curve))
    chances = {metric for run in runs for metric in run.chance}

    def place(metric: str) -> tuple[int, str]:
        first = (metric in chances, metric == "loss", metric.startswith("lr"), True)
        return first.index(True), metric

    return [_chart(metric, metrics[metric], runs) for metric in sorted(metrics, key=place)]


def _chart(metric: str, lines: Sequence[tuple[Run, str, Curve]], runs: Sequence[Run]) -> Chart:
    figure = go.Figure()
    rows = []
    splits = list(dict.fromkeys(split for _, split, _ in lines))
    for run, split, curve in lines:
        place = runs.index(run) if len(runs) > 1 else splits.index(split)
        name = ", ".join(filter(None, [run.name if len(runs) > 1 else "", split])) or metric
        figure.add_scatter(
            x=curve.steps,
            y=curve.values,
            name=_plain(name),
            mode="lines+markers" if len(curve.steps) <= MOST_MARKERS else "lines",
            line={"color": COLOURS[place % len(COLOURS)], "dash": DASHES.get(split, "solid"), "width": 2},
            marker={"size": 5},
            hovertemplate="step %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
        )
        finite = [value for value in curve.values if value is not None]
        if finite:
            row = {"line": name, "points": len(finite), "first": finite[0], "last": finite[-1]}
            rows.append({**row, "least": min(finite), "most": max(finite)})
    for chance in sorted({chance for run, split, _ in lines for chance in _chances(run, split, metric)}):
        figure.add_hline(
            y=chance,
            line={"dash": "longdash", "width": 1, "color": "#e5484d"},
            annotation={"text": f"chance {chance:.3g}", "font": {"color": "#e5484d"}, "yanchor": "top"},
        )
        rows.append({"line": "chance", "points": "", **dict.fromkeys(("first", "last", "least", "most"), chance)})
    figure.update_layout(
        template="none",
        height=320,
        margin={"l": 52, "r": 12, "t": 12, "b": 44},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        xaxis={"title": {"text": "step"}},
        yaxis={"tickformat": ".4~g"},
        showlegend=True,
        hovermode="closest",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return Chart(metric, figure.to_plotly_json(), rows)


def _chances(run: Run, split: str, metric: str) -> list[float]:
    """The chance of a curve: of a probe what was logged beside it, of other metrics that of the summary; or none."""
    if split == "probe":
        logged = run.curves.get("probe/chance")
        return sorted({value for value in logged.values if value is not None}) if logged else []
    return [run.chance[metric]] if metric in run.chance else []


def _plain(name: str) -> str:
    """Plotly takes some HTML in names; one of a run has none."""
    return name.replace("&", "&amp;").replace("<", "&lt;")
