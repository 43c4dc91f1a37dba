"""The contract of every classifier: clips go in, logits come out.

Axes: B batch, C channels, T time, H height, W width, D features, K classes.
"""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from selfsup.encoders.encoder import Encoder


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

    Raises:
        ValueError: fewer than two classes.
    """

    inputs: tuple[str, ...] = ("clip",)
    num_classes: int
    each_moment: bool = False
    forward: Callable[..., Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; a classifier chooses between at least 2 classes")
        self.num_classes = num_classes

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

    def join(self, logits: Tensor) -> Tensor:
        """One answer a clip: (B, T', K) to (B, K), the mean over the steps, before the softmax; (B, K) as it is."""
        return logits.mean(dim=1) if logits.ndim == 3 else logits
