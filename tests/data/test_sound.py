"""Sound at given seconds: exact length, right place on the clock, any rate and layout; or one clear sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch

from selfsup.data.reader import VideoReader
from tests.data import barcodes

SECONDS = 4


def sweep(rate_hz: int, seconds: float = SECONDS) -> np.ndarray:
    """A tone that rises from 200 to 1,000 Hz: no two moments of it sound alike."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return 0.8 * np.sin(2 * np.pi * (200 * time + 100 * time**2))


@pytest.mark.parametrize(
    ("codec", "file_name"), [("pcm_s16le", "a.avi"), ("flac", "a.mkv"), ("aac", "a.mp4"), ("mp2", "a.mpg")]
)
@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
def test_sound_lies_where_it_was_put(codec: str, file_name: str, rate_hz: int, tmp_path: Path) -> None:
    path = barcodes.write_sound(tmp_path / file_name, sweep(44100)[None], 44100, codec)
    with VideoReader(path) as video:
        assert video.has_audio
        # Matroska's clock has steps of 1 ms; an MPEG program stream starts it with the encoder's own delay.
        exact = codec in {"pcm_s16le", "aac"}
        most_late = 1 if exact else rate_hz // (20 if codec == "mp2" else 1000)
        tolerance = 0.03 if exact else 0.15
        for start, stop in [(0.0, 0.5), (1.234, 1.734), (2.0, 3.5), (3.0, 3.9)]:
            sound = video.audio(start, stop, rate_hz)
            expected = sweep(rate_hz)[round(start * rate_hz) :][: len(sound)]
            assert sound.dtype == torch.float32
            assert sound.shape == (round((stop - start) * rate_hz),)
            inner = slice(rate_hz // 20, -rate_hz // 20)
            errors = [
                np.abs(np.roll(sound.numpy(), -shift) - expected)[inner].mean()
                for shift in range(-most_late, most_late + 1)
            ]
            assert min(errors) < tolerance, (start, stop)


def test_cuts_of_one_track_fit_together(tmp_path: Path) -> None:
    path = barcodes.write_sound(tmp_path / "a.avi", sweep(22050)[None], 22050)
    with VideoReader(path) as video:
        whole = video.audio(0.0, 3.0, 16000)
        parts = [video.audio(start, start + 0.5, 16000) for start in np.arange(0, 3, 0.5)]
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)
        frames = video.frames([2.0])  # reading sound does not disturb the pictures
        assert barcodes.read_number(frames[0]) == 50
        torch.testing.assert_close(video.audio(0.0, 3.0, 16000), whole)


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged_and_stay_in_range(channels: int, tmp_path: Path) -> None:
    left = np.sign(sweep(16000))
    samples = np.stack([left] * channels)
    path = barcodes.write_sound(tmp_path / "a.mkv", samples, 16000)
    with VideoReader(path) as video:
        sound = video.audio(0.0, 2.0, 16000)
        assert sound.abs().max() <= 1
        np.testing.assert_allclose(sound.numpy(), left[: len(sound)], atol=1e-3)
    samples[1:] = 0
    path = barcodes.write_sound(tmp_path / "b.mkv", samples, 16000)
    with VideoReader(path) as video:
        np.testing.assert_allclose(video.audio(0.0, 2.0, 16000).numpy(), left[:32000] / channels, atol=1e-3)


def test_a_late_track_begins_with_silence(tmp_path: Path) -> None:
    path = barcodes.write_sound(tmp_path / "a.mkv", np.full((1, 16000), 0.5), 16000, late_ms=500)
    with VideoReader(path) as video:
        sound = video.audio(0.0, 1.4, 16000)
        assert sound[:7900].abs().max() == 0
        np.testing.assert_allclose(sound[8100:].numpy(), 0.5, atol=1e-3)


def test_sound_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = barcodes.write_sound(tmp_path / "short.mkv", sweep(16000, 2.5)[None], 16000)
    with VideoReader(path) as video:
        assert video.duration_seconds == pytest.approx(4)
        assert len(video.audio(2.0, 2.5, 16000)) == 8000
        with pytest.raises(ValueError, match=r"short\.mkv: no sound at 3\.00 s, the track ends at 2\.50 s"):
            video.audio(2.0, 3.0, 16000)
        with pytest.raises(ValueError, match=r"the track ends at 2\.50 s"):
            video.audio(1e6, 2e6, 16000)
        for start, stop, rate_hz in [(1.0, 1.0, 16000), (2.0, 1.0, 16000), (-1.0, 1.0, 16000), (0.0, 1.0, 0)]:
            with pytest.raises(ValueError, match="give 0 <= start < stop and a positive rate"):
                video.audio(start, stop, rate_hz)
    silent = barcodes.write(tmp_path / "silent.mp4", [0, 40, 80])
    with VideoReader(silent) as video, pytest.raises(ValueError, match=r"silent\.mp4: has no sound track"):
        video.audio(0.0, 0.1, 16000)
