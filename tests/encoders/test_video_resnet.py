"""R3D-18 and R(2+1)D-18: parameter counts, first weights, and local weights."""

import pytest
import torch
from torch import nn
from torchvision.models.video import R2Plus1D_18_Weights, R3D_18_Weights, r2plus1d_18

from selfsup.encoders.video_resnet import VideoResNet


@pytest.mark.parametrize(("name", "published"), [("r3d_18", R3D_18_Weights), ("r2plus1d_18", R2Plus1D_18_Weights)])
def test_has_torchvisions_parameters_without_the_head(name: str, published: type) -> None:
    head = 512 * 400 + 400  # Kinetics-400
    with torch.device("meta"):
        encoder = VideoResNet(name)
    assert sum(p.numel() for p in encoder.parameters()) == published.DEFAULT.meta["num_params"] - head


@pytest.mark.parametrize("name", ["r3d_18", "r2plus1d_18"])
def test_another_number_of_channels_starts_from_the_same_scale(name: str) -> None:
    three, twenty = (VideoResNet(name, in_channels=channels).stages.stem[0] for channels in (3, 20))
    assert isinstance(twenty, nn.Conv3d)
    assert twenty.in_channels == 20
    assert twenty.weight.shape == (three.out_channels, 20, *three.kernel_size)
    assert twenty.weight.std().item() == pytest.approx(three.weight.std().item(), rel=0.05)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"name is 'r3d18'; .* r3d_18, r2plus1d_18"):
        VideoResNet("r3d18")


@torch.no_grad()
def test_local_torchvision_weights_are_the_networks(tmp_path) -> None:
    network = r2plus1d_18(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "r2plus1d_18.pth")
    encoder = VideoResNet("r2plus1d_18", weights_path=str(tmp_path / "r2plus1d_18.pth")).eval()
    clip = torch.randn(1, 3, 4, 16, 16)
    torch.testing.assert_close(network.fc(encoder(clip).mean((2, 3, 4))), network(clip))
    with pytest.raises(ValueError, match=r"r2plus1d_18.pth: the weights are not those of .*stem"):
        VideoResNet("r3d_18", weights_path=str(tmp_path / "r2plus1d_18.pth"))
