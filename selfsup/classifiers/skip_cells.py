"""Skip LSTM and Skip GRU: cells that pass over inputs (Campos et al. 2018, ICLR, arXiv 1708.06834, section 3).

A binary gate says of each step whether the state is updated or copied, and the state alone decides when the next update
is: after one, the chance p is read from the state, and added up step by step until it reaches one half. So it is known
beforehand how many inputs will not be looked at. The gate's gradient is that of the identity (straight-through). Where
the paper's equations leave a choice, this follows its authors' code: p is computed from the candidate of the top layer,
for an LSTM from its cell state, and stays as it is while inputs are skipped.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}
THRESHOLD = 0.5


class SkipState(NamedTuple):
    """What is carried from one step to the next, of B sequences.

    Attributes:
        layers: of each layer (h, c) for an LSTM and (h,) for a GRU, each (B, hidden_dim).
        probability: (B,) in (0, 1), p, which every step adds until the next update.
        accumulated: (B,) in [0, 1), the sum since the last update.
    """

    layers: tuple[tuple[Tensor, ...], ...]
    probability: Tensor
    accumulated: Tensor

    @property
    def output(self) -> Tensor:
        """h of the top layer, (B, hidden_dim)."""
        return self.layers[-1][0]

    def due(self) -> Tensor:
        """(B,) in [0, 1]: the coming step updates where this is at least one half."""
        return self.accumulated + torch.minimum(self.probability, 1 - self.accumulated)


class SkipCells(nn.Module):
    """A stack of LSTM or GRU cells behind one update gate.

    The initial state is learned, from a standard normal draw. Before the first step p is 1, so that it always updates.
    The bias of the update gate starts at 1, as do those of the forget gates of an LSTM and of both gates of a GRU; the
    other biases start at 0.

    Args:
        input_dim: D of the inputs.
        hidden_dim: width of each layer.
        num_layers: of the stack.
        cell: "lstm" or "gru", torch's own: its GRU resets after the matrix product, the paper's before it.
        dropout: share of what a layer hands to the next one dropped in training.
    """

    def __init__(
        self, input_dim: int, hidden_dim: int, num_layers: int = 1, cell: str = "lstm", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.cells = nn.ModuleList(
            CELLS[cell](hidden_dim if layer else input_dim, hidden_dim) for layer in range(num_layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.gate = nn.Linear(hidden_dim, 1)
        self.initial = nn.Parameter(torch.randn(num_layers, 2 if cell == "lstm" else 1, hidden_dim))
        nn.init.ones_(self.gate.bias)
        open_gates = slice(hidden_dim, 2 * hidden_dim) if cell == "lstm" else slice(2 * hidden_dim)
        for name, parameter in self.cells.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
            if "bias_ih" in name:
                nn.init.ones_(parameter.data[open_gates])

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inputs (B, T, D) to outputs (B, T, hidden_dim) and the gate (B, T), 1 where a step updated, else 0.

        The gate carries the straight-through gradient. Of sequences with `lengths`, int64 (B,), what comes after is
        padding: it updates nothing and costs nothing, and the last output stays.
        """
        state = self.start(len(inputs))
        outputs, gates = [], []
        for time, given in enumerate(inputs.unbind(dim=1)):
            state, used = self.step(given, state, None if lengths is None else time < lengths)
            outputs.append(state.output)
            gates.append(used)
        return torch.stack(outputs, dim=1), torch.stack(gates, dim=1)

    def start(self, batch: int) -> SkipState:
        """The state before the first step, of `batch` sequences."""
        layers = tuple(tuple(part.expand(batch, -1) for part in layer) for layer in self.initial)
        return SkipState(layers, self.initial.new_ones(batch), self.initial.new_zeros(batch))

    def step(self, inputs: Tensor, state: SkipState, real: Tensor | None = None) -> tuple[SkipState, Tensor]:
        """Inputs (B, D) of one step to the state after it and the gate (B,); `real`, bool (B,), is not padding."""
        due = state.due()
        used = _Binarise.apply(due)
        if real is not None:
            used = used * real
        updated, weight = self.update(inputs, state), used[:, None]
        layers = tuple(
            tuple(torch.lerp(old, new, weight) for old, new in zip(kept, candidates, strict=True))
            for kept, candidates in zip(state.layers, updated.layers, strict=True)
        )
        return SkipState(layers, torch.lerp(state.probability, updated.probability, used), (1 - used) * due), used

    def update(self, inputs: Tensor, state: SkipState) -> SkipState:
        """The state after a step with inputs (B, D) that updates every sequence, whatever was due."""
        layers: list[tuple[Tensor, ...]] = []
        for cell, (hidden, *memory) in zip(self.cells, state.layers, strict=True):
            found = cell(self.dropout(inputs) if layers else inputs, (hidden, *memory) if memory else hidden)
            # Under autocast a cell answers in fewer bits than the state is kept in.
            layers.append(tuple(part.to(hidden.dtype) for part in (found if memory else (found,))))
            inputs = layers[-1][0]
        probability = torch.sigmoid(self.gate(layers[-1][-1])).squeeze(1).to(state.probability.dtype)
        return SkipState(tuple(layers), probability, torch.zeros_like(probability))

    @torch.no_grad()
    def jump(self, state: SkipState, limit: Tensor) -> tuple[Tensor, SkipState]:
        """How many coming steps update nothing, int64 (B,), at most `limit`, int64 (B,); and the state after them.

        The published min{n : n p >= 1/2} - 1. It is found by the additions of `step`, of which a product can differ by
        rounding.
        """
        skipped = torch.zeros_like(limit)
        while True:
            due = state.due()
            waits = (due < THRESHOLD) & (skipped < limit)
            if not waits.any():
                return skipped, state
            skipped += waits
            state = state._replace(accumulated=torch.where(waits, due, state.accumulated))


class _Binarise(torch.autograd.Function):
    """1 from one half on, else 0, with the gradient of the identity. `torch.round` takes one half to 0."""

    @staticmethod
    def forward(ctx: Any, due: Tensor) -> Tensor:
        return (due >= THRESHOLD).to(due.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient
