"""ResNet: depths, parameter counts, and local weights."""

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from selfsup.encoders.resnet import ResNet


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_689_512 - 513_000), (50, 25_557_032 - 2_049_000)])
def test_has_torchvisions_parameters_without_the_head(depth: int, parameters: int) -> None:
    assert sum(p.numel() for p in ResNet(depth).parameters()) == parameters


def test_an_unknown_depth_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"depth is 20; .* 18, 34, 50, 101, 152"):
        ResNet(20)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_local_torchvision_weights_are_the_networks(tmp_path, suffix: str) -> None:
    network = resnet18(weights=None).eval()
    path = tmp_path / f"resnet18.{suffix}"
    if suffix == "pth":
        torch.save(network.state_dict(), path)
    else:
        save_file(network.state_dict(), path)
    encoder = ResNet(18, weights_path=str(path)).eval()
    frame = torch.randn(2, 3, 64, 64)
    pooled = encoder(frame.unsqueeze(2)).mean((2, 3, 4))
    torch.testing.assert_close(network.fc(pooled), network(frame))


def test_weights_older_than_batch_norms_counter_load(tmp_path) -> None:
    state = resnet18(weights=None).state_dict()
    torch.save({k: v for k, v in state.items() if "num_batches_tracked" not in k}, tmp_path / "old.pth")
    encoder = ResNet(18, weights_path=str(tmp_path / "old.pth"))
    assert torch.equal(encoder.stages.stem[0].weight, state["conv1.weight"])
