"""CaffeNet: the paper's layers, first weights and sizes."""

import pytest
import torch
from torch import nn

from selfsup.encoders.caffenet import CaffeNet


@pytest.fixture(scope="module")
def whole() -> CaffeNet:
    torch.manual_seed(0)
    return CaffeNet(fully_connected=True).eval()


@torch.no_grad()
def test_the_papers_frame_gives_the_papers_maps(whole: CaffeNet) -> None:
    x = torch.randn(1, 3, 227, 227)
    sizes = {}
    for name, stage in whole.stages.named_children():
        x = stage(x)
        sizes[name] = tuple(x.shape[1:])
    assert sizes == {
        "conv1": (96, 27, 27),
        "conv2": (256, 13, 13),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 6, 6),
        "fc6": (4096, 1, 1),
        "fc7": (4096, 1, 1),
    }
    assert whole(torch.randn(1, 3, 2, 227, 227)).shape == (1, whole.dim, 2, 1, 1)


def test_has_the_parameters_of_the_reference_net(whole: CaffeNet) -> None:
    # BVLC's reference CaffeNet has 60,965,224, of which fc8 for 1000 classes has 4,097,000.
    assert sum(p.numel() for p in whole.parameters()) == 60_965_224 - 4_097_000


def test_starts_from_the_papers_weights(whole: CaffeNet) -> None:
    biases = {}
    for name, stage in whole.stages.named_children():
        convolution = stage[0]
        biases[name] = convolution.bias.unique().tolist()
        std = 0.005 if name.startswith("fc") else 0.01
        assert convolution.weight.std().item() == pytest.approx(std, rel=0.02), name
        assert abs(convolution.weight.mean().item()) < 0.02 * std, name
    ones = {name: [1.0] for name in ("conv2", "conv4", "conv5", "fc6", "fc7")}
    assert biases == {"conv1": [0.0], "conv3": [0.0], **ones}
    groups = [stage[0].groups for stage in whole.stages]
    assert groups == [1, 2, 1, 2, 2, 1, 1]


@pytest.mark.parametrize(("batch_norm", "normalised"), [(True, ["conv3", "conv4", "conv5"]), (False, [])])
def test_normalises_conv3_to_conv5_without_scale_and_shift(batch_norm: bool, normalised: list[str]) -> None:
    found = []
    for name, stage in CaffeNet(batch_norm=batch_norm).stages.named_children():
        norms = [part for part in stage if isinstance(part, nn.BatchNorm2d)]
        assert all(norm.weight is None and norm.bias is None for norm in norms)
        found += [name] * len(norms)
    assert found == normalised


def test_the_response_norm_is_caffes() -> None:
    # LRN over 5 channels: x / (1 + alpha / 5 * sum of squares) ** beta (Krizhevsky et al. 2012, section 3.3).
    norm = CaffeNet().stages.conv1[-1]
    x = 100 * torch.randn(1, 7, 1, 1)
    squares = torch.stack([x[0, max(0, c - 2) : c + 3].square().sum() for c in range(7)])
    torch.testing.assert_close(norm(x).flatten(), x.flatten() / (1 + 1e-4 / 5 * squares) ** 0.75)


def test_fc6_and_fc7_drop_half_in_training(whole: CaffeNet) -> None:
    dropouts = [part for part in whole.modules() if isinstance(part, nn.Dropout)]
    assert [part.p for part in dropouts] == [0.5, 0.5]


@torch.no_grad()
@pytest.mark.parametrize(("fully_connected", "smallest"), [(False, 39), (True, 199)])
def test_a_frame_too_small_is_refused_with_the_smallest(whole: CaffeNet, fully_connected: bool, smallest: int) -> None:
    encoder = whole if fully_connected else CaffeNet()
    assert encoder(torch.zeros(1, 3, 1, smallest, smallest)).shape == (1, encoder.dim, 1, 1, 1)
    sentence = f"at least {smallest} x {smallest} pixels, but got 1 of {smallest - 1} x {smallest + 9}"
    with pytest.raises(ValueError, match=sentence):
        encoder(torch.zeros(1, 3, 1, smallest - 1, smallest + 9))
