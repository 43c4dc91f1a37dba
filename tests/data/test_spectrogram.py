"""Spectrograms against an independent computation: NumPy's transform a frame, and mel filters by their formula."""

import sys

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")

from selfsup.data.spectrogram import LogMelSpectrogram, LogSpectrogram


def frames(waveform: np.ndarray, window: int, hop: int, size: int) -> np.ndarray:
    """Complex (size / 2 + 1, S): the transform of each whole Hann window, frame by frame."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    starts = range(0, len(waveform) - window + 1, hop)
    return np.stack([np.fft.rfft(waveform[start : start + window] * hann, size) for start in starts], axis=1)


def mel_filters(rate_hz: int, n_mels: int, bins: int) -> np.ndarray:
    """(n_mels, bins): triangles between points at even steps of 2595 log10(1 + f / 700)."""
    highest = 2595 * np.log10(1 + rate_hz / 2 / 700)
    points = 700 * (10 ** (np.linspace(0, highest, n_mels + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate_hz / 2, bins)
    rows = [np.interp(frequencies, points[n : n + 3], [0, 1, 0], left=0, right=0) for n in range(n_mels)]
    return np.stack(rows)


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.rand(3, 48000, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9


def test_one_second_is_exactly_257_by_199_and_that_of_numpy(noise: torch.Tensor) -> None:
    found = LogSpectrogram()(noise)
    assert found.shape == (3, 1, 1, 257, 199)
    for row, waveform in zip(found, noise.double().numpy(), strict=True):
        expected = np.log(np.maximum(np.abs(frames(waveform, 480, 240, 512)), 1e-12)) / 5
        assert expected.shape == (257, 199)
        np.testing.assert_allclose(row[0, 0].numpy(), expected, atol=2e-3)  # near zeros of |S| float32 is coarse
        assert np.abs(row[0, 0].numpy() - expected).mean() < 1e-5


@pytest.mark.parametrize(("rate_hz", "bins"), [(8000, 65), (16000, 129), (22050, 129), (44100, 257), (48000, 257)])
def test_one_second_has_199_frames_at_any_rate(rate_hz: int, bins: int) -> None:
    assert LogSpectrogram(rate_hz)(torch.zeros(1, rate_hz)).shape == (1, 1, 1, bins, 199)


@pytest.mark.parametrize(("rate_hz", "n_mels"), [(16000, 64), (48000, 128)])
def test_log_mel_is_that_of_numpy(rate_hz: int, n_mels: int, noise: torch.Tensor) -> None:
    waveform = noise[:, :rate_hz]
    found = LogMelSpectrogram(rate_hz, n_mels)(waveform)
    window, hop, size = rate_hz // 40, rate_hz // 100, {16000: 512, 48000: 2048}[rate_hz]
    assert found.shape == (3, 1, 1, n_mels, 98)
    for row, samples in zip(found, waveform.double().numpy(), strict=True):
        power = np.abs(frames(samples, window, hop, size)) ** 2
        expected = np.log(np.maximum(mel_filters(rate_hz, n_mels, size // 2 + 1) @ power, 1e-10)) / 5
        np.testing.assert_allclose(row[0, 0].numpy(), expected, atol=1e-4)


def test_a_tone_is_bright_at_its_frequency() -> None:
    time = torch.arange(48000) / 48000
    found = LogSpectrogram()(torch.sin(2 * torch.pi * 6000 * time)[None])[0, 0, 0]
    assert set(found.argmax(dim=0).tolist()) == {6000 * 512 // 48000}


@pytest.mark.parametrize("spectrogram", [LogSpectrogram(), LogMelSpectrogram()])
def test_a_batch_is_its_rows_and_silence_stays_finite(spectrogram: torch.nn.Module, noise: torch.Tensor) -> None:
    waveforms = torch.stack([noise[0], torch.zeros(48000), noise[1]])
    found = spectrogram(waveforms)
    assert found.isfinite().all()
    assert found[1].unique().numel() == 1
    for row, waveform in zip(found, waveforms, strict=True):
        torch.testing.assert_close(row[None], spectrogram(waveform[None]))


def test_half_precision_around_it_changes_nothing(noise: torch.Tensor) -> None:
    spectrogram = LogMelSpectrogram()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = spectrogram(noise)
    assert found.dtype == torch.float32
    assert torch.equal(found, spectrogram(noise))


def test_what_is_no_batch_of_sound_is_refused(noise: torch.Tensor) -> None:
    for waveform in (noise[0], noise[:, None], noise[:, :479]):
        with pytest.raises(ValueError, match=r"waveforms \(B, N\) of at least 480 samples"):
            LogSpectrogram()(waveform)
    with pytest.raises(ValueError, match="rate_hz=100"):
        LogSpectrogram(100)
    with pytest.raises(ValueError, match="hop_seconds=0"):
        LogMelSpectrogram(hop_seconds=0.0)


def test_without_torchaudio_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    monkeypatch.setitem(sys.modules, "torchaudio.transforms", None)
    with pytest.raises(ValueError, match=r"pip install 'selfsup\[sound\]'"):
        LogSpectrogram()
