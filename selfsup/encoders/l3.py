"""The subnetworks of Look, Listen and Learn (Arandjelović, Zisserman 2017, arXiv 1705.08168, section 2).

Frames and spectrograms each have one, alike but for the channels that come in: the first eight convolutions of VGG,
with BatchNorm. Objects that Sound (arXiv 1712.06651, section 2) has the same with stride 2 in the first. The global
max-pooling behind them is part of what reads the map.
"""

from collections import OrderedDict

import torch
from torch import nn

from selfsup.encoders.encoder import FrameEncoder
from selfsup.encoders.state_dict import load_local

WIDTHS = (64, 128, 256, 512)


class L3(FrameEncoder):
    """Clip (B, in_channels, T, H, W) to features (B, 512, T, H', W').

    H' is H/8 with stride 1 and H/16 with stride 2, rounded down three times, once a pooling: a frame of 224 x 224
    pixels gives 28 x 28, or 14 x 14; a spectrogram of 257 x 199 gives 32 x 24, one of 257 x 200 with stride 2 16 x 12.
    A stage starts with the pooling that comes before its convolutions.

    Args:
        in_channels: 3 for RGB, 1 for a spectrogram.
        stride: of the first convolution.
        weights_path: a local state dict with this class's own names, such as one that selfsup wrote.

    Raises:
        ValueError: weights that do not fit, or another stride than 1 and 2; in `forward`, fewer pixels than
            8 times the stride.
    """

    def __init__(self, in_channels: int = 3, stride: int = 1, weights_path: str | None = None) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride is {stride!r}; give 1, as in L3, or 2, as in Objects that Sound")
        self.in_channels = in_channels
        self.stride = stride
        self.weights_path = weights_path
        self.dim = WIDTHS[-1]
        self.minimum_pixels = 8 * stride

        stages: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = in_channels
        for number, width in enumerate(WIDTHS, start=1):
            first = number == 1
            stages[f"conv{number}"] = nn.Sequential(
                *([] if first else [nn.MaxPool2d(2)]),
                *_layer(inputs, width, stride if first else 1),
                *_layer(width, width, 1),
            )
            inputs = width
        self.stages = nn.Sequential(stages)
        if weights_path is not None:
            load_local(self, weights_path, head_keys=())


def _layer(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")  # He et al. 2015
    assert isinstance(convolution.bias, torch.Tensor)
    nn.init.zeros_(convolution.bias)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
