"""Labels of frames: which rows are read as what, what a span is to a frame, how such videos are dealt and served."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selfsup.data import videos
from selfsup.data.catalogue import SpanCatalogue
from selfsup.data.clips import DenseClip, DenseViews
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.dataset import VideoDataset
from selfsup.data.index import inspect
from selfsup.data.labels import FrameLabels, multi_hot
from selfsup.data.listing import Span, Video
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import UniformSampler
from selfsup.data.spans import cut_spans
from selfsup.data.subsets import labelled_subset
from tests.data import barcodes
from tests.data.test_videos import touch, write
from tests.media import moving, write_video

HEADER = "path,start,stop,label"


def listed(tmp_path: Path, *rows: str, header: str = HEADER, **options: Any) -> videos.Listing:
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    return videos.manifest(write(tmp_path / "spans.csv", header, *rows), labels="frame", **options)


# --- the table


def test_rows_of_one_path_are_one_video_and_a_blank_row_is_one_without_action(tmp_path: Path) -> None:
    rows = ("a.mp4,2.5,4,jump,g1,train", "b.mp4,,,,g2,test", "./a.mp4,0,3,run,g1,train", "c.mp4,1,2,run,,")
    listing = listed(tmp_path, *rows, header=f"{HEADER},group,split")
    assert [(video.path.name, video.spans, video.group, video.split) for video in listing.videos] == [
        ("a.mp4", (Span(0.0, 3.0, "run"), Span(2.5, 4.0, "jump")), "g1", "train"),
        ("b.mp4", (), "g2", "test"),
        ("c.mp4", (Span(1.0, 2.0, "run"),), None, None),
    ]
    assert [video.classes for video in listing.videos] == [("jump", "run"), (None,), ("run",)]
    assert {video.label for video in listing.videos} == {None}
    assert listing.notes == []


def test_another_column_may_hold_the_classes_and_a_repeated_row_counts_once(tmp_path: Path) -> None:
    rows = ("a.mp4,0,1,x,run", "a.mp4,0,1.0,x,run", "b.mp4,,,x,", "b.mp4,,,x,")
    listing = listed(tmp_path, *rows, header="path,start,stop,label,verb", label="verb")
    assert [video.spans for video in listing.videos] == [(Span(0.0, 1.0, "run"),), ()]
    assert listing.notes == [f"{tmp_path / 'spans.csv'}: 2 rows repeated, read once"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.mp4,4,2,run", r"spans\.csv, line 3: 'run' stops at 2 s, not after its start at 4 s; swap them"),
        ("a.mp4,4,4,run", r"line 3: 'run' stops at 4 s, not after its start at 4 s"),
        ("a.mp4,4,,run", r"line 3: start is '4', but stop is blank; write start, stop and label, or leave all three"),
        ("a.mp4,,4,run", r"line 3: stop is '4', but start is blank; write start, stop and label"),
        ("a.mp4,1,4,", r"line 3: start is '1', but label is blank; write start, stop and label"),
        ("a.mp4,,,run", r"line 3: label is 'run', but start is blank; write start, stop and label"),
        ("a.mp4,soon,4,run", r"line 3: start is 'soon'; give seconds from the start of the video"),
        ("a.mp4,-1,4,run", r"line 3: start is '-1'; give seconds"),
        ("a.mp4,1,inf,run", r"line 3: stop is 'inf'; give seconds"),
        ("a.mp4,1,nan,run", r"line 3: stop is 'nan'; give seconds"),
        (",1,2,run", r"line 3: no path in this row"),
        ("b.mp4,,,", r"line 3: one row of b\.mp4 has an action, and another says that there is none; remove the blank"),
    ],
)
def test_a_row_that_is_no_span_is_refused(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, "b.mp4,0,1,run", row)


def test_what_the_whole_table_gets_wrong_is_refused(tmp_path: Path) -> None:
    missing = (
        r"spans\.csv: no column 'start'; its first line names.* 'path', 'label'; data\.labels=frame reads path, start"
    )
    with pytest.raises(ValueError, match=missing):
        listed(tmp_path, "a.mp4,run", header="path,label")
    with pytest.raises(ValueError, match=r"line 3: a\.mp4 is listed before with another group or split"):
        listed(tmp_path, "a.mp4,0,1,run,train", "a.mp4,2,3,run,test", header=f"{HEADER},split")
    with pytest.raises(FileNotFoundError, match=r"spans\.csv: 1 of 2 listed files are not in .*gone\.mp4 \(line 3\)"):
        listed(tmp_path, "a.mp4,0,1,run", "gone.mp4,0,1,run", "gone.mp4,2,3,run")
    with pytest.raises(ValueError, match=r"data\.labels='clip': choose one of video, frame"):
        videos.manifest(tmp_path / "spans.csv", labels="clip")


# --- spans and frames


def test_a_frame_is_in_a_span_that_has_started_and_not_stopped() -> None:
    spans = (Span(0.2, 0.4, "a"), Span(0.3, 0.5, "b"), Span(0.35, 0.45, "a"))
    target = multi_hot(spans, ["a", "b", "c"], torch.tensor([0.1, 0.2, 0.3, 0.4, 0.45, 0.5]))
    assert target.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("fps", [15, 24, 25, 29.97, 30, 59.94])
def test_times_written_with_three_decimals_mean_the_frames_that_they_were_taken_from(fps: float) -> None:
    times = torch.arange(400) / fps
    for first, last in ((1, 2), (7, 31), (100, 399)):
        span = Span(round(first / fps, 3), round(last / fps, 3), "a")
        assert multi_hot([span], ["a"], times)[:, 0].nonzero().flatten().tolist() == list(range(first, last))


@pytest.fixture(scope="module")
def barcoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 frames at uneven times, each with its number."""
    times = np.cumsum([0, *np.random.default_rng(0).choice([40, 80, 120], 39)])
    return barcodes.write(tmp_path_factory.mktemp("spans") / "a.mp4", times)


