"""The sound of a video file between two seconds, mono, at any sampling rate. Private to `reader.py`."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, gcd
from typing import Any

import numpy as np
from av import AudioResampler, FFmpegError
from scipy.signal import firwin, resample_poly

from selfsup.data.frame_table import FILE_ENDS, Source

# Lossy codecs need what comes before to decode a sample right (Opus asks for 80 ms), the resampler needs both
# sides.
PREROLL_SECONDS = 0.25
MARGIN_SECONDS = 0.05
GAP_SECONDS = 2e-3  # smaller gaps and overlaps between packets are the rounding of their times
NOT_FINITE = "its sound holds samples that are no finite numbers; encode it again, or leave it out"


class SoundEndsError(Exception):
    """The track has no sample at the wanted end; `seconds` is where it ends, on the file's own clock."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def sound_stream(container: Any) -> Any:
    """The main sound stream that can be decoded, or None."""
    best = container.streams.best("audio")
    streams = ([best] if best is not None else []) + list(container.streams.audio)
    return next((s for s in streams if s.codec_context is not None and s.codec_context.sample_rate), None)


def read_sound(source: Source, start_seconds: float, stop_seconds: float, rate_hz: int) -> np.ndarray:
    """Float32 (N,) in [-1, 1], N = round((stop - start) * rate); seconds are on the file's own clock.

    Sample n lies on the grid of whole multiples of 1 / rate, so that cuts of one track fit together to within
    the container's clock (1 ms in Matroska). Where the track starts late or has a hole, there is silence.
    Channels are averaged. Raises `SoundEndsError`, and ValueError for samples that are not finite.
    """
    stream = sound_stream(source.container)
    native_hz = int(stream.codec_context.sample_rate)
    count = round((stop_seconds - start_seconds) * rate_hz)
    first = round(start_seconds * rate_hz)  # on the output's grid
    # The window of native samples starts where both grids meet, so that resampling shifts nothing.
    meet = native_hz // gcd(native_hz, rate_hz)
    window_first = floor((first / rate_hz - MARGIN_SECONDS) * native_hz / meet) * meet
    window_stop = ceil((first + count) * native_hz / rate_hz)
    margin = ceil(MARGIN_SECONDS * native_hz)
    pieces, end = [], -(2**62)
    for at, samples in _pieces(source, stream, native_hz, window_first / native_hz):
        low, high = max(at, window_first), min(at + len(samples), window_stop + margin)
        if low < high:
            pieces.append((low - window_first, samples[low - at : high - at]))
        end = max(end, at + len(samples))
        if end >= window_stop + margin:
            break
    if end < window_stop - 1:
        raise SoundEndsError(max(end, 0) / native_hz)
    window = np.zeros(window_stop + margin - window_first, np.float32)
    for at, samples in pieces:
        window[at : at + len(samples)] = samples
    if not np.isfinite(window).all():
        raise ValueError(NOT_FINITE)
    if native_hz != rate_hz:
        window = _resample(window, native_hz, rate_hz)
    offset = first - window_first * rate_hz // native_hz
    return np.clip(window[offset : offset + count], -1.0, 1.0)


@dataclass(frozen=True)
class Levels:
    """How loud a track is.

    Attributes:
        squares: float64 (n,), the mean square of the samples in each stretch of 1 / rate seconds from second zero on;
            the last stretch may be shorter. Where there is no sample they count as 0.
        stop_seconds: where the last sample ends, after second zero; 0 where there is none.
        is_finite: whether all samples are; those that are not count as 0.
    """

    squares: np.ndarray
    stop_seconds: float
    is_finite: bool


def read_levels(source: Source, zero_seconds: float, rate_hz: float) -> Levels:
    """Decodes the whole track once. `zero_seconds`, on the file's own clock, is where the first frame is shown."""
    stream = sound_stream(source.container)
    native_hz = int(stream.codec_context.sample_rate)
    zero = round(zero_seconds * native_hz)
    sums, stop, is_finite = np.zeros(0), 0, True
    for at, samples in _pieces(source, stream, native_hz, zero_seconds):
        samples, at = samples[max(0, zero - at) :], max(0, at - zero)
        if len(samples) == 0:
            continue
        if not (finite := np.isfinite(samples)).all():
            samples, is_finite = np.where(finite, samples, 0), False
        stop = max(stop, at + len(samples))
        stretches = (np.arange(at, at + len(samples)) * rate_hz / native_hz).astype(np.int64)
        if stretches[-1] >= len(sums):
            sums = np.concatenate([sums, np.zeros(max(stretches[-1] + 1 - len(sums), len(sums)))])
        sums[stretches[0] : stretches[-1] + 1] += np.bincount(stretches - stretches[0], samples.astype(np.float64) ** 2)
    count = ceil(stop * rate_hz / native_hz)
    edges = np.minimum(np.ceil(np.arange(count + 1) * native_hz / rate_hz), stop)
    return Levels(sums[:count] / np.diff(edges), stop / native_hz, is_finite)


def read_whole(source: Source, rate_hz: int) -> np.ndarray:
    """Float32 (N,) in [-1, 1]: the whole track from its first sample on, mono. ValueError for what is not finite."""
    stream = sound_stream(source.container)
    native_hz = int(stream.codec_context.sample_rate)
    pieces = list(_pieces(source, stream, native_hz, 0.0))
    if not pieces:
        raise ValueError("its sound track holds no sample that can be decoded")
    first, end = min(at for at, _ in pieces), max(at + len(samples) for at, samples in pieces)
    whole = np.zeros(end - first, np.float32)
    for at, samples in pieces:
        whole[at - first : at - first + len(samples)] = samples
    if not np.isfinite(whole).all():
        raise ValueError(NOT_FINITE)
    if native_hz != rate_hz:
        whole = _resample(whole, native_hz, rate_hz)[: round(len(whole) * rate_hz / native_hz)]
    return np.clip(whole, -1.0, 1.0)


def _pieces(source: Source, stream: Any, native_hz: int, first_seconds: float) -> Iterator[tuple[int, np.ndarray]]:
    """Decoded sound from `first_seconds` on, or before: (place of the first sample, mono float32), at `native_hz`."""
    target = floor((first_seconds - PREROLL_SECONDS) / float(stream.time_base))
    convert, at = _Converter(native_hz), None
    for decoded in _decoded(source, stream, target, first_seconds):
        for mono, seconds in convert(decoded):
            stamp = None if seconds is None else round(seconds * native_hz)
            if at is None or (stamp is not None and abs(stamp - at) > GAP_SECONDS * native_hz):
                at = stamp or 0
            yield at, mono
            at += len(mono)


class _Converter:
    """Decoded frames of any format to mono float32 (N,) at one rate, each with the second of its first sample."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.kind: tuple[str, str, int] | None = None
        self.resampler: Any = None

    def __call__(self, frame: Any) -> Iterator[tuple[np.ndarray, float | None]]:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind[0] == "fltp" and kind[2] == self.rate_hz and frame.layout.nb_channels < 8:
            yield _mean(frame.to_ndarray()), frame.time  # most codecs; FFmpeg's filter costs more than they do
            return
        if kind != self.kind:  # a broadcast may go from stereo to 5.1 in the middle
            # Interleaved: PyAV 18.1 takes a planar frame of 8 channels for one of 9, and the process dies.
            self.kind, self.resampler = kind, AudioResampler(format="flt", rate=self.rate_hz)
        for converted in self.resampler.resample(frame):
            yield _mean(converted.to_ndarray().reshape(-1, converted.layout.nb_channels).T), converted.time


def _mean(channels: np.ndarray) -> np.ndarray:
    """(channels, N) to (N,), float32."""
    return channels[0] if len(channels) == 1 else np.add.reduce(channels) * np.float32(1 / len(channels))


def _decoded(source: Source, stream: Any, target: int, first_seconds: float) -> Iterator[Any]:
    """Decoded sound from `target` on; from the very start of the file where seeking lands too late."""
    container, again = source.container, None
    try:
        if not _lands_before(container, stream, target, first_seconds):
            container = again = source.open_again()
            stream = container.streams[stream.index]
        for packet in _packets(container, stream):
            try:
                frames = stream.codec_context.decode(packet if packet.size else None)
            except FFmpegError:
                continue  # A damaged packet leaves a hole, which is silent.
            yield from frames
    finally:
        if again is not None:
            again.close()


def _lands_before(container: Any, stream: Any, target: int, first_seconds: float) -> bool:
    """Moves to `target`, or to the start of the track if that is later; False where it lands behind it."""
    start = stream.start_time or 0
    target = max(target, start)
    try:
        container.seek(target, stream=stream)
        landed = next(packet for packet in container.demux(stream) if packet.size)
        container.seek(target, stream=stream)
    except (FFmpegError, StopIteration):
        return False
    if landed.pts is None:
        return False
    return landed.pts <= start or float(landed.pts * landed.time_base) <= first_seconds


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    with contextlib.suppress(*FILE_ENDS):  # cut short: the track ends here
        yield from container.demux(stream)


def _resample(samples: np.ndarray, native_hz: int, rate_hz: int) -> np.ndarray:
    """Sample n of the answer lies where sample n * native / rate of `samples` does; rounded up to whole samples."""
    common = gcd(native_hz, rate_hz)
    up, down = rate_hz // common, native_hz // common
    return resample_poly(samples, up, down, window=_lowpass(up, down))


@lru_cache(maxsize=8)
def _lowpass(up: int, down: int) -> np.ndarray:
    """A sinc of 16 zero crossings to either side under a Kaiser window: side lobes below -85 dB."""
    widest = max(up, down)
    return firwin(2 * 16 * widest + 1, 1 / widest, window=("kaiser", 9.0)).astype(np.float32)
