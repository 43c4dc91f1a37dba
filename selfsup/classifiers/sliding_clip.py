"""A classifier that answers whole clips, on a stream: it is asked about the last frames again and again."""

from collections import deque

import torch
from torch import Tensor

from selfsup.classifiers.classifier import Classifier


class SlidingClip:
    """Answers of any classifier of "clip" to the last `num_frames` frames of a stream, in constant memory.

    Where the classifier answers at each step, the answer is that of the last. It sees the newest frame at once, but the
    middle of what it sees lies `clip_lag_frames` behind.

    Args:
        classifier: it is put into evaluation mode.
        num_frames: T of a clip.
        period: an answer is held until the `period`-th frame after it.

    Attributes:
        work: 1.0 where the last step has asked the classifier, else 0.0.
        lag_frames: how many frames ago the newest frame was taken that the answer knows.

    Raises:
        ValueError: a classifier that reads more than the clip, or a number below 1.
    """

    def __init__(self, classifier: Classifier, num_frames: int, period: int = 1) -> None:
        if classifier.inputs != ("clip",):
            raise ValueError(f"{type(classifier).__name__} does not run live: {classifier.causality}")
        for name, value in (("num_frames", num_frames), ("period", period)):
            if value < 1:
                raise ValueError(f"a sliding clip: {name} is {value}; give at least 1")
        self.classifier = classifier.eval()
        self.num_frames = num_frames
        self.period = period
        self.frames: deque[Tensor] = deque(maxlen=num_frames)
        self.reset()

    @property
    def clip_lag_frames(self) -> float:
        """From the middle of the clip to its newest frame."""
        return (self.num_frames - 1) / 2

    def reset(self) -> None:
        """Forgets what it has seen."""
        self.frames.clear()
        self.work, self.lag_frames = 0.0, 0
        self.logits: Tensor | None = None

    @torch.no_grad()
    def step(self, frame: Tensor) -> Tensor | None:
        """Frame (C, H, W), normalised float, to logits (K,); None until there are `num_frames` frames."""
        self.frames.append(frame)
        self.work = 0.0
        self.lag_frames += 1
        if len(self.frames) == self.num_frames and (self.logits is None or self.lag_frames == self.period):
            logits = self.classifier(torch.stack([*self.frames], dim=1)[None])[0]
            self.logits = logits[-1] if logits.ndim == 2 else logits
            self.work, self.lag_frames = 1.0, 0
        return self.logits

    def skip(self, limit: int) -> int:
        """0: every frame counts."""
        return 0
