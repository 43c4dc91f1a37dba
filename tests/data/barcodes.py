"""Test videos whose frames carry their own number, in black and white blocks that survive any codec."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, BITS = 128, 64, 8
TICKS_PER_SECOND = 1000


def draw(number: int) -> np.ndarray:
    """Uint8 (H, W, 3): the bits of `number` from left to right, their complement in the lower half."""
    bits = np.array([number >> bit & 1 for bit in range(BITS)], np.uint8)
    blocks = np.stack([bits, 1 - bits]) * 255
    image = blocks.repeat(HEIGHT // 2, axis=0).repeat(WIDTH // BITS, axis=1)
    return np.ascontiguousarray(image[:, :, None].repeat(3, axis=2))


def read_number(frame: Any) -> int:
    """The number in a frame uint8 (3, H, W) of any size, held the right way up."""
    grey = np.asarray(frame, np.float32).mean(axis=0)
    height, width = grey.shape
    centres = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    upper, lower = grey[height // 4, centres], grey[3 * height // 4, centres]
    assert (np.abs(upper - lower) > 100).all(), "the frame is blurred or turned"
    return int(((upper > lower) << np.arange(BITS)).sum())


def write(
    path: Path,
    ticks: Sequence[int],
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    container_options: dict[str, str] | None = None,
    **codec_options: str,
) -> Path:
    """Writes one numbered frame for each presentation time (in ticks of 1 ms).

    `rotation` is what the file asks players for, in degrees counter-clockwise; frames are stored turned the
    other way."""
    if codec == "libx264":
        codec_options = {"preset": "veryfast", "bf": "2", "g": "12", "x264-params": "scenecut=0"} | codec_options
    with av.open(str(path), "w", options=container_options or {}) as container:
        gaps = np.diff(ticks)
        rate = Fraction(TICKS_PER_SECOND, int(gaps[0]) if len(gaps) else 40)
        stream: Any = container.add_stream(codec, rate=rate, options=codec_options)
        turned = rotation % 180 != 0
        stream.width, stream.height = (HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT)
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        in_ticks = codec not in {"mpeg4", "mpeg2video", "msmpeg4v3"}  # these count in whole frames
        stream.codec_context.time_base = Fraction(1, TICKS_PER_SECOND) if in_ticks else 1 / rate
        if rotation:
            stream.set_display_rotation(rotation)
        for number, tick in enumerate(ticks):
            stored = np.ascontiguousarray(np.rot90(draw(number), -rotation // 90))
            frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
            frame.pts = tick if in_ticks else number
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def copy_from(source: Path, target: Path, start_seconds: float) -> Path:
    """Cuts without decoding, from the keyframe before `start_seconds`: an edit list hides what comes before."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream: Any = reading.streams.video[0]
        copied = writing.add_stream_from_template(stream)
        start = round(start_seconds / stream.time_base)
        reading.seek(start, stream=stream)
        for packet in reading.demux(stream):
            if packet.dts is None:
                continue
            packet.pts -= start
            packet.dts -= start
            packet.stream = copied
            writing.mux(packet)
    return target


LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def write_sound(path: Path, samples: np.ndarray, rate_hz: int, codec: str = "pcm_s16le", late_ms: int = 0) -> Path:
    """Writes sound, float (channels, N) in [-1, 1], beside 4 s of numbered frames at 25 a second.

    For the codec pcm_f32le the samples are kept as they are, also those that are no finite numbers."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        layout = LAYOUTS[len(samples)]
        sound: Any = container.add_stream(codec, rate=rate_hz, layout=layout)
        for number in range(100):
            container.mux(video.encode(av.VideoFrame.from_ndarray(draw(number), format="rgb24")))
        container.mux(video.encode())
        packed = np.ascontiguousarray(samples.T.reshape(1, -1), np.float32)
        kind = "flt"
        if codec != "pcm_f32le":
            packed, kind = (packed * 32767).round().astype(np.int16), "s16"
        frame = av.AudioFrame.from_ndarray(packed, format=kind, layout=layout)
        frame.sample_rate, frame.pts = rate_hz, late_ms * rate_hz // 1000
        frame.time_base = Fraction(1, rate_hz)
        for ready in av.AudioResampler(format=sound.format.name, layout=layout, rate=rate_hz).resample(frame):
            container.mux(sound.encode(ready))
        container.mux(sound.encode())
    return path
