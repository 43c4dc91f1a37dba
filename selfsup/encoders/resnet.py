"""ResNet (He, Zhang, Ren, Sun 2016, arXiv 1512.03385), torchvision's, one frame at a time."""

from collections import OrderedDict

from torch import nn
from torchvision.models import resnet18, resnet34, resnet50, resnet101, resnet152

from selfsup.encoders.encoder import FrameEncoder
from selfsup.encoders.state_dict import load_local

NETWORKS = {18: resnet18, 34: resnet34, 50: resnet50, 101: resnet101, 152: resnet152}


class ResNet(FrameEncoder):
    """Clip (B, in_channels, T, H, W) to features (B, D, T, H/32, W/32), sizes rounded up.

    D is 512 for depths 18 and 34, 2048 for 50, 101 and 152.

    Args:
        depth: 18, 34, 50, 101 or 152.
        in_channels: 3 for RGB, 1 for a spectrogram, 2L for L flow fields.
        weights_path: a local state dict of torchvision's ResNet; its `fc` is left out.

    Raises:
        ValueError: another depth, or weights that do not fit.
    """

    def __init__(self, depth: int = 18, in_channels: int = 3, weights_path: str | None = None) -> None:
        super().__init__()
        if depth not in NETWORKS:
            raise ValueError(f"depth is {depth!r}; torchvision's ResNets have depth {', '.join(map(str, NETWORKS))}")
        self.depth = depth
        self.in_channels = in_channels
        self.weights_path = weights_path

        network = NETWORKS[depth](weights=None)
        self.dim = network.fc.in_features
        network.fc = nn.Identity()
        if in_channels != 3:
            network.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
            # torchvision's own first weights
            nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        if weights_path is not None:
            load_local(network, weights_path, head_keys=("fc.weight", "fc.bias"))

        self.stages = nn.Sequential(
            OrderedDict(
                stem=nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool),
                layer1=network.layer1,
                layer2=network.layer2,
                layer3=network.layer3,
                layer4=network.layer4,
            )
        )
