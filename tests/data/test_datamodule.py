"""Videos in, batches out: split, indexed once, left out with a reason, and the same for any number of workers."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from selfsup.data import videos
from selfsup.data.clips import DenseClip, DenseViews
from selfsup.data.datamodule import SPLITS, VideoDataModule
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import UniformSampler
from selfsup.data.transforms import evaluation_crops
from selfsup.tasks.temporal_order import OrderSampler
from tests.media import moving, write_video

SAMPLER = OrderSampler(span_seconds=1.2, gap_seconds=0.2, reach_seconds=0.4)
Make = Callable[..., VideoDataModule]


@pytest.fixture
def make(synthetic_manifest: Path, synthetic_index: Path) -> Make:
    """A data module of the synthetic videos, whose index is at hand."""

    def build(manifest: Path = synthetic_manifest, **arguments: Any) -> VideoDataModule:
        defaults = {
            "sampler": SAMPLER,
            "size_pixels": 32,
            "batch_size": 4,
            "num_workers": 0,
            "index_cache": str(synthetic_index),
        }
        return VideoDataModule(videos.manifest, manifest=str(manifest), **(defaults | arguments))

    return build


def test_serves_batches_of_every_split(make: Make) -> None:
    data = make(clips_per_video=2, evaluation_clips_per_video=3)
    data.setup()
    assert {split: len(data.videos[split]) for split in SPLITS} == {"train": 16, "val": 4, "test": 4}
    assert data.catalogue.left_out == []
    batches = list(data.train_dataloader())
    assert [len(batch["video"]) for batch in batches] == [4] * 8
    assert sorted(torch.cat([batch["video"] for batch in batches]).tolist()) == sorted([*range(16)] * 2)
    for batch in batches:
        assert batch["clip"].shape == (4, 3, 5, 32, 32)
        assert batch["clip"].dtype == torch.uint8
        assert batch["failures"] == []
    held_out = list(data.val_dataloader())
    assert torch.cat([batch["video"] for batch in held_out]).tolist() == [*range(4)] * 3
    assert [len(batch["video"]) for batch in data.test_dataloader()] == [4, 4, 4]


def test_held_out_examples_are_the_same_each_time(make: Make) -> None:
    data = make()
    data.setup()
    first, second = list(data.val_dataloader()), list(data.val_dataloader())
    assert all(torch.equal(one["clip"], other["clip"]) for one, other in zip(first, second, strict=True))
    clips = torch.cat([batch["clip"] for batch in first])
    assert len({clip.numpy().tobytes() for clip in clips}) == len(clips)  # the clips of a video differ


def test_clips_asks_another_question_of_some_videos(make: Make) -> None:
    data = make()
    data.setup()
    batches = list(data.clips("train", UniformSampler(3), max_videos=6, seed=1))
    numbers = torch.cat([batch["video"] for batch in batches]).tolist()
    assert len(set(numbers)) == 6
    assert numbers == sorted(numbers)
    assert batches[0]["clip"].shape == (4, 3, 3, 32, 32)
    other = torch.cat([batch["video"] for batch in data.clips("train", UniformSampler(3), max_videos=6, seed=2)])
    assert other.tolist() != numbers
    whole = torch.cat([batch["video"] for batch in data.clips("train", UniformSampler(3), max_videos=100)])
    assert whole.tolist() == list(range(16))


def test_labels_groups_and_classes_belong_to_their_videos(make: Make, synthetic_manifest: Path) -> None:
    data = make()
    data.setup()
    with open(synthetic_manifest, newline="", encoding="utf-8") as file:
        rows = {synthetic_manifest.parent / row["path"]: row for row in csv.DictReader(file)}
    for split in SPLITS:
        for info, label, group in zip(
            data.videos[split], data.catalogue.labels[split], data.catalogue.groups[split], strict=True
        ):
            assert (rows[info.path]["label"], rows[info.path]["group"]) == (label, group)
            assert rows[info.path]["split"] == split
    assert data.catalogue.classes() == sorted({row["label"] for row in rows.values() if row["split"] == "train"})
    other = make(label="object")
    other.setup()
    assert other.catalogue.classes() == sorted({row["object"] for row in rows.values() if row["split"] == "train"})


def test_the_index_is_made_once(make: Make, synthetic_index: Path) -> None:
    before = synthetic_index.read_bytes()
    assert before.count(b'{"key"') == 24
    data = make()
    data.setup()
    data.setup()  # Lightning calls it for every stage
    assert synthetic_index.read_bytes() == before
    assert {split: len(data.videos[split]) for split in SPLITS} == {"train": 16, "val": 4, "test": 4}


def test_says_how_it_split(make: Make, synthetic_manifest: Path, tmp_path: Path) -> None:
    rows = synthetic_manifest.read_text().splitlines()
    names = [row.split(",") for row in rows[1:]]
    listed = tmp_path / "list.csv"
    listed.write_text(
        "path,label,group\n"
        + "".join(f"{synthetic_manifest.parent / path},{label},{group}\n" for path, label, group, *_ in names)
    )
    data = make(listed, fractions={"train": 0.5, "val": 0.25, "test": 0.25})
    data.setup()
    assert len(data.catalogue.notes) == 1
    assert data.catalogue.notes[0].startswith("no split is named: split by group, 50/25/25 %, seed 0: ")
    groups = [set(data.catalogue.groups[split]) for split in SPLITS]
    assert all(groups)
    assert sum(map(len, groups)) == len(set.union(*groups)) == 6


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two usable videos of each split; one that is too short, one cut off, one that is no video."""
    root = tmp_path_factory.mktemp("odd")
    for number, split in enumerate(["train", "train", "val", "val", "test", "test"]):
        write_video(root / split / f"{number}.mp4", moving(30, seed=number))
    write_video(root / "train" / "short.mp4", moving(3))
    whole = (root / "train" / "0.mp4").read_bytes()
    (root / "train" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "val" / "none.mp4").write_text("no video")
    return root


