"""From the frames of a stream to answers: prepared as in the training, through a method, to the classifier's head."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from selfsup.classifier_weights import ClipSpecification, Trained
from selfsup.classifiers.classifier import LiveHead
from selfsup.classifiers.depth_parallel import DepthParallelRnn
from selfsup.classifiers.sliding_clip import SlidingClip
from selfsup.data.transforms import evaluation_crop
from selfsup.encoders.encoder import Encoder, FrameEncoder, InputSpecification
from selfsup.streaming.pipeline import DepthParallel
from selfsup.streaming.stream import HeldFrames, Stream

SKIP_AT_MOST = 1000  # frames at a time


class Steps(Protocol):
    """What answers frames one by one: a `SlidingClip`, or a `HeadOnStream`."""

    @property
    def work(self) -> float: ...

    @property
    def lag_frames(self) -> int: ...

    def step(self, frame: Tensor) -> Tensor | None:
        """Frame (C, H, W), normalised float, to logits (K,); None where there is no answer yet."""
        ...

    def skip(self, limit: int) -> int:
        """Passes over the coming frames that would change nothing, at most `limit`, and returns their number."""
        ...

    def reset(self) -> None:
        """Forgets what it has seen."""
        ...


class HeadOnStream:
    """A classifier's head on the features that a method keeps of the frames.

    Args:
        stream: the method.
        head: None where features are all that is asked for.
    """

    def __init__(self, stream: Stream, head: LiveHead | None) -> None:
        self.stream = stream
        self.head = head

    @property
    def work(self) -> float:
        """See `Stream`."""
        return self.stream.work

    @property
    def lag_frames(self) -> int:
        """See `Stream`."""
        return self.stream.lag_frames

    def step(self, frame: Tensor) -> Tensor | None:
        """Frame (C, H, W) to logits (K,)."""
        features = self.stream.step(frame)
        return None if features is None or self.head is None else self.head.step(features.mean(dim=(1, 2)))

    def skip(self, limit: int) -> int:
        """See `Steps`."""
        return 0 if self.head is None else self.head.skip(limit)

    def reset(self) -> None:
        """Forgets what it has seen."""
        self.stream.reset()
        if self.head is not None:
            self.head.reset()


class LiveNetwork:
    """Answers to pictures, prepared as those of an evaluation are.

    Args:
        steps: what answers.
        input, clip: what the network was trained to see.
        device: where it is.
        fps: of the source; where the network was trained at a lower rate, frames between are passed over.
    """

    def __init__(
        self, steps: Steps, input: InputSpecification, clip: ClipSpecification, device: torch.device, fps: float
    ) -> None:
        self.steps = steps
        self.normalize = input.normalize
        self.crop = evaluation_crop(input.size_pixels, clip.stretch)
        self.device = device
        self.stride = max(1, round(fps / clip.fps)) if clip.fps else 1

    @torch.no_grad()
    def answer(self, image: np.ndarray) -> Tensor | None:
        """A picture uint8 (H, W, 3), read at the short side of the specification, to logits (K,) on the CPU."""
        logits = self.steps.step(self.prepare(image))
        return None if logits is None else logits.float().cpu()

    def prepare(self, image: np.ndarray) -> Tensor:
        """A picture uint8 (H, W, 3) to the float (C, H', W') that the encoder takes."""
        frame = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]  # laid out as in an evaluation
        cropped = self.crop(tv_tensors.Video(frame)).as_subclass(Tensor)
        return self.normalize(cropped.transpose(0, 1)[None].to(self.device))[0, :, 0]

    def skip(self) -> int:
        """The coming frames that need not be looked at."""
        return (self.steps.skip(SKIP_AT_MOST) + 1) * self.stride - 1


def steps_of(trained: Trained | None, encoder: Encoder, method: Callable[[Encoder], Stream]) -> Steps:
    """What answers frames: the method on a 2-D encoder with the classifier's head, else a sliding clip.

    Args:
        trained: None where features are all that is asked for.
        encoder: that of the classifier.
        method: called with the encoder.

    Raises:
        ValueError: the classifier does not run live, or not by this method, or the method does not run clips.
    """
    if trained is None:
        return HeadOnStream(method(encoder), None)
    classifier, frames = trained.classifier, trained.clip.num_frames
    if classifier.inputs != ("clip",) or isinstance(encoder, FrameEncoder):
        stream = method(encoder)
        if isinstance(classifier, DepthParallelRnn):
            check_pipeline(classifier, stream)
        return HeadOnStream(stream, classifier.live(frames))
    if not isinstance(method, partial) or method.func is not HeldFrames:
        raise ValueError(
            f"{type(encoder).__name__} looks at whole clips, and this method runs the stages of a 2-D encoder frame by "
            "frame; choose method=every_frame, or method=held_frames to answer every n-th frame"
        )
    return SlidingClip(classifier, frames, **method.keywords)


def check_pipeline(classifier: DepthParallelRnn, stream: Stream) -> None:
    """ValueError where the stream does not know at each tick what the classifier was trained to know."""
    wanted = (classifier.clocks, classifier.skip_connections)
    if isinstance(stream, DepthParallel):
        fits = wanted == (stream.clocks, stream.skip_connections)
        if fits and classifier.skip_connections:
            fits = [len(part) for part in stream.networks] == classifier.cut
    else:
        fits = wanted == ([1], False)  # one sub-network is the encoder
    if not fits:
        options = [f"method.sub_networks={len(classifier.clocks)}"]
        if set(classifier.clocks) != {1}:
            options.append(f"method.clocks={str(classifier.clocks).replace(' ', '')}")
        if classifier.skip_connections:
            options += ["method.skip_connections=true", "method.cut=multiply_adds"]
        raise ValueError(f"this classifier has learned to answer late; give method=depth_parallel {' '.join(options)}")


def encoder_of(trained: Trained | None, given: Encoder | None) -> Encoder:
    """The encoder to run: that of the classifier, which the given one must equal; else the given one.

    Raises ValueError where they differ, or there is neither.
    """
    if trained is None:
        if given is None:
            raise ValueError("no encoder: give encoder.path=…/encoder.safetensors or classifier.path=…")
        return given
    encoders = trained.classifier.encoders()
    inside = encoders.get("clip", next(iter(encoders.values())))
    if given is not None and not _same(given, inside):
        raise ValueError(
            "encoder.path and classifier.path hold different encoders; classifier.safetensors has its own inside, so "
            "leave encoder.path out, or give the encoder.safetensors of the same run"
        )
    return inside


def _same(one: Encoder, other: Encoder) -> bool:
    first: dict[str, Any] = one.state_dict()
    second: dict[str, Any] = other.state_dict()
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)
