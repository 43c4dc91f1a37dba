"""R3D, R(2+1)D and MC3: parameter counts, first weights, and torchvision's outputs."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn
from torchvision.models.video import MC3_18_Weights, R2Plus1D_18_Weights, R3D_18_Weights, mc3_18, r2plus1d_18, r3d_18

from selfsup.encoders.video_resnet import VideoResNet


@pytest.mark.parametrize(
    ("name", "published"),
    [("r3d_18", R3D_18_Weights), ("r2plus1d_18", R2Plus1D_18_Weights), ("mc3_18", MC3_18_Weights)],
)
def test_has_torchvisions_parameters_without_the_head(name: str, published: type) -> None:
    head = 512 * 400 + 400  # Kinetics-400
    with torch.device("meta"):
        encoder = VideoResNet(name)
    assert sum(p.numel() for p in encoder.parameters()) == published.DEFAULT.meta["num_params"] - head


def test_r3d_with_one_block_a_stage_has_the_parameters_of_its_convolutions() -> None:
    widths = [64, 64, 128, 256, 512]
    stem = 3 * 64 * 3 * 7 * 7 + 2 * 64
    stages = 0
    for narrow, wide in pairwise(widths):
        stages += 27 * wide * (narrow + wide) + 4 * wide
        stages += (narrow != wide) * (narrow * wide + 2 * wide)  # the shortcut
    assert sum(p.numel() for p in VideoResNet("r3d_10").parameters()) == stem + stages == 14_361_792


@pytest.mark.parametrize(("ten", "eighteen"), [("r3d_10", "r3d_18"), ("r2plus1d_10", "r2plus1d_18")])
def test_one_block_a_stage_is_the_first_block_of_each(ten: str, eighteen: str) -> None:
    with torch.device("meta"):
        short, long = VideoResNet(ten), VideoResNet(eighteen)
    shapes = {name: p.shape for name, p in long.named_parameters()}
    first = {name: shape for name, shape in shapes.items() if ".stem." in name or name.split(".")[2] == "0"}
    assert {name: p.shape for name, p in short.named_parameters()} == first
    assert len(first) < len(shapes)


@pytest.mark.parametrize("name", ["r3d_18", "r2plus1d_18"])
def test_another_number_of_channels_starts_from_the_same_scale(name: str) -> None:
    three, twenty = (VideoResNet(name, in_channels=channels).stages.stem[0] for channels in (3, 20))
    assert isinstance(twenty, nn.Conv3d)
    assert twenty.in_channels == 20
    assert twenty.weight.shape == (three.out_channels, 20, *three.kernel_size)
    assert twenty.weight.std().item() == pytest.approx(three.weight.std().item(), rel=0.05)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"name is 'r3d18'; .* r3d_18, r2plus1d_18, mc3_18, r3d_10"):
        VideoResNet("r3d18")


@torch.no_grad()
@pytest.mark.parametrize("build", [r3d_18, r2plus1d_18, mc3_18])
def test_with_torchvisions_weights_the_outputs_are_torchvisions(tmp_path, build: Callable[..., nn.Module]) -> None:
    network = build(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "network.pth")
    encoder = VideoResNet(build.__name__, weights_path=str(tmp_path / "network.pth")).eval()
    clip = torch.randn(1, 3, 4, 16, 16)
    torch.testing.assert_close(network.fc(encoder(clip).mean((2, 3, 4))), network(clip))


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    torch.save(r2plus1d_18(weights=None).state_dict(), tmp_path / "r2plus1d_18.pth")
    with pytest.raises(ValueError, match=r"r2plus1d_18.pth: the weights are not those of .*stem"):
        VideoResNet("r3d_18", weights_path=str(tmp_path / "r2plus1d_18.pth"))
