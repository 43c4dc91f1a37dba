"""Runs are found by what they wrote."""

import os
from pathlib import Path

import pytest

from selfsup.runs import HYDRA, newest, started_in


def test_the_newest_file_of_a_run_is_found_from_here_and_from_the_folder_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    with pytest.raises(ValueError, match=r"no encoder\.safetensors below runs.*run train\.py first"):
        newest("encoder.safetensors")
    for age, run in enumerate(("runs/first", "runs/day/second", "notebooks/runs/own")):
        path = tmp_path / run / "encoder.safetensors"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    assert newest("encoder.safetensors").resolve() == tmp_path / "runs/first/encoder.safetensors"
    os.utime(tmp_path / "notebooks/runs/own/encoder.safetensors", (2000, 2000))
    assert newest("encoder.safetensors") == Path("runs/own/encoder.safetensors")


def test_relative_paths_of_a_run_count_from_where_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, run = (tmp_path / name for name in ("here", "there", "run"))
    for folder in (here, there, (run / HYDRA).parent):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert started_in(run) == here, "nothing is known of it"
    (run / HYDRA).write_text(f"hydra:\n  runtime:\n    cwd: {there}\n", encoding="utf-8")
    assert started_in(run) == there
    there.rmdir()
    assert started_in(run) == here, "the folder is gone"
