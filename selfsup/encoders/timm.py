"""Any 2-D network of timm (Wightman 2019, github.com/huggingface/pytorch-image-models), one frame at a time.

An optional dependency: `pip install 'selfsup[timm]'`. Nothing is downloaded.
"""

import math
from collections import OrderedDict
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from selfsup.encoders.encoder import FrameEncoder
from selfsup.encoders.state_dict import load_local
from selfsup.encoders.tokens import Embed, OnTokens, Patches

LARGEST_PIXELS = 4096  # some networks keep tables that grow with the square of the image's size
HEAD_PARTS = ("pre_logits", "fc_norm", "attn_pool", "head")  # used after `forward_features` only


class Timm(FrameEncoder):
    """Clip (B, in_channels, T, H, W) to features (B, D, T, H', W'); D and the stride are the network's.

    The features are timm's `forward_features`. Where they are tokens (B, N, D), class and register tokens are
    dropped and the patches are laid out as a map. ResNet, ConvNeXt, EfficientNet, MobileNetV3 and 4, RegNet
    and plain vision transformers are cut into stages; another network is one stage.

    Between the stages of a vision transformer the tokens are a map too: see `selfsup.encoders.tokens`.

    Args:
        name: a name of `timm.list_models()`.
        in_channels: channels of a frame.
        img_size: height and width for networks that are built for one size; None is the network's own. Plain
            vision transformers take any multiple of their patch either way; convolutions need no size.
        weights_path: a local state dict of that network as timm publishes them; its classifier is left out.

    Raises:
        ValueError: timm is not installed, an unknown name, a size that the network does not take, or weights that do
            not fit.
    """

    def __init__(
        self,
        name: str = "convnext_atto",
        in_channels: int = 3,
        img_size: int | None = None,
        weights_path: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.in_channels = in_channels
        self.img_size = img_size
        self.weights_path = weights_path

        timm = _import_timm()
        options = _options(timm, name, img_size)
        try:
            network = timm.create_model(name, pretrained=False, in_chans=in_channels, num_classes=0, **options)
        except TypeError as error:
            raise ValueError(f"timm's {name} does not take {options} ({error}); leave img_size null") from error
        self.dim = network.num_features
        if weights_path is not None:
            load_local(network, weights_path, _head_keys(network))
        for part in HEAD_PARTS:  # after loading, since the files hold them
            if isinstance(getattr(network, part, None), nn.Module):
                setattr(network, part, nn.Identity())
        self.patch_pixels, self.fixed_pixels = _sizes(network)
        self.stages = nn.Sequential(_split(network))

    def check(self, clip: Tensor) -> None:
        """See `Encoder.check`; here frames of a size that the network was not built for are refused too."""
        super().check(clip)
        size = tuple(clip.shape[-2:])
        if self.fixed_pixels is not None and size != self.fixed_pixels:
            raise ValueError(
                f"timm's {self.name} was built for frames of {self.fixed_pixels} pixels, but got {size}; "
                "set `encoder.img_size` to the crop"
            )
        if any(pixels % patch for pixels, patch in zip(size, self.patch_pixels, strict=True)):
            raise ValueError(
                f"timm's {self.name} takes frames whose height and width are multiples of "
                f"{self.patch_pixels} pixels, but got {size}; change the crop"
            )


class _Features(nn.Module):
    """A whole network as one stage: frames (N, C, H, W) to a map (N, D, H', W')."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        features = self.network.forward_features(frames)
        if features.ndim == 3:  # tokens
            patches = features[:, getattr(self.network, "num_prefix_tokens", 0) :]
            # Height to width as in the image; the stride is one number for both.
            rows = round(math.sqrt(patches.shape[1] * frames.shape[-2] / frames.shape[-1]))
            return patches.transpose(1, 2).unflatten(2, (rows, -1))
        if str(getattr(self.network, "output_fmt", "NCHW")).endswith("NHWC"):
            return features.permute(0, 3, 1, 2)
        return features


def _import_timm() -> ModuleType:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ValueError("encoder=timm needs the timm package: pip install 'selfsup[timm]'") from error
    return timm


def _options(timm: ModuleType, name: str, img_size: int | None) -> dict[str, Any]:
    # A name with a scheme ("hf-hub:…", "local-dir:…") would make timm fetch or read a configuration.
    if ":" in name or "/" in name or not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:3]) or "`timm.list_models()`"
        raise ValueError(f"name is {name!r}, which is no network of timm {timm.__version__}; see {near}")
    if img_size is not None and not 1 <= img_size <= LARGEST_PIXELS:
        raise ValueError(f"img_size is {img_size}; give 1 to {LARGEST_PIXELS} pixels, or null")
    options: dict[str, Any] = {} if img_size is None else {"img_size": img_size}
    if timm.models.model_entrypoint(name).__module__ in (
        "timm.models.vision_transformer",
        "timm.models.deit",
    ):
        options["dynamic_img_size"] = True
    return options


def _head_keys(network: Any) -> list[str]:
    """The exact names of the classifier's tensors in the files that timm publishes."""
    classifier = network.pretrained_cfg.get("classifier") or ()
    layers = [classifier] if isinstance(classifier, str) else list(classifier)
    return [f"{layer}.{tensor}" for layer in layers for tensor in ("weight", "bias")]


def _sizes(network: Any) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """What height and width must be multiples of, and what they must be in a network built for one size."""
    if _is_plain_vit(network):
        return network.patch_embed.patch_size, None
    embed = getattr(network, "patch_embed", None)
    if embed is None or not getattr(embed, "strict_img_size", False):
        return (1, 1), None
    return (1, 1), embed.img_size


def _is_plain_vit(network: Any) -> bool:
    from timm.layers import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    if type(network) is not VisionTransformer or type(network.patch_embed) is not PatchEmbed:
        return False
    return network.dynamic_img_size


def _split(network: Any) -> "OrderedDict[str, nn.Module]":
    """The stages whose composition is the network's `forward_features`."""
    from timm.models.convnext import ConvNeXt
    from timm.models.efficientnet import EfficientNet
    from timm.models.mobilenetv3 import MobileNetV3
    from timm.models.regnet import RegNet
    from timm.models.resnet import ResNet

    if _is_plain_vit(network):
        return _split_vit(network)
    if type(network) is ResNet:
        stem = nn.Sequential(network.conv1, network.bn1, network.act1, network.maxpool)
        layers = {f"layer{n}": network.get_submodule(f"layer{n}") for n in range(1, 5)}
        return OrderedDict(stem=stem, **layers)
    if type(network) is ConvNeXt:
        stages = OrderedDict(stem=network.stem, **_numbered("stage", network.stages))
        return OrderedDict(stages, norm=network.norm_pre)
    if type(network) is EfficientNet or type(network) is MobileNetV3:
        stem = nn.Sequential(network.conv_stem, network.bn1)
        stages = OrderedDict(stem=stem, **_numbered("stage", network.blocks))
        if type(network) is EfficientNet:
            stages["head"] = nn.Sequential(network.conv_head, network.bn2)
        return stages
    if type(network) is RegNet:
        layers = {name: network.get_submodule(name) for name in ("s1", "s2", "s3", "s4", "final_conv")}
        return OrderedDict(stem=network.stem, **layers)
    return OrderedDict(features=_Features(network))


def _numbered(name: str, parts: nn.Sequential) -> dict[str, nn.Module]:
    return {f"{name}{index}": part for index, part in enumerate(parts, start=1)}


def _split_vit(network: Any) -> "OrderedDict[str, nn.Module]":
    prefix = network.num_prefix_tokens
    blocks, norm = network.blocks, network.norm
    network.blocks, network.norm = nn.Sequential(), nn.Identity()
    stages: OrderedDict[str, nn.Module] = OrderedDict(embed=Embed(network, network.patch_embed.patch_size))
    for index, block in enumerate(blocks, start=1):
        stages[f"block{index}"] = OnTokens(block, prefix)
    stages["norm"] = nn.Sequential(OnTokens(norm, prefix), Patches(prefix))
    return stages
