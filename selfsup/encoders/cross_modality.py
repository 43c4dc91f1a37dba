"""Cross-modality initialisation: an encoder of RGB as one of flow (Wang, Xiong, Wang, Qiao 2015, arXiv 1507.02159)."""

import copy
from typing import Any

from torch import nn

from selfsup.encoders.encoder import Encoder


def cross_modality(encoder: Encoder, in_channels: int) -> Encoder:
    """A copy of `encoder` for clips of `in_channels` channels.

    The kernel of the first convolution is its mean over the channels that it has, once for each channel that it gets,
    as in Wang et al. 2016 (arXiv 1608.00859, section 3.2): without rescaling. All other weights are copied.

    Args:
        encoder: any encoder of this package; it stays as it is.
        in_channels: 2L for a stack of L flow fields.

    Raises:
        ValueError: in_channels below 1, or an encoder without convolutions.
    """
    if in_channels < 1:
        raise ValueError(f"in_channels is {in_channels}; give a whole number of at least 1")
    copied: Any = copy.deepcopy(encoder)
    convolutions = (module for module in copied.stages.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
    first = next(convolutions, None)
    if first is None:
        raise ValueError(f"{type(encoder).__name__} has no convolution to begin with; choose encoder=resnet18")
    assert first.groups == 1
    assert first.in_channels == copied.in_channels
    mean = first.weight.detach().mean(dim=1, keepdim=True)  # (O, 1, …)
    repeated = mean.repeat(1, in_channels, *[1] * (mean.ndim - 2)).contiguous()
    first.weight = nn.Parameter(repeated, requires_grad=first.weight.requires_grad)
    first.in_channels = in_channels
    copied.in_channels = in_channels
    # What it was trained to see was frames.
    copied.input, copied.source = None, None
    return copied
