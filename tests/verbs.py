"""A command called in this process, which has imported what a new one would spend most of its time on."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
Main = Callable[[], object]


class Ended(NamedTuple):
    """How a command ended: its exit code, what it wrote, and the folder of its run."""

    code: int
    out: str
    err: str
    folder: Path


def defined(name: str, run_name: str = "benchmark") -> dict[str, Any]:
    """What one of benchmarks/ defines; it finds its neighbours as one that was started by itself does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return runpy.run_path(str(BENCHMARKS / name), run_name=run_name)


def script(name: str) -> Main:
    """One of benchmarks/, as if it were started by itself."""
    return lambda: defined(name, "__main__")


def call(main: Main, *words: str) -> int:
    """The exit code of a command that is given these words; threads are as many as before when it has ended."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "argv", ["selfsup", *words])
        try:
            main()
        except SystemExit as end:
            if isinstance(end.code, str):  # as the interpreter does
                print(end.code, file=sys.stderr)
                return 1
            return end.code or 0
        finally:
            torch.set_num_threads(threads)
    return 0
