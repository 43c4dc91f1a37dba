"""`selfsup evaluate audit`: what a pretext task was solved by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import selfsup.evaluate
import selfsup.train
from selfsup.evaluate_audit import verdict
from selfsup.evaluation.answers import Answers
from selfsup.evaluation.figure import Figure, figure_of
from selfsup.evaluation.report import read_figures
from tests.verbs import Ended

Call = Callable[..., Ended]
SMALL = ("trainer=debug", "+trainer.enable_progress_bar=false", "trainer.max_epochs=1", "probe=null")
READ = ("data.size_pixels=32", "data.batch_size=4", "data.num_workers=0")
CONTROLS = ["borders masked", "grey", "re-encoded, H.264", "re-encoded, MPEG-4"]


@pytest.fixture
def taught(verb: Call, synthetic_manifest: Path, synthetic_index: Path) -> Callable[..., Path]:
    """Trains a task for two steps and gives the folder of the run."""

    def taught_(*words: str) -> Path:
        data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
        ended = verb(selfsup.train.main, *data, *READ, *SMALL, *words)
        assert ended.code == 0, ended.err
        return ended.folder

    return taught_


def audit(verb: Call, *words: str) -> Ended:
    return verb(selfsup.evaluate.main, "audit", *words, run="audit")


def test_order_cannot_be_told_of_a_static_video(verb: Call, taught: Callable[..., Path]) -> None:
    ended = audit(verb, f"run={taught()}")
    assert ended.code == 0, ended.err
    figures = {figure.name: figure for figure in read_figures(ended.folder / "audit.json")}
    assert list(figures) == ["accuracy", *(f"accuracy, {name}" for name in ["static video", *CONTROLS])]
    still = figures["accuracy, static video"]
    assert still.value == pytest.approx(0.5), "three frames that look alike get one answer in every order"
    for figure in figures.values():
        assert figure.chance == 0.5
        assert figure.protocol.videos_seen == 4
        assert f"{figure.value:.1%}" in ended.out
    verdicts = json.loads((ended.folder / "audit.json").read_text())["verdicts"]
    assert verdicts["accuracy, static video"] == "no better than chance, as it should be"
    assert "- accuracy, static video: no better than chance" in (ended.folder / "audit.md").read_text()


def test_views_that_a_still_picture_matches_are_called_a_leak(verb: Call, taught: Callable[..., Path]) -> None:
    """Of other videos than those of the run, cut as they were."""
    run = taught("task=contrastive", "task.dim=16", "task.hidden_dim=16")
    manifest = next((run / "config").glob("config.yaml")).read_text().split("manifest: ")[1].split()[0]
    ended = audit(verb, f"run={run}", "data=manifest", f"data.manifest={manifest}")
    assert ended.code == 0, ended.err
    figures = {figure.name: figure for figure in read_figures(ended.folder / "audit.json")}
    assert "two_choice, single frame of each view" in figures
    assert figures["two_choice, static video"].value == 1.0, "two equal views are nearest"
    assert "solves it without motion: 100% > chance 50%: look for a leak" in " ".join(ended.out.split())


def of(name: str, right: int, like: Figure) -> Figure:
    """A figure of 100 videos, of which so many were told."""
    videos = tuple(f"{number:02}" for number in range(100))
    answers = Answers(videos, tuple(float(number < right) for number in range(100)))
    return figure_of(name, answers, 0.5, like.protocol)


def test_verdicts(verb: Call, taught: Callable[..., Path]) -> None:
    like = read_figures(audit(verb, f"run={taught()}").folder / "audit.json")[0]
    whole = of("accuracy", 80, like)
    assert verdict(whole, whole) == ""
    assert verdict(of("accuracy", 55, like), of("accuracy", 55, like)).startswith("not above chance")
    assert verdict(of("accuracy, static video", 55, like), whole) == "no better than chance, as it should be"
    assert verdict(of("accuracy, static video", 71, like), whole) == (
        "solves it without motion: 71% > chance 50%: look for a leak"
    )
    assert verdict(of("accuracy, grey", 78, like), whole) == "holds"
    assert verdict(of("accuracy, borders masked", 60, like), whole) == "hangs on it: -20 points"


def test_what_cannot_be_audited_is_refused_in_one_sentence(
    verb: Call, taught: Callable[..., Path], tmp_path: Path
) -> None:
    ended = audit(verb, f"run={tmp_path / 'nowhere'}")
    assert ended.code == 2
    assert "no such file; give run the folder of a run" in ended.err
    run = taught("task=action_recognition", "clips.training.num_segments=2")
    ended = audit(verb, f"run={run}")
    assert ended.code == 2
    assert "a run of task=action_recognition, whose answers are not right or wrong clip by clip" in ended.err
