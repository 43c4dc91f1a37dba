"""The sound of a video file between two seconds, mono, at any sampling rate. Private to `reader.py`."""

from math import ceil, floor, gcd
from typing import Any

import av
import numpy as np

# Lossy codecs need what comes before to decode a sample right (Opus asks for 80 ms); the resampler needs both sides.
PREROLL_SECONDS = 0.25
MARGIN_SECONDS = 0.05
GAP_SECONDS = 1e-3  # shorter gaps and overlaps between sound packets are rounding of their times


class SoundEnds(Exception):
    """The track has no sample at the wanted end; `seconds` is where it ends, on the file's own clock."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def read_sound(container: Any, start_seconds: float, stop_seconds: float, rate_hz: int) -> np.ndarray:
    """Float32 (N,) in [-1, 1], N = round((stop - start) * rate); seconds are on the file's own clock.

    Sample n lies on the grid of whole multiples of 1 / rate, so that cuts of one track fit together. Where the track
    starts late or has a hole, there is silence. Channels are averaged. Raises `SoundEnds`.
    """
    stream = next(s for s in container.streams.audio if s.codec_context is not None)
    native_hz = int(stream.codec_context.sample_rate)
    count = round((stop_seconds - start_seconds) * rate_hz)
    first = round(start_seconds * rate_hz)  # on the output grid
    # The window of native samples starts where both grids meet, so that resampling shifts nothing.
    meet = native_hz // gcd(native_hz, rate_hz)
    window_first = floor((first / rate_hz - MARGIN_SECONDS) * native_hz / meet) * meet
    window_stop = ceil((first + count) * native_hz / rate_hz)
    margin = ceil(MARGIN_SECONDS * native_hz)
    window, end = _native_window(container, stream, native_hz, window_first, window_stop + margin)
    if end < window_stop - 1:
        raise SoundEnds(end / native_hz)
    if native_hz != rate_hz:
        window = _resample(window, native_hz, rate_hz)
    offset = first - window_first * rate_hz // native_hz
    return np.clip(window[offset : offset + count], -1.0, 1.0)


def _native_window(
    container: Any, stream: Any, native_hz: int, first: int, stop: int
) -> tuple[np.ndarray, int]:
    """Samples [first, stop) at the track's own rate, float32, and where the track ends (exact if before stop)."""
    window = np.zeros(stop - first, np.float32)
    tick_seconds = float(stream.time_base)
    to_float = av.AudioResampler(format="fltp", rate=native_hz)  # the format only: the layout is kept
    target = max(0, floor((first / native_hz - PREROLL_SECONDS) / tick_seconds))
    end, at, began = -(2**62), None, False
    for decoded in _decoded_from(container, stream, target, first / native_hz):
        for frame in to_float.resample(decoded):
            mono = frame.to_ndarray().mean(axis=0, dtype=np.float32)
            stamped = at if frame.pts is None else round(float(frame.pts * frame.time_base) * native_hz)
            if at is None or stamped is None or abs(stamped - at) > GAP_SECONDS * native_hz:
                at = stamped or 0
            low, high = max(at, first), min(at + len(mono), stop)
            if low < high:
                window[low - first : high - first] = mono[low - at : high - at]
            at += len(mono)
            end, began = max(end, at), True
        if began and end >= stop:
            break
    return window, end


def _decoded_from(container: Any, stream: Any, target: int, first_seconds: float) -> Any:
    """Decoded frames from `target` on; from the very start where seeking lands too late."""
    for offset in (target, None):
        try:
            container.seek(offset if offset is not None else stream.start_time or 0, stream=stream)
        except av.FFmpegError:
            continue
        late = False
        for number, packet in enumerate(_packets(container, stream)):
            seconds = None if packet.pts is None else float(packet.pts * packet.time_base)
            if number == 0 and offset is not None and offset > (stream.start_time or 0):
                late = seconds is None or seconds > first_seconds
                if late:
                    break
            try:
                frames = stream.codec_context.decode(packet if packet.size else None)
            except av.FFmpegError:
                continue  # A damaged packet leaves a hole, which is silent.
            yield from frames
        if not late:
            return


def _packets(container: Any, stream: Any) -> Any:
    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        return  # cut short: the track ends here


def _resample(samples: np.ndarray, native_hz: int, rate_hz: int) -> np.ndarray:
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate_hz)
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = native_hz
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])
