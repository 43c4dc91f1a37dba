"""Saliency and the scores of pixels on motions that are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from selfsup.data.appearance_saliency import ManifoldRanking
from selfsup.data.camera_motion import PlaneMotion
from selfsup.data.flow import flow
from selfsup.data.saliency import MotionSaliency, neighbour_flow, without_border
from selfsup.data.superpixels import Superpixels
from tests.data.moving import moving_square, square_mask

FULL = MotionSaliency(side_pixels=None)


def test_neighbours_are_those_around_in_both_directions() -> None:
    frames = moving_square(5)
    pairs = {}
    for number, step, vectors in neighbour_flow(frames, 3, FULL.flow):
        assert (number, step) not in pairs
        pairs[number, step] = vectors
    wanted = {(n, step) for n in range(5) for step in (-3, -2, -1, 1, 2, 3) if 0 <= n + step < 5}
    assert set(pairs) == wanted
    for number, step in wanted:
        alone = flow(frames[[number, number + step]], FULL.flow)[0].numpy()
        assert np.array_equal(pairs[number, step], alone)


def inside_and_outside(frames: Tensor, saliency: MotionSaliency) -> tuple[float, float]:
    values, mask = saliency(frames).values, square_mask(len(frames))
    return float(values[mask].mean()), float(values[~mask].mean())


@pytest.mark.parametrize("side", [None, 100])
def test_what_moves_before_a_still_background_is_salient(side: int | None) -> None:
    inside, outside = inside_and_outside(moving_square(6), replace(FULL, side_pixels=side))
    assert inside > 10 * outside


def test_what_moves_against_the_camera_is_salient_only_without_it() -> None:
    frames = moving_square(6, pan=(2, 0))  # in the square's direction: the angle does not tell
    inside, outside = inside_and_outside(frames, replace(FULL, camera=PlaneMotion()))
    assert inside > 10 * outside
    inside, outside = inside_and_outside(frames, FULL)
    assert inside < 3 * outside


def test_frames_that_move_every_way_have_no_dominant_motion() -> None:
    noise = torch.randint(0, 256, (4, 3, 120, 160), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = FULL(noise)
    assert not found.dominant.any()
    assert not found.values.any()


def test_the_border_is_not_salient() -> None:
    kept = without_border(np.ones((1, 40, 80), np.float32), 0.125)
    assert kept.sum() == 30 * 70
    assert kept[0, 5:35, 5:75].all()


def test_what_differs_from_the_borders_stands_out() -> None:
    frames = torch.full((1, 3, 96, 128), 90, dtype=torch.uint8)
    frames[0, 0, 30:60, 50:80] = 250
    frames = (frames + torch.randint(0, 9, frames.shape, generator=torch.Generator().manual_seed(0))).byte()
    superpixels = Superpixels(segments=150, smoothing_pixels=1)
    regions = superpixels.divide(frames)
    found = regions.paint(ManifoldRanking()(frames, regions))[0]
    assert found[35:55, 55:75].mean() > 0.8
    assert np.delete(found, np.s_[25:65], axis=0).mean() < 0.2
