"""The contract of every stream: a frame goes in, the features that are known now come out.

Axes: C channels, H height, W width, D features, S stages.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from selfsup.encoders.encoder import Encoder, FrameEncoder


class Stream(Protocol):
    """Runs the stages of an encoder on one stream, in constant memory and without gradient.

    Attributes:
        work: what the last step has cost, as a share of the multiply-adds of the whole encoder on one frame.
        lag_frames: how many frames ago the newest frame was taken that the whole encoder has seen in the features of
            the last step; 0 for features of this very frame.
    """

    work: float
    lag_frames: int

    def step(self, frame: Tensor) -> Tensor | None:
        """Frame (C, H, W), normalised float, to a feature map (D, H', W'); None until the first frame is through."""
        ...

    def reset(self) -> None:
        """Forgets what it has seen."""
        ...


class HeldFrames:
    """Every n-th frame through all stages; its features are held for the frames between.

    Frame skipping: the baseline of Shelhamer et al. 2016 (arXiv 1608.03609, section 5), and with a period of 1 the
    encoder itself, frame by frame.

    Args:
        encoder: 2-D; it is put into evaluation mode.
        period: n, at least 1.

    Raises:
        ValueError: a 3-D encoder, which knows no features of one frame, or a period below 1.
    """

    def __init__(self, encoder: Encoder, period: int = 1) -> None:
        if period < 1:
            raise ValueError(f"method.period is {period}; give a whole number of at least 1")
        self.encoder = frame_encoder(encoder)
        self.period = period
        self.reset()

    def reset(self) -> None:
        """Forgets what it has seen."""
        self.work, self.lag_frames = 0.0, self.period - 1
        self.features: Tensor | None = None

    @torch.no_grad()
    def step(self, frame: Tensor) -> Tensor:
        """Frame (C, H, W) to the feature map (D, H', W') of the last frame that was taken."""
        self.lag_frames = (self.lag_frames + 1) % self.period
        self.work = float(self.lag_frames == 0)
        if self.features is None or self.work:
            self.features = self.encoder(frame[None, :, None])[0, :, 0]
        return self.features


def frame_encoder(encoder: Encoder) -> FrameEncoder:
    """The encoder, in evaluation mode; ValueError where it is none of single frames."""
    if not isinstance(encoder, FrameEncoder):
        raise ValueError(
            f"{type(encoder).__name__} looks at whole clips, and its stages at several frames; a stream takes a 2-D "
            "encoder (resnet18, caffenet …), or a sliding clip for this one"
        )
    return encoder.eval()


@torch.no_grad()
def stage_shares(stages: Sequence[nn.Module], frame: Tensor) -> list[float]:
    """The share of each of S stages in the multiply-adds of all of them, on a frame (C, H, W); they add up to 1."""
    costs, maps = [], frame[None]
    for stage in stages:
        with FlopCounterMode(display=False) as counter:
            maps = stage(maps)
        costs.append(counter.get_total_flops())
    whole = sum(costs)
    return [cost / whole for cost in costs]
