"""The contract of every classifier: clips go in, logits come out.

Axes: B batch, C channels, T time, H height, W width, D features, K classes.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from selfsup.encoders.encoder import Encoder


class LiveHead(Protocol):
    """What a classifier does with the features of one frame after the other, in constant memory, without gradient."""

    def step(self, features: Tensor) -> Tensor:
        """Features (D,) of the next frame, averaged over space, to logits (K,)."""
        ...

    def skip(self, limit: int) -> int:
        """Passes over the coming frames that would change nothing, at most `limit`, and returns their number."""
        ...

    def reset(self) -> None:
        """Forgets what it has seen."""
        ...


class Classifier(nn.Module):
    """Maps clips (B, C, T, H, W), normalised floats, to logits (B, K), or (B, T', K): one answer at each step.

    A subclass takes (encoder, num_classes, …) and writes `forward`, which is given the tensors that `inputs` names, in
    that order, and `encoders`. The shortest clip is the encoder's `minimum_frames`.

    Args:
        num_classes: K.

    Attributes:
        inputs: the names in the batch of what `forward` takes.
        num_classes: K.
        each_moment: whether the logits are (B, T', K).
        causality: whether earlier answers are free of later frames, and how it runs live, or why not: one sentence.
        only_in_training: constructor arguments that its file leaves out, for they change no answer.

    Raises:
        ValueError: fewer than two classes.
    """

    inputs: tuple[str, ...] = ("clip",)
    num_classes: int
    each_moment: bool = False
    causality: str
    only_in_training: tuple[str, ...] = ()
    forward: Callable[..., Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; a classifier chooses between at least 2 classes")
        self.num_classes = num_classes

    @property
    def warm_up(self) -> int:
        """How many answers of a clip, from its first on, are not counted, since no frame is through yet."""
        return 0

    def encoders(self) -> Mapping[str, Encoder]:
        """The encoder of each input, by its name; freezing and layer-wise learning rates act on them.

        Written by the subclass.
        """
        raise NotImplementedError(f"{type(self).__name__} must write `encoders`")

    def answer(self, *inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits of `forward`, and scalars by name: "loss" is added to the task's, the rest is logged beside it.

        Written by a subclass whose answer has a cost or a figure of its own.
        """
        return self(*inputs), {}

    def live(self, window: int) -> LiveHead:
        """Its head for a stream of frames; the classifier is put into evaluation mode.

        Written by a subclass that can answer frame by frame where its encoder is 2-D.

        Args:
            window: frames of the clips that it was trained on, for answers to a clip.

        Raises:
            ValueError: it cannot answer from the features of single frames.
        """
        raise ValueError(f"{type(self).__name__} does not run live: {self.causality}")

    def join(self, logits: Tensor) -> Tensor:
        """One answer a clip: (B, T', K) to (B, K), the mean over the steps, before the softmax; (B, K) as it is."""
        return logits[:, self.warm_up :].mean(dim=1) if logits.ndim == 3 else logits
