"""`selfsup evaluate audio`: an encoder of sounds beside what was never trained, and what it says to bad input."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import selfsup.evaluate
import selfsup.train
from selfsup import weights
from selfsup.data.reader import read_sound_file
from selfsup.encoders.encoder import InputSpecification
from selfsup.encoders.resnet import ResNet
from selfsup.evaluation.report import compare_files, read_figures
from tests.verbs import Ended, Main

pytest.importorskip("torchaudio")

Call = Callable[..., tuple[int, str, str]]
RATE = 16000
LOG_MEL = {"_target_": "selfsup.data.spectrogram.LogMelSpectrogram", "rate_hz": RATE}
QUICK = ("data=esc", "hop_seconds=1", "strengths=[0.01,1]")


def write_wave(path: Path, samples: np.ndarray, rate_hz: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ESC-10 as published, small: high and low tones in noise, 4 clips of 2 s a class and fold, 3 folds."""
    folder = tmp_path_factory.mktemp("esc")
    generator = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    for number in range(24):
        low = number % 2 == 0
        pitch = generator.uniform(200, 400) if low else generator.uniform(2000, 4000)
        samples = 0.4 * np.sin(2 * np.pi * pitch * time) + generator.normal(0, 0.05, len(time))
        label = "001 - Low" if low else "002 - High"
        write_wave(folder / label / f"{number // 8 + 1}-{1000 + number}-A.wav", samples.clip(-1, 1))
    return folder


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """An encoder's file that says by what spectrogram it was taught."""
    path = tmp_path / "audio_encoder.safetensors"
    specification = InputSpecification(size_pixels=64, mean=(0.0,), std=(1.0,), fps=None)
    about: dict[str, object] = {"sound": {"sound_seconds": 1.0, "spectrogram": LOG_MEL}}
    weights.save(ResNet(18, in_channels=1), path, input=specification, task="test", data=about)
    return path


@pytest.fixture
def call(verb: Callable[..., Ended]) -> Call:
    """Calls the verb in this process: (exit code, standard output, standard error)."""

    def call_(*words: str, main: Main = selfsup.evaluate.main) -> tuple[int, str, str]:
        return verb(main, *words)[:3]

    return call_


def test_an_encoder_beside_what_was_never_trained(call: Call, root: Path, encoder: Path, tmp_path: Path) -> None:
    code, printed, errors = call("audio", f"encoder.path={encoder}", f"data.root={root}", *QUICK)
    assert code == 0, errors
    figures = {figure.name: figure for figure in read_figures(tmp_path / "run" / "audio.json")}
    assert list(figures) == [
        "accuracy",
        "accuracy, untrained encoder",
        "accuracy, log-mel statistics",
        "accuracy, MFCC statistics",
    ]
    for name, figure in figures.items():
        assert figure.chance == 0.5
        assert figure.interval is not None
        assert figure.interval.units == 24
        assert (figure.protocol.dataset, figure.protocol.videos_seen, figure.protocol.clips) == ("esc", 24, 2)
        assert name in printed
    assert figures["accuracy, log-mel statistics"].value == 1.0  # high from low is easy
    folds = json.loads((tmp_path / "run" / "audio.json").read_text())["folds"]
    assert set(folds["accuracy"]["strengths"]) == {"1", "2", "3"}
    assert "log-mel statistics" in (tmp_path / "run" / "audio.md").read_text()
    assert "accuracy" in compare_files(*[[tmp_path / "run" / "audio.json"]] * 2)


def test_an_encoder_of_pictures_is_refused(call: Call, root: Path) -> None:
    code, _, errors = call("audio", "encoder=resnet18", f"data.root={root}", *QUICK)
    assert code == 2
    assert "takes 3 channels, a spectrogram has one" in errors


def test_an_encoder_that_does_not_name_its_spectrogram(call: Call, root: Path) -> None:
    words = ("audio", "encoder=resnet18", "encoder.in_channels=1", f"data.root={root}", *QUICK)
    code, _, errors = call(*words)
    assert code == 2
    assert "spectrogram={_target_:selfsup.data.spectrogram.LogMelSpectrogram}" in errors
    code, _, errors = call(*words, "spectrogram={_target_:os.system}")
    assert code == 2
    assert "does not say by what spectrogram" in errors


def test_sounds_without_a_picture_teach_no_other_task(call: Call, root: Path) -> None:
    words = ("data=esc", f"data.root={root}", "trainer=debug", "data.index_processes=1", "data.num_workers=0")
    code, _, errors = call(*words, main=selfsup.train.main)
    assert code == 2
    assert "holds sound only, no video" in errors


def test_a_damaged_sound_is_named(call: Call, encoder: Path, tmp_path: Path) -> None:
    for number in range(3):
        write_wave(tmp_path / "esc" / "rain" / f"{number + 1}-{number}-A.wav", np.zeros(RATE))
    (tmp_path / "esc" / "rain" / "1-9-B.wav").write_text("no sound")
    code, _, errors = call("audio", f"encoder.path={encoder}", f"data.root={tmp_path / 'esc'}", *QUICK)
    assert code == 2
    assert "1-9-B.wav" in errors


def test_a_sound_file_is_read_whole(tmp_path: Path, real_videos: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
    write_wave(tmp_path / "a.wav", tone, 44100)
    sound = read_sound_file(tmp_path / "a.wav", 16000).numpy()
    assert sound.shape == (16000,)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(sound - expected)[200:-200].max() < 1e-3
    clip = sorted((real_videos / "esc10").rglob("*.ogg"))[0]
    assert len(read_sound_file(clip, 16000)) == pytest.approx(80000, abs=400)  # Vorbis ends with a whole packet
