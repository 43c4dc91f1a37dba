"""Labels of frames through the verbs: what a run leaves, what is refused in one sentence, and that actions are told."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selfsup import evaluate, extract, train, weights
from selfsup.data.reader import VideoReader
from selfsup.data.synthetic import write_synthetic
from selfsup.encoders.encoder import InputSpecification
from selfsup.encoders.resnet import ResNet
from selfsup.evaluation.report import compare_files, read_figures
from tests.media import write_video
from tests.verbs import Ended, Main

RECOGNISE = ("task=action_recognition", "classifier=cnn_rnn", "clips=windows")
SMALL = (
    "data=manifest",
    "data.labels=frame",
    "data.size_pixels=32",
    "data.num_workers=0",
    "data.index_processes=1",
    "data.batch_size=8",
)
TRAINED = ("trainer=debug", "+trainer.enable_progress_bar=false", "trainer.max_epochs=1")
Run = Callable[..., tuple[int, str, Path]]


Rows = list[dict[str, str]]


def rows_of(manifest: Path) -> Rows:
    """The rows of a manifest, their paths absolute."""
    with open(manifest, newline="", encoding="utf-8") as file:
        return [{**row, "path": str(manifest.parent / row["path"])} for row in csv.DictReader(file)]


def joined(rows: Rows, root: Path, counts: dict[str, int]) -> Path:
    """A table of spans: so many videos a split, each two of its `rows` of different actions, end to end."""
    draw, lines = random.Random(0), ["path,start,stop,label,split"]
    for split, count in counts.items():
        own = [row for row in rows if row["split"] == split]
        for number in range(count):
            first = draw.choice(own)
            second = draw.choice([row for row in own if row["label"] != first["label"]])
            frames = []
            for row in (first, second):
                with VideoReader(row["path"]) as video:
                    frames.append(video.frames(video.times_seconds.tolist()).permute(0, 2, 3, 1).numpy())
                    fps = round(video.fps)
            name = f"{split}/{number}.mp4"
            write_video(root / name, np.concatenate(frames), fps)
            middle, end = len(frames[0]) / fps, sum(map(len, frames)) / fps
            lines.append(f"{name},0,{middle:.3f},{first['label']},{split}")
            lines.append(f"{name},{middle:.3f},{end:.3f},{second['label']},{split}")
    (root / "spans.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "spans.csv"


@pytest.fixture(scope="module")
def spans(synthetic_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two actions; the same few videos in every split, as nothing is to be learned here."""
    train = [row for row in rows_of(synthetic_manifest) if row["split"] == "train"]
    few = [row for row in train if row["label"] in sorted({row["label"] for row in train})[:2]]
    rows = [{**row, "split": split} for row in few for split in ("train", "val", "test")]
    return joined(rows, tmp_path_factory.mktemp("joined"), {"train": 6, "val": 2, "test": 3})


@pytest.fixture
def run(spans: Path, verb: Callable[..., Ended]) -> Run:
    """Calls a verb on the spans: (exit code, what it wrote, the run's folder)."""

    def call(main: Main, *overrides: str) -> tuple[int, str, Path]:
        given = (f"data.manifest={spans}", f"data.index_cache={spans.with_name('index.jsonl')}", *SMALL, *overrides)
        code, out, err, folder = verb(main, *given)
        return code, out + err, folder

    return call


def one_sentence(result: tuple[int, str, Path], *words: str) -> None:
    code, said, _ = result
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert code == 2
    assert "Traceback" not in said
    assert all(word in line for word in words), line


def test_a_run_says_how_well_frames_are_told(run: Run) -> None:
    whole = ("trainer=cpu", "trainer.max_epochs=1", "++trainer.limit_train_batches=1", TRAINED[1])  # test all frames
    code, said, folder = run(train.main, *RECOGNISE, *whole)
    assert code == 0, said
    summary = json.loads((folder / "summary.json").read_text())
    figures = {row["figure"]: row for row in summary["figures"]}
    assert set(figures) == {"mAP", "mAP, shuffled frames", "mAP, single frame"}
    classes = summary["details"]["classes"]
    assert all(0 < row["value"] <= 1 and 0 < row["chance"] < 1 for row in figures.values())
    assert figures["mAP"]["value"] == pytest.approx(np.mean([row["average_precision"] for row in classes.values()]))
    assert figures["mAP"]["chance"] == pytest.approx(np.mean([row["chance"] for row in classes.values()]))
    assert sum(row["chance"] for row in classes.values()) == pytest.approx(1.0), "one action in each frame"
    assert summary["details"]["frames"] == summary["details"]["frames_in_all"] == 3 * 96
    assert summary["data"]["labels"] == "frame"
    assert not [note for note in summary["notes"] if "views show" in note]
    (mean_precision, *controlled) = read_figures(folder / "evaluation.json")
    assert mean_precision.name == "mAP"
    assert [figure.name for figure in controlled] == ["mAP, shuffled frames", "mAP, single frame"]
    assert mean_precision.value == pytest.approx(figures["mAP"]["value"], abs=1e-6)
    assert mean_precision.protocol.level == "frame"
    assert mean_precision.interval is not None
    assert mean_precision.interval.low <= mean_precision.value <= mean_precision.interval.high
    assert (mean_precision.interval.unit, mean_precision.interval.units) == ("video", 3)
    assert "95 % interval of the mAP" in said
    same = compare_files([folder / "evaluation.json"], [folder / "evaluation.json"])
    assert "| mAP |" in same
    assert same.count("+0.0 – +0.0 | 3 videos") == 3
    assert weights.load(folder / "encoder.safetensors").source["data"]["labels"] == "frame"  # type: ignore[index]


