"""Cross-modality initialisation: the mean kernel for each channel, everything else copied."""

from collections.abc import Callable

import pytest
import torch

from selfsup.encoders.c3d import C3D
from selfsup.encoders.caffenet import CaffeNet
from selfsup.encoders.cross_modality import cross_modality
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.inflated import Inflated, inflate
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.s3d import S3D
from selfsup.encoders.video_resnet import VideoResNet

BUILD: dict[str, Callable[[], Encoder]] = {
    "resnet": ResNet,
    "caffenet": CaffeNet,
    "c3d": C3D,
    "r2plus1d": lambda: VideoResNet("r2plus1d_10"),
    "s3d": S3D,
    "inflated": lambda: inflate(ResNet(18)),
}


@pytest.mark.parametrize("name", BUILD)
def test_the_first_kernel_is_its_mean_for_each_channel_and_the_rest_is_copied(name: str) -> None:
    encoder = BUILD[name]()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    flow = cross_modality(encoder, 20)
    assert type(flow) is type(encoder)
    assert (flow.in_channels, encoder.in_channels) == (20, 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    first, *rest = flow.state_dict().items()
    assert first[1].shape[1] == 20
    kernel = before[first[0]]
    for channel in range(20):
        torch.testing.assert_close(first[1][:, channel], (kernel[:, 0] + kernel[:, 1] + kernel[:, 2]) / 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in rest)
    assert next(flow.parameters()).data_ptr() != next(encoder.parameters()).data_ptr()


@torch.no_grad()
def test_grey_in_all_channels_gives_what_grey_gave_scaled_by_their_number() -> None:
    encoder = ResNet(18).eval()
    grey = torch.randn(1, 1, 1, 32, 32)
    first, flow = encoder.stages.stem[0], cross_modality(encoder, 6).stages.stem[0]
    image = grey.expand(-1, 3, -1, -1, -1)[:, :, 0]
    torch.testing.assert_close(flow(image.repeat(1, 2, 1, 1)), 2 * first(image))


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "efficientnet_b0", "convnext_atto"])
def test_timms_networks_take_flow_too(name: str) -> None:
    pytest.importorskip("timm")
    from selfsup.encoders.timm import Timm

    flow = cross_modality(Timm(name).eval(), 4)
    assert flow(torch.randn(1, 4, 2, 32, 32)).shape[:3] == (1, flow.dim, 2)
    rebuilt = Timm(name, in_channels=4)
    assert [p.shape for p in flow.parameters()] == [p.shape for p in rebuilt.parameters()]


def test_an_inflated_one_is_built_again_from_its_arguments() -> None:
    flow = cross_modality(inflate(ResNet(18)), 4)
    assert isinstance(flow, Inflated)
    rebuilt = Inflated(flow.architecture, in_channels=flow.in_channels)
    assert [p.shape for p in flow.parameters()] == [p.shape for p in rebuilt.parameters()]


def test_no_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="in_channels is 0; give"):
        cross_modality(ResNet(18), 0)
