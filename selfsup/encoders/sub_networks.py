"""An encoder cut into sub-networks that run side by side, each on another frame.

Massively parallel video networks (Carreira et al. 2018, arXiv 1806.03863, section 3).
Sub-network 1 reads frame t while sub-network 2 reads what sub-network 1 made of frame t - 1, and so on.

Axes: C channels, H height, W width, D features, n sub-networks, T frames.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from selfsup.encoders.encoder import Encoder, FrameEncoder

CUT_PIXELS = 224  # side of the frame by which an encoder is cut; every usual patch divides it


class Part(NamedTuple):
    """A run of layers of an encoder.

    Attributes:
        network: shares its layers with the encoder.
        multiply_adds: on a frame of `CUT_PIXELS`.
        dim: D of its output.
    """

    network: nn.Sequential
    multiply_adds: int
    dim: int


def units(encoder: Encoder) -> list[Part]:
    """The smallest parts: nested `nn.Sequential`s opened, and what has no kernel of its own with what comes before it.

    ResNet-18: the stem and eight blocks. Another module inside a stage, as a residual block, is never opened. No weight
    is read and nothing is computed.

    Raises:
        ValueError: a 3-D encoder, whose layers look at several frames.
    """
    if not isinstance(encoder, FrameEncoder):
        raise ValueError(
            f"{type(encoder).__name__} looks at whole clips, and its layers at several frames; only a 2-D encoder "
            "(resnet18, caffenet …) is cut into sub-networks"
        )
    groups: list[list[nn.Module]] = [[]]
    for module in _opened(encoder.stages):
        if _has_kernel(module) and any(map(_has_kernel, groups[-1])):
            groups.append([])
        groups[-1].append(module)
    # timm's networks of one size take no other
    size = getattr(encoder, "fixed_pixels", None) or (CUT_PIXELS, CUT_PIXELS)
    maps = torch.zeros(1, _channels(encoder), *size, device="meta")
    parts = []
    for group in groups:
        network = nn.Sequential(*group)
        shapes_alone = copy.deepcopy(network).to("meta").eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            maps = shapes_alone(maps)
        parts.append(Part(network, counter.get_total_flops() // 2, maps.shape[1]))
    return parts


def cut(parts: Sequence[Part], count: int, costs: Sequence[float] | None = None) -> list[Part]:
    """`count` parts in a row of these, so that the dearest costs the least.

    Args:
        parts: those of `units`.
        count: n; 1 is the whole encoder.
        costs: of each part; None: its multiply-adds.

    Raises:
        ValueError: no part, or more than there are.
    """
    if not 1 <= count <= len(parts):
        raise ValueError(
            f"sub_networks is {count}; this encoder has {len(parts)} layers or blocks to cut between, so give 1 to "
            f"{len(parts)}"
        )
    return joined(parts, _balanced([part.multiply_adds for part in parts] if costs is None else costs, count))


def joined(parts: Sequence[Part], sizes: Sequence[int]) -> list[Part]:
    """The parts in groups of these sizes.

    Raises:
        ValueError: a size below 1, or sizes that do not add up to the number of parts.
    """
    if not sizes or min(sizes) < 1 or sum(sizes) != len(parts):
        raise ValueError(
            f"cut is {list(sizes)}; give numbers of at least 1 that add up to {len(parts)}, the layers or blocks of "
            "this encoder"
        )
    groups = [list(parts[stop - size : stop]) for size, stop in zip(sizes, accumulate(sizes), strict=True)]
    return [
        Part(
            nn.Sequential(*(layer for part in group for layer in part.network)),
            sum(part.multiply_adds for part in group),
            group[-1].dim,
        )
        for group in groups
    ]


def check_clocks(clocks: Sequence[int] | None, count: int) -> list[int]:
    """The clock of each of `count` sub-networks, 1 for each where there are none; ValueError for other clocks."""
    found = [1] * count if clocks is None else list(clocks)
    if len(found) != count or any(type(clock) is not int or clock < 1 for clock in found):
        raise ValueError(
            f"clocks is {found}; give each of the {count} sub-networks a whole number of at least 1, or null for all 1"
        )
    return found


def frames_seen(clocks: Sequence[int], num_frames: int) -> Tensor:
    """The frame that the output of each sub-network describes after each tick, int64 (n, T); -1 where there is none.

    Tick t gives frame t to sub-network 1. Sub-network k (from 1) runs on what sub-network k - 1 gave at the tick
    before, where t - (k - 1) is a multiple of its clock, and else holds its output. A frame whose number all clocks
    divide so passes without waiting: with clocks of 1, row k is t - (k - 1).
    """
    seen = torch.full((len(clocks), num_frames), -1)
    for time in range(num_frames):
        for place, clock in enumerate(clocks):
            given = time if place == 0 else int(seen[place - 1, time - 1]) if time else -1
            if runs(time, place, clock) and given >= 0:
                seen[place, time] = given
            elif time:
                seen[place, time] = seen[place, time - 1]
    return seen


def runs(time: int, place: int, clock: int) -> bool:
    """Whether sub-network `place` (from 0) with this clock runs at tick `time`, where it has something to run on."""
    return time >= place and (time - place) % clock == 0


def _opened(stages: nn.Sequential) -> Iterator[nn.Module]:
    for module in stages:
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            yield from _opened(module)
        else:
            yield module


def _has_kernel(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _channels(encoder: Encoder) -> int:
    """C, by the first convolution."""
    return next((parameter.shape[1] for parameter in encoder.parameters() if parameter.ndim == 4), 3)


def _balanced(costs: Sequence[float], count: int) -> list[int]:
    """Sizes of `count` groups in a row with the least greatest sum of costs; earlier groups are small where equal."""
    sums = [0.0, *accumulate(costs)]
    best: list[tuple[float, list[int]]] = [(sums[stop], [stop]) for stop in range(len(sums))]
    for groups in range(2, count + 1):
        best = [
            min(
                (
                    (max(best[start][0], sums[stop] - sums[start]), [*best[start][1], stop - start])
                    for start in range(groups - 1, stop)
                ),
                default=(float("inf"), []),
            )
            for stop in range(len(sums))
        ]
    return best[-1][1]