def test_an_example_tells_which_frames_it_shows_and_when(barcoded: Path) -> None:
    info = inspect(barcoded)
    with VideoReader(barcoded) as video:
        shown = video.times_seconds
        for seed in range(5):
            example = DenseClip(8)(video, info, torch.Generator().manual_seed(seed))
            numbers = [barcodes.read_number(frame) for frame in example["clip"].transpose(0, 1)]
            assert example["frame"].tolist() == numbers
            assert np.allclose(example["times_seconds"], shown[numbers])


def test_a_span_over_the_whole_video_is_a_target_of_ones(barcoded: Path) -> None:
    info = inspect(barcoded)
    known = FrameLabels([(Span(0.0, info.duration_seconds, "run"),)], ["jump", "run"])
    options = {"seed": 0, "short_side_pixels": 32, "backend": "pyav", "labels": known}
    dataset = VideoDataset([info], **options)  # type: ignore[arg-type]
    for epoch in range(5):
        example = dataset.example((epoch, 0), 0, DenseClip(16), torch.nn.Identity())
        assert isinstance(example, dict)
        assert example["label"].shape == (16, 2)
        assert example["label"].mean(dim=0).tolist() == [0, 1]


def test_an_example_that_does_not_say_when_has_no_label(barcoded: Path) -> None:
    known = FrameLabels([(Span(0.0, 1.0, "run"),)], ["run"])
    dataset = VideoDataset([inspect(barcoded)], seed=0, short_side_pixels=32, backend="pyav", labels=known)
    example = dataset.example((0, 0), 0, UniformSampler(2), torch.nn.Identity())
    assert isinstance(example, dict)
    assert "label" not in example


def test_a_span_is_cut_at_the_end_of_the_file_and_refused_beyond_it(barcoded: Path) -> None:
    info = inspect(barcoded)
    end = info.duration_seconds
    spans = (Span(0.5, 1.0, "run"), Span(1.0, end + 2, "jump"))
    cut, seconds = cut_spans(Video(barcoded, spans=spans), info)
    assert cut == (Span(0.5, 1.0, "run"), Span(1.0, end, "jump"))
    assert seconds == pytest.approx(2.0)
    assert cut_spans(Video(barcoded, spans=()), info) == ((), 0.0)
    with pytest.raises(ValueError, match=rf"a\.mp4: 'jump' starts at 1500 s, the video ends at {end:.2f} s; correct"):
        cut_spans(Video(barcoded, spans=(Span(1500, 2000, "jump"),)), info)


