"""Video ResNets from torchvision's blocks: R3D, R(2+1)D and MC3 with 18 layers, R3D and R(2+1)D with 10.

Tran, Wang, Torresani, Ray, LeCun, Paluri 2018, arXiv 1711.11248, table 1. The self-supervised papers VCOP (Xu et
al. 2019) and PRP (Yao et al. 2020, arXiv 2006.11476) use one block a stage, about 10 layers, and call these R3D and
R(2+1)D too: compare with them by `r3d_10` and `r2plus1d_10`.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn
from torchvision.models.video import mc3_18, r2plus1d_18, r3d_18
from torchvision.models.video import resnet as blocks

from selfsup.encoders.encoder import Encoder
from selfsup.encoders.state_dict import load_local
from selfsup.encoders.time_padding import pad_time


def _r3d_10() -> nn.Module:
    return blocks.VideoResNet(blocks.BasicBlock, [blocks.Conv3DSimple] * 4, [1, 1, 1, 1], blocks.BasicStem)


def _r2plus1d_10() -> nn.Module:
    return blocks.VideoResNet(blocks.BasicBlock, [blocks.Conv2Plus1D] * 4, [1, 1, 1, 1], blocks.R2Plus1dStem)


NETWORKS: dict[str, Callable[[], Any]] = {
    "r3d_18": r3d_18,
    "r2plus1d_18": r2plus1d_18,
    "mc3_18": mc3_18,
    "r3d_10": _r3d_10,
    "r2plus1d_10": _r2plus1d_10,
}


class VideoResNet(Encoder):
    """Clip (B, in_channels, T, H, W) to features (B, 512, T/8, H/16, W/16), rounded up; mc3_18 keeps T.

    Args:
        name: "r3d_18", "r2plus1d_18", "mc3_18" (3-D convolutions in stem and layer1 only), "r3d_10" or
            "r2plus1d_10" (one block a stage).
        in_channels: channels of a frame.
        weights_path: a local state dict with the names of torchvision's video ResNets; its `fc` is left out.

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

        network = NETWORKS[name]()
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

        pad_time(network)
        self.stages = nn.Sequential(
            OrderedDict(
                stem=network.stem,
                layer1=network.layer1,
                layer2=network.layer2,
                layer3=network.layer3,
                layer4=network.layer4,
            )
        )
