"""A new task is one file and one yaml: those of CONTRIBUTING.md, in a folder of their own, nothing else touched."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from selfsup import weights
from selfsup.encoders.resnet import ResNet

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
SMALL = (
    "trainer=debug trainer.max_epochs=1 data.size_pixels=32 data.batch_size=2 data.num_workers=0 data.index_processes=1"
)


def block(language: str, holding: str) -> str:
    """The one fenced block of this language that holds the words."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL) if holding in text]
    return found


def test_new_task_trains_from_two_files(tmp_path: Path, synthetic_manifest: Path) -> None:
    (tmp_path / "brightness.py").write_text(block("python", "class Brightness"), encoding="utf-8")
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "brightness.yaml").write_text(block("yaml", "Brightness"), encoding="utf-8")
    command = [sys.executable, *shlex.split(block("bash", "brightness"))[1:]]
    videos = tmp_path / "videos"
    videos.mkdir()
    for file in sorted((synthetic_manifest.parent / "videos").rglob("*.mp4"))[:10]:
        shutil.copy(file, videos)
    data = ["data=folder", "data.root=videos"]
    done = subprocess.run(
        [*command, *data, *SMALL.split(), "hydra.run.dir=run"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    run = tmp_path / "run"
    assert isinstance(weights.load(run / "encoder.safetensors"), ResNet)
    assert weights.read_metadata(run / "encoder.safetensors")["task"] == "brightness"
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    (figure,) = summary["figures"]
    assert figure["figure"] == "accuracy"
    assert figure["chance"] == 0.5
    assert "val/accuracy" in (run / "metrics.csv").read_text(encoding="utf-8").splitlines()[0]
