"""Inflation: a 2-D network as a 3-D one with its weights (Carreira, Zisserman 2017, arXiv 1705.07750, section 2.4).

Each k x k convolution becomes K x k x k, so that a still clip gives, at every moment, what the 2-D network gives for
its frame. Convolutions of 1 x 1 stay alone in time, as in I3D; I3D's own kernels are cubes, here K is one number. What
else a network holds, as attention or layer norm, works on each frame alone.

The kernels start out the same either way in time, so that an inflated network knows no direction of time until it is
trained: a reversed clip gives the reversed features.
"""

import copy
import inspect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selfsup.encoders.by_name import find_encoder
from selfsup.encoders.encoder import Encoder, FrameEncoder
from selfsup.encoders.inflated_layers import Inflation, sees_time


@dataclass(frozen=True)
class _Architecture:
    """The 2-D network: an import path of this folder, and what its constructor takes besides GIVEN."""

    name: str
    arguments: dict[str, Any]


GIVEN = ("in_channels", "weights_path")  # arguments of every 2-D encoder that `Inflated` takes itself


class Inflated(Encoder):
    """Clip (B, in_channels, T, H, W) to features (B, D, T', H', W'): D, H' and W' of the 2-D network.

    T' = T, or what `time_strides` leave of it, rounded up.

    Args:
        architecture: the 2-D network as {"class": import path, "arguments": {…}}: a FrameEncoder of
            selfsup.encoders, and what its constructor takes besides in_channels and weights_path.
        kernel_frames: K, odd.
        mode: "replicate", the kernel K times in time, divided by K (Carreira, Zisserman 2017); or "centre", zero but
            for the middle (Girdhar, Gkioxari, Torresani, Paluri, Tran 2018, arXiv 1712.09184), which starts as the
            2-D network on each frame.
        padding: of time, "replicate" or "zeros". With "replicate" the first and the last frame go on, and a still
            clip gives the 2-D features at every moment; with "zeros" only away from the clip's ends.
        time_strides: one number a stage; after a stage with s > 1 time is max-pooled by s. I3D halves time three
            times; with ResNet, [2, 1, 2, 2, 1] is near it. None keeps all moments.
        in_channels: channels of a frame.
        weights_path: a local state dict for the 2-D network, as its class reads it.

    Raises:
        ValueError: an architecture that is no 2-D encoder of this package or holds no convolution that can be inflated,
            an option out of its range, or weights that do not fit.
    """

    def __init__(
        self,
        architecture: Mapping[str, Any],
        kernel_frames: int = 3,
        mode: str = "replicate",
        padding: str = "replicate",
        time_strides: Sequence[int] | None = None,
        in_channels: int = 3,
        weights_path: str | None = None,
    ) -> None:
        super().__init__()
        inflation = Inflation(kernel_frames, mode, padding)
        parsed = _parse(architecture)
        self.architecture = {"class": parsed.name, "arguments": parsed.arguments}
        self.kernel_frames = kernel_frames
        self.mode = mode
        self.padding = padding
        self.time_strides = None if time_strides is None else list(time_strides)
        self.in_channels = in_channels
        self.weights_path = weights_path

        network = _build(parsed, in_channels, weights_path)
        self.dim = network.dim
        self.stages = _inflate_stages(network.stages, inflation, self.time_strides)
        network.stages = nn.Sequential()
        self.frame_encoder = network  # what is left of it knows which frames it takes

    def check(self, clip: Tensor) -> None:
        self.frame_encoder.check(clip)


def inflate(
    encoder: Encoder,
    kernel_frames: int = 3,
    mode: str = "replicate",
    padding: str = "replicate",
    time_strides: Sequence[int] | None = None,
) -> Inflated:
    """The 3-D encoder with the weights of a 2-D one, which stays as it is; the options are those of `Inflated`.

    Raises:
        ValueError: `encoder` is no 2-D encoder of this package, or holds no convolution that can be inflated.
    """
    cls = type(encoder)
    if not isinstance(encoder, FrameEncoder):
        raise ValueError(f"only a 2-D encoder can be inflated, but {cls.__name__} is 3-D; choose encoder=resnet18")
    name = f"{cls.__module__}.{cls.__qualname__}"
    _find_class(name)
    arguments = {argument: getattr(encoder, argument) for argument in inspect.signature(cls).parameters}
    in_channels = arguments.pop("in_channels", 3)
    arguments.pop("weights_path", None)
    architecture = {"class": name, "arguments": arguments}
    with torch.device("meta"):  # only the layers; the weights are the encoder's
        inflated = Inflated(architecture, kernel_frames, mode, padding, time_strides, in_channels)
    stages = copy.deepcopy(encoder.stages)
    inflated.stages = _inflate_stages(stages, Inflation(kernel_frames, mode, padding), inflated.time_strides)
    inflated.input, inflated.source = encoder.input, encoder.source
    return inflated.train(encoder.training)


def _inflate_stages(stages: nn.Sequential, inflation: Inflation, time_strides: list[int] | None) -> nn.Sequential:
    """Uses up `stages`."""
    names = [name for name, _ in stages.named_children()]
    strides = [1] * len(names) if time_strides is None else time_strides
    if len(strides) != len(names) or not all(type(stride) is int and stride >= 1 for stride in strides):
        raise ValueError(
            f"time_strides is {time_strides}; give one whole number of at least 1 for each of the stages "
            f"{', '.join(names)}"
        )
    inflated = OrderedDict()
    for (name, stage), stride in zip(stages.named_children(), strides, strict=True):
        inflated[name] = inflation.inflate(stage)
        if stride > 1:
            # Rounded up, so that the shortest clip passes.
            pool = nn.MaxPool3d((stride, 1, 1), stride=(stride, 1, 1), ceil_mode=True)
            inflated[name] = nn.Sequential(inflated[name], pool)
    network = nn.Sequential(inflated)
    if inflation.kernel_frames > 1 and not sees_time(network):
        raise ValueError(
            "none of the network's convolutions can be inflated, so it would see one frame at a time; choose a network "
            "with plain ones that are wider than 1 x 1, such as encoder=resnet18"
        )
    return network


def _parse(architecture: Mapping[str, Any]) -> _Architecture:
    if not isinstance(architecture, Mapping) or set(architecture) != {"class", "arguments"}:
        raise ValueError(f'architecture is {architecture!r}; give {{"class": import path, "arguments": {{…}}}}')
    name, arguments = architecture["class"], architecture["arguments"]
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise ValueError(f"architecture is {architecture!r}; its class is text and its arguments a mapping")
    for given in GIVEN:
        if given in arguments:
            raise ValueError(f"architecture.arguments holds {given}; give `{given}` to the inflated encoder itself")
    return _Architecture(name, dict(arguments))


def _build(architecture: _Architecture, in_channels: int, weights_path: str | None) -> FrameEncoder:
    cls = _find_class(architecture.name)
    unknown = set(architecture.arguments) - set(inspect.signature(cls).parameters)
    if unknown:
        raise ValueError(f"architecture.arguments holds {min(unknown)}, which {architecture.name} does not take")
    return cls(**architecture.arguments, in_channels=in_channels, weights_path=weights_path)


def _find_class(name: str) -> Any:
    """The 2-D encoder of this folder with that import path."""
    found = find_encoder(name)
    if found is not None and issubclass(found, FrameEncoder):
        return found
    raise ValueError(
        f"architecture names the class {name!r}, which is no 2-D encoder of {__package__}; "
        f"name one, such as {__package__}.resnet.ResNet"
    )
