"""timm's networks: parity with `forward_features`, tokens as maps, names, sizes and local weights."""

import sys

import pytest
import torch
from torch import Tensor

from selfsup.encoders.timm import Timm
from selfsup.encoders.tokens import to_map, to_tokens

timm = pytest.importorskip("timm")

CUT = [
    ("resnet18", "stem layer1 layer2 layer3 layer4"),
    ("convnext_atto", "stem stage1 stage2 stage3 stage4 norm"),
    ("efficientnet_b0", "stem stage1 stage2 stage3 stage4 stage5 stage6 stage7 head"),
    ("mobilenetv3_small_100", "stem stage1 stage2 stage3 stage4 stage5 stage6"),
    ("regnetx_002", "stem s1 s2 s3 s4 final_conv"),
    ("vit_tiny_patch16_224", " ".join(["embed", *(f"block{n}" for n in range(1, 13)), "norm"])),
    ("deit_tiny_patch16_224", " ".join(["embed", *(f"block{n}" for n in range(1, 13)), "norm"])),
    ("vit_small_patch14_reg4_dinov2", " ".join(["embed", *(f"block{n}" for n in range(1, 13)), "norm"])),
    ("xcit_nano_12_p16_224", "features"),
]


def whole(name: str, frames: Tensor, path: str) -> Tensor:
    """timm's own features (N, D, H', W') of a fresh network, whose weights go to `path`."""
    torch.manual_seed(0)
    size = {"dynamic_img_size": True} if name.startswith(("vit", "deit")) else {}
    network = timm.create_model(name, pretrained=False, num_classes=7, **size).eval()
    torch.save(network.state_dict(), path)
    with torch.no_grad():
        features = network.forward_features(frames)
    if features.ndim == 3:
        patch = 14 if "patch14" in name else 16
        patches = features[:, network.num_prefix_tokens :]
        features = patches.transpose(1, 2).reshape(len(frames), -1, *(n // patch for n in frames.shape[-2:]))
    return features


@torch.no_grad()
@pytest.mark.parametrize(("name", "stages"), CUT, ids=[name for name, _ in CUT])
def test_published_weights_give_timms_features_stage_by_stage(tmp_path, name: str, stages: str) -> None:
    frames = torch.randn(2, 3, 28, 42) if "patch14" in name else torch.randn(2, 3, 32, 48)
    path = str(tmp_path / "weights.pth")
    expected = whole(name, frames, path)
    encoder = Timm(name, weights_path=path).eval()
    assert " ".join(encoder.stage_names) == stages
    assert encoder.dim == expected.shape[1]
    torch.testing.assert_close(encoder.stages(frames), expected)


@pytest.mark.parametrize("name", ["vgg11", "beit_base_patch16_224", "vit_base_patch16_siglip_224"])
def test_what_only_the_head_uses_is_left_out(name: str) -> None:
    with torch.device("meta"):
        encoder = Timm(name)
    names = [key for key, _ in encoder.named_parameters()]
    assert names
    assert not [key for key in names if "fc_norm" in key or "attn_pool" in key or "pre_logits" in key]


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("width", [1, 2, 5, 7])
def test_a_token_map_holds_the_tokens(prefix: int, width: int) -> None:
    tokens = torch.randn(2, prefix + 3 * width, 4)
    token_map = to_map(tokens, prefix, width)
    assert token_map.shape == (2, 4, 3 + -(-prefix // width), width)
    assert torch.equal(to_tokens(token_map, prefix), tokens)
    patches = tokens[:, prefix:].transpose(1, 2).reshape(2, 4, 3, width)
    assert torch.equal(token_map[:, :, -3:], patches)


def test_absent_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"pip install 'selfsup\[timm\]'"):
        Timm("resnet18")


@pytest.mark.parametrize(
    "name", ["resnet_18", "hf-hub:someone/network", "local-dir:/etc", "os.system", "", "../resnet18"]
)
def test_a_name_that_timm_does_not_list_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="which is no network of timm"):
        Timm(name)


def test_a_size_that_the_network_does_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match=r"resnet18 does not take .*img_size.*; leave img_size null"):
        Timm("resnet18", img_size=64)
    with pytest.raises(ValueError, match="img_size is 100000; give 1 to 4096 pixels"):
        Timm("vit_tiny_patch16_224", img_size=100_000)


def test_frames_of_a_size_that_the_network_does_not_take_are_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of \(16, 16\) pixels, but got \(32, 40\)"):
        Timm("vit_tiny_patch16_224")(torch.zeros(1, 3, 1, 32, 40))
    with pytest.raises(ValueError, match=r"built for frames of \(64, 64\) pixels, but got \(32, 64\); set"):
        Timm("swin_tiny_patch4_window7_224", img_size=64)(torch.zeros(1, 3, 1, 32, 64))
