"""Which videos may teach sound: files of every bad kind, counted by class, and one sentence where none is left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from selfsup.data.audio_policy import AudioPolicy, counted, told
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.index import VideoInfo, inspect
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import UniformSampler
from selfsup.data.videos import Listing, Video
from tests.data import barcodes
from tests.media import still, write_video


@dataclass(frozen=True)
class Hearing:
    """A frame and a second of sound, from the start."""

    sound_seconds: float = 1.0

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        sound = video.audio(0.0, self.sound_seconds, 16000)
        return {"clip": video.frames([0.5]).transpose(0, 1), "sound": sound[None]}

    def refuse(self, info: VideoInfo) -> str | None:
        return None if info.heard_seconds >= self.sound_seconds else f"is heard for {info.heard_seconds:.1f} s alone"


def tone(seconds: float = 4.0, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(np.arange(round(16000 * seconds)) * 0.2)[None]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Video]:
    """One video of each kind, by its name; the speaking ones of class talk, the others of class music."""
    root = tmp_path_factory.mktemp("sound")
    broken = tone()
    broken[0, 20000] = np.nan
    write = partial(barcodes.write_sound, rate_hz=16000)
    paths = [
        write(root / "loud.mkv", tone()),
        write(root / "again.mkv", tone()),
        write(root / "late.mkv", tone(2), late_ms=1500),
        write(root / "short.mkv", tone(0.4)),
        write(root / "quiet.mkv", tone(amplitude=2e-4)),
        write(root / "silent.mkv", np.zeros((2, 64000))),
        write(root / "nan.mkv", broken, codec="pcm_f32le"),
        barcodes.write(root / "mute.mp4", range(0, 2000, 40)),
        write_video(root / "cover.mp4", still(40, side=64), sound=True),
    ]
    talk = ("loud", "again", "late", "mute")
    return {path.stem: Video(path, "talk" if path.stem in talk else "music") for path in paths}


def module(videos: Sequence[Video], cache: Path, policy: AudioPolicy | None, sampler: object = None) -> VideoDataModule:
    return VideoDataModule(
        lambda: Listing(list(videos), []),
        Hearing() if sampler is None else sampler,  # type: ignore[arg-type]
        num_workers=0,
        index_processes=1,
        index_cache=str(cache),
        size_pixels=32,
        fractions={"train": 1.0},
        audio=policy,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("index") / "index.jsonl"


def test_every_bad_kind_is_left_out_with_its_reason(videos: dict[str, Video], cache: Path, tmp_path: Path) -> None:
    data = module(list(videos.values()), cache, AudioPolicy())
    data.setup()
    assert [info.path.stem for info in data.videos["train"]] == ["again", "late", "loud"]
    data.catalogue.write_left_out(tmp_path / "left_out.json")
    rows = json.loads((tmp_path / "left_out.json").read_text())
    assert {(Path(row["path"]).stem, row["label"], row["reason"]) for row in rows} == {
        ("short", "music", "is heard for 0.4 s alone"),
        ("quiet", "music", "has sound below data.audio.min_rms_db=-60"),
        ("silent", "music", "has sound below data.audio.min_rms_db=-60"),
        ("nan", "music", "has sound with samples that are no finite numbers"),
        ("mute", "talk", "has no sound track"),
        ("cover", "music", "shows one still picture (data.audio.still_pictures=true keeps it)"),
    }
    notes = [note for note in data.catalogue.notes if note.startswith("left out for its sound")]
    assert "left out for its sound: 1 of 4 talk, 0 of 5 music: has no sound track" in notes
    assert "left out for its sound: 2 of 5 music, 0 of 4 talk: has sound below data.audio.min_rms_db=-60" in notes
    assert len(notes) == 4
    assert data.description()["left_out_for_sound"] == data.catalogue.unheard
    assert data.catalogue.unheard["has no sound track"] == {"music": 0, "talk": 1}


def test_a_policy_can_be_widened(videos: dict[str, Video], cache: Path) -> None:
    data = module(list(videos.values()), cache, AudioPolicy(min_rms_db=None, still_pictures=True))
    data.setup()
    kept = {info.path.stem for info in data.videos["train"]}
    assert kept == {"loud", "again", "late", "quiet", "silent", "cover"}


def test_a_sampler_that_does_not_hear_keeps_all(videos: dict[str, Video], cache: Path) -> None:
    data = module(list(videos.values()), cache, AudioPolicy(), UniformSampler(2))
    data.setup()
    assert len(data.videos["train"]) == len(videos)
    assert "left_out_for_sound" not in data.description()


def test_a_data_set_where_nothing_is_left_ends_in_one_sentence(videos: dict[str, Video], cache: Path) -> None:
    data = module([videos["mute"], videos["silent"]], cache, AudioPolicy())
    with pytest.raises(ValueError, match=r"no training video is left of 2, the first is .*mute\.mp4: has no sound tr"):
        data.setup()


def test_what_is_left_can_be_heard_in_a_batch(videos: dict[str, Video], cache: Path) -> None:
    data = module(list(videos.values()), cache, AudioPolicy())
    data.setup()
    batch = next(iter(data.clips("train", data.sampler)))
    assert batch["failures"] == []
    assert batch["sound"].shape == (3, 1, 16000)
    assert batch["sound"].isfinite().all()


def test_counts_and_sentences() -> None:
    every = ["a"] * 10 + ["b"] * 5 + [None] * 3
    unheard = counted([("mute", "b"), ("mute", "b"), ("mute", "a"), ("still", None)], every)
    assert unheard == {"mute": {"": 0, "a": 1, "b": 2}, "still": {"": 1, "a": 0, "b": 0}}
    assert told(unheard, every)[0] == "left out for its sound: 2 of 5 b, 1 of 10 a, 0 of 3: mute"
    many = [str(number) for number in range(9)]
    assert told(counted([("mute", "8")], many), many) == [
        "left out for its sound: 1 of 1 8, 0 of 1 0, 0 of 1 1, 0 of 1 2, 0 of 5 of the 5 other classes: mute"
    ]


def test_a_level_above_full_scale_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.audio\.min_rms_db=20"):
        AudioPolicy(min_rms_db=20)


def test_real_surveillance_videos_whose_silence_tells_the_class(real_videos: Path) -> None:
    folder = real_videos / "surv_fight" / "videos"
    reasons = {
        "fight/fi001.mp4": "has sound below data.audio.min_rms_db=-60",  # a track of zeros
        "fight/fi075.mp4": "has no sound track",
        "no_fight/nofi076.mp4": "has no sound track",
    }
    infos = {name: inspect(folder / name) for name in reasons}
    assert {name: AudioPolicy().refuse(info) for name, info in infos.items()} == reasons
    assert [info.is_still for info in infos.values()] == [False, False, True]  # nobody moves in the last
