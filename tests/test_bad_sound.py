"""Bad sound through the real command: what can be heard is, what cannot is named, and nothing is lost."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selfsup.train import main
from tests import test_bad_input
from tests.data import barcodes
from tests.media import still, write_video
from tests.verbs import Ended

SMALL = (
    "task=audio_visual",
    "data=folder",
    *test_bad_input.SMALL,
    "data.fractions={train: 1, val: 0, test: 0}",
)


def tone(seconds: float = 4.0, rate_hz: int = 16000, channels: int = 1, amplitude: float = 0.5) -> np.ndarray:
    wave = amplitude * np.sin(np.arange(round(rate_hz * seconds)) * 2000 / rate_hz)
    return np.stack([wave] * channels)


def bad(folder: Path) -> dict[str, str]:
    """Writes a video of each kind that cannot be heard; the reason for each, by its name."""
    folder.mkdir(parents=True)
    broken = tone()
    broken[0, 20000] = np.nan
    barcodes.write(folder / "mute.mp4", range(0, 2000, 40))
    barcodes.write_sound(folder / "short.mkv", tone(0.4), 16000)
    barcodes.write_sound(folder / "silent.mkv", np.zeros((2, 64000)), 16000)
    barcodes.write_sound(folder / "nan.mkv", broken, 16000, "pcm_f32le")
    write_video(folder / "cover.mp4", still(40, side=64), sound=True)
    return {
        "mute.mp4": "has no sound track",
        "short.mkv": "has sound and frames together for 0.40 s, 1 x 1 s of sound need 1 s; lower task.sampler.sound_",
        "silent.mkv": "has sound below data.audio.min_rms_db=-60",
        "nan.mkv": "has sound with samples that are no finite numbers",
        "cover.mp4": "shows one still picture (data.audio.still_pictures=true keeps it)",
    }


@pytest.mark.slow
def test_what_can_be_heard_is_and_the_rest_is_named(verb: Callable[..., Ended], tmp_path: Path) -> None:
    music, talk = tmp_path / "videos" / "music", tmp_path / "videos" / "talk"
    reasons = bad(music)
    talk.mkdir()
    rates = (8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000)
    for channels, rate_hz in enumerate(rates, start=1):
        barcodes.write_sound(talk / f"{channels}.mkv", tone(2, rate_hz, channels), rate_hz)
    barcodes.write_sound(talk / "eight bits.avi", tone(3), 16000, "pcm_u8")
    barcodes.write_sound(talk / "late.mkv", tone(2), 16000, late_ms=1500)
    barcodes.write_sound(talk / "ends early.mkv", tone(1.2), 16000)

    ended = verb(main, *SMALL, f"data.root={tmp_path / 'videos'}", "data.batch_size=11")
    assert ended.code == 0, ended.err
    rows = json.loads((ended.folder / "left_out.json").read_text())
    assert {Path(row["path"]).name: row["label"] for row in rows} == dict.fromkeys(reasons, "music")
    for row in rows:
        assert reasons[Path(row["path"]).name] in row["reason"]
    summary = json.loads((ended.folder / "summary.json").read_text())
    assert summary["data"]["train_videos"] == 11
    assert summary["quarantined"] == []
    assert "left out for its sound: 1 of 5 music, 0 of 11 talk: has no sound track" in summary["notes"]
    assert "left out for its sound: 1 of 5 music, 0 of 11 talk: has no sound track" in ended.out


@pytest.mark.slow
def test_a_data_set_of_which_nothing_can_be_heard(verb: Callable[..., Ended], tmp_path: Path) -> None:
    reasons = bad(tmp_path / "videos")
    ended = verb(main, *SMALL, f"data.root={tmp_path / 'videos'}")
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error:")]
    assert f"no training video is left of {len(reasons)}, the first is" in line
    assert f"cover.mp4: {reasons['cover.mp4']}; give other videos" in line
    assert not (ended.folder / "encoder.safetensors").exists()
