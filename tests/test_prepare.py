"""The verb that makes labels: its table, what training finds of it, and what it says to bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import selfsup.prepare
import selfsup.train
from selfsup import weights
from tests.data.moving import moving_square
from tests.media import write_video
from tests.verbs import Ended

Verb = Callable[..., Ended]
LABELS = ("foreground=flow_threshold", "task=motion_segmentation", "task.sampler.labels.short_side_pixels=120")
READ = ("data=folder", "data.num_workers=0", "data.index_processes=1", "data.size_pixels=32")
SPLITS = ("data.fractions.train=0.5", "data.fractions.val=0.3")
TRAIN = ("trainer=debug", "+trainer.enable_progress_bar=false", "data.batch_size=2", "probe.num_frames=1")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Eight videos of a square that moves, a still one, and one of a single frame."""
    root = tmp_path / "videos"
    for number in range(8):
        write_video(root / f"{number}.mp4", moving_square(12 + number).permute(0, 2, 3, 1).numpy())
    write_video(root / "still.mp4", moving_square(1).expand(12, -1, -1, -1).permute(0, 2, 3, 1).numpy())
    write_video(root / "one.mp4", moving_square(1).permute(0, 2, 3, 1).numpy())
    return root


def test_labels_are_made_told_of_and_found_by_the_training(verb: Verb, videos: Path, tmp_path: Path) -> None:
    root, kept = f"data.root={videos}", f"task.sampler.labels.folder={tmp_path / 'labels'}"
    code, printed, errors, _ = verb(selfsup.prepare.main, *LABELS, *READ, *SPLITS, root, kept)
    assert code == 0, errors
    rows = {cells[1].strip(): cells[2].strip() for line in printed.splitlines() if len(cells := line.split("│")) == 4}
    assert rows["frames labelled"] == rows["of them in this run"] == str(sum(range(12, 20)) + 12)
    assert rows["fit to learn from"] == str(sum(range(12, 20)))
    assert rows["rejected: nothing moves by itself"] == "12"
    assert (rows["videos to learn from"], rows["videos left out"]) == ("8", "2")
    assert str(tmp_path / "labels") in printed
    reasons = {
        Path(row["path"]).name: row["reason"] for row in json.loads((tmp_path / "run/left_out.json").read_text())
    }
    assert reasons == {
        "still.mp4": "no frame is fit to learn from: 12 × nothing moves by itself",
        "one.mp4": "has 1 frame at 10 a second, and motion needs 2",
    }
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "labels").rglob("*.foreground")}
    assert len(before) == 9

    code, printed, errors, _ = verb(selfsup.train.main, *LABELS, *READ, *SPLITS, *TRAIN, root, kept)
    assert code == 0, errors
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "labels").rglob("*.foreground")} == before
    assert "136 frames labelled, 124 fit to learn from; rejected: 12 × nothing moves by itself" in printed
    (figure,) = json.loads((tmp_path / "run/summary.json").read_text())["figures"]
    assert figure["figure"] == "iou"
    assert 0 < figure["chance"] < 1, figure
    assert list((tmp_path / "run" / "pictures").glob("*.png"))
    assert weights.load(tmp_path / "run/encoder.safetensors")(torch.zeros(1, 3, 1, 32, 32)).shape[1] == 512


def test_one_video_is_enough(verb: Verb, videos: Path) -> None:
    for path in videos.glob("[1-9s]*.mp4"):
        path.unlink()
    (videos / "one.mp4").unlink()
    ended = verb(selfsup.prepare.main, *LABELS, *READ, f"data.root={videos}")
    assert ended.code == 0, ended.err
    assert len(list(videos.iterdir())) == 1
    assert "12 frames labelled, 12 fit to learn from" in ended.out


@pytest.mark.parametrize("task", ["temporal_order", "action_recognition"])
def test_a_task_with_nothing_to_prepare_says_so(verb: Verb, task: str) -> None:
    code, _, errors, _ = verb(selfsup.prepare.main, f"task={task}")
    assert code == 2
    assert f"error: task={task}: it learns from the videos as they are" in errors


def test_a_labeller_for_a_task_without_labels_is_refused(verb: Verb, videos: Path) -> None:
    code, _, errors, _ = verb(selfsup.train.main, "foreground=unlc", *READ, f"data.root={videos}")
    assert code == 2
    assert "error: this task learns from no labels of foreground; add task=motion_segmentation" in errors


def test_videos_in_which_nothing_moves_end_in_one_sentence(verb: Verb, videos: Path) -> None:
    for path in videos.glob("[0-9].mp4"):
        shutil.copy(videos / "still.mp4", path)
    code, _, errors, _ = verb(selfsup.prepare.main, *LABELS, *READ, f"data.root={videos}")
    assert code == 2
    assert errors.count("error:") == 1
    assert "no training video is left" in errors
