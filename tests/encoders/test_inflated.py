"""Inflation: an independent computation, the law on a still clip, the file, and what cannot be inflated."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfsup import weights
from selfsup.encoders.c3d import C3D
from selfsup.encoders.caffenet import CaffeNet
from selfsup.encoders.encoder import Encoder, FrameEncoder, InputSpecification
from selfsup.encoders.inflated import Inflated, inflate
from selfsup.encoders.inflated_layers import Convolution, Inflation
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.tokens import Patches

RESNET18 = {"class": "selfsup.encoders.resnet.ResNet", "arguments": {"depth": 18}}
INPUT = InputSpecification(32, (0.5,) * 3, (0.2,) * 3, None)


def trained(encoder: Encoder) -> Any:
    """The encoder in eval mode, with statistics as they are after training."""
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            if module.affine:
                nn.init.normal_(module.bias, std=0.1)
    return encoder.eval()


@pytest.fixture(scope="module")
def resnet() -> ResNet:
    torch.manual_seed(0)
    return trained(ResNet(18))


def by_hand(x: Tensor, layer: nn.Conv2d, replicate: bool) -> Tensor:
    """A 3 x k x k convolution as the sum of three 2-D ones of frames moved in time."""
    total = torch.zeros(())
    frames = x.shape[2]
    for step in (-1, 0, 1):
        moved = []
        for t in range(frames):
            inside = min(max(t + step, 0), frames - 1)
            frame = x[:, :, inside]
            moved.append(frame if replicate or inside == t + step else torch.zeros_like(frame))
        maps = [
            F.conv2d(f, layer.weight / 3, None, layer.stride, layer.padding, layer.dilation, layer.groups)
            for f in moved
        ]
        total = total + torch.stack(maps, dim=2)
    return total if layer.bias is None else total + layer.bias[:, None, None, None]


@torch.no_grad()
@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_a_convolution_is_that_of_hand_replicated_kernels(padding: str) -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1)
    x = torch.randn(2, 4, 5, 9, 8)
    found = Convolution(layer, Inflation(3, "replicate", padding))(x)
    torch.testing.assert_close(found, by_hand(x, layer, padding == "replicate"))
    kernel = torch.stack([layer.weight / 3] * 3, dim=2)
    middle = F.conv3d(x, kernel, layer.bias, stride=(1, 2, 2), padding=(0, 1, 1))
    torch.testing.assert_close(found[:, :, 1:-1], middle)


@torch.no_grad()
def test_a_residual_network_is_that_of_hand_replicated_kernels(resnet: ResNet) -> None:
    """Stem and a first stage, written out."""
    stem, block = resnet.stages.stem, resnet.stages.layer1[0]

    def norm(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
        return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)

    clip = torch.randn(1, 3, 4, 24, 20)
    x = by_hand(clip, stem[0], replicate=True).transpose(1, 2).flatten(0, 1)
    x = F.max_pool2d(norm(x, stem[1]).relu(), 3, 2, 1).unflatten(0, (1, 4)).transpose(1, 2)
    for one in (block, resnet.stages.layer1[1]):
        y = norm(by_hand(x, one.conv1, replicate=True), one.bn1).relu()
        x = (norm(by_hand(y, one.conv2, replicate=True), one.bn2) + x).relu()
    inflated = inflate(resnet)
    torch.testing.assert_close(inflated.stages[:2](clip), x)


BUILD: dict[str, tuple[Callable[[], FrameEncoder], int]] = {
    "resnet18": (lambda: ResNet(18), 40),
    "resnet50": (lambda: ResNet(50), 40),
    "caffenet": (CaffeNet, 72),
    "caffenet fully connected": (lambda: CaffeNet(fully_connected=True), 199),
    "timm resnet26d": (lambda: timm("resnet26d"), 40),
    "timm regnetx": (lambda: timm("regnetx_002"), 40),
    "timm regnety": (lambda: timm("regnety_002"), 40),  # squeeze and excitation
    "timm convnext": (lambda: timm("convnext_atto"), 64),
    "timm efficientnet": (lambda: timm("efficientnet_b0"), 64),
    "timm transformer": (lambda: timm("vit_tiny_patch16_224"), 64),
    "timm swin": (lambda: timm("swin_tiny_patch4_window7_224"), 224),
}
SLOW = {"caffenet fully connected", "resnet50", "timm swin"}
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in BUILD]


def timm(name: str) -> FrameEncoder:
    pytest.importorskip("timm")
    from selfsup.encoders.timm import Timm

    return Timm(name)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["replicate", "centre"])
@pytest.mark.parametrize("name", NAMES)
def test_a_still_clip_gives_the_features_of_its_frame_at_every_moment(name: str, mode: str) -> None:
    torch.manual_seed(0)
    build, pixels = BUILD[name]
    encoder = trained(build())
    frame = torch.randn(1, 3, 1, pixels, pixels)
    expected = encoder(frame)
    assert expected.std() > 0
    found = inflate(encoder, 5, mode)(frame.expand(-1, -1, 4, -1, -1))
    assert found.shape == (1, encoder.dim, 4, *expected.shape[-2:])
    for moment in range(4):
        torch.testing.assert_close(found[:, :, [moment]], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@torch.no_grad()
def test_with_strides_a_still_clip_still_gives_it(resnet: ResNet) -> None:
    frame = torch.randn(1, 3, 1, 32, 32)
    inflated = inflate(resnet, time_strides=[2, 1, 2, 2, 1])
    for frames, moments in ((16, 2), (9, 2), (8, 1), (1, 1)):
        found = inflated(frame.expand(-1, -1, frames, -1, -1))
        assert found.shape[2] == moments
        torch.testing.assert_close(found, resnet(frame).expand_as(found), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_with_zeros_it_holds_away_from_the_ends_only() -> None:
    encoder = CaffeNet(batch_norm=False).eval()  # five convolutions, so five moments from each end
    frame = torch.randn(1, 3, 1, 40, 40)
    expected = encoder(frame)[:, :, 0]
    found = inflate(encoder, padding="zeros")(frame.expand(-1, -1, 12, -1, -1))
    error = (found - expected.unsqueeze(2)).abs().amax(dim=(0, 1, 3, 4)) / expected.abs().max()
    assert error[5:7].max() < 1e-5
    assert error[[0, 1, -2, -1]].min() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_centred_it_is_the_2d_network_on_each_frame(resnet: ResNet, padding: str) -> None:
    clip = torch.randn(2, 3, 4, 32, 40)
    found = inflate(resnet, mode="centre", padding=padding)(clip)
    torch.testing.assert_close(found, resnet(clip), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(inflate(resnet)(clip), resnet(clip), rtol=1e-2, atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_until_it_is_trained_it_sees_neighbours_but_no_direction_of_time(resnet: ResNet, padding: str) -> None:
    """Its kernels are the same either way in time; training must break that."""
    inflated = inflate(resnet, padding=padding)
    clip = torch.randn(1, 3, 4, 32, 40)
    features = inflated(clip)
    torch.testing.assert_close(inflated(clip.flip(2)), features.flip(2), rtol=1e-4, atol=1e-4)
    other = clip.clone()
    other[:, :, 3] += 1
    assert (inflated(other) - features)[:, :, 0].norm() > 1e-3 * features[:, :, 0].norm()


def test_only_square_kernels_reach_into_time() -> None:
    inflated = inflate(ResNet(50), 5)
    lengths = {(c.kernel_size[1], c.kernel_size[0]) for c in inflated.modules() if isinstance(c, nn.Conv3d)}
    assert lengths == {(7, 5), (3, 5), (1, 1)}


def test_the_2d_encoder_stays_as_it_is_and_shares_no_memory(resnet: ResNet) -> None:
    before = {name: tensor.clone() for name, tensor in resnet.state_dict().items()}
    random = torch.get_rng_state()
    inflated = inflate(resnet).train()
    assert torch.equal(torch.get_rng_state(), random)
    inflated(torch.randn(2, 3, 2, 32, 32)).sum().backward()
    with torch.no_grad():
        for parameter in inflated.parameters():
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in resnet.state_dict().items())
    assert not resnet.training
    assert not inflate(resnet).training
    assert inflated.stage_names == resnet.stage_names


def test_frozen_weights_stay_frozen() -> None:
    encoder = ResNet(18)
    encoder.stages.stem.requires_grad_(False)
    inflated = inflate(encoder)
    assert not any(p.requires_grad for p in inflated.stages.stem.parameters())
    assert all(p.requires_grad for p in inflated.stages.layer1.parameters())


@torch.no_grad()
def test_what_was_saved_comes_back_to_the_bit(resnet: ResNet, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    inflated = inflate(resnet, 5, "centre", "zeros", [2, 1, 1, 1, 1])
    weights.save(inflated, path, input=INPUT, task="none", data={})
    loaded = weights.load(path)
    assert isinstance(loaded, Inflated)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in inflated.state_dict().items())
    clip = torch.randn(1, 3, 4, 32, 32)
    assert torch.equal(loaded(clip), inflated(clip))
    assert weights.read_metadata(path)["arguments"] == {
        "architecture": RESNET18,
        "kernel_frames": 5,
        "mode": "centre",
        "padding": "zeros",
        "time_strides": [2, 1, 1, 1, 1],
        "in_channels": 3,
        "weights_path": None,
    }


@torch.no_grad()
@pytest.mark.parametrize("build", [lambda: CaffeNet(2, batch_norm=False), lambda: timm("regnetx_002")])
def test_an_encoder_from_a_file_is_inflated_and_saved_again(build: Callable[[], FrameEncoder], tmp_path: Path) -> None:
    first, second = tmp_path / "2d.safetensors", tmp_path / "3d.safetensors"
    weights.save(build(), first, input=INPUT, task="temporal_order", data={"videos": 3})
    encoder = weights.load(first)
    inflated = inflate(encoder)
    assert inflated.input == INPUT
    assert inflated.source is not None
    assert inflated.source["task"] == "temporal_order"
    weights.save(inflated, second, input=INPUT, task="none", data={})
    clip = torch.randn(1, inflated.in_channels, 2, 64, 64)
    assert torch.equal(weights.load(second)(clip), inflated(clip))


@torch.no_grad()
def test_local_weights_of_the_2d_network_are_inflated(resnet: ResNet, tmp_path: Path) -> None:
    network = {name.removeprefix("stages."): tensor for name, tensor in resnet.state_dict().items()}
    for ours, theirs in (("stem.0", "conv1"), ("stem.1", "bn1")):
        network = {name.replace(ours, theirs): tensor for name, tensor in network.items()}
    torch.save(network, tmp_path / "resnet18.pth")
    inflated = Inflated(RESNET18, weights_path=str(tmp_path / "resnet18.pth")).eval()
    clip = torch.randn(1, 3, 2, 32, 32)
    assert torch.equal(inflated(clip), inflate(resnet)(clip))


@torch.no_grad()
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_a_block_that_works_on_frames_is_that_of_hand_replicated_kernels(layout: torch.memory_format) -> None:
    """A block of ConvNeXt: a depthwise convolution of 7 x 7, then layer norm and two layers on each place alone."""
    torch.manual_seed(0)
    encoder = trained(timm("convnext_atto"))
    stage: Any = encoder.stages[1]
    clip = torch.randn(2, stage.blocks[0].conv_dw.in_channels, 3, 8, 10)
    expected = clip
    for block in stage.blocks:
        wide = by_hand(expected, block.conv_dw, replicate=True)
        places = wide.permute(0, 2, 3, 4, 1)
        norm = F.layer_norm(places, (places.shape[-1],), block.norm.weight, block.norm.bias, block.norm.eps)
        mixed = block.mlp(norm.flatten(0, 1).permute(0, 3, 1, 2) if block.use_conv_mlp else norm)
        if block.use_conv_mlp:
            mixed = mixed.permute(0, 2, 3, 1).unflatten(0, (2, 3))
        expected = expected + (mixed if block.gamma is None else block.gamma * mixed).permute(0, 4, 1, 2, 3)
    found = inflate(encoder).stages[1](clip.contiguous(memory_format=layout))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["convnext_atto", "efficientnet_b0", "vit_tiny_patch16_224"])
def test_a_network_that_works_on_frames_sees_neighbours_too(name: str) -> None:
    inflated = inflate(trained(timm(name)))
    clip = torch.randn(2, 3, 4, 64, 64)
    features = inflated(clip)
    torch.testing.assert_close(inflated(clip[1:]), features[1:], rtol=1e-4, atol=1e-4)  # and no other clip
    torch.testing.assert_close(inflated(clip.flip(2)), features.flip(2), rtol=1e-3, atol=1e-3)
    other = clip.clone()
    other[:, :, 3] += 1
    assert (inflated(other) - features)[:, :, 2].norm() > 1e-4 * features[:, :, 2].norm()


def test_a_network_that_works_on_frames_is_taught_and_saved(tmp_path: Path) -> None:
    encoder = inflate(timm("convnext_atto"))
    encoder(torch.randn(2, 3, 4, 32, 32)).square().mean().backward()
    widths = {c.kernel_size: c for c in encoder.modules() if isinstance(c, Convolution)}
    assert widths[(3, 7, 7)].weight.grad is not None
    assert widths[(3, 7, 7)].weight.grad.abs().sum() > 0
    path = tmp_path / "encoder.safetensors"
    weights.save(encoder, path, input=INPUT, task="test", data={})
    clip = torch.randn(1, 3, 2, 32, 32)
    with torch.no_grad():
        assert torch.equal(weights.load(path).eval()(clip), encoder.eval()(clip))


def test_a_network_without_a_convolution_to_inflate_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"none of the network's convolutions can be inflated, .* such as encoder=resn"
    ):
        inflate(timm("resnetv2_50x1_bit"))  # whose kernels are standardised as they are used


def test_a_3d_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="only a 2-D encoder can be inflated, but C3D is 3-D; choose"):
        inflate(C3D())


class Own(FrameEncoder):
    """An encoder outside the package."""


def test_a_class_outside_the_package_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Own', which is no 2-D encoder of selfsup.encoders; name one"):
        inflate(Own())


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"kernel_frames": 2}, "kernel_frames is 2; give an odd number"),
        ({"kernel_frames": 0}, "kernel_frames is 0; give"),
        ({"mode": "center"}, "mode is 'center'; give replicate or centre"),
        ({"padding": "same"}, "padding is 'same'; give replicate or zeros"),
        ({"time_strides": [2, 2]}, r"time_strides is \[2, 2\]; give one .* stages stem, layer1"),
        ({"time_strides": [0, 1, 1, 1, 1]}, r"time_strides is \[0, "),
        ({"architecture": {"class": "selfsup.encoders.resnet.ResNet"}}, "architecture is .*; give"),
        ({"architecture": RESNET18 | {"arguments": [18]}}, "its arguments a mapping"),
        ({"architecture": RESNET18 | {"arguments": {"layers": 18}}}, "holds layers, which .*ResNet does not take"),
        ({"architecture": RESNET18 | {"arguments": {"weights_path": "x"}}}, "holds weights_path; give"),
    ],
)
def test_an_impossible_option_is_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Inflated(**{"architecture": RESNET18, **changed})


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "selfsup.weights.load",
        "selfsup.encoders.c3d.C3D",
        "selfsup.encoders.inflated.Inflated",
        "selfsup.encoders.resnet.FrameEncoder",
        "selfsup.encoders.encoder.FrameEncoder",
        f"{Patches.__module__}.Patches",
        "selfsup.encoders.absent.ResNet",
        "ResNet",
        "",
    ],
)
def test_a_file_may_name_2d_encoders_of_the_package_only(name: str, tmp_path: Path, resnet: ResNet) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "encoder.safetensors"
    inflated = inflate(resnet)
    weights.save(inflated, path, input=INPUT, task="none", data={})
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()[weights.KEY])
    metadata["arguments"]["architecture"]["class"] = name
    save_file(inflated.state_dict(), path, {weights.KEY: json.dumps(metadata)})
    with pytest.raises(ValueError, match=r"encoder.safetensors: .* names the class .*, which is no 2-D encoder"):
        weights.load(path)
