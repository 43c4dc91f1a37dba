"""How fast maps change."""

import math

import pytest
import torch

from selfsup.encoders.resnet import ResNet
from selfsup.streaming.change import changed_share, relative_change, velocities


def test_relative_change_is_the_distance_over_the_old_length() -> None:
    old, new = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 5.0]])
    assert relative_change(new, old) == pytest.approx(1 / 5)
    assert relative_change(7 * new, 7 * old) == pytest.approx(1 / 5)
    assert relative_change(old, old) == 0
    assert relative_change(0 * old, 0 * old) == 0
    assert relative_change(old, 0 * old) == math.inf


def test_changed_share_counts_places_whose_largest_score_is_another() -> None:
    old = torch.tensor([[0.9, 0.1, 0.3, 0.2], [0.1, 0.9, 0.2, 0.3]]).view(2, 2, 2)  # classes 0 1 / 0 1
    new = torch.tensor([[0.6, 0.1, 0.1, 0.9], [0.1, 0.2, 0.2, 0.3]]).view(2, 2, 2)  # classes 0 1 / 1 0
    assert changed_share(new, old) == 0.5
    assert changed_share(torch.tensor([[[-1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 2.0, 9.0]]])) == pytest.approx(1 / 3)


@torch.no_grad()
def test_velocities_are_those_of_each_stage() -> None:
    torch.manual_seed(0)
    encoder, frames = ResNet().eval(), torch.randn(4, 3, 48, 48)
    frames[2] = frames[1]
    found = velocities(encoder, frames)
    assert found.shape == (6, 3)
    assert (found[:, 1] == 0).all()
    for stages in range(6):
        maps = encoder.stages[:stages](frames)
        expected = (maps[1] - maps[0]).norm() / maps[0].norm()
        assert found[stages, 0] == pytest.approx(float(expected), rel=1e-3)


def test_one_frame_has_no_velocity() -> None:
    with pytest.raises(ValueError, match=r"a video of 1 frame\(s\) has no change; give at least two"):
        velocities(ResNet(), torch.randn(1, 3, 32, 32))
