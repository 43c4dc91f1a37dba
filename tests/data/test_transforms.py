"""One crop a clip, in uint8; what jumps from frame to frame does so within its bounds."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from selfsup.data.transforms import (
    ChannelSplitting,
    EachClip,
    EachFrame,
    SpatialJitter,
    evaluation_crop,
    train_crop,
)


def ramp(height: int, width: int) -> Tensor:
    """Uint8 (3, H, W) whose channels tell the row, the column, and nothing."""
    rows = torch.arange(height, dtype=torch.uint8)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.uint8)[None].expand(height, width)
    return torch.stack([rows, columns, torch.full_like(rows, 7)])


def clips(batch: int, time: int, side: int = 12) -> Tensor:
    """Float (B, 3, T, H, W) in [0, 1], every value its own."""
    return torch.rand(batch, 3, time, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("stretch", [False, True])
def test_train_crop_is_one_for_all_frames_of_a_clip_and_another_for_the_next(stretch: bool) -> None:
    crop = train_crop(16, (0.3, 0.6), flip=True, stretch=stretch)
    clip = ramp(40, 60).expand(5, 3, 40, 60)
    done = [crop(clip) for _ in range(8)]
    for one in done:
        assert one.shape == (5, 3, 16, 16)
        assert one.dtype == torch.uint8
        assert all(torch.equal(frame, one[0]) for frame in one)
    assert len({one.numpy().tobytes() for one in done}) == 8


def test_train_crop_flips_half_of_the_clips_left_right() -> None:
    crop = train_crop(16, (0.3, 0.6), flip=True, stretch=False)
    frame = ramp(40, 60)[None]
    flipped = [bool(one[0, 1, 0, 0] > one[0, 1, 0, -1]) for one in (crop(frame) for _ in range(200))]
    assert 70 < sum(flipped) < 130
    upright = train_crop(16, (0.3, 0.6), flip=False, stretch=False)
    assert not any(one[0, 1, 0, 0] > one[0, 1, 0, -1] for one in (upright(frame) for _ in range(50)))


def test_train_crop_keeps_the_share_of_the_area_that_it_is_told() -> None:
    crop = train_crop(32, (0.25, 0.5), flip=False, stretch=False)
    shares = []
    for _ in range(100):
        one = crop(ramp(80, 80)[None]).float()[0]
        shares.append((one[0].amax() - one[0].amin() + 1) * (one[1].amax() - one[1].amin() + 1) / 80**2)
    low, high = torch.stack(shares).aminmax()
    assert 0.2 < low < 0.32
    assert 0.43 < high < 0.55


def test_evaluation_crop_is_the_central_square_every_time() -> None:
    crop = evaluation_crop(40, stretch=False)
    clip = ramp(40, 60).expand(2, 3, 40, 60)
    assert torch.equal(crop(clip), clip[..., 10:50])
    assert torch.equal(crop(clip), crop(clip))
    assert evaluation_crop(20, stretch=False)(clip).dtype == torch.uint8


def test_stretched_evaluation_sees_the_whole_frame() -> None:
    one = evaluation_crop(20, stretch=True)(ramp(40, 60)).float()
    assert one.shape == (3, 20, 20)
    assert one[1, 0, 0] < 3
    assert one[1, 0, -1] > 56


def test_spatial_jitter_moves_each_frame_by_whole_pixels_within_its_reach() -> None:
    reach, side = 3, 20
    frames = ramp(side, side).float()[None, :, None].expand(6, 3, 8, side, side)
    moved = SpatialJitter(reach)(frames)
    assert moved.shape == frames.shape
    inner = moved[..., reach:-reach, reach:-reach]  # reflection does not come this far
    shift = inner - frames[..., reach:-reach, reach:-reach]
    assert torch.equal(shift[:, 2], torch.zeros_like(shift[:, 2]))
    rows, columns = shift[:, 0, :, 0, 0], shift[:, 1, :, 0, 0]  # (B, T)
    assert torch.equal(shift[:, 0], rows[..., None, None].expand_as(shift[:, 0]))
    assert torch.equal(shift[:, 1], columns[..., None, None].expand_as(shift[:, 1]))
    for one in (rows, columns):
        assert set(one.unique().tolist()) == set(range(-reach, reach + 1))
        assert all(len(row.unique()) > 1 for row in one)  # frames of a clip move apart
    assert not torch.equal(rows, columns)


def test_spatial_jitter_fills_the_border_by_reflection() -> None:
    frames = ramp(20, 20).float()[None, :, None].expand(1, 3, 40, 20, 20)
    moved = SpatialJitter(3)(frames)[0, 0]  # rows, (T, H, W)
    for frame in moved:
        shift = int(frame[10, 0]) - 10
        expected = torch.arange(20) + shift
        expected = torch.where(expected < 0, -expected, expected)
        expected = torch.where(expected > 19, 38 - expected, expected)
        assert torch.equal(frame[:, 0], expected.float())


def test_spatial_jitter_of_no_pixels_changes_nothing() -> None:
    assert torch.equal(SpatialJitter(0)(clips(2, 3)), clips(2, 3))


def test_channel_splitting_repeats_one_channel_of_each_frame() -> None:
    clip = clips(6, 5)
    split = ChannelSplitting()(clip)
    assert split.shape == clip.shape
    assert torch.equal(split[:, 0], split[:, 1])
    assert torch.equal(split[:, 0], split[:, 2])
    source = (split[:, :1] == clip).flatten(3).all(dim=3)  # (B, 3, T)
    assert torch.equal(source.sum(dim=1), torch.ones(6, 5, dtype=torch.long))
    assert set(source.int().argmax(dim=1).unique().tolist()) == {0, 1, 2}
    assert any(len(row.unique()) > 1 for row in source.int().argmax(dim=1))  # frames choose apart


def test_channel_splitting_with_a_probability_keeps_the_other_frames() -> None:
    clip = clips(40, 10, side=4)
    split = ChannelSplitting(0.3)(clip)
    kept = (split == clip).flatten(3).all(dim=3).all(dim=1)  # (B, T)
    grey = (split[:, :1] == split).flatten(3).all(dim=3).all(dim=1)
    assert torch.equal(kept, ~grey)
    assert grey.float().mean() == pytest.approx(0.3, abs=0.08)
    assert torch.equal(ChannelSplitting(0.0)(clip), clip)


class AddChance(nn.Module):
    """Adds one random number, and looks at the shape that it gets."""

    shapes: set[tuple[int, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.shapes = set()

    def forward(self, image: Tensor) -> Tensor:
        self.shapes.add(tuple(image.shape))
        return image + torch.rand(())


def test_each_clip_draws_once_a_clip_and_each_frame_once_a_frame() -> None:
    clip = clips(3, 4)
    chance = AddChance()
    added = EachClip(chance)(clip) - clip  # (B, C, T, H, W)
    assert chance.shapes == {(4, 3, 12, 12)}
    torch.testing.assert_close(added, added[:, :1, :1, :1, :1].expand_as(added))
    assert len(added[:, 0, 0, 0, 0].unique()) == 3

    chance = AddChance()
    added = EachFrame(chance)(clip) - clip
    assert chance.shapes == {(1, 3, 12, 12)}
    torch.testing.assert_close(added, added[:, :1, :, :1, :1].expand_as(added))
    assert len(added[:, 0, :, 0, 0].unique()) == 12


@pytest.mark.parametrize(
    "build", [partial(EachFrame, AddChance()), partial(SpatialJitter, 3), partial(ChannelSplitting, 1.0)]
)
def test_frames_in_a_row_may_share_a_draw(build: Callable[..., nn.Module]) -> None:
    still = clips(8, 1, side=16).expand(-1, -1, 6, -1, -1)
    changed = build(frames=3)(still)
    first, second = changed[:, :, :3], changed[:, :, 3:]
    assert changed.shape == still.shape
    for run in (first, second):
        assert torch.equal(run, run[:, :, :1].expand_as(run))
    assert not torch.equal(first, second)
    assert not torch.equal(build()(still)[:, :, 0], build()(still)[:, :, 1])  # by itself each frame draws


def test_colour_jitter_of_torchvision_fits_both() -> None:
    clip = clips(2, 3)
    jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)
    for module in (EachClip(jitter), EachFrame(jitter)):
        done = module(clip)
        assert done.shape == clip.shape
        assert 0 <= done.min() <= done.max() <= 1
        assert not torch.equal(done, clip)
