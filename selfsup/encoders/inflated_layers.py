"""The layers of an inflated network: 2-D layers in, 3-D layers out (Carreira, Zisserman 2017, arXiv 1705.07750)."""

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from selfsup.encoders.time_padding import TimePadded

MODES = ("replicate", "centre")
PADDINGS = ("replicate", "zeros")
# What acts on each place alone, whatever the number of axes.
POINTWISE = (
    nn.Identity,
    nn.Dropout,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.SiLU,
    nn.GELU,
    nn.Hardswish,
    nn.Sigmoid,
    nn.Tanh,
    nn.LocalResponseNorm,
)
# Blocks whose forward only calls their layers and adds: it holds for five axes as it does for four. By name, since
# timm is optional; by exact type, since a subclass may do anything.
BLOCKS = {
    "torch.nn.modules.container.Sequential",
    "torchvision.models.resnet.BasicBlock",
    "torchvision.models.resnet.Bottleneck",
    "timm.models.resnet.BasicBlock",
    "timm.models.resnet.Bottleneck",
    "timm.models.regnet.Bottleneck",
    "timm.models.regnet.RegStage",
    "timm.layers.conv_bn_act.ConvNormAct",
}
NORM_ACT = "timm.layers.norm_act.BatchNormAct2d"


@dataclass(frozen=True)
class Inflation:
    """How kernels are laid out in time; the arguments are those of `selfsup.encoders.inflated.Inflated`."""

    kernel_frames: int
    mode: str
    padding: str

    def __post_init__(self) -> None:
        if type(self.kernel_frames) is not int or self.kernel_frames < 1 or self.kernel_frames % 2 == 0:
            raise ValueError(f"kernel_frames is {self.kernel_frames!r}; give an odd number of at least 1")
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; give {' or '.join(MODES)}")
        if self.padding not in PADDINGS:
            raise ValueError(f"padding is {self.padding!r}; give {' or '.join(PADDINGS)}")

    def inflate(self, module: nn.Module) -> nn.Module:
        """The 3-D layer of a 2-D one, (N, C, H, W) to (N, C, T, H, W); a block is changed in place.

        What has no 3-D counterpart, as layer norm, attention or squeeze and excitation, works on each frame alone, but
        for the convolutions within it.
        """
        name = f"{type(module).__module__}.{type(module).__qualname__}"
        if _inflatable(module):
            return Convolution(module, self)
        if type(module) is nn.BatchNorm2d:
            return _batch_norm(module)
        if name == NORM_ACT:
            norm_act: Any = module
            return nn.Sequential(_batch_norm(norm_act), self.inflate(norm_act.drop), self.inflate(norm_act.act))
        if type(module) is nn.MaxPool2d:
            return _max_pool(module)
        if type(module) is nn.AvgPool2d:
            return _average_pool(module)
        if type(module) in POINTWISE:
            return module
        if name in BLOCKS:
            for child_name, child in module.named_children():
                setattr(module, child_name, self.inflate(child))
            return module
        return PerFrame(module, self)

    def kernel(self, weight: Tensor, kernel_frames: int) -> Tensor:
        """(O, I, k, k) to (O, I, kernel_frames, k, k)."""
        repeated = weight.unsqueeze(2).repeat(1, 1, kernel_frames, 1, 1)
        if self.mode == "replicate":
            return repeated / kernel_frames
        centre = torch.zeros_like(repeated)
        centre[:, :, kernel_frames // 2] = weight
        return centre


class Convolution(TimePadded):
    """A 2-D convolution inflated: padded in space as it was, and in time as `inflation` says; stride 1 in time."""

    def __init__(self, convolution: nn.Conv2d, inflation: Inflation) -> None:
        assert not isinstance(convolution.padding, str), "_inflatable says so"
        kernel_frames = 1 if tuple(convolution.kernel_size) == (1, 1) else inflation.kernel_frames
        zeros = kernel_frames // 2 if inflation.padding == "zeros" else 0
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            (kernel_frames, *convolution.kernel_size),  # type: ignore[arg-type]
            stride=(1, *convolution.stride),  # type: ignore[arg-type]
            padding=(zeros, *convolution.padding),  # type: ignore[arg-type]
            dilation=(1, *convolution.dilation),  # type: ignore[arg-type]
            groups=convolution.groups,
            bias=convolution.bias is not None,
            device="meta",  # without weights, which come next
        )
        self.edge_frames = kernel_frames // 2 - zeros
        weight = inflation.kernel(convolution.weight.detach(), kernel_frames)
        self.weight = nn.Parameter(weight, requires_grad=convolution.weight.requires_grad)
        self.bias = convolution.bias

    def forward(self, input: Tensor) -> Tensor:
        if self.edge_frames:
            # Not F.pad: the gradient of its replication is not deterministic on a GPU.
            edges = (input[:, :, side].expand(-1, -1, self.edge_frames, -1, -1) for side in (slice(1), slice(-1, None)))
            first, last = edges
            input = torch.cat([first, input, last], dim=2)
        return super().forward(input)


class FoldedConvolution(Convolution):
    """The same on frames (B * T, C, H, W), whose clips have `clip_frames` = T frames."""

    clip_frames = 1

    def forward(self, input: Tensor) -> Tensor:
        clips = input.unflatten(0, (-1, self.clip_frames)).transpose(1, 2)
        return super().forward(clips).transpose(1, 2).flatten(0, 1)


class PerFrame(nn.Module):
    """A 2-D module on each frame of a clip (B, C, T, H, W); its convolutions, inflated, see the frames beside it."""

    def __init__(self, module: nn.Module, inflation: Inflation) -> None:
        super().__init__()
        self.module = module
        for name, inner in list(module.named_modules()):
            if name and _inflatable(inner):
                owner = module.get_submodule(name.rpartition(".")[0])
                setattr(owner, name.rpartition(".")[2], FoldedConvolution(inner, inflation))

    def forward(self, clip: Tensor) -> Tensor:
        for module in self.module.modules():
            if isinstance(module, FoldedConvolution):
                module.clip_frames = clip.shape[2]
        maps: Tensor = self.module(clip.transpose(1, 2).flatten(0, 1))
        return maps.unflatten(0, (-1, clip.shape[2])).transpose(1, 2)


def sees_time(network: nn.Module) -> bool:
    """Whether a convolution of an inflated network looks at more than one frame."""
    return any(isinstance(module, Convolution) and module.kernel_size[0] > 1 for module in network.modules())


def _inflatable(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """By exact type: what a subclass does with its kernel is not known."""
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _batch_norm(norm: nn.BatchNorm2d) -> nn.BatchNorm3d:
    inflated = nn.BatchNorm3d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    inflated.weight, inflated.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers(recurse=False):
        inflated.register_buffer(name, buffer)
    return inflated


def _max_pool(pool: nn.MaxPool2d) -> nn.MaxPool3d:
    return nn.MaxPool3d(
        (1, *_pair(pool.kernel_size)),
        stride=(1, *_pair(pool.stride)),
        padding=(0, *_pair(pool.padding)),
        dilation=(1, *_pair(pool.dilation)),
        ceil_mode=pool.ceil_mode,
    )


def _average_pool(pool: nn.AvgPool2d) -> nn.AvgPool3d:
    return nn.AvgPool3d(
        (1, *_pair(pool.kernel_size)),
        stride=(1, *_pair(pool.stride)),
        padding=(0, *_pair(pool.padding)),
        ceil_mode=pool.ceil_mode,
        count_include_pad=pool.count_include_pad,
        divisor_override=pool.divisor_override,
    )


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
