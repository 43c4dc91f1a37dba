"""`selfsup prepare … output=DIR` and trainings on what it packed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import selfsup.prepare
import selfsup.train
from selfsup import weights
from selfsup.data.index import build_index
from selfsup.data.packing import Packing
from selfsup.data.rates import measure_rates
from selfsup.data.shards import shards
from selfsup.data.videos import folder
from tests.media import moving, write_video
from tests.packs import SIDE_PIXELS, pack_listing
from tests.verbs import Ended

Verb = Callable[..., Ended]
READ = ("data.size_pixels=32", "data.index_processes=1")
TRAIN = (
    "trainer=debug",
    "+trainer.enable_progress_bar=false",
    "data.size_pixels=32",
    "data.batch_size=4",
    "data.num_workers=0",
    "probe.num_frames=1",
)


def table_of(printed: str) -> dict[str, str]:
    """The rows of a table of two columns."""
    lines = (line.split("│") for line in printed.splitlines())
    return {cells[1].strip(): cells[2].strip() for cells in lines if len(cells) == 4}


def test_a_data_set_is_packed_told_of_and_trained_on(verb: Verb, synthetic_copy: Path, tmp_path: Path) -> None:
    root, index = synthetic_copy.parent, synthetic_copy.with_name("index.jsonl")
    source = ("data=manifest", f"data.manifest={synthetic_copy}", f"data.index_cache={index}")
    next((root / "videos").rglob("*.mp4")).write_bytes(b"no video")
    packing = (*source, *READ, "output=packed", "pack.shard_megabytes=0.3")
    code, printed, errors, run = verb(selfsup.prepare.main, *packing)
    assert code == 0, errors
    rows = table_of(printed)
    listing = shards(str(tmp_path / "packed"))
    assert listing.indexed is not None
    assert (rows["videos packed"], rows["videos left out"]) == ("23", "1")
    assert rows["frames"] == f"{23 * 48:,}"
    assert int(rows["shards"]) == int(rows["of them in this run"]) == len(list((tmp_path / "packed").glob("*.tar"))) > 2
    (left_out,) = json.loads((run / "left_out.json").read_text())
    assert "cannot be opened as a video" in left_out["reason"]
    assert f"{Path(left_out['path']).name}: left out, cannot be opened" in printed
    assert "short side 37 pixels" in listing.notes[0]  # 1.15 x 32: what training reads

    code, printed, errors, _ = verb(selfsup.prepare.main, *packing)
    assert code == 0, errors
    assert table_of(printed)["of them in this run"] == "0"

    encoders = []
    for name in ("one", "two"):
        code, printed, errors, run = verb(selfsup.train.main, "data=shards", "data.root=packed", *TRAIN, run=name)
        assert code == 0, errors
        assert "23 packed videos, short side 37 pixels" in printed
        encoders.append(weights.load(run / "encoder.safetensors").state_dict())
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["data"]["root"], summary["data"]["left_out"]) == ("packed", 1)
    assert any("linear probe" in row["figure"] for row in summary["probes"])
    assert all(torch.equal(value, encoders[1][name]) for name, value in encoders[0].items())


def test_what_cannot_be_packed_says_so(verb: Verb, packed_synthetic: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "a.mp4", moving(6))
    source = ("data=folder", f"data.root={tmp_path / 'videos'}", *READ)
    for words, sentence in (
        ((*source, "output=here", "pack.quality=0"), "pack.quality=0: give 1 to 95"),
        ((*source, "output=here", "pack.task=true", "task=temporal_order"), "this task computes nothing of a video"),
        (("data=shards", f"data.root={packed_synthetic}", "output=here"), "these videos are packed already"),
        ((*source, "output=videos"), "videos: is not empty, and no packing was begun in it; give another output"),
    ):
        ended = verb(selfsup.prepare.main, *words)
        assert ended.code == 2
        assert sentence in ended.err
        assert ended.err.count("error:") == 1
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("data.root=nowhere",), "nowhere"),
        (("data.root=.",), ".: no index.json here; give the folder that selfsup prepare output="),
        ((), "no value for data.root; give one"),
        (("data.size_pixels=112",), "packed with a short side of 48 pixels, 129 are asked for"),
    ],
)
def test_shards_that_cannot_be_trained_on(
    verb: Verb, packed_synthetic: Path, words: tuple[str, ...], sentence: str
) -> None:
    given = (f"data.root={packed_synthetic}", *words) if words and "root" not in words[0] else words
    ended = verb(selfsup.train.main, "data=shards", *TRAIN[:2], "data.num_workers=0", *given)
    assert ended.code == 2
    assert sentence in ended.err
    assert "Traceback" not in ended.err


def test_the_doctor_wants_files(verb: Verb, packed_synthetic: Path) -> None:
    ended = verb(selfsup.prepare.main, "doctor", "data=shards", f"data.root={packed_synthetic}")
    assert (ended.code, "these videos are packed; give the data they were packed from" in ended.err) == (2, True)


def test_the_doctor_foretells_what_packing_takes(tmp_path: Path) -> None:
    for number in range(5):
        write_video(tmp_path / "videos" / f"{number}.mp4", moving(40, side=64, seed=number), sound=number > 0)
    listing, cache = folder(tmp_path / "videos"), tmp_path / "index.jsonl"
    infos = list(build_index([video.path for video in listing.videos], cache=cache).videos.values())
    thin = {"fps": 5.0, "quality": 50, "sound_hz": None}
    for name, settings in (("whole", {}), ("thin", thin)):
        packed = pack_listing(listing, cache, tmp_path / name, **settings)
        packing = Packing(SIDE_PIXELS, **settings)
        rates = measure_rates(infos, packing, clips=12, frames=16, backend="pyav", seed=0)
        assert packing.room_bytes(infos, rates.bytes_per_frame) == pytest.approx(packed.size, rel=0.08)
        assert rates.packed_clips_per_second > rates.raw_clips_per_second
