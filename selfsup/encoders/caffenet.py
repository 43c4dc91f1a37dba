"""CaffeNet, the AlexNet of Shuffle and Learn (Misra, Zitnick, Hebert 2016, arXiv 1603.08561).

The layers, their order and their first weights are those of the authors' `networks/tuple_train.prototxt`:
pooling before the local response normalisation, two groups in conv2, conv4 and conv5, and Caffe's BatchNorm,
which has no scale and shift of its own, on conv3 to conv5, fc6 and fc7. The plain net is Caffe's version of
Krizhevsky, Sutskever, Hinton 2012.
"""

from collections import OrderedDict

import torch
from torch import nn

from selfsup.encoders.encoder import FrameEncoder
from selfsup.encoders.state_dict import load_local


class CaffeNet(FrameEncoder):
    """Clip (B, in_channels, T, H, W) to features (B, 256, T, H', W').

    The paper's 227 x 227 pixels give a 6 x 6 map. With `fully_connected` the features are fc7's,
    (B, 4096, T, 1, 1) from 227 pixels: fc6 is a 6 x 6 and fc7 a 1 x 1 convolution, and a larger frame gives a
    map.

    Args:
        in_channels: channels of a frame. Caffe's own weights want BGR in [0, 255] minus (104, 117, 123).
        batch_norm: normalise conv3 to conv5, fc6 and fc7, as the paper does.
        fully_connected: go on to fc7.
        weights_path: a local state dict with this class's own names, such as one that selfsup wrote.

    Raises:
        ValueError: weights that do not fit; in `forward`, a frame of fewer than 39 pixels (199 with
            `fully_connected`).
    """

    def __init__(
        self,
        in_channels: int = 3,
        batch_norm: bool = True,
        fully_connected: bool = False,
        weights_path: str | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.batch_norm = batch_norm
        self.fully_connected = fully_connected
        self.weights_path = weights_path
        self.dim = 4096 if fully_connected else 256
        # The last pooling still has one whole output; or conv5's pooled map is 6 x 6, the window of fc6.
        self.minimum_pixels = 199 if fully_connected else 39

        def layer(*arguments: int, bias: float, std: float = 0.01, normalise: bool = True) -> list[nn.Module]:
            convolution = _convolution(*arguments, bias=bias, std=std)
            # Caffe averages with a fraction of 0.001; torch's 0.1 suits runs of other lengths, and is kept.
            norms = [nn.BatchNorm2d(arguments[1], affine=False)] if normalise and batch_norm else []
            return [convolution, *norms, nn.ReLU(inplace=True)]

        stages = OrderedDict(
            conv1=[
                *layer(in_channels, 96, 11, 4, 0, 1, bias=0.0, normalise=False),
                _pool(),
                _response_norm(),
            ],
            conv2=[*layer(96, 256, 5, 1, 2, 2, bias=1.0, normalise=False), _pool(), _response_norm()],
            conv3=layer(256, 384, 3, 1, 1, 1, bias=0.0),
            conv4=layer(384, 384, 3, 1, 1, 2, bias=1.0),
            conv5=[*layer(384, 256, 3, 1, 1, 2, bias=1.0), _pool()],
        )
        if fully_connected:
            stages["fc6"] = [*layer(256, 4096, 6, 1, 0, 1, bias=1.0, std=0.005), nn.Dropout(0.5)]
            stages["fc7"] = [*layer(4096, 4096, 1, 1, 0, 1, bias=1.0, std=0.005), nn.Dropout(0.5)]
        self.stages = nn.Sequential(OrderedDict((name, nn.Sequential(*parts)) for name, parts in stages.items()))
        if weights_path is not None:
            load_local(self, weights_path, head_keys=())


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int, padding: int, groups: int, *, bias: float, std: float
) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
    nn.init.normal_(convolution.weight, std=std)
    assert isinstance(convolution.bias, torch.Tensor)
    nn.init.constant_(convolution.bias, bias)
    return convolution


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)  # Caffe rounds sizes up


def _response_norm() -> nn.LocalResponseNorm:
    return nn.LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=1.0)
