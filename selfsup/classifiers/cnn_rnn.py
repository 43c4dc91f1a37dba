"""LRCN: a recurrent network over the features of frames (Donahue et al. 2015, arXiv 1411.4389, sections 3 and 4.1).

An answer at every step, from the frames so far. Training asks for the right class at each of them; the answer to a clip
is their average, as in the paper, or the last one.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from selfsup.classifiers.classifier import Classifier
from selfsup.classifiers.frame_pooling import check_dropout
from selfsup.encoders.encoder import Encoder

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}
JOINS = ("mean", "last")


class Recurrent(Classifier):
    """What recurrent classifiers share: an encoder, a network over its features, and an answer at every step.

    Args:
        encoder, num_classes, hidden_dim, dropout, join: see `CnnRnn`.
        rnn: from features (B, T', D) to states (B, T', hidden_dim).
    """

    each_moment = True
    causality = (
        "with a 2-D encoder causal, an answer to each frame from the frames so far; with a 3-D one it runs on a "
        "sliding clip"
    )

    def __init__(
        self, encoder: Encoder, num_classes: int, rnn: nn.Module, hidden_dim: int, dropout: float, join: str
    ) -> None:
        super().__init__(num_classes)
        self.encoder = encoder
        self.joined_by = join
        self.rnn = rnn
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_dim, num_classes)

    def encoders(self) -> Mapping[str, Encoder]:
        """The one encoder, that of the clip."""
        return {"clip": self.encoder}

    def states(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to the states (B, T', hidden_dim) of its network; written by a subclass that has them.

        A network that is taught by this one is given them to copy.
        """
        raise ValueError(f"{type(self).__name__} cannot teach another network; give one of classifier=cnn_rnn")

    def join(self, logits: Tensor) -> Tensor:
        """One answer a clip: (B, T', K) to (B, K), the mean of the steps or the last."""
        return logits[:, -1] if self.joined_by == "last" else super().join(logits)


class CnnRnn(Recurrent):
    """Clip (B, C, T, H, W) to logits (B, T', K): those of step t see the features up to t.

    With a 2-D encoder T' = T, and the classifier is causal: later frames do not change earlier answers. A 3-D encoder
    looks ahead by itself.

    Args:
        encoder: 2-D or 3-D; its features are averaged over space.
        num_classes: K.
        cell: "lstm" or "gru".
        hidden_dim: width of the recurrent state; the paper's is 256.
        num_layers: of the recurrent network.
        dropout: share of the recurrent network's outputs dropped in training, in [0, 1), also between its layers.
        join: the answer to a clip, the "mean" of all steps or the "last".

    Raises:
        ValueError: fewer than two classes, or an option out of its range.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        cell: str = "lstm",
        hidden_dim: int = 256,
        num_layers: int = 1,
        dropout: float = 0.5,
        join: str = "mean",
    ) -> None:
        check_recurrent(cell, hidden_dim, num_layers, dropout, join)
        rnn = CELLS[cell](
            encoder.dim, hidden_dim, num_layers, batch_first=True, dropout=dropout if num_layers > 1 else 0.0
        )
        super().__init__(encoder, num_classes, rnn, hidden_dim, dropout, join)

    def states(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to states (B, T', hidden_dim)."""
        return self.rnn(self.encoder(clip).mean(dim=(3, 4)).transpose(1, 2))[0]

    def forward(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to logits (B, T', K)."""
        return self.head(self.dropout(self.states(clip)))

    def live(self, window: int) -> "RecurrentHead":
        """The recurrent network, step by step, from the first frame on."""
        return RecurrentHead(self)


class RecurrentHead:
    """Answers of a classifier with `nn.LSTM` or `nn.GRU` to one stream, frame by frame.

    Args:
        classifier: it is put into evaluation mode.
    """

    def __init__(self, classifier: Recurrent) -> None:
        self.classifier = classifier.eval()
        self.reset()

    def reset(self) -> None:
        """Forgets what it has seen."""
        self.state: object = None

    @torch.no_grad()
    def step(self, features: Tensor) -> Tensor:
        """Features (D,) of the next frame, averaged over space, to logits (K,)."""
        output, self.state = self.classifier.rnn(features[None, None], self.state)
        return self.classifier.head(output)[0, 0]

    def skip(self, limit: int) -> int:
        """0: every frame counts."""
        return 0


def check_recurrent(cell: str, hidden_dim: int, num_layers: int, dropout: float, join: str) -> None:
    """ValueError where an option of a recurrent classifier is out of its range."""
    if cell not in CELLS:
        raise ValueError(f"classifier.cell is {cell!r}; give {' or '.join(CELLS)}")
    if join not in JOINS:
        raise ValueError(f"classifier.join is {join!r}; give {' or '.join(JOINS)}")
    for name, size in (("hidden_dim", hidden_dim), ("num_layers", num_layers)):
        if size < 1:
            raise ValueError(f"classifier.{name} is {size}; give at least 1")
    check_dropout(dropout)
