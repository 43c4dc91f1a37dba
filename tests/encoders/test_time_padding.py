"""Learning 3-D convolutions in bfloat16: their gradient against that of float32."""

import pytest
import torch
from torch import nn
from torchvision.models.video.resnet import Conv3DSimple

from selfsup.encoders.c3d import C3D
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.time_padding import TimePadded, pad_time
from selfsup.encoders.video_resnet import VideoResNet


def weight_gradients(network: nn.Module, clip: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad()
    output = network(clip).float()
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("kernel", "moments"), [(3, 1), (3, 2), (3, 3), (5, 2), (5, 3), (5, 4)])
@pytest.mark.parametrize("stride", [1, 2])
def test_it_computes_and_learns_what_a_plain_convolution_does(kernel: int, moments: int, stride: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv3d(4, 8, (kernel, 3, 3), stride, (kernel // 2, 1, 1))
    padded = nn.Sequential(nn.Conv3d(4, 8, (kernel, 3, 3), stride, (kernel // 2, 1, 1)))
    padded[0].load_state_dict(plain.state_dict())
    pad_time(padded)
    clip = torch.randn(2, 4, moments, 6, 6)
    torch.testing.assert_close(padded(clip), plain(clip))
    wanted = weight_gradients(plain, clip)
    for name, gradient in weight_gradients(padded, clip).items():
        torch.testing.assert_close(gradient, wanted[name.removeprefix("0.")], rtol=1e-4, atol=1e-4)


def test_names_weights_and_kinds_stay() -> None:
    network = nn.Sequential(Conv3DSimple(3, 4), nn.ReLU(), nn.Conv3d(4, 4, 1))
    before = network.state_dict()
    pad_time(network)
    assert all(isinstance(network[place], TimePadded) for place in (0, 2))
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(after[name] is not None and torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize(
    ("encoder", "frames"),
    [
        pytest.param(VideoResNet("r3d_10"), 16, marks=pytest.mark.slow),  # half a minute where bfloat16 is emulated
        (VideoResNet("r2plus1d_10"), 8),
        (VideoResNet("r3d_10"), 8),
        pytest.param(C3D(), 16, marks=pytest.mark.slow),
    ],
    ids=["r3d 16", "r2plus1d 8", "r3d 8", "c3d 16"],
)
def test_gradients_in_bfloat16_are_those_of_float32(encoder: Encoder, frames: int) -> None:
    """Off by their own length or NaN where two moments are left, without `TimePadded` on such a CPU."""
    torch.manual_seed(0)
    encoder.eval()  # statistics of the batch would make small differences large
    clip = torch.randn(2, 3, frames, 32, 32)
    wanted = weight_gradients(encoder, clip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = weight_gradients(encoder, clip)
    for name, gradient in found.items():
        assert (gradient - wanted[name]).norm() < 0.5 * wanted[name].norm(), name
