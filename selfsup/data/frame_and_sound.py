"""A frame and the second of sound around it: the question of audio-visual correspondence.

Positives and negatives are made of the very same frames and sounds, paired otherwise, so no time, no loudness and no
phase of the codec is more frequent in one of the two (Arandjelović and Zisserman 2018, arXiv 1712.06651, section 3.3:
negatives from another sampling grid raised accuracy from 81.9 to 87.6 % and made the features worse).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import uniform

Negatives = Literal["other_video", "other_time", "both"]
Grid = Literal["shared", "free"]
_TRIES = 20  # draws of two moments


@dataclass(frozen=True)
class FrameAndSound:
    """ "clip" uint8 (C, M, H, W) and "sound" float32 (M, N) in [-1, 1]: M moments, each a frame and sound around it.

    Every sound starts on the grid of the video's frame rate; its frame is shown up to `misalignment_seconds` from its
    middle. M is 1, and 2 where negatives come from another time of the same video. N is `rate_hz` x `sound_seconds`.
    "seconds" float32 (M, 2) says when each frame is shown and when its sound starts. With `truth` there is "truth"
    float32 (1, M, H, W) in [0, 1] too, where a mask of the sounding object is known.

    Args:
        negatives: what the task pairs a frame with: "other_video", "other_time" or "both".
        sound_seconds: length of a sound.
        rate_hz: of the sound; the file's own is resampled.
        misalignment_seconds: greatest distance of the frame from the middle of the sound. Half of `sound_seconds` lets
            the sound begin or end at the frame.
        gap_seconds: least distance of two moments; sounds that are nearer than `sound_seconds` overlap.
        grid: "shared"; or "free", to show what an uncontrolled grid does: the sound of a positive is centred on its
            frame, and "other_sound" (M, N), for negatives, starts anywhere.
        truth: look for masks of the sounding object, see `read_masks`.

    Raises ValueError for a value out of its bounds.
    """

    negatives: Negatives = "other_video"
    sound_seconds: float = 1.0
    rate_hz: int = 16_000
    misalignment_seconds: float = 0.5
    gap_seconds: float = 1.0
    grid: Grid = "shared"
    truth: bool = False

    def __post_init__(self) -> None:
        for name, value, kind in (("negatives", self.negatives, Negatives), ("grid", self.grid, Grid)):
            if value not in get_args(kind):
                raise ValueError(f"task.sampler.{name}={value!r}: choose one of {', '.join(get_args(kind))}")
        if self.sound_seconds <= 0 or self.rate_hz < 1 or self.gap_seconds <= 0 or self.misalignment_seconds < 0:
            raise ValueError(
                f"task.sampler: sound_seconds={self.sound_seconds:g}, rate_hz={self.rate_hz} and gap_seconds="
                f"{self.gap_seconds:g} must lie above 0, misalignment_seconds={self.misalignment_seconds:g} not below"
            )
        if self.grid == "free" and self.negatives != "other_video":
            raise ValueError("task.sampler.grid=free: only with task.negatives=other_video, as in the paper's audit")

    @property
    def moments(self) -> int:
        """M."""
        return 1 if self.negatives == "other_video" else 2

    @property
    def minimum_seconds(self) -> float:
        """Length of the shortest video of which the question can be asked."""
        return self.sound_seconds + (self.moments - 1) * self.gap_seconds

    def refuse(self, info: VideoInfo) -> str | None:
        """Why frame and sound cannot be drawn, or None."""
        if not info.has_audio:
            return "has no sound track"
        if info.heard_seconds < self.minimum_seconds - 1e-6:
            return (
                f"has sound and frames together for {info.heard_seconds:.2f} s, {self.moments} x "
                f"{self.sound_seconds:g} s of sound need {self.minimum_seconds:g} s; lower task.sampler.sound_seconds"
                f"{' or gap_seconds' if self.moments > 1 else ''}"
            )
        return None

    def starts_seconds(self, info: VideoInfo, generator: torch.Generator) -> list[float]:
        """When the M sounds start: on the grid of frame times, drawn evenly from all that are `gap_seconds` apart.

        In a video that is hardly longer than it must be they are its ends, up to a frame less apart.
        """
        last = self._last_start(info)
        if self.moments == 1:
            return [self._on_grid(info, uniform(0, last + 1 / info.fps, generator))]
        for _ in range(_TRIES):
            starts = [self._on_grid(info, uniform(0, last + 1 / info.fps, generator)) for _ in range(2)]
            if abs(starts[1] - starts[0]) >= self.gap_seconds - 1e-6:
                return starts
        # Hardly longer than needed: its ends, in random order.
        ends = [0.0, self._on_grid(info, last)]
        return ends if uniform(0, 1, generator) < 0.5 else ends[::-1]

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        starts = self.starts_seconds(info, generator)
        reach = self.misalignment_seconds if self.grid == "shared" else 0.0
        middles = [start + self.sound_seconds / 2 + uniform(-reach, reach, generator) for start in starts]
        end = float(video.times_seconds[-1])
        times = [min(max(0.0, middle), end) for middle in middles]
        example = {"clip": video.frames(times).transpose(0, 1)}
        numbers = video.numbers(times)
        if self.grid == "free":
            anywhere = [uniform(0, self._last_start(info), generator) for _ in starts]
            example["other_sound"] = self._sounds(video, anywhere)
            shown = video.times_seconds[numbers] - self.sound_seconds / 2
            starts = shown.clip(0, self._last_start(info)).tolist()
        example["sound"] = self._sounds(video, starts)
        example["seconds"] = torch.tensor([video.times_seconds[numbers].tolist(), starts]).T
        if self.truth and (masks := info.true_masks()) is not None:
            size = list(example["clip"].shape[-2:])
            example["truth"] = F.resize(torch.from_numpy(masks[numbers]).float()[None], size, antialias=True)
        return example

    def _last_start(self, info: VideoInfo) -> float:
        return max(0.0, info.heard_seconds - self.sound_seconds)

    def _on_grid(self, info: VideoInfo, seconds: float) -> float:
        """The last frame time that is no later, and at which a whole sound can start."""
        return int(min(seconds, self._last_start(info)) * info.fps + 1e-6) / info.fps

    def _sounds(self, video: VideoReader, starts: list[float]) -> Tensor:
        """Float32 (M, N)."""
        count = round(self.sound_seconds * self.rate_hz)
        return torch.stack([video.audio(start, start + self.sound_seconds, self.rate_hz)[:count] for start in starts])
