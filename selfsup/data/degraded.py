"""Clips that have lost something: a question that can be answered without it was not about it.

Shortcuts of pretext tasks at large: arXiv 2312.13008. Colour was taken away by Lee, Huang, Singh and Yang (ICCV 2017,
arXiv 1708.01246).

Every function takes and gives uint8 (…, C, T, H, W), RGB; with views (B, V, C, T, H, W).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import av
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

BORDER = 8  # one part in so many of a side is masked, on each side
RATE = 25  # frames a second of the file; no codec's settings here hang on it


def static(clip: Tensor) -> Tensor:
    """The middle frame, of the first view where there are views, in every place."""
    first = clip[:, :1] if clip.ndim == 6 else clip
    middle = clip.shape[-3] // 2
    return first[..., middle : middle + 1, :, :].expand_as(clip)


def single_frames(clip: Tensor) -> Tensor:
    """Of each view its middle frame in every place."""
    middle = clip.shape[-3] // 2
    return clip[..., middle : middle + 1, :, :].expand_as(clip)


def without_borders(clip: Tensor) -> Tensor:
    """An eighth of the height and of the width, on each side, is covered by the pixels just within.

    A grey frame would be something new to the network rather than something less.
    """
    top, left = clip.shape[-2] // BORDER, clip.shape[-1] // BORDER
    rows = torch.arange(clip.shape[-2]).clamp(top, clip.shape[-2] - top - 1)
    columns = torch.arange(clip.shape[-1]).clamp(left, clip.shape[-1] - left - 1)
    return clip[..., rows[:, None], columns]


def grey(clip: Tensor) -> Tensor:
    """Luma in all three channels."""
    return rgb_to_grayscale(clip.transpose(-4, -3), num_output_channels=3).transpose(-4, -3)


def reencoded(clip: Tensor, codec: str, options: dict[str, str]) -> Tensor:
    """Each clip after it was compressed as a video of its own by `codec`, one of FFmpeg's encoders."""
    clips = clip.flatten(0, clip.ndim - 5)
    even = torch.nn.functional.pad(clips, (0, clips.shape[-1] % 2, 0, clips.shape[-2] % 2))  # as chroma needs
    found = torch.stack([_through(one.permute(1, 2, 3, 0), codec, options) for one in even])
    return found.permute(0, 4, 1, 2, 3)[..., : clip.shape[-2], : clip.shape[-1]].reshape(clip.shape)


def _through(frames: Tensor, codec: str, options: dict[str, str]) -> Tensor:
    """Frames uint8 (T, H, W, 3), compressed and decoded."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream: Any = container.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.contiguous().numpy(), format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as compressed:
        decoded = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in compressed.decode(video=0)]
    return torch.stack(decoded)


# Those that leave no motion: who answers all the same has not looked at it.
MOTIONLESS: dict[str, Callable[[Tensor], Tensor]] = {"static video": static, "single frame of each view": single_frames}
# Those that change what is no part of the question.
BESIDE_THE_POINT: dict[str, Callable[[Tensor], Tensor]] = {
    "borders masked": without_borders,
    "grey": grey,
    "re-encoded, H.264": partial(reencoded, codec="libx264", options={"crf": "35"}),
    "re-encoded, MPEG-4": partial(reencoded, codec="mpeg4", options={"b": "200k"}),
}
