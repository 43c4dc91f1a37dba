"""What is found wrong with a list of videos: each kind by itself, and nothing where nothing is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfsup.data.health import Finding, Limits, findings
from selfsup.data.index import Index, VideoInfo
from selfsup.data.loudness import SoundInfo
from selfsup.data.videos import Video

LOUD, QUIET = (SoundInfo(3.0, True, np.full(30, level, np.float32)) for level in (-20.0, -90.0))
SIX = [
    Video(Path(f"{label}{number}.mp4"), label, f"{label} {number}", split)
    for label in ("jump", "run")
    for number, split in enumerate(("train", "train", "test"))
]


def info(path: Path, **different: Any) -> VideoInfo:
    usual = VideoInfo(path, 3.0, 25.0, 75, 320, 240, "h264", 0, True, str(path), 10.0, np.ones(30), sound=LOUD)
    return replace(usual, **different)


def found(videos: list[Video], refused: dict[str, str] | None = None, **of_each: dict[str, Any]) -> dict[str, Finding]:
    """By kind; `of_each` holds what differs of the videos of that stem."""
    refused = refused or {}
    known = {v.path: info(v.path, **of_each.get(v.path.stem, {})) for v in videos if v.path.stem not in refused}
    index = Index(known, {v.path: refused[v.path.stem] for v in videos if v.path.stem in refused})
    return {finding.kind: finding for finding in findings(videos, index, Limits())}


def test_nothing_is_wrong_with_a_good_list() -> None:
    assert found(SIX) == {}


@pytest.mark.parametrize(
    ("kind", "different"),
    [
        ("still", {"change": 0.02}),
        ("short", {"duration_seconds": 0.9}),
        ("long", {"duration_seconds": 601.0}),
        ("small", {"height": 111}),
        ("uneven frames", {"longest_gap": 2.0}),
        ("without sound", {"sound": None}),
        ("silent", {"sound": QUIET}),
    ],
)
def test_one_odd_video_is_named_with_what_to_do(kind: str, different: dict[str, Any]) -> None:
    (finding,) = found(SIX, run1=different).values()
    assert (finding.kind, finding.videos) == (kind, ("run1.mp4",))
    assert finding.meaning
    assert finding.cure


def test_files_that_cannot_be_used_are_told_by_reason() -> None:
    refused = {"jump0": "is empty (0 bytes)", "jump1": "is empty (0 bytes)", "run0": "breaks off at 1.00 s of 3.00 s"}
    told = found(SIX, refused)
    assert told["undecodable"].meaning == "2 × is empty (0 bytes)"
    assert told["undecodable"].videos == ("jump0.mp4", "jump1.mp4")
    assert told["truncated"].videos == ("run0.mp4",)


def test_sound_that_one_class_lacks_is_told_by_class() -> None:
    told = found(SIX, run0={"sound": None}, run1={"sound": None}, jump0={"sound": QUIET})
    assert told["without sound"].meaning == "2 of 3 run, 0 of 3 jump: has no sound track"
    assert told["silent"].videos == ("jump0.mp4",)
    assert found(SIX, **{video.path.stem: {"sound": None} for video in SIX}) == {}, "a data set without sound"


def test_copies_are_told_by_what_they_spoil() -> None:
    same = {"checksum": "same"}
    assert set(found(SIX, run0=same, run1=same)) == {"copies"}
    assert found(SIX, run0=same, run2=same)["copy in two splits"].videos == ("run0.mp4", "run2.mp4")
    assert set(found(SIX, run0=same, jump1=same)) == {"copy with another label"}
    unsplit = [replace(video, split=None) for video in SIX]
    assert "may come to lie in two splits" in found(unsplit, run0=same, run1=same)["copies"].meaning


def test_a_group_in_two_splits_is_told_and_does_not_stop_the_rest() -> None:
    shared = [replace(video, group="cam 1") if video.label == "run" else video for video in SIX]
    told = found(shared, jump0={"change": 0.0})
    assert told["group in two splits"].videos == ("run0.mp4", "run1.mp4", "run2.mp4")
    assert "class of one group" in told
    assert "still" in told


def test_classes_and_groups_are_weighed() -> None:
    many = [Video(Path(f"more{number}.mp4"), "run", f"more {number}", "train") for number in range(60)]
    assert found(SIX + many)["unequal classes"].meaning == "run has 63 videos, jump 3"
    assert found([*SIX, Video(Path("fly.mp4"), None, "f", "train")])["no label"].videos == ("fly.mp4",)
    new = [Video(Path(f"fly{number}.mp4"), "fly", f"f{number}", "test") for number in range(2)]
    assert found(SIX + new)["class that train lacks"].meaning == "fly"
    assert set(found([replace(video, group=None) for video in SIX])) == {"no group"}
    assert found([replace(video, label=None) for video in SIX]) == {}, "labels are not needed"


def test_limits_that_nothing_can_be_within_are_refused() -> None:
    with pytest.raises(ValueError, match=r"limits\.short_seconds=5 and limits\.long_seconds=5: give 0 or more"):
        Limits(short_seconds=5, long_seconds=5)
    with pytest.raises(ValueError, match=r"limits\.imbalance=1: give more than 1"):
        Limits(imbalance=1)
