"""Every notebook runs from top to bottom, and is kept without its outputs."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from ipykernel.kernelspec import install
from nbclient import NotebookClient

from selfsup.data.index import inspect
from selfsup.data.videos import manifest
from selfsup.evaluation.report import read_figures
from selfsup.train import main
from tests.verbs import Ended

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS] == [
        "01_one_video.ipynb",
        "02_pretext_tasks.ipynb",
        "03_what_was_learned.ipynb",
        "04_classify.ipynb",
        "05_live.ipynb",
        "06_look_and_listen.ipynb",
    ]


def outputs_of(name: str, folder: Path, patch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the cells of a notebook show when it runs in `folder`, by the kernel of this very interpreter."""
    install(user=False, prefix=str(folder))
    patch.setenv("JUPYTER_PATH", str(folder / "share" / "jupyter"))
    patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    patch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(FOLDER / name, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [{"said": output.get("text", ""), **output.get("data", {})} for output in shown]


def text_of(outputs: list[dict[str, Any]]) -> str:
    """All that the cells have printed."""
    return "".join(output.get("said", "") for output in outputs)


@pytest.fixture
def ran(synthetic_manifest: Path, synthetic_index: Path, verb: Callable[..., Ended]) -> Callable[..., Path]:
    """Trains for seconds with these overrides, and returns the folder of the run."""

    def train(*overrides: str) -> Path:
        data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
        small = ("trainer=debug", "+trainer.enable_progress_bar=false", "data.size_pixels=32", "data.num_workers=0")
        ended = verb(main, *data, *small, *overrides)
        assert ended.code == 0, ended.err
        return ended.folder

    return train


def test_one_video_is_shown_as_an_encoder_sees_it(
    synthetic_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = manifest(synthetic_manifest).videos[0].path
    monkeypatch.setenv("SELFSUP_VIDEO", str(video))
    outputs = outputs_of("01_one_video.ipynb", tmp_path, monkeypatch)
    said = text_of(outputs)
    info = inspect(video)
    assert f"{info.num_frames} frames in {info.duration_seconds:.2f} s" in said
    pictures = ["frames", "motion and draws", "draws", "augmentation", "sound"]
    assert sum("image/png" in output for output in outputs) == len(pictures)
    assert any("<audio" in output.get("text/html", "") for output in outputs)


@pytest.mark.slow
def test_a_stream_is_shown_with_what_it_saves(
    encoder_path: Path,
    synthetic_manifest: Path,
    ran: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video = manifest(synthetic_manifest).videos[0].path
    monkeypatch.setenv("SELFSUP_ENCODER", str(encoder_path))
    monkeypatch.setenv("SELFSUP_VIDEO", str(video))
    skipping = ("task=action_recognition", "classifier=skip_rnn", "clips=windows", "trainer.max_epochs=1")
    folder = ran(*skipping)
    monkeypatch.setenv("SELFSUP_CLASSIFIER", str(folder / "classifier.safetensors"))
    outputs = outputs_of("05_live.ipynb", tmp_path, monkeypatch)
    said = text_of(outputs)
    assert re.search(r"every frame +multiply-adds 100.0% +distance 0.000", said)
    assert re.search(r"every 4th +multiply-adds +2\d\.\d% +distance 0\.[0-9]*[1-9]", said)
    assert re.search(rf"SkipRnn: \d+ of {inspect(video).num_frames} frames looked at", said)
    assert "no report.png below runs" in said
    pictures = ["velocities", "cost and distance", "used frames", "answers"]
    assert sum("image/png" in output for output in outputs) == len(pictures)


@pytest.mark.slow
def test_what_was_learned_is_shown(encoder_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFSUP_ENCODER", str(encoder_path))
    monkeypatch.setenv("SELFSUP_VIDEOS", "48")
    outputs = outputs_of("03_what_was_learned.ipynb", tmp_path, monkeypatch)
    pictures = ["first filters", "maps", "along a video", "where it is strong"]
    assert sum("image/png" in output for output in outputs) == len(pictures)
    pages = [output["text/html"] for output in outputs if "text/html" in output]
    assert any(page.count("data:image/gif;base64,") >= 5 for page in pages), "neighbours play in the page"


def test_tasks_and_the_answers_of_a_run_are_shown(
    ran: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = ran("trainer.max_epochs=2")
    monkeypatch.setenv("SELFSUP_RUN", str(folder))
    outputs = outputs_of("02_pretext_tasks.ipynb", tmp_path, monkeypatch)
    assert sum("image/png" in output for output in outputs) == 2, "the questions, and the curves"


def test_the_answers_of_a_classifier_are_shown(
    ran: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recognised = ("task=action_recognition", "clips.training.num_segments=2", "trainer.max_epochs=1")
    folder = ran(*recognised)
    accuracy = read_figures(folder / "evaluation.json")[0].value
    monkeypatch.setenv("SELFSUP_RUN", str(folder))
    outputs = outputs_of("04_classify.ipynb", tmp_path, monkeypatch)
    said = text_of(outputs)
    assert f"4 test videos, {accuracy:.1%} right" in said, "as in the run's own test"
    wrong, looked_at = round(4 * (1 - accuracy)), 4
    assert sum("image/png" in output for output in outputs) == 2 + wrong + looked_at
    assert "no evaluation.md below runs" in said


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["localise", "distance"])
def test_a_run_is_looked_at_and_listened_to(
    fusion: str,
    ran: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = ("task=audio_visual", f"task.fusion={fusion}", "task.sampler.rate_hz=8000")
    folder = ran(*heard, "trainer.max_epochs=1")
    monkeypatch.setenv("SELFSUP_RUN", str(folder))
    outputs = outputs_of("06_look_and_listen.ipynb", tmp_path, monkeypatch)
    assert sum("image/png" in output for output in outputs) == (2 if fusion == "localise" else 1)
    pages = [output["text/html"] for output in outputs if "text/html" in output]
    players = [page.count("data:audio/wav;base64,") for page in pages]
    assert [count for count in players if count] == [1, 4 * 5, 4 * 5], "four queries and four neighbours each"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_uses_the_package_alone(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    text = "".join("".join(cell["source"]) for cell in code)
    assert "sys.path" not in text
    assert sys.prefix not in text
