"""Splits that never share a group."""

import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from selfsup.data.videos import Video, split_videos


def grouped(groups: int, videos_each: int, labels: int, split: str | None = None) -> list[Video]:
    """Every group has videos of one label, as the source videos of UCF101."""
    return [
        Video(Path(f"{split}/g{group:03}_c{clip}.mp4"), f"label{group % labels}", f"{split}_g{group}", split)
        for group in range(groups)
        for clip in range(videos_each)
    ]


def sizes(videos: list[Video]) -> Counter[str | None]:
    return Counter(video.split for video in videos)


def assert_groups_whole(videos: list[Video]) -> None:
    splits = defaultdict(set)
    for video in videos:
        splits[video.group or video.path].add(video.split)
    assert all(len(names) == 1 for names in splits.values())


def test_without_splits_whole_groups_are_dealt_in_proportion_and_by_label() -> None:
    videos = grouped(groups=50, videos_each=4, labels=5)
    listing = split_videos(videos, seed=3)
    assert sizes(listing.videos) == {"train": 140, "val": 20, "test": 40}
    assert_groups_whole(listing.videos)
    for label in range(5):
        own = [video for video in listing.videos if video.label == f"label{label}"]
        assert sizes(own) == {"train": 28, "val": 4, "test": 8}
    (note,) = listing.notes
    assert note.startswith("no split is named: split by group, 70/10/20 %, seed 3: ")
    assert "train 140 videos (35 groups), val 20 videos (5 groups), test 40 videos (10 groups)" in note


def test_without_groups_the_split_is_by_video() -> None:
    videos = [Video(Path(f"{index}.mp4"), "ab"[index % 2]) for index in range(20)]
    listing = split_videos(videos, {"train": 0.5, "val": 0.25, "test": 0.25})
    assert sizes(listing.videos) == {"train": 10, "val": 5, "test": 5}
    assert "split by video, 50/25/25 %" in listing.notes[0]


def test_a_split_is_a_function_of_the_videos_and_the_seed() -> None:
    videos = grouped(groups=30, videos_each=2, labels=3)
    shuffled = random.Random(1).sample(videos, len(videos))
    moved = [Video(Path("/elsewhere") / video.path, video.label, video.group) for video in videos]
    reference = split_videos(videos, seed=0).videos
    assert split_videos(shuffled, seed=0).videos == reference
    assert [video.split for video in split_videos(moved, seed=0).videos] == [v.split for v in reference]
    assert any(split_videos(videos, seed=seed).videos != reference for seed in (1, 2, 3))


@pytest.mark.parametrize("seed", range(5))
def test_few_or_uneven_groups_leave_no_split_empty(seed: int) -> None:
    three = grouped(groups=3, videos_each=10, labels=1)
    assert sizes(split_videos(three, seed=seed).videos) == {"train": 10, "val": 10, "test": 10}
    uneven = [
        Video(Path(f"g{group}_{clip}.mp4"), None, f"g{group}")
        for group, count in enumerate([200, 1, 5, 40])
        for clip in range(count)
    ]
    listing = split_videos(uneven, seed=seed)
    assert_groups_whole(listing.videos)
    assert min(sizes(listing.videos).values()) >= 1
    assert sizes(listing.videos)["train"] >= 200


def test_a_group_given_to_an_empty_split_leaves_its_label_in_train() -> None:
    videos = [Video(Path(f"{index}.mp4"), label) for index, label in enumerate("aabc")]
    for seed in range(10):
        listing = split_videos(videos, {"train": 0.98, "test": 0.02}, seed)
        assert {video.label for video in listing.videos if video.split == "train"} == set("abc")
        assert [video.label for video in listing.videos if video.split == "test"] == ["a"]


def test_named_splits_stay_and_a_missing_one_is_carved_out_of_train() -> None:
    train, val, test = (grouped(20, 3, 2, split) for split in ("train", "val", "test"))
    whole = split_videos(train + val + test)
    assert whole.notes == []
    assert sizes(whole.videos) == {"train": 60, "val": 60, "test": 60}

    carved = split_videos(train + test, {"train": 0.6, "val": 0.2, "test": 0.2})
    assert [video for video in carved.videos if video.split == "test"] == sorted(test, key=lambda v: v.path)
    assert sizes(carved.videos) == {"train": 45, "val": 15, "test": 60}
    assert_groups_whole(carved.videos)
    assert carved.notes[0].startswith("no val is named: carved out of train by group, seed 0: train 45 videos")

    only_train = split_videos(train, {"train": 0.5, "val": 0.25, "test": 0.25})
    assert sizes(only_train.videos) == {"train": 30, "val": 15, "test": 15}
    assert only_train.notes[0].startswith("no val and no test is named")


def test_a_fraction_of_zero_makes_no_split() -> None:
    videos = grouped(10, 1, 1)
    assert sizes(split_videos(videos, {"train": 1.0}).videos) == {"train": 10}
    named = grouped(10, 1, 1, "train") + grouped(2, 1, 1, "test")
    listing = split_videos(named, {"train": 0.8, "val": 0.0, "test": 0.2})
    assert sizes(listing.videos) == {"train": 10, "test": 2}
    assert listing.notes == []


def test_videos_without_a_split_among_named_ones_are_left_out_and_counted() -> None:
    videos = grouped(9, 1, 1, "train") + grouped(2, 1, 1, "val") + grouped(2, 1, 1, "test") + grouped(3, 1, 1)
    listing = split_videos(videos)
    assert sizes(listing.videos) == {"train": 9, "val": 2, "test": 2}
    assert "left out 3 videos without a split" in listing.notes[0]


def test_two_splits_that_share_a_group_are_refused() -> None:
    videos = [
        Video(Path("a.mp4"), None, "speaker1", "train"),
        Video(Path("b.mp4"), None, "speaker1", "test"),
        Video(Path("c.mp4"), None, "speaker2", "test"),
    ]
    message = r"group 'speaker1' lies in the splits train \(a\.mp4\) and test \(b\.mp4\); .* put each group"
    with pytest.raises(ValueError, match=message):
        split_videos(videos)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": 0.7, "val": 0.1}, "must sum to 1"),
        ({"train": 1.2, "val": -0.2}, "none below 0"),
        ({"val": 0.5, "test": 0.5}, "train above 0"),
        ({"train": 0.9, "dev": 0.1}, "unknown split 'dev'; the splits are train, val, test"),
    ],
)
def test_fractions_that_make_no_sense_are_refused(fractions: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_videos(grouped(10, 1, 1), fractions)


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no video to split"):
        split_videos([])
    with pytest.raises(ValueError, match=r"a\.mp4: listed twice"):
        split_videos([Video(Path("a.mp4")), Video(Path("x/../a.mp4"))])
    with pytest.raises(ValueError, match=r"2 groups \(.*\) cannot fill the splits train, val, test: add groups"):
        split_videos(grouped(2, 5, 1))
    with pytest.raises(ValueError, match="no video is named train, only test and val"):
        split_videos(grouped(2, 1, 1, "val") + grouped(2, 1, 1, "test"))
