"""The fair table of the tasks: it teaches, measures and fine-tunes each, and does nothing twice."""

from collections.abc import Callable
from pathlib import Path

import pytest

from selfsup.evaluation.report import read_figures
from tests.verbs import Ended, script

SETTINGS = """
encoder: resnet18
data: [data.size_pixels=32, data.batch_size=4, data.index_processes=1]
tasks: {arrow_of_time: [task.sampler.num_frames=4], contrastive: []}
evaluate: [clips.training.num_segments=2]
classify: [task=action_recognition, clips.training.num_segments=2]
epochs: 1
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A file of settings, small ones."""
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS, encoding="utf-8")
    return path


def test_a_task_that_the_settings_lack_is_named(command: Callable[..., Ended], tmp_path: Path, settings: Path) -> None:
    ended = command(script("tasks.py"), str(settings), str(tmp_path / "runs"), "data=synthetic", "--tasks", "joint")
    assert ended.code == 2
    assert "has no joint; it has arrow_of_time, contrastive" in ended.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_each_task_is_measured_alike_and_once(
    command: Callable[..., Ended], tmp_path: Path, settings: Path, synthetic_manifest: Path
) -> None:
    folder = tmp_path / "runs"
    words = (str(settings), str(folder), "data=manifest", f"data.manifest={synthetic_manifest}", "--fractions", "1.0")
    small = ("--seeds", "0", "--minutes", "0.02")
    ended = command(script("tasks.py"), *words, *small)
    assert ended.code == 0, ended.err
    rows = [[cell.strip("|` ") for cell in line.split(" | ")] for line in ended.out.splitlines()]
    assert [row[0] for row in rows[2:]] == ["untrained, scratch", "arrow_of_time", "contrastive", "chance"]
    found = {row[0]: row for row in rows}
    figures = {
        figure.name: figure for figure in read_figures(folder / "contrastive" / "0" / "measured" / "evaluation.json")
    }
    assert found["contrastive"][5].startswith(f"{100 * figures['linear probe'].value:.1f} (")
    assert found["untrained, scratch"][5].startswith(f"{100 * figures['linear probe, untrained encoder'].value:.1f} (")
    again = command(script("tasks.py"), *words, *small)
    assert again.out == ended.out
    assert "selfsup.train" not in again.err
    other = command(script("tasks.py"), *words, "--seeds", "0", "--minutes", "1")
    assert other.code == 2
    assert "give another folder" in other.err
