"""Cutting an encoder: the parts are the encoder, they cost alike, and clocks say which frame is seen when."""

from itertools import combinations, pairwise

import pytest
import torch
from torch import nn

from selfsup.encoders.caffenet import CaffeNet
from selfsup.encoders.encoder import FrameEncoder
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.sub_networks import Part, check_clocks, cut, frames_seen, joined, units
from selfsup.encoders.video_resnet import VideoResNet


@pytest.fixture(scope="module")
def encoder() -> ResNet:
    torch.manual_seed(0)
    return ResNet().eval()


def test_units_are_the_stem_and_the_blocks(encoder: ResNet) -> None:
    parts = units(encoder)
    stages = encoder.stages
    blocks = [block for name in ("layer1", "layer2", "layer3", "layer4") for block in stages.get_submodule(name)]
    assert [layer for part in parts for layer in part.network] == [*stages.get_submodule("stem"), *blocks]
    assert [len(part.network) for part in parts] == [4, *[1] * 8]
    assert [part.dim for part in parts] == [64, 64, 64, 128, 128, 256, 256, 512, 512]
    # He et al. 2016, table 1, at 224 pixels: 118 M in the stem of 1.81 G in all
    assert parts[0].multiply_adds == 64 * 112 * 112 * 3 * 7 * 7
    assert sum(part.multiply_adds for part in parts) == pytest.approx(1.81e9, rel=0.01)
    assert [len(part.network) for part in units(CaffeNet())] == [4, 4, 3, 3, 4], "pooling goes with its convolution"


def test_counting_computes_nothing_and_leaves_the_encoder_as_it_was() -> None:
    encoder = ResNet().train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    units(encoder)
    assert encoder.stages.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


@pytest.mark.parametrize("count", range(1, 10))
def test_any_cut_is_the_encoder(encoder: ResNet, count: int) -> None:
    frame = torch.randn(1, 3, 32, 32)
    parts = cut(units(encoder), count)
    assert len(parts) == count
    with torch.no_grad():
        maps = frame
        for part in parts:
            maps = part.network(maps)
            assert maps.shape[1] == part.dim
        assert torch.equal(maps, encoder.stages(frame))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_no_other_cut_has_a_cheaper_dearest_part(count: int) -> None:
    costs = [5.0, 1.0, 1.0, 7.0, 2.0, 2.0]
    parts = [Part(nn.Sequential(nn.Identity()), int(cost), 1) for cost in costs]

    def dearest(starts: tuple[int, ...]) -> float:
        places = (0, *starts, len(costs))
        return max(sum(costs[start:stop]) for start, stop in pairwise(places))

    best = min(dearest(starts) for starts in combinations(range(1, len(costs)), count - 1))
    assert max(part.multiply_adds for part in cut(parts, count)) == best
    reverse = cut(parts, 2, costs=[1, 1, 1, 1, 1, 9])
    assert [len(part.network) for part in reverse] == [5, 1], "given costs count, not multiply-adds"


class Opaque(FrameEncoder):
    """A stage that is no nn.Sequential, though it is built on one."""

    class Doubled(nn.Sequential):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(maps)

    def __init__(self) -> None:
        super().__init__()
        self.dim = 4
        self.stages = nn.Sequential(self.Doubled(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1)), nn.ReLU())


def test_what_does_more_than_its_layers_is_not_opened() -> None:
    (part,) = units(Opaque())
    assert len(part.network) == 2
    assert part.dim == 4


@pytest.mark.parametrize("count", [0, 10])
def test_more_parts_than_there_are_is_refused(encoder: ResNet, count: int) -> None:
    message = f"sub_networks is {count}; this encoder has 9 layers or blocks to cut between, so give 1 to 9"
    with pytest.raises(ValueError, match=message):
        cut(units(encoder), count)


def test_what_cannot_be_cut_is_refused(encoder: ResNet) -> None:
    with pytest.raises(ValueError, match="VideoResNet looks at whole clips"):
        units(VideoResNet())
    for sizes in ([4, 4], [0, 9], []):
        with pytest.raises(ValueError, match=r"cut is \[.*\]; give numbers of at least 1 that add up to 9"):
            joined(units(encoder), sizes)
    for clocks in ([1], [1, 0], [1, 2.5]):
        with pytest.raises(ValueError, match=r"clocks is \[.*\]; give each of the 2 sub-networks a whole number"):
            check_clocks(clocks, 2)  # type: ignore[arg-type]


def test_frames_seen() -> None:
    """By hand; sub-network 3 with a clock of 4 runs at ticks 2 and 6, on what sub-network 2 made at ticks 1 and 5."""
    assert frames_seen([1, 1, 1], 4).tolist() == [[0, 1, 2, 3], [-1, 0, 1, 2], [-1, -1, 0, 1]]
    assert frames_seen([1, 2, 4], 8).tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [-1, 0, 0, 2, 2, 4, 4, 6],
        [-1, -1, 0, 0, 0, 0, 4, 4],
    ]
