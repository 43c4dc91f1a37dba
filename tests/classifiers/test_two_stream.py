"""Two streams: fusion against its definition, each half alone, and options out of range."""

from typing import Any

import pytest
import torch
from torch import Tensor

from selfsup.classifiers.two_stream import TwoStream
from selfsup.encoders.c3d import C3D
from selfsup.encoders.caffenet import CaffeNet


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 3, 2, 48, 48), torch.randn(2, 8, 3, 56, 48)  # they may differ in time and size


@torch.no_grad()
def test_the_mean_of_two_halves_is_both(inputs: tuple[Tensor, Tensor]) -> None:
    clip, flow = inputs
    encoder = CaffeNet()
    both = TwoStream(encoder, 4, flow_frames=4).eval()
    state = both.state_dict()
    halves = {}
    for half in ("clip", "flow"):
        alone = TwoStream(encoder, 4, flow_frames=4, streams=half).eval()
        assert alone.inputs == (half,)
        assert tuple(alone.encoders()) == (half,)
        alone.load_state_dict({name: tensor for name, tensor in state.items() if f"streams.{half}." in name})
        halves[half] = alone(clip if half == "clip" else flow)
    assert both.inputs == ("clip", "flow")
    torch.testing.assert_close(both(clip, flow), (halves["clip"] + halves["flow"]) / 2)
    assert not torch.allclose(halves["clip"], halves["flow"])


def test_a_learned_fusion_starts_at_the_mean_and_learns(inputs: tuple[Tensor, Tensor]) -> None:
    clip, flow = inputs
    mean = TwoStream(CaffeNet(), 4, flow_frames=4).eval()
    learned = TwoStream(CaffeNet(), 4, flow_frames=4, fusion="learned").eval()
    missing, unexpected = learned.load_state_dict(mean.state_dict(), strict=False)
    assert (missing, unexpected) == (["balance"], [])
    torch.testing.assert_close(learned(clip, flow), mean(clip, flow))
    assert learned.balance is not None
    learned(clip, flow)[:, 0].sum().backward()
    assert learned.balance.grad is not None
    assert learned.balance.grad.abs() > 0
    with torch.no_grad():
        learned.balance.fill_(100.0)
        torch.testing.assert_close(learned(clip, flow), learned.streams["flow"](flow))


def test_the_streams_share_no_weights() -> None:
    encoders = TwoStream(CaffeNet(), 4).encoders()
    assert encoders["flow"].in_channels == 20
    spatial = {p.data_ptr() for p in encoders["clip"].parameters()}
    assert not spatial & {p.data_ptr() for p in encoders["flow"].parameters()}


def test_one_half_has_no_learned_fusion() -> None:
    assert TwoStream(CaffeNet(), 4, fusion="learned", streams="clip").balance is None


def test_flow_of_other_channels_is_refused(inputs: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="takes flow of 20 channels, 2 for each of 10 fields, but got 8; set"):
        TwoStream(CaffeNet(), 4)(*inputs)


def test_a_missing_flow_is_named(inputs: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"takes clip and flow, but got 1 tensor\(s\); choose"):
        TwoStream(C3D(), 4)(inputs[0])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"flow_frames": 0}, "classifier.flow_frames is 0; give at least 1"),
        ({"fusion": "svm"}, "classifier.fusion is 'svm'; give mean or learned"),
        ({"streams": "rgb"}, "classifier.streams is 'rgb'; give one of both, clip, flow"),
        ({"pooling": "none"}, "classifier.pooling is 'none', but"),
        ({"dropout": 1.5}, "classifier.dropout is 1.5; give"),
    ],
)
def test_an_impossible_option_is_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TwoStream(CaffeNet(), 3, **changed)
