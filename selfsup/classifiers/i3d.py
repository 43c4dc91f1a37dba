"""I3D: a 2-D encoder inflated to a 3-D one, and pooling (Carreira, Zisserman 2017, arXiv 1705.07750, section 2.4)."""

from collections.abc import Sequence

from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.inflated import inflate


class I3D(FramePooling):
    """Clip (B, C, T, H, W) to logits (B, K), through the 3-D network that a 2-D encoder becomes.

    The weights of `encoder` are copied; the inflated encoder is `encoders()["clip"]`, with stages of the same names.

    Args:
        encoder: a 2-D encoder of this package, with convolutions, batch norm and pooling only.
        num_classes: K.
        kernel_frames, mode, padding, time_strides: see `selfsup.encoders.inflated.Inflated`.
        pooling, hidden_dim, dropout: see `FramePooling`.

    Raises:
        ValueError: an encoder that cannot be inflated, fewer than two classes, or an option out of its range.
    """

    causality = (
        "not causal: its kernels look at frames on both sides; it runs on a sliding clip of as many frames as a clip "
        "of the training has"
    )

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        kernel_frames: int = 3,
        mode: str = "replicate",
        padding: str = "replicate",
        time_strides: Sequence[int] | None = None,
        pooling: str = "mean",
        hidden_dim: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        inflated = inflate(encoder, kernel_frames, mode, padding, time_strides)
        super().__init__(inflated, num_classes, pooling, hidden_dim, dropout)
