"""L3: the published maps, parameters that are VGG's, and first weights."""

import pytest
import torch
from torch import nn
from torchvision.models import vgg13_bn

from selfsup.encoders.l3 import L3


def maps(encoder: L3, height: int, width: int) -> dict[str, tuple[int, ...]]:
    x = torch.zeros(1, encoder.in_channels, height, width, device="meta")
    sizes = {}
    for name, stage in encoder.to("meta").eval().stages.named_children():
        x = stage(x)
        sizes[name] = tuple(x.shape[1:])
    return sizes


@pytest.mark.parametrize(
    ("channels", "stride", "size", "last"),
    [
        (3, 1, (224, 224), (28, 28)),
        (3, 2, (224, 224), (14, 14)),
        (1, 1, (257, 199), (32, 24)),
        (1, 2, (257, 200), (16, 12)),
    ],
    ids=["L3 vision", "AVE vision", "L3 audio", "AVE audio"],
)
def test_published_sizes_give_the_published_maps(
    channels: int, stride: int, size: tuple[int, int], last: tuple[int, int]
) -> None:
    sizes = maps(L3(channels, stride), *size)
    assert [shape[0] for shape in sizes.values()] == [64, 128, 256, 512]
    assert sizes["conv4"][1:] == last


@pytest.mark.parametrize("channels", [3, 1])
def test_its_parameters_are_those_of_vggs_first_eight_convolutions(channels: int) -> None:
    count, expected = 0, 0
    for module in vgg13_bn().features:
        if isinstance(module, nn.Conv2d):
            count += 1
        if count > 8:
            break
        expected += sum(parameter.numel() for parameter in module.parameters())
    expected -= (3 - channels) * 64 * 9
    assert sum(parameter.numel() for parameter in L3(channels).parameters()) == expected
    assert expected == {3: 4_689_216, 1: 4_688_064}[channels]


@torch.no_grad()
def test_it_is_vgg_where_it_has_vggs_weights() -> None:
    vgg = vgg13_bn().features[:27].eval()  # to the ReLU of the eighth convolution
    encoder = L3().eval()
    encoder.load_state_dict(dict(zip(encoder.state_dict(), vgg.state_dict().values(), strict=True)))
    frame = torch.randn(1, 3, 1, 48, 40)
    torch.testing.assert_close(encoder(frame)[:, :, 0], vgg(frame[:, :, 0]), rtol=1e-4, atol=1e-4)


def test_starts_from_he_normal_weights() -> None:
    torch.manual_seed(0)
    for module in L3().modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.in_channels * 9
            assert module.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
            assert not module.bias.any()


def test_another_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="stride is 4; give 1, as in L3, or 2"):
        L3(stride=4)


@pytest.mark.parametrize("stride", [1, 2])
def test_too_small_a_frame_is_refused(stride: int) -> None:
    encoder = L3(stride=stride).eval()
    assert encoder(torch.zeros(1, 3, 1, 8 * stride, 8 * stride)).shape[-2:] == (1, 1)
    with pytest.raises(ValueError, match=f"at least {8 * stride} x {8 * stride} pixels"):
        encoder(torch.zeros(1, 3, 1, 8 * stride - 1, 64))
