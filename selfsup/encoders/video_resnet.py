"""R3D-18 and R(2+1)D-18 (Tran, Wang, Torresani, Ray, LeCun, Paluri 2018, arXiv 1711.11248), torchvision's.

The 18 layers are those of the paper's table 1; some self-supervised papers (VCOP, PRP) use one block a stage,
about 10 layers, under the same names.
"""

from collections import OrderedDict

from torch import nn
from torchvision.models.video import r2plus1d_18, r3d_18

from selfsup.encoders.encoder import Encoder
from selfsup.encoders.state_dict import load_local

NETWORKS = {"r3d_18": r3d_18, "r2plus1d_18": r2plus1d_18}


class VideoResNet(Encoder):
    """Clip (B, in_channels, T, H, W) to features (B, 512, T/8, H/16, W/16), rounded up.

    Args:
        name: "r3d_18" or "r2plus1d_18".
        in_channels: channels of a frame.
        weights_path: a local state dict of torchvision's network of that name; its `fc` is left out.

    Raises:
        ValueError: another name, or weights that do not fit.
    """

    def __init__(self, name: str = "r3d_18", in_channels: int = 3, weights_path: str | None = None) -> None:
        super().__init__()
        if name not in NETWORKS:
            raise ValueError(f"name is {name!r}; torchvision's video ResNets here are {', '.join(NETWORKS)}")
        self.name = name
        self.in_channels = in_channels
        self.weights_path = weights_path

        network = NETWORKS[name](weights=None)
        self.dim = network.fc.in_features
        network.fc = nn.Identity()
        if in_channels != 3:
            first = network.stem[0]
            first.in_channels = in_channels
            first.weight = nn.Parameter(first.weight.new_empty(first.out_channels, in_channels, *first.kernel_size))
            # torchvision's own first weights
            nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
        if weights_path is not None:
            load_local(network, weights_path, head_keys=("fc.weight", "fc.bias"))

        self.stages = nn.Sequential(
            OrderedDict(
                stem=network.stem,
                layer1=network.layer1,
                layer2=network.layer2,
                layer3=network.layer3,
                layer4=network.layer4,
            )
        )
