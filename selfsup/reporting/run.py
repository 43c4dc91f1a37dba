"""The folder of a run, read for a report: as much of it as is there, with a remark for what is not."""

from __future__ import annotations

import csv
import json
import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from selfsup.evaluation.figure import Figure
from selfsup.evaluation.report import read_figures

# A folder that holds one of these is that of a run.
MARKS = ("config/config.yaml", "summary.json", "metrics.csv", "evaluation.json", "foreground.json", "doctor.json")
FIGURES = ("evaluation.json", "foreground.json")
# What a verb leaves when it ends well, and what it means when that is missing.
LEFT_BY = {
    "train": {
        "metrics.csv": "no curves: the run ended before its first epoch did",
        "summary.json": "no closing table: the run has not ended, or was stopped; the same command with resume=last "
        "goes on",
        "last.ckpt": "no checkpoint: the run cannot be gone on with",
        "environment.json": "what the run was made with is not known: an older selfsup wrote it",
    },
    "evaluate": {"evaluation.json": "no figures: the evaluation has not ended, evaluate again"},
    "evaluate_foreground": {"foreground.json": "no figures: the evaluation has not ended, evaluate again"},
    "doctor": {"doctor.json": "no findings: the doctor has not ended, ask again"},
}
SUMMARY: dict[str, type] = {"data": dict, "figures": list, "probes": list, "quarantined": list}
COMMANDS = {
    "evaluate_foreground": "evaluate foreground",
    "evaluate_audio": "evaluate audio",
    "doctor": "prepare doctor",
}


@dataclass(frozen=True)
class Curve:
    """One column of metrics.csv: `values[i]` was logged at step `steps[i]`; None where it was not finite."""

    steps: tuple[int, ...]
    values: tuple[float | None, ...]


@dataclass
class Run:
    """What a folder holds; everything is empty where its file is missing or damaged, and `remarks` say so.

    Attributes:
        folder: of the run.
        name: to tell it from others on the page.
        verb: that wrote it, as "train" or "evaluate_foreground"; empty where it is not known.
        command: to run it again.
        configuration: the composed one, as YAML.
        settings: the same, flat: its values, as text, by their dotted names.
        environment: versions and machine.
        curves: by the names of metrics.csv.
        summary: of summary.json.
        figures: of evaluation.json or foreground.json.
        retrieval: of retrieval.json, by direction.
        left_out: videos that took no part.
        doctor: of doctor.json.
        log: what the run wrote into its log.
        remarks: sentences.
    """

    folder: Path
    name: str
    verb: str = ""
    command: str = ""
    configuration: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    retrieval: dict[str, Any] = field(default_factory=dict)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    doctor: dict[str, Any] = field(default_factory=dict)
    log: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def chance(self) -> dict[str, float]:
        """What an ignorant answer gets, by the names of the task's figures."""
        rows = self.summary.get("figures", [])
        return {
            row["figure"]: row["chance"] for row in rows if isinstance(row.get("chance"), float) and "figure" in row
        }


def read_run(folder: Path, name: str) -> Run:
    """Reads what is there. ValueError where the folder is none of a run."""
    check_folder(folder)
    run = Run(folder, name)
    _read_configuration(run)
    run.environment = _json(run, "environment.json", dict)
    run.summary = _json(run, "summary.json", dict, SUMMARY)
    run.retrieval = _json(run, "retrieval.json", dict)
    run.doctor = _json(run, "doctor.json", dict, {"findings": list, "data": dict})
    run.left_out = _json(run, "left_out.json", list)
    _attempt(run, "metrics.csv", lambda path: run.curves.update(read_curves(path)))
    for file in FIGURES:
        _attempt(run, file, lambda path: run.figures.extend(read_figures(path)))
    _attempt(run, f"{run.verb}.log", lambda path: setattr(run, "log", path.read_text("utf-8", "replace")))
    for file, meaning in LEFT_BY.get(run.verb, {}).items():
        if not (folder / file).exists():
            run.remarks.append(f"{file} is missing; {meaning}")
    return run


