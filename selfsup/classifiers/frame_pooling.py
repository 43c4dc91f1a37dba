"""Features of each moment, pooled over time, and a small network.

The simplest video classifier: the "single frame" of Karpathy et al. 2014 (CVPR, section 3.1), with the frames joined
before the answer (max: "conv pooling" of Yue-Hei Ng et al. 2015, arXiv 1503.08909, section 3.1). With a 2-D encoder it
is blind to the order of frames. With a 3-D one it is the usual head of R3D and R(2+1)D: the mean over space and time.
"""

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from selfsup.classifiers.classifier import Classifier
from selfsup.encoders.encoder import Encoder

POOLINGS = ("mean", "max", "sum", "none")


class FramePooling(Classifier):
    """Clip (B, C, T, H, W) to logits (B, K); with pooling "none" (B, T', K), an answer at each moment of the features.

    Args:
        encoder: 2-D or 3-D; its features are averaged over space.
        num_classes: K.
        pooling: of the features over time, "mean", "max", "sum" or "none".
        hidden_dim: width of one hidden layer with ReLU; None for a linear classifier.
        dropout: share of the pooled features, and of the hidden layer, dropped in training, in [0, 1).

    Raises:
        ValueError: fewer than two classes, or an option out of its range.
    """

    causality = (
        "with a 2-D encoder causal: each frame alone with pooling=none, else the last frames, as many as a clip of the "
        "training has; with a 3-D one (c3d, r3d, r2plus1d) it runs on a sliding clip"
    )

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        pooling: str = "mean",
        hidden_dim: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_classes)
        if pooling not in POOLINGS:
            raise ValueError(f"classifier.pooling is {pooling!r}; give one of {', '.join(POOLINGS)}")
        if hidden_dim is not None and hidden_dim < 1:
            raise ValueError(f"classifier.hidden_dim is {hidden_dim}; give at least 1, or null for a linear classifier")
        check_dropout(dropout)
        self.encoder = encoder
        self.pooling = pooling
        self.each_moment = pooling == "none"
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        if hidden_dim is not None:
            layers += [nn.Linear(encoder.dim, hidden_dim), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.head = nn.Sequential(*layers, nn.Linear(hidden_dim or encoder.dim, num_classes))

    def encoders(self) -> Mapping[str, Encoder]:
        """The one encoder, that of the clip."""
        return {"clip": self.encoder}

    def forward(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to logits (B, K), or (B, T', K)."""
        return self.answer_to(self.encoder(clip).mean(dim=(3, 4)))

    def answer_to(self, features: Tensor) -> Tensor:
        """Features (B, D, T'), averaged over space, to logits (B, K), or (B, T', K)."""
        if self.pooling == "mean":
            pooled = features.mean(dim=2)
        elif self.pooling == "max":
            pooled = features.amax(dim=2)
        elif self.pooling == "sum":
            pooled = features.sum(dim=2)
        else:
            pooled = features.transpose(1, 2)  # (B, T', D)
        return self.head(pooled)

    def live(self, window: int) -> "PooledHead":
        """The answer to the last `window` frames, or to each frame alone."""
        return PooledHead(self, 1 if self.each_moment else window)


class PooledHead:
    """Answers of a `FramePooling` to one stream: to the last frames, of which the features are kept.

    Args:
        classifier: it is put into evaluation mode.
        window: frames that are pooled, at least 1; at the start those that there are.
    """

    def __init__(self, classifier: FramePooling, window: int) -> None:
        self.classifier = classifier.eval()
        self.features: deque[Tensor] = deque(maxlen=window)

    def reset(self) -> None:
        """Forgets what it has seen."""
        self.features.clear()

    @torch.no_grad()
    def step(self, features: Tensor) -> Tensor:
        """Features (D,) of the next frame, averaged over space, to logits (K,)."""
        self.features.append(features)
        logits = self.classifier.answer_to(torch.stack([*self.features], dim=1)[None])
        return logits[0, -1] if self.classifier.each_moment else logits[0]

    def skip(self, limit: int) -> int:
        """0: every frame counts."""
        return 0


def check_dropout(dropout: float) -> None:
    """ValueError where `dropout` is no share in [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"classifier.dropout is {dropout}; give a share of at least 0 and below 1")
