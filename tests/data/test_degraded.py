"""What is taken away is gone, and nothing else."""

import pytest
import torch
from torch import Tensor

from selfsup.data.degraded import BESIDE_THE_POINT, MOTIONLESS, grey, single_frames, static, without_borders


@pytest.fixture
def clip() -> Tensor:
    """A bright square that moves over a dark slope, uint8 (2, 3, 5, 31, 45)."""
    slope = torch.linspace(0, 90, 45).expand(2, 3, 5, 31, 45).clone()
    for frame in range(5):
        slope[:, 0, frame, 8:20, 6 * frame + 4 : 6 * frame + 16] = 250
    return slope.to(torch.uint8)


def test_nothing_moves_in_a_static_video(clip: Tensor) -> None:
    assert torch.equal(static(clip), clip[:, :, 2:3].expand_as(clip))
    views = torch.stack([clip, clip.flip(2)], dim=1)
    assert torch.equal(static(views), clip[:, None, :, 2:3].expand_as(views))


def test_each_view_keeps_a_frame_of_its_own(clip: Tensor) -> None:
    views = torch.stack([clip, clip.flip(3)], dim=1)
    still = single_frames(views)
    assert torch.equal(still, views[:, :, :, 2:3].expand_as(views))
    assert not torch.equal(still[:, 0], still[:, 1])


def test_the_middle_is_left_within_borders_that_repeat_it(clip: Tensor) -> None:
    masked = without_borders(clip)
    assert torch.equal(masked[..., 3:28, 5:40], clip[..., 3:28, 5:40])
    other = clip.clone()
    other[..., :3, :] = other[..., 28:, :] = other[..., :5] = other[..., 40:] = 9
    assert torch.equal(without_borders(other), masked), "nothing of the border is left"
    assert torch.equal(masked[..., 2, 7], clip[..., 3, 7])
    assert torch.equal(masked[..., 7, 44], clip[..., 7, 39])


def test_grey_is_luma(clip: Tensor) -> None:
    told = grey(clip)
    luma = (clip.float() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1, 1)).sum(dim=1)
    for channel in range(3):
        assert (told[:, channel].float() - luma).abs().max() < 1.01, "rounded down"


@pytest.mark.parametrize("name", ["re-encoded, H.264", "re-encoded, MPEG-4"])
def test_a_compressed_clip_shows_the_same_at_the_same_time(clip: Tensor, name: str) -> None:
    views = torch.stack([clip, clip.flip(2)], dim=1)
    found = BESIDE_THE_POINT[name](views)
    assert found.shape == views.shape
    assert found.dtype == torch.uint8
    assert not torch.equal(found, views)
    apart = (found.float()[:, :, :, :, None] - views.float()[:, :, :, None]).abs().mean(dim=(0, 2, 5, 6))  # (V, T, T)
    assert torch.equal(apart.argmin(dim=2), torch.arange(5).expand(2, 5))
    assert apart.diagonal(dim1=1, dim2=2).max() < 15


def test_codecs_leave_other_traces(clip: Tensor) -> None:
    first, second = (BESIDE_THE_POINT[f"re-encoded, {name}"](clip) for name in ("H.264", "MPEG-4"))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", [*MOTIONLESS, *BESIDE_THE_POINT])
def test_the_given_clip_is_left_alone(clip: Tensor, name: str) -> None:
    before = clip.clone()
    {**MOTIONLESS, **BESIDE_THE_POINT}[name](clip)
    assert torch.equal(clip, before)
