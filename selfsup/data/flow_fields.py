"""Arithmetic on flow fields, and the crop that clip and flow share.

A field (2, H, W) holds u, the motion to the right, then v, the motion downwards, in pixels from one frame to the next.
A stack of L of them has 2L channels, u and v in turn. Whoever moves the pixels of a flow must turn and scale its
vectors too: a flip negates u, a resize multiplies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F


def stack(fields: Tensor, length: int, starts: Tensor | None = None) -> Tensor:
    """Fields (N, 2, H, W) to stacks (2 * length, T, H, W), channels u0 v0 u1 v1 …, in time order.

    Stack t holds `length` fields from field `starts[t]` on; by default each start at which they exist, T = N - length
    + 1. "Optical flow stacking" of Simonyan and Zisserman 2014 (arXiv 1406.2199, section 3.1). Raises ValueError
    where there are fewer fields.
    """
    if not 1 <= length <= len(fields):
        raise ValueError(f"a stack of length={length} from {len(fields)} flow fields; give 1 to {len(fields)}")
    if starts is None:
        starts = torch.arange(len(fields) - length + 1)
    stacks = fields[starts[:, None] + torch.arange(length)]  # (T, L, 2, H, W)
    return stacks.flatten(1, 2).transpose(0, 1)


def subtract_mean(fields: Tensor) -> Tensor:
    """Fields (..., H, W) less the mean over H and W of each channel, which is mostly the camera (section 3.1)."""
    return fields - fields.mean(dim=(-2, -1), keepdim=True)


def to_unit(fields: Tensor, bound_pixels: float = 20.0) -> Tensor:
    """Fields of any shape, in pixels, cut to plus and minus `bound_pixels` and scaled to [-1, 1]."""
    return fields.clamp(-bound_pixels, bound_pixels) / bound_pixels


def quantise(fields: Tensor, bound_pixels: float = 20.0) -> Tensor:
    """Fields in pixels to int8: the square root of what `to_unit` gives, in 127 steps either side of an exact 0.

    Small motions need the finer steps. On real clips, 129 pixels high and bound 20, the mean error was 0.001 to 0.034
    pixels or 0.4 to 7 % of the mean motion; even steps of 20/127 pixels gave 0.4 to 46 %.
    """
    unit = to_unit(fields, bound_pixels)
    return (unit.sign() * unit.abs().sqrt() * 127).round().to(torch.int8)


def dequantise(codes: Tensor, bound_pixels: float = 20.0) -> Tensor:
    """Undoes `quantise`: int8 to float32 pixels in [-bound, bound]."""
    root = codes.float() / 127
    return root * root.abs() * bound_pixels


def flip_flow(fields: Tensor) -> Tensor:
    """The flow (..., 2L, H, W) of left-right flipped frames, exactly: mirrored, and u negated."""
    flipped = fields.flip(-1)
    flipped[..., 0::2, :, :] *= -1
    return flipped


def resize_flow(
    fields: Tensor, height: int, width: int, interpolation: Any = InterpolationMode.BILINEAR, antialias: bool = True
) -> Tensor:
    """The flow (..., 2L, H, W) of resized frames: u grows with the width and v with the height."""
    scale = fields.new_tensor([width / fields.shape[-1], height / fields.shape[-2]])
    scale = scale.repeat(fields.shape[-3] // 2)[:, None, None]
    return F.resize_image(fields, [height, width], interpolation=interpolation, antialias=antialias) * scale


class FlowField(tv_tensors.TVTensor):
    """Flow (..., 2L, H, W), float, that torchvision's transforms crop, resize and flip as they do the frames beside it.

    A transform that would turn the vectors in a way that is not written here is refused with a ValueError.
    """


# What may lie beside the frames of a clip, (channels, T, H, W), and the range in which it stays.
_BESIDE: dict[str, tuple[type[tv_tensors.TVTensor], float, float]] = {
    "flow": (FlowField, -1.0, 1.0),
    "mask": (tv_tensors.Image, 0.0, 1.0),  # tv_tensors.Mask would be cut hard: these are soft
    "truth": (tv_tensors.Image, 0.0, 1.0),
}


def crop_example(crop: Callable[[Any], Any], example: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Applies one crop to an example's "clip" (C, T, H, W) and to what lies beside it.

    That is "flow" (2L, T, H, W) in [-1, 1], and "mask" and "truth" (1, T, H, W) in [0, 1]. They come out as float16,
    half of what the workers would have to hand over; make them float on the device. `crop` is a v2 transform that sees
    (T, channels, H, W). Of a "clip" (V, C, T, H, W), which holds V views of a video, each is cropped by its own draw.
    """
    if example["clip"].ndim == 5:
        assert not example.keys() & _BESIDE, "nothing lies beside the views of a video"
        views = [crop_example(crop, {"clip": view})["clip"] for view in example["clip"]]
        return {**example, "clip": torch.stack(views)}
    beside = {name: kind(example[name].transpose(0, 1)) for name, (kind, _, _) in _BESIDE.items() if name in example}
    frames, beside = crop((tv_tensors.Video(example["clip"].transpose(0, 1)), beside))
    cropped = {"clip": frames.as_subclass(Tensor).transpose(0, 1).contiguous()}
    for name, values in beside.items():
        assert values.shape[-2:] == frames.shape[-2:], f"the crop treats clip and {name} differently"
        _, low, high = _BESIDE[name]
        cropped[name] = values.as_subclass(Tensor).transpose(0, 1).clamp(low, high).half().contiguous()
    return {**example, **cropped}


def _keeps_vectors(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def cut(field: FlowField, *args: Any, **options: Any) -> FlowField:
        return FlowField(kernel(field.as_subclass(Tensor), *args, **options))

    return cut


@F.register_kernel(F.horizontal_flip, FlowField)
def _flip(field: FlowField) -> FlowField:
    return FlowField(flip_flow(field.as_subclass(Tensor)))


@F.register_kernel(F.resize, FlowField)
def _resize(
    field: FlowField,
    size: list[int] | None,
    interpolation: Any = InterpolationMode.BILINEAR,
    max_size: int | None = None,
    antialias: bool | None = True,
) -> FlowField:
    fields = field.as_subclass(Tensor)
    # The size rules (one side, a longest side) are torchvision's: one channel asks it what comes out.
    shape = F.resize_image(fields[..., :1, :, :].flatten(0, -3)[:1], size, max_size=max_size).shape
    return FlowField(resize_flow(fields, shape[-2], shape[-1], interpolation, bool(antialias)))


@F.register_kernel(F.resized_crop, FlowField)
def _resized_crop(
    field: FlowField,
    top: int,
    left: int,
    height: int,
    width: int,
    size: list[int],
    interpolation: Any = InterpolationMode.BILINEAR,
    antialias: bool | None = True,
) -> FlowField:
    cut = F.crop_image(field.as_subclass(Tensor), top, left, height, width)
    return _resize(FlowField(cut), size, interpolation, antialias=antialias)


def _refused(name: str) -> Callable[..., Tensor]:
    def refuse(field: FlowField, *args: Any, **options: Any) -> FlowField:
        raise ValueError(f"flow does not follow {name}; crop, resize or flip left-right, or leave it out")

    return refuse


for _cut in (F.crop, F.center_crop):
    F.register_kernel(_cut, FlowField)(_keeps_vectors(getattr(F, f"{_cut.__name__}_image")))
for _other in (F.vertical_flip, F.rotate, F.affine, F.perspective, F.elastic, F.pad, F.five_crop, F.ten_crop):
    F.register_kernel(_other, FlowField)(_refused(_other.__name__))
