"""Figures as a file that can be read again, and as a table that can be read by people."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from selfsup.evaluation.answers import Answers, Draws
from selfsup.evaluation.bootstrap import Interval
from selfsup.evaluation.figure import Difference, Figure, compare, mean_over_seeds
from selfsup.evaluation.protocol import Protocol, from_fields

FORMAT = 1


def write_figures(path: Path, figures: Iterable[Figure], more: Mapping[str, Any] | None = None) -> None:
    """Writes `evaluation.json`: {"format": 1, "figures": […]}; a file is there whole or not at all.

    `more` stands beside the figures, and is not read again.
    """
    text = json.dumps(
        {"format": FORMAT, "figures": [asdict(figure) for figure in figures], **(more or {})},
        indent=1,
        ensure_ascii=False,
        allow_nan=False,
    )
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_figures(path: Path) -> list[Figure]:
    """The figures of `write_figures`. ValueError, naming the file, where it is cut short or of another kind."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON, or cut short ({error}); evaluate again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("figures"), list):
        raise ValueError(f'{path}: no evaluation of format {FORMAT}; give an "evaluation.json" of this version')
    return [_figure(entry, f"{path}, figure {number}") for number, entry in enumerate(content["figures"], 1)]


def _figure(entry: Any, where: str) -> Figure:
    values = from_fields(Figure, entry, where)
    protocol = _tuples(from_fields(Protocol, values["protocol"], where))
    values["protocol"] = Protocol(**protocol)
    if values["interval"] is not None:
        values["interval"] = Interval(**from_fields(Interval, values["interval"], where))
    if values["answers"] is not None:
        kind = Draws if isinstance(values["answers"], dict) and "draws" in values["answers"] else Answers
        values["answers"] = kind(**_tuples(from_fields(kind, values["answers"], where)))
    return Figure(**_tuples(values))


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where the records have tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def to_markdown(figures: Sequence[Figure]) -> str:
    """A table with a row a figure, and below it the protocols that its last column numbers.

    Shares are shown in percent; a figure without chance and interval, as an effective rank, as it is.
    """
    protocols = list(dict.fromkeys(figure.protocol for figure in figures))
    lines = ["| figure | value | 95 % interval | chance | protocol |", "|---|---:|---:|---:|---:|"]
    for figure in figures:
        share = figure.interval is not None or figure.chance is not None
        show = _percent if share else "{:.4g}".format
        bounds = "" if figure.interval is None else f"{show(figure.interval.low)} – {show(figure.interval.high)}"
        chance = "" if figure.chance is None else show(figure.chance)
        number = protocols.index(figure.protocol) + 1
        lines.append(f"| {_cell(figure.name)} | {show(figure.value)} | {bounds} | {chance} | {number} |")
    lines += ["", *(f"{number}. {_sentence(protocol)}" for number, protocol in enumerate(protocols, 1))]
    return "\n".join(lines) + "\n"


def differences_to_markdown(differences: Sequence[Difference]) -> str:
    """A table with a row a paired difference, in points of percent, and what else the two runs differ in."""
    lines = ["| figure | A | B | A − B | 95 % interval | drawn over | protocols differ in |"]
    lines.append("|---|---:|---:|---:|---:|---:|---|")
    for row in differences:
        drawn = f"{row.interval.units} {row.interval.unit}s"
        bounds = f"{_signed(row.interval.low)} – {_signed(row.interval.high)}"
        lines.append(
            f"| {_cell(row.name)} | {_percent(row.a)} | {_percent(row.b)} | {_signed(row.interval.estimate)} "
            f"| {bounds} | {drawn} | {', '.join(row.unlike)} |"
        )
    return "\n".join(lines) + "\n"


def compare_files(first: Sequence[Path], second: Sequence[Path]) -> str:
    """The paired differences, first minus second, of the figures that both sides have, as a table in Markdown.

    Each side is one file, or one a seed, whose figures are averaged before.
    """
    others = averaged(second)
    both = [(figure, others[name]) for name, figure in averaged(first).items() if name in others]
    pairs = [(one, other) for one, other in both if one.answers is not None]
    if not pairs:
        sides = " and ".join(" ".join(map(str, side)) for side in (first, second))
        raise ValueError(f"{sides} have no figure in common; evaluate both alike")
    return differences_to_markdown([compare(one, other) for one, other in pairs])


def averaged(files: Sequence[Path]) -> dict[str, Figure]:
    """By name, the figures that all files have, averaged over the files, which are the seeds of one run."""
    of_files = [{figure.name: figure for figure in read_figures(path)} for path in files]
    names = [name for name in of_files[0] if all(name in figures for figures in of_files)]
    return {name: mean_over_seeds([figures[name] for figures in of_files]) for name in names}


def _sentence(protocol: Protocol) -> str:
    """The whole record in one line, each field by its name."""
    shown = {field.name: getattr(protocol, field.name) for field in fields(protocol)}
    shown["input_size"] = None if protocol.input_size is None else "×".join(map(str, protocol.input_size))
    shown["seeds"] = " ".join(map(str, protocol.seeds))
    return "; ".join(f"{name} {_cell('none' if value is None else str(value))}" for name, value in shown.items())


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
