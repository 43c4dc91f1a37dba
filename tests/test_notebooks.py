"""Every notebook runs from top to bottom, and is kept without its outputs."""

import json
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from ipykernel.kernelspec import install
from nbclient import NotebookClient

from selfsup import weights
from selfsup.encoders.encoder import InputSpecification
from selfsup.encoders.resnet import ResNet

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def encoder_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    specification = InputSpecification(size_pixels=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), fps=None)
    weights.save(ResNet(18), path, input=specification, task="none", data={})
    return path


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS] == ["03_what_was_learned.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, encoder_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(user=False, prefix=str(tmp_path))  # the kernel of this very interpreter
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("SELFSUP_ENCODER", str(encoder_path))
    monkeypatch.setenv("SELFSUP_VIDEOS", "48")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
    pages = [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert any(page.count("data:image/gif;base64,") >= 5 for page in pages), "neighbours play in the page"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_uses_the_package_alone(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    text = "".join("".join(cell["source"]) for cell in code)
    assert "sys.path" not in text
    assert sys.prefix not in text
