"""The page of a report: one file of HTML that needs no other and asks no network.

Whatever a run holds may have been written by strangers: names of files and of classes, notes, settings. The template
escapes all of it, and the page's own policy lets no script run but the two whose digests it names, and nothing be
fetched at all.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

import selfsup
from selfsup.reporting import tables
from selfsup.reporting.charts import curve_charts
from selfsup.reporting.media import Room, neighbours, pictures
from selfsup.reporting.run import Run

HERE = Path(__file__).parent
Result = TypeVar("Result")


def render(runs: Sequence[Run], media_bytes: int) -> str:
    """The page of some runs.

    Args:
        runs: one, or several to be compared; differences are to the first.
        media_bytes: of pictures, sounds and videos that go into the page; the page names what found no room.
    """
    room = Room(media_bytes)
    parts = [_part(run, room) for run in runs]
    charts = curve_charts(runs)
    paired, unpaired = tables.differences(runs)
    script = (HERE / "page.js").read_text(encoding="utf-8")
    library = get_plotlyjs() if charts else ""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True)
    environment.filters["digits"] = lambda value: f"{value:.4g}" if isinstance(value, float) else value
    return environment.get_template("page.html").render(
        title=", ".join(run.name for run in runs),
        version=selfsup.__version__,
        policy=_policy([library, script]),
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        library=Markup(library),
        runs=runs,
        parts=parts,
        charts=charts,
        figures=[chart.figure for chart in charts],
        closing=[row for part in parts for row in part["closing"]],
        evaluated=[run for run in runs if run.figures],
        rows=tables.figure_rows([run for run in runs if run.figures]),
        paired=paired,
        unpaired=unpaired,
        settings=tables.setting_rows(runs) if len(runs) > 1 else [],
        refused=room.refused,
    )


def _part(run: Run, room: Room) -> dict[str, Any]:
    """What the page shows of one run alone."""
    return {
        "run": run,
        "closing": _attempt(run, "summary.json", lambda: tables.closing_rows(run)),
        "retrieval": _attempt(run, "retrieval.json", lambda: tables.retrieval_rows(run)),
        "neighbours": _attempt(run, "pictures", lambda: neighbours(run.folder, room)),
        "pictures": pictures(run.folder, room),
        "protocols": tables.protocols(run),
        "reasons": tables.reasons(run),
        "told": (run.folder / "left_out.json").is_file() and not any("left_out.json" in said for said in run.remarks),
        "counts": {
            name: value
            for name, value in {**run.doctor.get("data", {}), **_counts(run)}.items()
            if isinstance(value, int | float | str)
        },
    }


def _counts(run: Run) -> dict[str, Any]:
    """Numbers of the index, as the run's summary has them."""
    data = run.summary.get("data", {})
    return {name.replace("_", " "): value for name, value in data.items() if type(value) is int}


def _attempt(run: Run, file: str, make: Callable[[], list[Result]]) -> list[Result]:
    """What `make` makes; where the file does not hold what is wanted, nothing, and a remark."""
    try:
        return make()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        run.remarks.append(f"{file} is damaged and was left out ({error})")
        return []


def _policy(scripts: Sequence[str]) -> str:
    """Nothing is fetched, and no script runs but these."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts if script]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "media-src data:; form-action 'none'; base-uri 'none'"
    )


def write_page(page: str, path: Path) -> None:
    """Writes the page; a file is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