def check_folder(folder: Path) -> None:
    """ValueError where the folder is missing, is a file, or holds nothing that a run leaves."""
    if not folder.exists():
        raise ValueError(f"{folder}: no such folder; give the folder of a run, as runs/mine")
    if not folder.is_dir():
        raise ValueError(f"{folder}: a file; give the folder of the run that it lies in")
    if any((folder / mark).is_file() for mark in MARKS):
        return
    inside = sorted(path.name for path in folder.iterdir() if any((path / mark).is_file() for mark in MARKS))
    if inside:
        raise ValueError(f"{folder}: no run, but it holds {len(inside)}: {', '.join(inside[:8])}; name those")
    raise ValueError(f"{folder}: not the folder of a run, it holds none of {', '.join(MARKS)}")


def read_curves(path: Path) -> dict[str, Curve]:
    """The columns of a metrics.csv. ValueError, naming file and line, where it does not hold."""
    found: dict[str, list[tuple[int, float | None]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if "step" not in (reader.fieldnames or ()):
            raise ValueError(f"{path}: has no column step, so it is no metrics.csv of a run")
        for row in reader:
            try:
                step = int(row["step"])
                cells = {key: float(row[key]) for key in row if key not in ("step", "epoch", None) and row[key]}
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {reader.line_num}: not a row of numbers ({error})") from error
            for key, value in cells.items():
                found.setdefault(key, []).append((step, value if math.isfinite(value) else None))
    return {key: Curve(*zip(*points, strict=True)) for key, points in found.items()}


def _read_configuration(run: Run) -> None:
    def composed(path: Path) -> None:
        run.configuration = path.read_text(encoding="utf-8")
        _flatten(yaml.safe_load(run.configuration), "", run.settings)

    def command(path: Path) -> None:
        hydra = yaml.safe_load(path.read_text(encoding="utf-8"))["hydra"]
        run.verb = str(hydra["job"]["name"])
        words = [*hydra["overrides"]["task"]]
        words += [word for word in hydra["overrides"]["hydra"] if word.startswith("hydra.run.dir=")]
        run.command = f"selfsup {COMMANDS.get(run.verb, run.verb)} {shlex.join(map(str, words))}".rstrip()

    _attempt(run, "config/config.yaml", composed)
    _attempt(run, "config/hydra.yaml", command)
    if not run.command:
        run.remarks.append("config/hydra.yaml does not tell which command made this run")


def _flatten(node: Any, path: str, into: dict[str, str]) -> None:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            _flatten(value, f"{path}.{key}" if path else str(key), into)
    else:
        into[path] = json.dumps(node, ensure_ascii=False, default=str)


def _json(run: Run, file: str, kind: type, fields: dict[str, type] | None = None) -> Any:
    """The content of a file; empty where it is missing, or is damaged, which is remarked."""
    content: Any = kind()

    def read(path: Path) -> None:
        nonlocal content
        loaded = json.loads(path.read_text(encoding="utf-8"))
        parts = {"": loaded, **{name: loaded[name] for name in fields or {} if name in loaded}}
        for name, part in parts.items():
            wanted = (fields or {}).get(name, kind)
            rows = part if wanted is list else []
            if not isinstance(part, wanted) or not all(isinstance(row, dict) for row in rows):
                raise ValueError(f"{name or 'its content'} is not as selfsup writes it")
        content = loaded

    _attempt(run, file, read)
    return content


def _attempt(run: Run, file: str, read: Callable[[Path], None]) -> None:
    """Reads a file, if it is there; what is damaged is left out of the page, and remarked."""
    path = run.folder / file
    if not path.is_file():
        return
    try:
        read(path)
    except (ValueError, OSError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()).removeprefix(f"{path}: ").removeprefix(f"{path}, ")
        run.remarks.append(f"{file} is damaged and was left out ({reason or type(error).__name__})")
