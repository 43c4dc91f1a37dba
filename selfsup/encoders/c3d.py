"""C3D (Tran, Bourdev, Fergus, Torresani, Paluri 2015, arXiv 1412.0767): eight 3 x 3 x 3 convolutions.

Without BatchNorm it is Tran's network up to conv5b. With it, it is the C3D of the self-supervised papers,
which average conv5b's map to 512 features. Tran's pool5 and fc6 to fc8 are a classifier.
"""

from collections import OrderedDict

import torch
from torch import nn

from selfsup.encoders.encoder import Encoder
from selfsup.encoders.state_dict import load_local
from selfsup.encoders.time_padding import TimePadded


class C3D(Encoder):
    """Clip (B, in_channels, T, H, W) to features (B, 512, T/8, H/16, W/16), rounded down.

    The paper's 16 frames of 112 x 112 pixels give a 2 x 7 x 7 map. A stage starts with the pooling that comes
    before its convolutions (pool1 in conv2, ... pool4 in conv5).

    Args:
        in_channels: channels of a frame.
        batch_norm: normalise after every convolution.
        weights_path: a local state dict with this class's own names, such as one that selfsup wrote.

    Raises:
        ValueError: weights that do not fit; in `forward`, fewer than 8 frames or 16 pixels.
    """

    minimum_frames = 8  # three poolings halve time
    minimum_pixels = 16  # four poolings halve height and width

    def __init__(self, in_channels: int = 3, batch_norm: bool = True, weights_path: str | None = None) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.batch_norm = batch_norm
        self.weights_path = weights_path
        self.dim = 512

        def layer(inputs: int, outputs: int) -> list[nn.Module]:
            norms = [nn.BatchNorm3d(outputs)] if batch_norm else []
            return [_convolution(inputs, outputs), *norms, nn.ReLU(inplace=True)]

        stages = OrderedDict(
            conv1=layer(in_channels, 64),
            # pool1 keeps time, so as not to merge it too early (the paper's section on the architecture)
            conv2=[nn.MaxPool3d(kernel_size=(1, 2, 2)), *layer(64, 128)],
            conv3=[nn.MaxPool3d(kernel_size=2), *layer(128, 256), *layer(256, 256)],
            conv4=[nn.MaxPool3d(kernel_size=2), *layer(256, 512), *layer(512, 512)],
            conv5=[nn.MaxPool3d(kernel_size=2), *layer(512, 512), *layer(512, 512)],
        )
        self.stages = nn.Sequential(OrderedDict((name, nn.Sequential(*parts)) for name, parts in stages.items()))
        if weights_path is not None:
            load_local(self, weights_path, head_keys=())


def _convolution(inputs: int, outputs: int) -> nn.Conv3d:
    convolution = TimePadded(inputs, outputs, kernel_size=3, padding=1)
    # He et al. 2015: eight layers without BatchNorm do not start to learn from torch's default scale.
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    assert isinstance(convolution.bias, torch.Tensor)
    nn.init.zeros_(convolution.bias)
    return convolution