def of_folder(root: Path, **arguments: Any) -> VideoDataModule:
    return VideoDataModule(
        videos.folder, root=str(root), **({"sampler": SAMPLER, "index_processes": 1, "num_workers": 0} | arguments)
    )


def test_what_is_left_out_is_counted_named_and_written(odd_folder: Path, tmp_path: Path) -> None:
    data = of_folder(odd_folder)
    data.setup()
    cache = Path(os.environ["SELFSUP_CACHE"])  # where the index lies by default
    assert any(str(odd_folder) in file.read_text() for file in (cache / "index").glob("*.jsonl"))
    assert {split: len(data.videos[split]) for split in SPLITS} == {"train": 2, "val": 2, "test": 2}
    unreadable = "cannot be opened as a video (Invalid data found when processing input)"
    short = "too short for temporal order: 3 frames, at least 5 are needed"
    assert data.catalogue.notes[-1] == f"left out 3 of 9 videos: 2 × {unreadable}; 1 × {short}"
    data.catalogue.write_left_out(tmp_path / "left_out.json")
    rows = json.loads((tmp_path / "left_out.json").read_text(encoding="utf-8"))
    assert {(Path(row["path"]).name, row["split"], row["reason"]) for row in rows} == {
        ("short.mp4", "train", short),
        ("cut.mp4", "train", unreadable),
        ("none.mp4", "val", unreadable),
    }
    assert data.catalogue.classes() == []  # no labels in this folder
    assert data.description() == {
        "root": str(odd_folder),
        "train_videos": 2,
        "val_videos": 2,
        "test_videos": 2,
        "left_out": 3,
    }


def test_where_no_training_video_is_left_one_sentence_says_why_each_time(odd_folder: Path) -> None:
    data = of_folder(odd_folder, sampler=OrderSampler(minimum_seconds=60))
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"no training video is left of 4.*train/0\.mp4.*task\.sampler\.minimum_seconds=60"
        ):
            data.setup()


def test_a_video_that_breaks_after_indexing_is_a_failure_in_its_batch(make: Make, synthetic_copy: Path) -> None:
    data = make(synthetic_copy, index_cache=str(synthetic_copy.with_name("index.jsonl")))
    data.setup()
    victim = 5
    path = data.videos["train"][victim].path
    path.write_bytes(b"\0" * 1000)
    batches = list(data.train_dataloader())
    failures = [failure for batch in batches for failure in batch["failures"]]
    assert [failure.video for failure in failures] == [victim]
    assert str(path) in failures[0].reason
    read = torch.cat([batch["video"] for batch in batches]).tolist()
    assert sorted(read) == [number for number in range(16) if number != victim]  # nothing took its place


