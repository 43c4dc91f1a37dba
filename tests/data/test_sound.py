"""Sound at given seconds: exact length, right place on the clock, any rate and layout; or one clear sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch

from selfsup.data.reader import UnreadableVideo, VideoReader
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


@pytest.mark.parametrize("native_hz", [8000, 11025, 22050, 32000, 48000, 96000, 192000])
def test_any_rate_is_heard_as_a_computed_tone(native_hz: int, tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2 * native_hz) / native_hz)
    path = barcodes.write_sound(tmp_path / "a.mkv", tone[None], native_hz)
    with VideoReader(path) as video:
        sound = video.audio(0.25, 1.25, 48000).numpy()
    expected = 0.5 * np.sin(2 * np.pi * 1000 * (np.arange(48000) / 48000 + 0.25))
    assert np.abs(sound - expected)[1000:-1000].max() < 2e-4  # a 16-bit step is 3e-5


def test_what_lies_above_half_the_rate_does_not_come_back_as_another_tone(tmp_path: Path) -> None:
    tone = 0.9 * np.sin(2 * np.pi * 11000 * np.arange(96000) / 48000)
    path = barcodes.write_sound(tmp_path / "a.mkv", tone[None], 48000)
    with VideoReader(path) as video:
        assert video.audio(0.5, 1.5, 48000).abs().max() > 0.85
        assert video.audio(0.5, 1.5, 16000).abs().max() < 1e-3


@pytest.mark.parametrize("channels", range(1, 9))
def test_one_to_eight_channels(channels: int, tmp_path: Path) -> None:
    samples = np.zeros((channels, 32000))
    samples[-1] = sweep(16000, 2)
    with VideoReader(barcodes.write_sound(tmp_path / "a.mkv", samples, 16000)) as video:
        sound = video.audio(0.0, 1.5, 16000).numpy()
    np.testing.assert_allclose(sound, sweep(16000, 2)[:24000] / channels, atol=1e-3)


def test_eight_planar_channels(tmp_path: Path) -> None:
    """AAC decodes to planes, which PyAV miscounts."""
    samples = np.stack([sweep(48000, 2)] * 8)
    with VideoReader(barcodes.write_sound(tmp_path / "a.mp4", samples, 48000, "aac")) as video:
        sound = video.audio(0.1, 1.5, 48000).numpy()
    assert np.corrcoef(sound, sweep(48000, 2)[4800:72000])[0, 1] > 0.99


def test_eight_bits(tmp_path: Path) -> None:
    path = barcodes.write_sound(tmp_path / "a.avi", sweep(22050)[None], 22050, "pcm_u8")
    with VideoReader(path) as video:
        sound = video.audio(1.0, 2.0, 22050).numpy()
    np.testing.assert_allclose(sound, sweep(22050)[22050:44100], atol=1 / 64)
    assert abs(sound.mean()) < 1 / 128  # unsigned 128 is silence


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_named(value: float, tmp_path: Path) -> None:
    samples = np.full((2, 32000), 0.25)
    samples[1, 16000] = value
    with VideoReader(barcodes.write_sound(tmp_path / "nan.mkv", samples, 16000, "pcm_f32le")) as video:
        np.testing.assert_allclose(video.audio(0.0, 0.5, 16000).numpy(), 0.25, atol=1e-6)  # elsewhere it can be heard
        with pytest.raises(UnreadableVideo, match=r"nan\.mkv: its sound holds samples that are no finite numbers"):
            video.audio(0.5, 1.5, 48000)
        known = video.sound()
    assert known is not None
    assert not known.is_finite
    assert np.isfinite(known.loudness_db).all()


def test_the_loudness_of_a_late_track_that_ends_early(tmp_path: Path) -> None:
    samples = np.concatenate([np.full(8000, 0.5), np.zeros(8000), np.full(8000, 0.05)])
    with VideoReader(barcodes.write_sound(tmp_path / "a.mkv", samples[None], 16000, late_ms=1000)) as video:
        known = video.sound()
    assert known is not None
    assert known.is_finite
    assert known.stop_seconds == pytest.approx(2.5, abs=2e-3)  # Matroska counts milliseconds
    half, twentieth = 20 * np.log10(0.5), 20 * np.log10(0.05)
    assert (known.loudness_db[:9] == -120).all()
    np.testing.assert_allclose(known.loudness_db[11:14], half, atol=0.1)
    assert (known.loudness_db[16:19] == -120).all()
    np.testing.assert_allclose(known.loudness_db[21:24], twentieth, atol=0.1)
    assert known.rms_db == pytest.approx(10 * np.log10((0.25 + 0.0025) * 0.5 / 2.5), abs=0.2)
    assert known.silent_share == pytest.approx(0.6, abs=0.05)


def test_loudness_is_that_of_the_samples_at_a_rate_that_divides_unevenly(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, 3 * 11025)
    with VideoReader(barcodes.write_sound(tmp_path / "a.mkv", noise[None], 11025)) as video:
        known = video.sound()
    assert known is not None
    places = (np.arange(len(noise)) * 10 // 11025).astype(int)
    expected = [10 * np.log10(np.mean(noise[places == place] ** 2)) for place in range(30)]
    np.testing.assert_allclose(known.loudness_db[:30], expected, atol=0.05)


def test_a_video_without_a_track_has_no_loudness(tmp_path: Path) -> None:
    with VideoReader(barcodes.write(tmp_path / "a.mp4", [0, 40, 80])) as video:
        assert video.sound() is None
