"""S3D (Xie, Sun, Huang, Tu, Murphy 2018, arXiv 1712.04851), torchvision's: Inception with 3-D convolutions that are
split into one in space and one in time. The S3D-G of some papers adds gates, which this network has not.
"""

from collections import OrderedDict

from torch import nn
from torchvision.models.video import s3d

from selfsup.encoders.encoder import Encoder
from selfsup.encoders.state_dict import load_local
from selfsup.encoders.time_padding import pad_time

# Where torchvision's `features` is cut: a stage starts with the pooling that comes before its convolutions.
CUTS = {"conv1": (0, 1), "conv2": (1, 4), "mixed3": (4, 7), "mixed4": (7, 13), "mixed5": (13, 16)}


class S3D(Encoder):
    """Clip (B, in_channels, T, H, W) to features (B, 1024, T/8, H/32, W/32).

    T/4, H/16 and W/16 are rounded up and their halves down; 16 frames of 224 x 224 pixels give 2 x 7 x 7.

    Args:
        in_channels: channels of a frame.
        weights_path: a local state dict of torchvision's s3d; its classifier is left out.

    Raises:
        ValueError: weights that do not fit; in `forward`, fewer than 5 frames or 17 pixels.
    """

    minimum_frames = 5  # the last pooling still has its two moments
    minimum_pixels = 17  # and its two rows

    def __init__(self, in_channels: int = 3, weights_path: str | None = None) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.weights_path = weights_path
        self.dim = 1024

        network = s3d(weights=None)
        network.classifier = nn.Identity()
        if in_channels != 3:
            first = network.features[0][0]
            first[0] = nn.Conv3d(in_channels, 64, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False)
        if weights_path is not None:
            load_local(network, weights_path, head_keys=("classifier.1.weight", "classifier.1.bias"))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                # torchvision's 0.001 needs thousands of steps to forget its first statistics; torch's 0.1 suits
                # runs of other lengths. What trained weights compute is the same.
                module.momentum = 0.1
        pad_time(network)
        self.stages = nn.Sequential(
            OrderedDict((name, network.features[first:last]) for name, (first, last) in CUTS.items())
        )