# --- dealt and served


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos of 2 seconds: `run` in the first second of the odd ones, `jump` in all of 0 to 5, nothing in 6."""
    root = tmp_path_factory.mktemp("frames")
    rows = [HEADER]
    for number in range(8):
        write_video(root / f"{number}.mp4", moving(20, seed=number))
        rows += [f"{number}.mp4,0,1,run"] * (number % 2)
        rows += [f"{number}.mp4,0,{'9.5' if number == 2 else '2'},jump"] * (number < 6)
        rows += [f"{number}.mp4,,,"] * (number == 6)
    return write(root / "spans.csv", *rows)


def served(table: Path, **options: Any) -> VideoDataModule:
    arguments = {
        "sampler": DenseClip(4),
        "evaluation_sampler": DenseViews(4, clips=None, every_seconds=0.2),
        "labels": "frame",
        "fractions": {"train": 0.5, "val": 0.25, "test": 0.25},
        "size_pixels": 32,
        "num_workers": 0,
        "index_processes": 1,
        "index_cache": str(table.with_name("index.jsonl")),
    }
    data = VideoDataModule(videos.manifest, manifest=str(table), **(arguments | options))
    data.setup()
    return data


def test_batches_hold_a_target_for_each_frame(table: Path) -> None:
    data = served(table)
    catalogue = data.catalogue
    assert isinstance(catalogue, SpanCatalogue)
    assert catalogue.classes() == ["jump", "run"]
    assert catalogue.notes[1:] == ["1 video with spans that stop up to 7.50 s after its last frame: cut there"]
    for loader in (data.train_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert batch["label"].shape == (len(batch["video"]), 4, 2)
            assert batch["label"].dtype == torch.float32
            split = "train" if loader.dataset is data._training.dataset else "test"  # type: ignore[union-attr]
            for row, video in enumerate(batch["video"].tolist()):
                number = int(data.videos[split][video].path.stem)
                jump = torch.full((4,), float(number < 6))
                run = (batch["frame"][row] < 10).float() * (number % 2)
                assert torch.equal(batch["label"][row], torch.stack([jump, run], dim=1))


@pytest.mark.parametrize("seed", range(3))
def test_splits_hold_every_class_in_proportion(seed: int) -> None:
    draw = np.random.default_rng(seed)
    names = [f"class{number}" for number in range(6)]
    several = [draw.choice(names, draw.integers(0, 4), replace=False).tolist() for _ in range(200)]
    listed = [
        Video(Path(f"{row}.mp4"), spans=tuple(Span(0.0, 1.0, name) for name in held))
        for row, held in enumerate(several)
    ]
    dealt = videos.split_videos(listed, seed=seed).videos
    sizes = Counter(video.split for video in dealt)
    assert all(abs(sizes[split] - count) <= 2 for split, count in {"train": 140, "val": 20, "test": 40}.items())
    whole = Counter(name for video in dealt for name in video.classes)
    for split, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        own = Counter(name for video in dealt if video.split == split for name in video.classes)
        assert all(abs(own[name] - share * count) < 3 for name, count in whole.items()), (split, own, whole)


def test_a_share_of_the_labels_keeps_every_class(table: Path) -> None:
    half = served(table, labels_fraction=0.5)
    assert isinstance(half.catalogue, SpanCatalogue)
    assert 2 <= len(half.videos["train"]) <= 3
    assert len(half.catalogue.spans["train"]) == len(half.videos["train"])
    assert half.catalogue.classes() == ["jump", "run"]


def test_a_class_that_train_lacks_leaves_the_split_without_labels(table: Path) -> None:
    rows = table.read_text().splitlines()
    splits = ["split", *("val" if row.startswith("0") else "test" if row[0] in "16" else "train" for row in rows[1:])]
    rows = [f"{row},{split}" for row, split in zip(rows, splits, strict=True)]
    new = write(table.with_name("new.csv"), *rows, "0.mp4,0,1,swim,val")
    catalogue = served(new).catalogue
    assert catalogue.known("val") is None
    assert catalogue.known("test") is not None


@pytest.mark.parametrize("seed", range(10))
def test_a_share_of_videos_of_several_classes_is_nested_holds_every_class_and_says_the_least(seed: int) -> None:
    draw = np.random.default_rng(seed)
    names = [f"class{number}" for number in range(8)]
    labels = [frozenset(draw.choice(names, draw.integers(1, 4), replace=False).tolist()) for _ in range(120)]
    groups = [f"group{video // draw.integers(2, 5)}" for video in range(120)]
    before: set[int] = set()
    for fraction in (0.1, 0.2, 0.5, 1.0):
        rows = labelled_subset(labels, groups, fraction, seed)
        assert before <= set(rows)
        assert frozenset().union(*(labels[row] for row in rows)) == set(names)
        share = Counter(name for row in rows for name in labels[row])
        whole = Counter(name for held in labels for name in held)
        assert all(abs(share[name] / len(rows) - count / 120) < 0.3 for name, count in whole.items())
        before = set(rows)
    with pytest.raises(ValueError, match=r"1 label, fewer than the \d+ that hold every class; choose") as refused:
        labelled_subset(labels, groups, 0.01, seed)
    least = float(str(refused.value).split("choose ")[1].split(" ")[0])
    assert least <= 0.07, "several classes a video: fewer videos than classes may hold them all"
    assert frozenset().union(*(labels[row] for row in labelled_subset(labels, groups, least, seed))) == set(names)
