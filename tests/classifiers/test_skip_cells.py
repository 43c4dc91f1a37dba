"""Skip LSTM and Skip GRU: parity with the paper's equations, the gate at its edges, jumps and padding."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from selfsup.classifiers.skip_cells import SkipCells

UNITS = 5


def skipping(cell: str, num_layers: int, bias: float = -0.8) -> SkipCells:
    """Cells in float64 with random weights, whose gate opens now and then."""
    torch.manual_seed(0)
    cells = SkipCells(3, UNITS, num_layers, cell).double()
    for parameter in cells.parameters():
        nn.init.normal_(parameter, std=0.8)
    nn.init.normal_(cells.gate.weight, std=2.0)
    nn.init.constant_(cells.gate.bias, bias)
    return cells


def candidate(cell: str, weights: dict[str, Tensor], given: Tensor, kept: list[Tensor]) -> list[Tensor]:
    """S(s, x) of one layer, [h] or [h, c], by the equations of its cell."""
    by_input = given @ weights["weight_ih"].T + weights["bias_ih"]
    by_state = kept[0] @ weights["weight_hh"].T + weights["bias_hh"]
    if cell == "lstm":
        i, f, g, o = (by_input + by_state).chunk(4, dim=1)
        memory = f.sigmoid() * kept[1] + i.sigmoid() * g.tanh()
        return [o.sigmoid() * memory.tanh(), memory]
    (reset_x, z_x, n_x), (reset_h, z_h, n_h) = by_input.chunk(3, dim=1), by_state.chunk(3, dim=1)
    z = (z_x + z_h).sigmoid()
    return [(1 - z) * (n_x + (reset_x + reset_h).sigmoid() * n_h).tanh() + z * kept[0]]


def by_the_equations(cells: SkipCells, cell: str, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and gate by the paper's equations 2 to 6, with the gradients of its authors' code."""
    batch, one = len(inputs), torch.ones(len(inputs), 1, dtype=torch.float64)
    state = [[part.expand(batch, -1) for part in layer] for layer in cells.initial]
    p, accumulated, due_by_paper, outputs, gates = one, one * 0, one, [], []
    for given in inputs.unbind(1):
        due = accumulated + torch.minimum(p, 1 - accumulated)
        torch.testing.assert_close(due, due_by_paper, rtol=0, atol=1e-12)
        gate = (due >= 0.5).double() + due - due.detach()  # straight-through
        found = []
        for layer, kept in zip(cells.cells, state, strict=True):
            found.append(candidate(cell, dict(layer.named_parameters()), found[-1][0] if found else given, kept))
        p = gate * (found[-1][-1] @ cells.gate.weight.T + cells.gate.bias).sigmoid() + (1 - gate) * p
        accumulated = (1 - gate) * due
        state = [
            [gate * new + (1 - gate) * old for new, old in zip(of, kept, strict=True)]
            for of, kept in zip(found, state, strict=True)
        ]
        step = (state[-1][-1] @ cells.gate.weight.T + cells.gate.bias).sigmoid()
        due_by_paper = (gate * step + (1 - gate) * (due + torch.minimum(step, 1 - due))).detach()
        outputs.append(state[-1][0])
        gates.append(gate)
    return torch.stack(outputs, dim=1), torch.cat(gates, dim=1)


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_parity_with_the_equations_step_by_step_gradients_included(cell: str, num_layers: int) -> None:
    cells = skipping(cell, num_layers)
    inputs = torch.randn(6, 14, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(6, 14, UNITS, dtype=torch.float64)
    results = []
    for outputs, used in (cells(inputs), by_the_equations(cells, cell, inputs)):
        loss = (outputs * weights).sum() + 0.3 * used.sum()
        gradients = torch.autograd.grad(loss, [inputs, *cells.parameters()])
        results.append((outputs, used, *gradients))
    used = results[0][1]
    assert 0.2 < used.mean() < 0.9
    assert not torch.equal(used, used[:1].expand_as(used)), "the sequences skip alike"
    for name, found, expected in zip(
        ["outputs", "used", "inputs", *(name for name, _ in cells.named_parameters())], *results, strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6, msg=name)
        assert found.abs().sum() > 0, name


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_one_half_updates(cell: str) -> None:
    """`torch.round` would take one half to 0 and skip every other step."""
    cells = skipping(cell, 1, bias=0.0)
    nn.init.zeros_(cells.gate.weight)
    _, used = cells(torch.randn(2, 6, 3, dtype=torch.float64))
    assert used.all()
    nn.init.constant_(cells.gate.bias, -1e-6)
    _, used = cells(torch.randn(2, 6, 3, dtype=torch.float64))
    assert used.tolist() == [[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]] * 2


@torch.no_grad()
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_gate_that_never_opens_again_keeps_the_first_state(cell: str) -> None:
    cells = skipping(cell, 2, bias=-1e9)
    inputs = torch.randn(2, 6, 3, dtype=torch.float64)
    outputs, used = cells(inputs)
    assert used.sum(dim=1).tolist() == [1.0, 1.0]
    assert torch.equal(outputs, outputs[:, :1].expand_as(outputs))
    inputs[:, 1:] += 1
    assert torch.equal(cells(inputs)[0], outputs)
    inputs[:, 0] += 1
    assert not torch.allclose(cells(inputs)[0], outputs)


def test_a_jump_is_as_many_steps() -> None:
    cells = SkipCells(3, UNITS)
    inputs = torch.randn(7, 3)
    # Twelve additions of 1/24 in float32 stay below one half, which the product reaches.
    state = cells.start(7)._replace(probability=torch.tensor([0.5, 0.499, 0.3, 0.1, 1 / 24, 1e-3, 0.0]))
    skipped, after = cells.jump(state, torch.full((7,), 60))
    assert skipped.tolist() == [0, 1, 1, 4, 12, 60, 60]
    assert cells.jump(state, torch.full((7,), 3))[0].tolist() == [0, 1, 1, 3, 3, 3, 3]
    sums = state.accumulated
    for step in range(61):
        assert torch.equal(state.accumulated[step == skipped], after.accumulated[step == skipped]), "to the bit"
        state, used = cells.step(inputs, state)
        waits = step < skipped
        assert used[waits].sum() == 0
        assert used[(step == skipped) & (skipped < 60)].all()
        state = state._replace(probability=torch.where(used > 0, 0.0, state.probability))  # each updates once
    assert (after.accumulated >= sums).all()


def test_padding_updates_nothing_and_costs_nothing() -> None:
    cells = skipping("lstm", 2)
    inputs = torch.randn(3, 9, 3, dtype=torch.float64)
    lengths = torch.tensor([9, 4, 1])
    outputs, used = cells(inputs, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, used_alone = cells(inputs[row : row + 1, :length])
        torch.testing.assert_close(outputs[row, :length], alone[0])
        assert torch.equal(outputs[row, length:], outputs[row, length - 1].expand(9 - length, -1))
        assert used[row].sum() == used_alone.sum()


@pytest.mark.parametrize(("cell", "opened"), [("lstm", [0, 1, 0, 0]), ("gru", [1, 1, 0])])
def test_it_starts_open(cell: str, opened: list[Any]) -> None:
    cells = SkipCells(3, UNITS, 2, cell)
    assert cells.gate.bias.tolist() == [1.0]
    for layer in cells.cells:
        assert layer.bias_ih.chunk(len(opened))[1].tolist() == [1.0] * UNITS
        assert [float(part.mean()) for part in layer.bias_ih.detach().chunk(len(opened))] == opened
        assert not layer.bias_hh.any()
    start = cells.start(4)
    assert start.probability.tolist() == [1.0] * 4
    assert start.accumulated.tolist() == [0.0] * 4
    assert isinstance(cells.initial, nn.Parameter)
    assert torch.equal(start.output[3], cells.initial[-1, 0])
