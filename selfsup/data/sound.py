"""The sound of a video file between two seconds, mono, at any sampling rate. Private to `reader.py`."""

import contextlib
from collections.abc import Iterator
from math import ceil, floor, gcd
from typing import Any

import numpy as np
from av import AudioFrame, AudioResampler, FFmpegError

from selfsup.data.frame_table import FILE_ENDS, Source

# Lossy codecs need what comes before to decode a sample right (Opus asks for 80 ms), the resampler needs both
# sides.
PREROLL_SECONDS = 0.25
MARGIN_SECONDS = 0.05
GAP_SECONDS = 2e-3  # smaller gaps and overlaps between packets are the rounding of their times


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
    Channels are averaged. Raises `SoundEndsError`.
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
    pieces, end = _native_pieces(source, stream, native_hz, window_first, window_stop + margin)
    if end < window_stop - 1:
        raise SoundEndsError(max(end, 0) / native_hz)
    window = np.zeros(window_stop + margin - window_first, np.float32)
    for at, samples in pieces:
        window[at - window_first : at - window_first + len(samples)] = samples
    if native_hz != rate_hz:
        window = _resample(window, native_hz, rate_hz)
    offset = first - window_first * rate_hz // native_hz
    return np.clip(window[offset : offset + count], -1.0, 1.0)


def _native_pieces(
    source: Source, stream: Any, native_hz: int, first: int, stop: int
) -> tuple[list[tuple[int, np.ndarray]], int]:
    """Pieces (at, samples) within [first, stop) at the track's own rate, and the last sample seen."""
    to_float = AudioResampler(format="fltp", rate=native_hz)  # the format only: rate and layout stay
    target = floor((first / native_hz - PREROLL_SECONDS) / float(stream.time_base))
    pieces, at, end = [], None, -(2**62)
    for decoded in _decoded(source, stream, target, first / native_hz):
        for frame in to_float.resample(decoded):
            mono = frame.to_ndarray().mean(axis=0, dtype=np.float32)
            stamp = None if frame.time is None else round(frame.time * native_hz)
            if at is None or (stamp is not None and abs(stamp - at) > GAP_SECONDS * native_hz):
                at = stamp or 0
            low, high = max(at, first), min(at + len(mono), stop)
            if low < high:
                pieces.append((low, mono[low - at : high - at]))
            at += len(mono)
            end = max(end, at)
        if end >= stop:
            break
    return pieces, end


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
    resampler = AudioResampler(format="fltp", layout="mono", rate=rate_hz)
    frame = AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = native_hz
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])
