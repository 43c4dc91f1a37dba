"""Videos whose action changes: the same bytes, labels of every frame, and motion that changes where they say so."""

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from selfsup.data.index import build_index
from selfsup.data.reader import VideoReader
from selfsup.data.spans import cut_spans
from selfsup.data.synthetic_changes import cached_changing
from selfsup.data.synthetic_scenes import ACTIONS
from selfsup.data.videos import manifest

SMALL = {"videos": 6, "size_pixels": 48, "actions": 3, "seconds": 1.0, "fps": 10}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_changing(tmp_path_factory.mktemp("changing"), processes=1, **SMALL)


def test_same_seed_same_bytes_whatever_the_processes(written: Path, tmp_path: Path) -> None:
    again = cached_changing(tmp_path, processes=2, **SMALL)
    other = cached_changing(tmp_path, processes=1, **SMALL | {"seed": 1})
    read = [[path.read_bytes() for path in sorted(root.parent.rglob("*.*"))] for root in (written, again, other)]
    assert len(read[0]) == 7
    assert read[0] == read[1]
    assert all(one != another for one, another in zip(read[0], read[2], strict=True))


def test_every_frame_has_one_label_and_actions_follow_in_one_order(written: Path) -> None:
    listing = manifest(written, labels="frame")
    index = build_index([video.path for video in listing.videos])
    assert {video.split for video in listing.videos} == {"train", "val", "test"}
    for video in listing.videos:
        spans, late = cut_spans(video, index.videos[video.path])
        info = index.videos[video.path]
        assert late == pytest.approx(0, abs=1e-6)
        assert len(spans) == 3
        for before, after in pairwise(spans):
            assert before.stop_seconds == after.start_seconds
            assert (ACTIONS.index(before.label) + 1) % len(ACTIONS) == ACTIONS.index(after.label)
        assert spans[0].start_seconds == 0
        assert spans[-1].stop_seconds == pytest.approx(info.num_frames / 10, abs=1e-6)


def test_the_picture_breaks_where_the_label_changes_and_the_place_stays(written: Path) -> None:
    with open(written, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].endswith("00000.mp4")]
    with VideoReader(written.parent / rows[0]["path"]) as video:
        frames = video.frames(video.times_seconds.tolist()).float()
        sound = video.audio(0.0, 0.5, 8000)
    steps = (frames[1:] - frames[:-1]).abs().mean(dim=(1, 2, 3)).numpy()
    changes = [round(10 * float(row["start"])) - 1 for row in rows[1:]]
    assert min(steps[changes]) > 1.5 * np.median(np.delete(steps, changes))
    assert float(sound.abs().max()) > 0.01


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"actions": 1}, "changing videos: actions is 1, give a value from 2 to 60"),
        ({"size_pixels": 49}, "H.264 needs an even number"),
        ({"seconds": 0.5}, "an action of 0.5 s is too short; give 1 or more"),
    ],
)
def test_values_out_of_bounds_are_refused(option: dict[str, float], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        cached_changing(tmp_path, **SMALL | option)  # type: ignore[arg-type]
