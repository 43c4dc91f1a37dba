"""The head of tasks that ask how a clip moves."""

from __future__ import annotations

from torch import Tensor, nn


class TemporalHead(nn.Module):
    """Feature maps (N, D, T', H', W') to logits (N, K).

    The mean over places, a convolution over three moments, the mean over time, and one linear layer. Of a frame encoder
    the convolution is all that sees time; a 3-D encoder has seen it before.

    Args:
        inputs: D.
        hidden_dim: channels of the convolution, with BatchNorm.
        outputs: K.
    """

    def __init__(self, inputs: int, hidden_dim: int, outputs: int) -> None:
        super().__init__()
        self.over_time = nn.Sequential(
            nn.Conv1d(inputs, hidden_dim, 3, padding=1), nn.BatchNorm1d(hidden_dim), nn.ReLU()
        )
        self.answer = nn.Linear(hidden_dim, outputs)

    def forward(self, maps: Tensor) -> Tensor:
        return self.answer(self.over_time(maps.mean(dim=(3, 4))).mean(dim=2))
