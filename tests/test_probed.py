"""A training without labels is probed on labelled videos of their own, and those that cannot serve are refused."""

import csv
import json
from pathlib import Path

import pytest

from selfsup import train
from tests.verbs import call

SMALL = (
    "trainer=debug",
    "+trainer.enable_progress_bar=false",
    "trainer.max_epochs=1",
    "data.size_pixels=32",
    "data.num_workers=0",
    "data.index_processes=1",
    "data.batch_size=4",
    "pictures=null",
    "data@probe_data=manifest",
    "probe.num_frames=2",
    "probe_data.num_workers=0",
    "probe_data.index_processes=1",
)


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with open(manifest, newline="", encoding="utf-8") as file:
        return [{**row, "path": str(manifest.parent / row["path"])} for row in csv.DictReader(file)]


def written(rows: list[dict[str, str]], path: Path) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def words(manifest: Path, labelled: Path, index: Path, folder: Path) -> tuple[str, ...]:
    data = ("data=manifest", f"data.manifest={manifest}", "data.label=null", f"data.index_cache={index}")
    return (
        *SMALL,
        *data,
        f"probe_data.manifest={labelled}",
        f"probe_data.index_cache={index}",
        f"hydra.run.dir={folder}",
    )


def test_videos_without_labels_are_probed_on_others(
    synthetic_manifest: Path, synthetic_index: Path, tmp_path: Path
) -> None:
    rows = rows_of(synthetic_manifest)
    for number, row in enumerate(rows):
        row["group"] = ""
        row["label"] = ("one", "two", "three")[number % 3]
        row["split"] = ("train", "train", "val", "test")[number // 3 % 4]
    labelled = written(rows, tmp_path / "labelled.csv")
    assert call(train.main, *words(synthetic_manifest, labelled, synthetic_index, tmp_path / "run")) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row["figure"] for row in summary["probes"]] == [
        "1-NN (3 classes, test videos)",
        "linear probe (3 classes, test videos)",
    ]
    assert [row["chance"] for row in summary["probes"]] == pytest.approx([1 / 3, 1 / 3])
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        online = [row for row in csv.DictReader(file) if row["probe/1-NN"]]
    assert online
    assert all(float(row["probe/chance"]) == pytest.approx(1 / 3) for row in online)


WRONG = {
    "no label": ({"label": ""}, "have no label"),
    "one class": ({"label": "one"}, "every training video has the label 'one'"),
    "one group": ({"group": "all", "split": ""}, "cannot fill the splits"),
    "no val": ({}, "no val video"),
    "unreadable": ({}, "no training video is left"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_probed_is_refused_in_a_sentence(
    kind: str, synthetic_manifest: Path, synthetic_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, sentence = WRONG[kind]
    rows = [{**row, **change} for row in rows_of(synthetic_manifest)]
    for number, row in enumerate(rows):
        if kind == "unreadable" or (kind == "no val" and row["split"] == "val"):
            row["path"] = str(tmp_path / f"{number}.mp4")
            Path(row["path"]).write_bytes(b"no video")
    labelled = written(rows, tmp_path / "labelled.csv")
    assert call(train.main, *words(synthetic_manifest, labelled, synthetic_index, tmp_path / "run")) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("probe_data: ") or ": probe_data: " in said[-1]
    assert sentence in said[-1]
    assert "Traceback" not in "\n".join(said)
