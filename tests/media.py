"""Small video files for tests, encoded with PyAV from frames that the test draws."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def write_video(path: Path, frames: np.ndarray, fps: int = 10, *, sound: bool = False) -> Path:
    """Writes frames, uint8 (T, H, W, 3) or grey (T, H, W), H and W even, nearly without loss; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if frames.ndim == 3:
        frames = frames[..., None].repeat(3, axis=3)
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "qp": "4", "g": "10", "bf": "0"}
        video: Any = container.add_stream("libx264", rate=fps, options=options)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv444p"
        video.codec_context.thread_count = 1
        track: Any = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(video.encode())
        if track is not None:
            wave = np.sin(np.arange(len(frames) * 16000 // fps) * 0.2).astype(np.float32)[None]
            samples = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 16000, 0, Fraction(1, 16000)
            for piece in av.AudioResampler(format="fltp", layout="mono", rate=16000, frame_size=1024).resample(samples):
                container.mux(track.encode(piece))
            container.mux(track.encode())
    return path


def moving(count: int, *, side: int = 32, still_until: int = 0, seed: int = 0) -> np.ndarray:
    """Uint8 (count, side, side): a random texture that moves by 2 pixels a frame, after `still_until` still frames."""
    texture = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4), np.uint8)
    texture = texture.repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([np.roll(texture, 2 * max(0, number - still_until), axis=1) for number in range(count)])


def still(count: int, *, side: int = 32, seed: int = 0) -> np.ndarray:
    """Uint8 (count, side, side): one random texture, frozen."""
    return moving(count, side=side, still_until=count, seed=seed)
