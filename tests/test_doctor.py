"""`selfsup prepare doctor` on files that are odd indeed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import selfsup.prepare
from selfsup.data.index import inspect
from selfsup.data.packing import Packing
from selfsup.data.rates import measure_rates
from tests.media import moving, write_video
from tests.verbs import Ended

SMALL = ("data.size_pixels=32", "data.index_processes=1", "data.read_scale=1.0")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "videos"
    for number in range(4):
        write_video(root / "good" / f"{number}.mp4", moving(24, side=64, seed=number), sound=number > 0)
    shutil.copy(root / "good/1.mp4", root / "good/copy of 1.mp4")
    write_video(root / "odd" / "still.mp4", np.repeat(moving(1, side=64), 24, axis=0), sound=True)
    write_video(root / "odd" / "tiny.mp4", moving(24, side=16), sound=True)
    whole = (root / "good/2.mp4").read_bytes()
    (root / "odd" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    return root


def test_the_doctor_names_what_is_wrong(verb: Callable[..., Ended], root: Path) -> None:
    overrides = ("data=folder", f"data.root={root}", *SMALL, "read_clips=4", "clip_frames=8")
    ended = verb(selfsup.prepare.main, "doctor", *overrides)
    assert ended.code == 0, ended.err
    report = json.loads((ended.folder / "doctor.json").read_text())
    named = {finding["kind"]: [Path(video).name for video in finding["videos"]] for finding in report["findings"]}
    assert named["undecodable"] == ["cut.mp4"]
    assert named["copies"] == ["1.mp4", "copy of 1.mp4"]
    assert named["still"] == ["still.mp4"]
    assert named["small"] == ["tiny.mp4"]
    assert named["without sound"] == ["0.mp4"]
    assert report["data"] | {"codecs": "", "hours": 0} == {
        "videos": 8, "that can be decoded": 7, "hours": 0, "frames": 168, "with sound": 6, "classes": 2, "groups": 0,
        "codecs": "",
    }  # fmt: skip
    assert report["reading"]["clips read"] == 4
    assert report["reading"]["times faster"] > 0
    assert "copy of 1.mp4" in ended.out


def test_where_nothing_can_be_decoded_that_is_what_is_told(verb: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/empty.mp4").touch()
    ended = verb(selfsup.prepare.main, "doctor", "data=folder", f"data.root={tmp_path / 'videos'}", *SMALL)
    assert ended.code == 0, ended.err
    assert "1 × is empty (0 bytes)" in ended.out
    assert json.loads((ended.folder / "doctor.json").read_text())["reading"] == {}


def test_no_clip_to_read_is_refused(verb: Callable[..., Ended], root: Path) -> None:
    ended = verb(selfsup.prepare.main, "doctor", "data=folder", f"data.root={root}", *SMALL, "read_clips=0")
    assert (ended.code, ended.err.strip()) == (2, "error: read_clips=0 and clip_frames=16: give at least 1 of each")


def test_packed_frames_have_the_size_of_their_jpeg(tmp_path: Path) -> None:
    infos = [inspect(write_video(tmp_path / f"{side}.mp4", moving(6, side=side))) for side in (32, 64)]
    sizes = [
        measure_rates([one], Packing(48), clips=2, frames=4, backend="pyav", seed=0).bytes_per_frame for one in infos
    ]
    both = measure_rates(infos, Packing(48), clips=8, frames=4, backend="pyav", seed=0)
    assert min(sizes) < both.bytes_per_frame < max(sizes)
    assert both.raw_clips_per_second > 0
    assert both.packed_clips_per_second > both.raw_clips_per_second