@pytest.mark.slow
def test_frames_may_be_skipped(run: Run) -> None:
    whole = ("trainer=cpu", "trainer.max_epochs=1", "++trainer.limit_train_batches=1", TRAINED[1])
    code, said, folder = run(train.main, *RECOGNISE, "classifier=skip_rnn", *whole)
    assert code == 0, said
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 < summary["measured"]["used_frames"] <= 1
    assert summary["details"]["frames"] == summary["details"]["frames_in_all"], "each frame has an answer"


def test_a_pretext_task_learns_from_such_videos_and_says_why_there_is_no_probe(run: Run) -> None:
    code, said, folder = run(train.main, *TRAINED)
    assert code == 0, said
    assert "no probes: frames have labels here (data.labels=frame), and a probe wants one a video" in said
    assert json.loads((folder / "summary.json").read_text())["probes"] == []


def test_what_cannot_answer_at_each_frame_is_refused(run: Run) -> None:
    result = run(train.main, "task=action_recognition", *TRAINED)
    one_sentence(result, "FramePooling answers once a clip", "classifier=cnn_rnn, or classifier.pooling=none")
    path = result[2] / "encoder.safetensors"
    specification = InputSpecification(size_pixels=32, mean=(0.5,) * 3, std=(0.2,) * 3, fps=None)
    weights.save(ResNet(18), path, input=specification, task="test", data={})
    encoder = ("encoder=pretrained", f"encoder.path={path}")
    one_sentence(run(evaluate._main, *encoder), "data.labels=frame", "whole videos", "data.labels=video")
    one_sentence(run(extract.main, *encoder), "data.labels=frame", "no spans", "task.freeze=all")


def test_a_table_that_does_not_fit_its_files_is_refused(run: Run, spans: Path) -> None:
    late = spans.with_name("late.csv")
    late.write_text(spans.read_text() + "test/0.mp4,7,9,late,test\n", encoding="utf-8")
    result = run(train.main, *RECOGNISE, *TRAINED, f"data.manifest={late}")
    one_sentence(result, "0.mp4", "'late' starts at 7 s, the video ends at 4.80 s; correct the row")
    late.write_text(spans.read_text() + "test/0.mp4,1,2,late,test\n", encoding="utf-8")
    result = run(train.main, *RECOGNISE, *TRAINED, f"data.manifest={late}")
    one_sentence(result, "the spans of the test videos name 1 classes that those of the training videos lack (late)")


@pytest.mark.slow
def test_actions_are_told_frame_by_frame(run: Run, tmp_path: Path) -> None:
    """Two actions end to end, of four: the mean average precision on unseen videos is well above chance."""
    source = write_synthetic(tmp_path / "source", videos=120, size_pixels=48, seconds=1.6, fps=10, processes=1)
    rows = [row for row in rows_of(source) if row["label"] in ("bloom", "burn", "shatter", "stack")]
    table = joined(rows, tmp_path / "joined", {"train": 60, "val": 4, "test": 20})
    code, said, folder = run(
        train.main,
        *RECOGNISE,
        f"data.manifest={table}",
        f"data.index_cache={tmp_path / 'index.jsonl'}",
        "data.size_pixels=48",
        "clips.training.num_frames=8",
        "data.clips_per_video=2",
        "trainer=cpu",
        "trainer.max_epochs=6",
        "+trainer.enable_progress_bar=false",
    )
    assert code == 0, said
    figures = {row["figure"]: row for row in json.loads((folder / "summary.json").read_text())["figures"]}
    assert figures["mAP"]["value"] > figures["mAP"]["chance"] + 0.3
