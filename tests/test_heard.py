"""What a run leaves of sound where some of it cannot be shown any more."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console

from selfsup.data.index import inspect
from selfsup.heard import write_retrieval
from selfsup.tasks.correspondence import alike
from selfsup.tasks.fusion import Distance
from tests.data import barcodes


def test_figures_are_kept_where_a_video_is_gone(tmp_path: Path) -> None:
    info = inspect(barcodes.write_sound(tmp_path / "a.mkv", np.full((1, 16000), 0.5), 8000))
    infos = [info, replace(info, path=tmp_path / "gone.mkv")]
    torch.manual_seed(0)
    found = torch.tensor([0, 1]), torch.zeros(2, 2), alike(Distance(4, 4, 4), torch.randn(2, 4), torch.randn(2, 4))
    task: Any = SimpleNamespace(held_out={"videos": found[0]}, similarities=lambda: found)
    catalogue = SimpleNamespace(reported="test", labels={"test": [None, None]})
    data: Any = SimpleNamespace(catalogue=catalogue, videos={"test": infos})
    config = OmegaConf.create({"task": {"sampler": {"sound_seconds": 1.0, "rate_hz": 8000}}})
    console = Console(record=True, width=200)
    write_retrieval(task, data, config, tmp_path, console)
    assert (tmp_path / "retrieval.json").exists()
    printed = console.export_text()
    assert "no pictures of retrieval: " in printed
    assert "gone.mkv" in printed
    assert not (tmp_path / "pictures" / "retrieval" / "index.html").exists()
