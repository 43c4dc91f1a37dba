"""Writes a page of one run, or of several to be compared: `selfsup report RUN [RUN …] [key=value …]`.

The page is one file that opens from disk without a network.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from selfsup.reporting.run import Run, read_run
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence

PAGE = "report.html"


def report(config: DictConfig, folder: Path) -> Path:
    """Writes report.html into `folder`, prints what was missing, and returns its path."""
    check_complete(config)
    if isinstance(config.runs, str) or not config.runs:
        raise ValueError(f"runs={config.runs}: name one folder of a run or more, as in selfsup report runs/mine")
    if config.media_megabytes < 0:
        raise ValueError(f"media_megabytes={config.media_megabytes}: give 0 for a page without pictures, or more")
    if find_spec("plotly") is None:
        raise ValueError("report draws its curves with plotly, which is not installed: pip install 'selfsup[report]'")
    from selfsup.reporting.page import render, write_page  # plotly takes a second to import, and may be missing

    console = Console(markup=False, highlight=False)
    folders = [Path(run) for run in config.runs]
    runs = [read_run(path, name) for path, name in zip(folders, names(folders), strict=True)]
    path = folder / PAGE
    write_page(render(runs, round(1e6 * config.media_megabytes)), path)
    tell_remarks(runs, console)
    console.print(f"{path.stat().st_size / 1e6:.1f} MB: {path}", soft_wrap=True)
    return path


def names(folders: Sequence[Path]) -> list[str]:
    """A name a folder: what is left of their paths without what they share. ValueError where one comes twice."""
    absolute = [folder.absolute() for folder in folders]
    if len(set(absolute)) < len(absolute):
        twice = next(folder for folder in folders if absolute.count(folder.absolute()) > 1)
        raise ValueError(f"{twice}: named twice; give each run once")
    if len(absolute) == 1:
        return [absolute[0].name]
    root = os.path.commonpath([folder.parent for folder in absolute])
    return [folder.relative_to(root).as_posix() for folder in absolute]


def tell_remarks(runs: Sequence[Run], console: Console) -> None:
    """Prints what a run lacks."""
    for run in runs:
        for remark in run.remarks:
            console.print(f"  {run.name}: {remark}", soft_wrap=True)


def as_override(folders: Sequence[str]) -> str:
    """Folders, as words of the command line, in Hydra's grammar: backslashes are doubled before a quote alone."""
    escaped = []
    for name in folders:
        escaped.append(re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), name))
    quoted = ",".join(f"'{name}'" for name in escaped)
    return f"runs=[{quoted}]"


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="report")
def _main(config: DictConfig) -> None:
    with in_one_sentence():
        report(config, Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    """Entry point. Words that exist, or are no key=value, are folders."""
    folders = [word for word in sys.argv[1:] if not word.startswith("-") and ("=" not in word or Path(word).exists())]
    if folders:
        sys.argv[1:] = [as_override(folders), *(word for word in sys.argv[1:] if word not in folders)]
    _main()


if __name__ == "__main__":
    main()
