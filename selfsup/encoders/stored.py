"""Stands for an encoder that has done its work: the clip it gets holds features already."""

from collections import OrderedDict

from torch import nn

from selfsup.encoders.encoder import Encoder


class Stored(Encoder):
    """Stored features (B, dim, T', 1, 1) to themselves.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.stages = nn.Sequential(OrderedDict(stored=nn.Identity()))
