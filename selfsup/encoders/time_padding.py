"""3-D convolutions that learn in bfloat16 on a CPU, however few moments are left."""

import torch
from torch import Tensor, nn


class TimePadded(nn.Conv3d):
    """`nn.Conv3d` with zeros in time, which it adds itself where the clip is no longer than the two edges of zeros.

    There oneDNN's gradient of a bfloat16 weight is wrong or NaN, and may write where it should not: a kernel of three
    moments on a clip of two (measured with torch 2.14.1, oneDNN 3.12, AVX512-BF16). What is computed is the same.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to (B, D, T', H', W')."""
        assert not isinstance(self.padding, str)
        edge, *space = self.padding
        if edge == 0 or input.shape[2] > 2 * edge or input.device.type != "cpu":
            return super().forward(input)
        padded = nn.functional.pad(input, (0, 0, 0, 0, edge, edge))
        return torch.conv3d(padded, self.weight, self.bias, self.stride, (0, *space), self.dilation, self.groups)


def pad_time(network: nn.Module) -> None:
    """Makes every 3-D convolution of `network` a `TimePadded`, in place: names and weights stay."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and not isinstance(module, TimePadded):
            module.__class__ = TimePadded