@pytest.mark.parametrize(
    ("name", "value"), [("num_workers", -1), ("num_workers", "many"), ("index_processes", 0), ("num_workers", 1.5)]
)
def test_a_number_of_processes_that_is_none_is_refused(make: Make, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"data.{name}={value!r}: give 'auto' or a whole number of at least"):
        make(**{name: value})


def test_auto_leaves_a_core_to_the_training(make: Make) -> None:
    data = make(num_workers="auto", index_processes="auto")
    assert 1 <= data.num_workers <= 8
    assert 1 <= data.index_processes <= 8


def test_stretched_frames_are_read_at_the_size_of_the_square(make: Make) -> None:
    assert make(size_pixels=64, read_scale=1.25).short_side_pixels == 80
    assert make(size_pixels=64, read_scale=1.25, stretch=True).short_side_pixels == 64


def test_train_and_held_out_share_no_chance(make: Make) -> None:
    data = make()
    data.setup()
    seeds = {data._dataset(split, data.train_crop).seed for split in SPLITS}
    assert len(seeds) == 3


def test_every_view_of_a_held_out_video_is_served_once(make: Make) -> None:
    views = DenseViews(num_frames=4, clips=3)
    data = make(sampler=DenseClip(4), evaluation_sampler=views, evaluation_crops=3)
    data.setup()
    batches = list(data.val_dataloader())
    numbers = torch.cat([batch["video"] for batch in batches])
    assert numbers.bincount().tolist() == [9] * 4
    labels = data.catalogue.labels["val"]
    for number, label in zip(numbers.tolist(), torch.cat([batch["label"] for batch in batches]).tolist(), strict=True):
        assert data.catalogue.classes()[label] == labels[number]
    clips = torch.cat([batch["clip"] for batch in batches])
    assert clips.shape == (36, 3, 4, 32, 32)
    for number, info in enumerate(data.videos["val"]):
        with VideoReader(info.path, short_side_pixels=37) as video:
            expected = [
                crop(clip(video, info, torch.Generator())["clip"].transpose(0, 1)).transpose(0, 1)
                for clip in views.views(info)
                for crop in evaluation_crops(32, stretch=False, crops=3)
            ]
        assert torch.equal(clips[numbers == number], torch.stack(expected))


def test_views_are_shared_out_over_processes(make: Make) -> None:
    class Place:
        world_size = 2

        def __init__(self, rank: int) -> None:
            self.global_rank = rank

    shown = []
    for rank in range(2):
        data = make(sampler=DenseClip(4), evaluation_sampler=DenseViews(num_frames=4, clips=3))
        data.trainer = Place(rank)  # type: ignore[assignment]
        data.setup()
        shown.append(torch.cat([batch["video"] for batch in data.test_dataloader()]))
    assert [len(part) for part in shown] == [6, 6]
    assert torch.cat(shown).bincount().tolist() == [3] * 4


def test_fewer_labels_are_nested_and_the_run_says_so(make: Make) -> None:
    kept = []
    for fraction in (0.5, 0.75, 1.0):
        data = make(labels_fraction=fraction)
        data.setup()
        kept.append({info.path for info in data.videos["train"]})
        assert len(data.catalogue.labels["train"]) == len(data.catalogue.groups["train"]) == len(kept[-1])
        said = [note for note in data.catalogue.notes if "labels_fraction" in note]
        assert said == (
            [] if fraction == 1 else [f"data.labels_fraction={fraction:g}: {len(kept[-1])} of 16 training videos"]
        )
        assert len(data.videos["test"]) == 4
    assert kept[0] < kept[1] < kept[2]


def test_crops_that_make_no_sense_are_refused(make: Make) -> None:
    for settings in ({"evaluation_crops": 2}, {"evaluation_crops": 3, "stretch": True}):
        with pytest.raises(ValueError, match=r"data.evaluation_crops=\d: give 1 or 3, and 1 where data.stretch=true"):
            make(**settings)
