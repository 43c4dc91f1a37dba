"""Several clips of one video at different times: what the same video is still the same in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from selfsup.data.clips import DenseClip
from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader


@dataclass(frozen=True)
class ClipViews:
    """ "clip" uint8 (V, C, T, H, W): V clips of a video, each from anywhere in it, whatever the others show.

    The rho views of Feichtenhofer et al. 2021, arXiv 2104.14558, section 3: no two need be near each other in time, and
    they may overlap. Every start is as likely as every other.

    Args:
        views: V.
        num_frames: T.
        stride_seconds: from one frame of a clip to the next.

    Raises ValueError for a value out of its bounds.
    """

    views: int = 2
    num_frames: int = 8
    stride_seconds: float = 0.1

    def __post_init__(self) -> None:
        if self.views < 2 or self.num_frames < 1 or self.stride_seconds <= 0:
            raise ValueError(
                f"task.sampler: views={self.views} must not lie below 2, num_frames={self.num_frames} not below 1, and "
                f"stride_seconds={self.stride_seconds:g} must lie above 0"
            )

    @property
    def clip(self) -> DenseClip:
        """One view."""
        return DenseClip(self.num_frames, stride_seconds=self.stride_seconds, loop=False)

    def refuse(self, info: VideoInfo) -> str | None:
        """Why no view can be drawn, or None."""
        if self.clip.slack_seconds(info) >= 0:
            return None
        return (
            f"too short for a view: lasts {info.duration_seconds:.2f} s, {self.num_frames} frames need "
            f"{(self.num_frames - 1) * self.stride_seconds + 1 / info.fps:.2f} s; lower task.sampler.num_frames or "
            f"stride_seconds"
        )

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        clips = [self.clip(video, info, generator)["clip"] for _ in range(self.views)]
        return {"clip": torch.stack(clips)}
