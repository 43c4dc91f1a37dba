"""S3D: torchvision's parameters, cost and outputs, the published sizes, and the smallest clip."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.video import S3D_Weights, s3d

from selfsup.encoders.s3d import S3D


def test_has_torchvisions_parameters_without_the_head() -> None:
    with torch.device("meta"):
        encoder = S3D()
    head = 1024 * 400 + 400  # Kinetics-400
    assert sum(p.numel() for p in encoder.parameters()) == S3D_Weights.DEFAULT.meta["num_params"] - head


def test_a_clip_of_16_frames_gives_the_published_map_at_the_published_cost() -> None:
    with torch.device("meta"):
        encoder, clip = S3D().eval(), torch.empty(1, 3, 16, 224, 224)
    with FlopCounterMode(display=False) as counter:
        assert encoder(clip).shape == (1, 1024, 2, 7, 7)
    assert counter.get_total_flops() / 2e9 == pytest.approx(S3D_Weights.DEFAULT.meta["_ops"], abs=1e-3)


@torch.no_grad()
def test_with_torchvisions_weights_the_outputs_are_torchvisions(tmp_path) -> None:
    network = s3d(weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.running_var, 0.01, 0.1)  # or the signal of random weights dies
            nn.init.normal_(module.running_mean, std=0.01)
    torch.save(network.state_dict(), tmp_path / "s3d.pth")
    encoder = S3D(weights_path=str(tmp_path / "s3d.pth")).eval()
    clip = torch.randn(1, 3, 14, 224, 224)
    features = encoder(clip)
    assert features.std() > 1e-3
    torch.testing.assert_close(features, network.features(clip))
    logits = network.classifier(network.avgpool(features)).mean(dim=(2, 3, 4))
    torch.testing.assert_close(logits, network(clip))


def test_its_statistics_follow_in_the_runs_of_today() -> None:
    momenta = {module.momentum for module in S3D().modules() if isinstance(module, nn.BatchNorm3d)}
    assert momenta == {0.1}


@pytest.mark.parametrize(
    ("shape", "got"),
    [((4, 17, 17), "4 of 17 x 17"), ((5, 16, 17), "of 16 x 17"), ((5, 17, 16), "of 17 x 16")],
)
def test_a_clip_too_small_is_refused_with_the_smallest(shape: tuple[int, int, int], got: str) -> None:
    encoder = S3D().eval()
    with torch.no_grad():
        assert encoder(torch.zeros(1, 3, 5, 17, 17)).shape == (1, 1024, 1, 1, 1)
    with pytest.raises(ValueError, match=f"5 or more frames of at least 17 x 17 pixels, but got .*{got}; lengthen"):
        encoder(torch.zeros(1, 3, *shape))
