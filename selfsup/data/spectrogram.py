"""Waveform to log spectrogram, a "clip with C = 1, T = 1": what an audio encoder sees. On the device, batched.

Sound has as many frames as whole windows fit into it. The transform is longer than the window, so torch's own framing
would ask for as many samples as the transform has: 198 frames of one second at 48 kHz. Padding by the difference, half
on each side, gives each whole window its frame, 199 of them, and no frame sees what is not there.

torchaudio is an optional dependency: `pip install 'selfsup[sound]'`. Nothing is downloaded.
"""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 5.0  # L3's: brings logarithms to about [-5, 1]


class LogSpectrogram(nn.Module):
    """Look, Listen and Learn's (Arandjelović & Zisserman 2017, arXiv 1705.08168, section 2): log(max(|S|, 1e-12)) / 5.

    Windows of 10 ms (Hann), half overlapping; one second at 48 kHz gives exactly 257 frequencies × 199 frames. The
    formula is that of the authors' spectrograms as reported by marl/l3embedding; Objects that Sound has 200 frames.

    Args:
        rate_hz: of the waveform; the transform is the next power of two above 10 ms of it, 512 at 48 kHz.
    """

    floor = 1e-12  # of the magnitude

    def __init__(self, rate_hz: int = 48_000) -> None:
        super().__init__()
        self.rate_hz = rate_hz
        self.hop = rate_hz // 200
        self.window = 2 * self.hop
        if self.hop < 1:
            raise ValueError(f"rate_hz={rate_hz}: a window of 10 ms needs 200 Hz or more")
        self.size = 1 << (self.window - 1).bit_length()
        self.transform = _transforms().Spectrogram(
            n_fft=self.size, win_length=self.window, hop_length=self.hop, power=1.0, center=False
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Float (B, N), mono, in [-1, 1], to (B, 1, 1, F, S); F = size / 2 + 1, S = (N - window) // hop + 1.

        Raises ValueError where N is less than one window, or the waveform has other axes.
        """
        return _logarithm(_framed(waveform, self.transform, self.window, self.size), self.floor)


class LogMelSpectrogram(nn.Module):
    """Log mel spectrogram, scaled as L3's: log(max(mel power, 1e-10)) / 5.

    Triangular filters on the HTK mel scale from 0 Hz to half the rate.

    Args:
        rate_hz: of the waveform.
        n_mels: F, the number of filters.
        window_seconds: of each frame (Hann); the transform is the next power of two.
        hop_seconds: from one frame to the next.

    Raises:
        ValueError: a window or hop of less than one sample.
    """

    floor = 1e-10  # of the power

    def __init__(
        self, rate_hz: int = 16_000, n_mels: int = 64, window_seconds: float = 0.025, hop_seconds: float = 0.01
    ) -> None:
        super().__init__()
        self.rate_hz = rate_hz
        self.n_mels = n_mels
        self.window_seconds = window_seconds
        self.hop_seconds = hop_seconds
        self.window, self.hop = round(window_seconds * rate_hz), round(hop_seconds * rate_hz)
        if min(self.window, self.hop, n_mels) < 1:
            raise ValueError(
                f"rate_hz={rate_hz}, window_seconds={window_seconds}, hop_seconds={hop_seconds}, n_mels={n_mels}: the "
                "window and the hop must hold one sample or more, and there must be one filter or more"
            )
        self.size = 1 << (self.window - 1).bit_length()
        self.transform = _transforms().MelSpectrogram(
            rate_hz,
            n_fft=self.size,
            win_length=self.window,
            hop_length=self.hop,
            n_mels=n_mels,
            power=2.0,
            center=False,
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Float (B, N), mono, in [-1, 1], to (B, 1, 1, F, S), F = n_mels, lowest first, S = (N - window) // hop + 1.

        Raises ValueError where N is less than one window, or the waveform has other axes.
        """
        return _logarithm(_framed(waveform, self.transform, self.window, self.size), self.floor)


def _framed(waveform: Tensor, transform: nn.Module, window: int, size: int) -> Tensor:
    """(B, N) to (B, F, S), in float32 whatever the precision around it."""
    if waveform.ndim != 2 or waveform.shape[1] < window:
        raise ValueError(
            f"a spectrogram takes waveforms (B, N) of at least {window} samples, but got {tuple(waveform.shape)}; give "
            "mono sound, longer"
        )
    before = (size - window) // 2
    with torch.autocast(waveform.device.type, enabled=False):
        return transform(F.pad(waveform.float(), (before, size - window - before)))


def _logarithm(magnitudes: Tensor, floor: float) -> Tensor:
    return (magnitudes.clamp(min=floor).log() / SCALE)[:, None, None]  # (B, F, S) -> (B, 1, 1, F, S)


def _transforms() -> ModuleType:
    try:
        import torchaudio.transforms
    except ImportError as error:
        raise ValueError("spectrograms need torchaudio: pip install 'selfsup[sound]'") from error
    return torchaudio.transforms
