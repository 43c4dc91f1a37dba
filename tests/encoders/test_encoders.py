"""Every encoder keeps the one contract: clip (B, C, T, H, W) to features (B, D, T', H', W')."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from selfsup.encoders.c3d import C3D
from selfsup.encoders.caffenet import CaffeNet
from selfsup.encoders.encoder import Encoder, FrameEncoder
from selfsup.encoders.inflated import Inflated
from selfsup.encoders.l3 import L3
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.s3d import S3D
from selfsup.encoders.timm import Timm
from selfsup.encoders.video_resnet import VideoResNet
from selfsup.encoders.vit import ViT


@dataclass(frozen=True)
class Case:
    build: Callable[..., Encoder]
    clip: tuple[int, int, int]  # T, H, W
    features: tuple[int, int, int, int]  # D, T', H', W'
    small: tuple[int, int, int] = (64, 256, 256)  # cut to this in bfloat16, slow without its instructions


RESNET18 = {"class": "selfsup.encoders.resnet.ResNet", "arguments": {"depth": 18}}
CAFFENET = {"class": "selfsup.encoders.caffenet.CaffeNet", "arguments": {}}
CASES = {
    "resnet18": Case(ResNet, (2, 48, 64), (512, 2, 2, 2)),
    "resnet50": Case(lambda **k: ResNet(50, **k), (2, 32, 64), (2048, 2, 1, 2)),
    "caffenet": Case(CaffeNet, (2, 48, 72), (256, 2, 1, 2)),
    "caffenet without batch norm": Case(lambda **k: CaffeNet(batch_norm=False, **k), (2, 72, 80), (256, 2, 2, 2)),
    "l3": Case(L3, (2, 16, 24), (512, 2, 2, 3)),
    "l3 with stride 2": Case(lambda **k: L3(stride=2, **k), (2, 32, 48), (512, 2, 2, 3)),
    "c3d": Case(C3D, (8, 32, 48), (512, 1, 2, 3), small=(8, 16, 16)),
    "c3d plain": Case(lambda **k: C3D(batch_norm=False, **k), (16, 16, 32), (512, 2, 1, 2), small=(8, 16, 16)),
    "r3d18": Case(VideoResNet, (8, 32, 40), (512, 1, 2, 3), small=(2, 16, 16)),
    "r2plus1d18": Case(lambda **k: VideoResNet("r2plus1d_18", **k), (10, 16, 32), (512, 2, 1, 2), small=(2, 16, 16)),
    "mc3_18": Case(lambda **k: VideoResNet("mc3_18", **k), (4, 16, 32), (512, 4, 1, 2), small=(2, 16, 16)),
    "r3d10": Case(lambda **k: VideoResNet("r3d_10", **k), (8, 32, 40), (512, 1, 2, 3), small=(2, 16, 16)),
    "r2plus1d10": Case(lambda **k: VideoResNet("r2plus1d_10", **k), (10, 16, 32), (512, 2, 1, 2), small=(2, 16, 16)),
    "s3d": Case(S3D, (13, 32, 64), (1024, 2, 1, 2), small=(5, 32, 32)),
    "vit": Case(ViT, (5, 32, 24), (192, 3, 4, 3)),
    "vit with patches of 16": Case(
        lambda **k: ViT(patch_pixels=16, tubelet_frames=1, dim=64, heads=4, **k), (4, 32, 48), (64, 4, 2, 3)
    ),
    "inflated resnet18": Case(lambda **k: Inflated(RESNET18, **k), (3, 32, 40), (512, 3, 1, 2), small=(2, 32, 32)),
    "inflated resnet18 with strides": Case(
        lambda **k: Inflated(RESNET18, padding="zeros", time_strides=[2, 1, 2, 1, 1], **k),
        (6, 32, 40),
        (512, 2, 1, 2),
        small=(4, 32, 32),
    ),
    "inflated caffenet": Case(lambda **k: Inflated(CAFFENET, **k), (2, 48, 72), (256, 2, 1, 2), small=(2, 39, 39)),
    "timm resnet18": Case(lambda **k: Timm("resnet18", **k), (2, 48, 64), (512, 2, 2, 2)),
    "timm convnext": Case(lambda **k: Timm("convnext_atto", **k), (2, 32, 64), (320, 2, 1, 2)),
    "timm efficientnet": Case(lambda **k: Timm("efficientnet_b0", **k), (2, 32, 64), (1280, 2, 1, 2)),
    "timm vit": Case(lambda **k: Timm("vit_tiny_patch16_224", **k), (2, 32, 48), (192, 2, 2, 3)),
    "timm vit of one size": Case(
        lambda **k: Timm("vit_tiny_patch16_224", img_size=64, **k), (2, 64, 64), (192, 2, 4, 4)
    ),
    "timm swin": Case(lambda **k: Timm("swin_tiny_patch4_window7_224", img_size=64, **k), (1, 64, 64), (768, 1, 2, 2)),
}


# Of a class whose other cases run every time.
SLOW = (
    "resnet50",
    "caffenet without batch norm",
    "c3d plain",
    "r3d18",
    "r2plus1d18",
    "inflated resnet18 with strides",
    "timm resnet18",
    "timm efficientnet",
    "timm vit of one size",
)
PARAMETERS = [
    pytest.param(name, id=name.replace(" ", "-"), marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES
]


@pytest.fixture(scope="module", params=PARAMETERS)
def case(request: pytest.FixtureRequest) -> Case:
    if request.param.startswith("timm"):
        pytest.importorskip("timm")
    return CASES[request.param]


@pytest.fixture(scope="module")
def encoder(case: Case) -> Encoder:
    torch.manual_seed(0)
    return case.build().eval()


def clip_of(case: Case, batch: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, *case.clip, generator=torch.Generator().manual_seed(1))


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found.float() - expected).norm() / expected.norm()).item()


@torch.no_grad()
def test_gives_a_feature_map_of_its_dim(case: Case, encoder: Encoder) -> None:
    features = encoder(clip_of(case))
    assert features.shape == (2, *case.features)
    assert encoder.dim == case.features[0]
    assert features.isfinite().all()
    assert features.std() > 0


@torch.no_grad()
def test_the_shortest_clip_passes_and_a_shorter_one_is_refused(case: Case, encoder: Encoder) -> None:
    clip = clip_of(case, batch=1)[:, :, :1].expand(-1, -1, encoder.minimum_frames, -1, -1)
    assert encoder(clip).shape[2] >= 1
    if encoder.minimum_frames > 1:
        with pytest.raises(ValueError, match=f"takes {encoder.minimum_frames} or more frames"):
            encoder(clip[:, :, 1:])


@torch.no_grad()
def test_its_stages_in_order_are_the_encoder(case: Case, encoder: Encoder) -> None:
    clip = clip_of(case)
    folds = isinstance(encoder, FrameEncoder)
    x = clip.transpose(1, 2).flatten(0, 1) if folds else clip
    for name, stage in encoder.stages.named_children():
        x = stage(x)
        assert x.ndim == (4 if folds else 5), name
    if folds:
        x = x.unflatten(0, (2, case.clip[0])).transpose(1, 2)
    assert torch.equal(x, encoder(clip))
    assert encoder.stage_names == tuple(dict(encoder.stages.named_children()))


def test_everything_it_holds_is_in_its_stages(encoder: Encoder) -> None:
    held = {id(tensor) for tensor in (*encoder.parameters(), *encoder.buffers())}
    assert held == {id(tensor) for tensor in (*encoder.stages.parameters(), *encoder.stages.buffers())}


def test_the_gradient_reaches_every_parameter(case: Case, encoder: Encoder) -> None:
    training = copy.deepcopy(encoder)  # in eval mode BatchNorm does not cancel the bias before it
    with torch.no_grad():  # timm starts a block's last scale at zero, which stops the gradient for one step
        for parameter in training.parameters():
            parameter.add_(0.1 * (not parameter.any()))
    features = training(clip_of(case))
    (features * torch.randn_like(features)).sum().backward()
    without = [name for name, p in training.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    zero = [name for name, p in training.named_parameters() if not p.grad.any()]
    assert not zero


@torch.no_grad()
def test_channels_last_gives_the_same_features(case: Case, encoder: Encoder) -> None:
    last = torch.channels_last if isinstance(encoder, FrameEncoder) else torch.channels_last_3d
    clip = clip_of(case)
    found = copy.deepcopy(encoder).to(memory_format=last)(clip.to(memory_format=torch.channels_last_3d))
    assert relative_error(found, encoder(clip)) < 1e-5


@torch.no_grad()
def test_bfloat16_gives_nearly_the_same_features(case: Case, encoder: Encoder) -> None:
    frames, height, width = case.small
    clip = clip_of(case, batch=1)[:, :, :frames, :height, :width]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = encoder(clip)
    assert relative_error(found, encoder(clip)) < 0.05


@torch.no_grad()
def test_a_frame_encoder_sees_each_frame_alone(case: Case, encoder: Encoder) -> None:
    if not isinstance(encoder, FrameEncoder):
        pytest.skip("sees frames together, as it should")
    frame, others = clip_of(case, batch=1)[:, :, :1], torch.randn(1, 3, 3, *case.clip[1:])
    first = encoder(torch.cat([frame, others[:, :, :2]], dim=2))
    second = encoder(torch.cat([frame, others[:, :, 1:]], dim=2))
    assert torch.equal(first[:, :, 0], second[:, :, 0])
    assert not torch.equal(first[:, :, 1], second[:, :, 1])
    torch.testing.assert_close(encoder(frame)[:, :, 0], first[:, :, 0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_clip_encoder_sees_frames_together(case: Case, encoder: Encoder) -> None:
    if isinstance(encoder, FrameEncoder):
        pytest.skip("sees each frame alone, as it should")
    if isinstance(encoder, Inflated):
        pytest.skip("its first kernels are the same either way in time: see test_inflated")
    clip = clip_of(case, batch=1)
    assert relative_error(encoder(clip.flip(2)), encoder(clip).flip(2)) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 20])
def test_channels_are_free(case: Case, channels: int) -> None:
    encoder = case.build(in_channels=channels).eval()
    assert encoder.in_channels == channels
    assert encoder(clip_of(case, batch=1, channels=channels)).shape == (1, *case.features)


def test_keeps_every_constructor_argument_as_an_attribute(encoder: Encoder) -> None:
    arguments = {name: getattr(encoder, name) for name in inspect.signature(type(encoder)).parameters}
    rebuilt = type(encoder)(**arguments)
    assert [p.shape for p in rebuilt.parameters()] == [p.shape for p in encoder.parameters()]


def test_an_image_without_a_time_axis_is_refused(case: Case, encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"takes a clip \(B, C, T, H, W\), but got shape \(2, 3, .*unsqueeze"):
        encoder(clip_of(case)[:, :, 0])
