"""Frame pooling: each pooling against its definition, the hidden layer, and options out of range."""

from typing import Any

import pytest
import torch
from torch import nn

from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.encoders.caffenet import CaffeNet


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "max", "sum", "none"])
def test_pools_the_features_of_each_frame(pooling: str) -> None:
    encoder = CaffeNet().eval()
    classifier = FramePooling(encoder, 4, pooling, dropout=0.5).eval()
    linear = classifier.head[-1]
    clip = torch.randn(2, 3, 3, 48, 48)
    frames = torch.stack([encoder(clip[:, :, [t]]).mean(dim=(2, 3, 4)) for t in range(3)])  # (T, B, D)
    pooled = {"mean": frames.mean(0), "max": frames.amax(0), "sum": frames.sum(0), "none": frames.transpose(0, 1)}
    expected = pooled[pooling] @ linear.weight.T + linear.bias
    assert expected.shape == ((2, 3, 4) if pooling == "none" else (2, 4))
    torch.testing.assert_close(classifier(clip), expected)
    if pooling == "none":
        torch.testing.assert_close(classifier.join(expected), FramePooling.join(classifier, expected.mean(dim=1)))


def test_a_hidden_layer_is_optional() -> None:
    assert [type(layer) for layer in FramePooling(CaffeNet(), 4).head] == [nn.Dropout, nn.Linear]
    classifier = FramePooling(CaffeNet(), 4, hidden_dim=32, dropout=0.3)
    kinds = [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert [type(layer) for layer in classifier.head] == kinds
    assert [layer.p for layer in classifier.head if isinstance(layer, nn.Dropout)] == [0.3, 0.3]
    assert classifier(torch.randn(2, 3, 1, 48, 48)).shape == (2, 4)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"pooling": "median"}, "classifier.pooling is 'median'; give one of mean, max, sum, none"),
        ({"hidden_dim": 0}, "classifier.hidden_dim is 0; give"),
        ({"dropout": 1.0}, "classifier.dropout is 1.0; give"),
        ({"dropout": -0.1}, "classifier.dropout is -0.1; give"),
    ],
)
def test_an_impossible_option_is_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        FramePooling(CaffeNet(), 3, **changed)
