"""The folder of a run as it is read: curves, and what is missing or damaged."""

import json
from pathlib import Path

import pytest

from selfsup.reporting.run import Curve, check_folder, read_curves, read_run

HYDRA = """hydra:
  job: {name: train}
  overrides:
    hydra: [hydra.run.dir=runs/my run, hydra.mode=RUN]
    task: [seed=1, 'task.augment=[a, b]']
"""
SUMMARY = {
    "task": "temporal_order",
    "figures": [{"figure": "accuracy", "split": "test", "value": 0.9, "chance": 0.5}],
    "probes": [],
    "quarantined": [],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole run of a training, as small as it can be."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("seed: 1\ndata:\n  root: ${oc.env:HOME}\n")
    (tmp_path / "config" / "hydra.yaml").write_text(HYDRA)
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss,val/accuracy\n0,4,0.75,\n0,9,nan,0.5\n1,19,,0.75\n")
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    (tmp_path / "left_out.json").write_text("[]")
    for name in ("last.ckpt", "environment.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_a_whole_run_is_read_without_a_remark(folder: Path) -> None:
    run = read_run(folder, "mine")
    assert run.remarks == []
    assert run.command == "selfsup train seed=1 'task.augment=[a, b]' 'hydra.run.dir=runs/my run'"
    assert run.settings == {"seed": "1", "data.root": '"${oc.env:HOME}"'}
    assert run.chance == {"accuracy": 0.5}
    assert run.curves == {
        "train/loss": Curve((4, 9), (0.75, None)),
        "val/accuracy": Curve((9, 19), (0.5, 0.75)),
    }


@pytest.mark.parametrize(
    ("name", "content", "remark"),
    [
        ("metrics.csv", None, "metrics.csv is missing; no curves"),
        (
            "metrics.csv",
            "epoch,step,train/loss\n0,4,0.7\n0,x",
            "metrics.csv is damaged and was left out (line 3: not a",
        ),
        ("metrics.csv", "a,b\n1,2\n", "metrics.csv is damaged and was left out (has no column step"),
        ("summary.json", None, "summary.json is missing; no closing table"),
        ("summary.json", json.dumps(SUMMARY)[:44], "summary.json is damaged and was left out (Unterminated string"),
        ("summary.json", '{"figures": 3}', "summary.json is damaged and was left out (figures is not as selfsup"),
        ("summary.json", '{"data": []}', "summary.json is damaged and was left out (data is not as selfsup"),
        ("summary.json", "[" * 100_000, "summary.json is damaged and was left out"),
        ("left_out.json", "[1]", "left_out.json is damaged and was left out (its content is not as"),
        ("evaluation.json", '{"format": 1', "evaluation.json is damaged and was left out (not JSON, or cut short"),
        ("config/config.yaml", "a: [", "config/config.yaml is damaged and was left out"),
        ("config/hydra.yaml", None, "config/hydra.yaml does not tell which command made this run"),
        ("config/hydra.yaml", "hydra: 3", "config/hydra.yaml is damaged and was left out"),
        ("last.ckpt", None, "last.ckpt is missing; no checkpoint: the run cannot be gone on with"),
    ],
)
def test_what_is_damaged_is_remarked_and_the_rest_is_read(
    folder: Path, name: str, content: str | None, remark: str
) -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    run = read_run(folder, "mine")
    assert any(said.startswith(remark) for said in run.remarks), run.remarks
    assert run.folder == folder
    assert bool(run.curves) == (name != "metrics.csv")


def test_a_folder_that_is_no_run_is_refused(folder: Path) -> None:
    outer = folder / "seeds"
    for seed in "01":
        (outer / seed).mkdir(parents=True)
        (outer / seed / "metrics.csv").write_text("step\n")
    with pytest.raises(ValueError, match="seeds: no run, but it holds 2: 0, 1; name those"):
        check_folder(outer)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: not the folder of a run, it holds none of config/config\.yaml, sum"):
        check_folder(folder / "empty")
    with pytest.raises(ValueError, match="nowhere: no such folder; give the folder of a run, as runs/mine"):
        check_folder(folder / "nowhere")
    with pytest.raises(ValueError, match=r"metrics\.csv: a file; give the folder of the run"):
        check_folder(folder / "metrics.csv")


def test_a_curve_that_is_no_number_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss\n0,1,0.5\n0,2,much\n")
    with pytest.raises(ValueError, match=r"metrics\.csv, line 3: not a row of numbers \(could not convert"):
        read_curves(path)
