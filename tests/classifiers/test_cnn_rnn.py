"""LRCN: its steps against the cell's own, how they are joined, and options out of range."""

from typing import Any

import pytest
import torch
from torch import nn

from selfsup.classifiers.cnn_rnn import CnnRnn
from selfsup.encoders.caffenet import CaffeNet


@torch.no_grad()
def test_each_step_is_one_of_the_cell() -> None:
    classifier = CnnRnn(CaffeNet(), 4, hidden_dim=8).eval()
    cell = nn.LSTMCell(256, 8)
    cell.load_state_dict({name.removesuffix("_l0"): tensor for name, tensor in classifier.rnn.state_dict().items()})
    clip = torch.randn(2, 3, 3, 48, 48)
    found = classifier(clip)
    state = None
    for t in range(3):
        state = cell(classifier.encoder(clip[:, :, [t]]).mean(dim=(2, 3, 4)), state)
        torch.testing.assert_close(found[:, t], classifier.head(state[0]))


@pytest.mark.parametrize(("cell", "kind"), [("lstm", nn.LSTM), ("gru", nn.GRU)])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_cell_is_free(cell: str, kind: type, num_layers: int) -> None:
    classifier = CnnRnn(CaffeNet(), 4, cell, hidden_dim=8, num_layers=num_layers)
    assert type(classifier.rnn) is kind
    assert classifier.rnn.dropout == (0.5 if num_layers > 1 else 0.0)
    assert classifier(torch.randn(2, 3, 3, 48, 48)).shape == (2, 3, 4)


def test_the_answer_to_a_clip_is_the_mean_or_the_last() -> None:
    logits = torch.randn(2, 3, 4)
    assert torch.equal(CnnRnn(CaffeNet(), 4).join(logits), logits.mean(dim=1))
    assert torch.equal(CnnRnn(CaffeNet(), 4, join="last").join(logits), logits[:, 2])


def test_drops_half_of_the_states_in_training() -> None:
    classifier = CnnRnn(CaffeNet(), 4)
    assert classifier.dropout.p == 0.5
    clip = torch.randn(1, 3, 2, 48, 48)
    classifier.train().encoder.eval()
    assert not torch.equal(classifier(clip), classifier(clip))


IMPOSSIBLE = [  # for any recurrent classifier
    ({"cell": "rnn"}, "classifier.cell is 'rnn'; give lstm or gru"),
    ({"join": "first"}, "classifier.join is 'first'; give mean or last"),
    ({"hidden_dim": 0}, "classifier.hidden_dim is 0; give at least 1"),
    ({"num_layers": 0}, "classifier.num_layers is 0; give at least 1"),
    ({"dropout": 1.0}, "classifier.dropout is 1.0; give"),
]


@pytest.mark.parametrize(("changed", "sentence"), IMPOSSIBLE)
def test_an_impossible_option_is_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CnnRnn(CaffeNet(), 3, **changed)
