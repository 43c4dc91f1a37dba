"""Masked video: tubes, targets held against NumPy, what the encoder is not shown, and that the gaps are filled."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from selfsup.data.clips import DenseClip
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.vit import ViT
from selfsup.tasks.masked_video import MaskedVideo, joined, normalised, patches, tube_mask
from tests.tasks.learning import SmallClips, examples, figure, taught

SAMPLER = DenseClip(4, stride_seconds=0.1, loop=False)


def encoder_of(**options: int) -> ViT:
    return ViT(**{"dim": 24, "depth": 2, "heads": 2, "patch_pixels": 8} | options)


def task_of(encoder: Encoder | None = None, **options: Any) -> MaskedVideo:
    torch.manual_seed(0)
    adam = partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.0)
    settings = {"mask_ratio": 0.75, "decoder_dim": 24, "decoder_depth": 1, "decoder_heads": 2} | options
    return MaskedVideo(encoder or encoder_of(), SAMPLER, adam, **settings)


def batch_of(videos: int = 4, size_pixels: int = 32) -> dict[str, Tensor]:
    """Waves that run over the picture, each video in a direction of its own; uint8 as the data module gives it."""
    row, column = torch.meshgrid(torch.arange(size_pixels), torch.arange(size_pixels), indexing="ij")
    time = torch.arange(4.0)[:, None, None]
    phase = [row * np.cos(angle) + column * np.sin(angle) - 2 * time for angle in range(videos)]
    waves = 127 + 100 * (torch.stack(phase) / 4).sin()  # (B, T, H, W)
    return {"clip": waves[:, None].expand(-1, 3, -1, -1, -1).byte(), "video": torch.arange(videos)}


@pytest.mark.parametrize(("ratio", "hidden"), [(0.9, 32), (0.75, 27), (0.5, 18), (0.01, None)])
def test_tubes_are_hidden_at_all_times(ratio: float, hidden: int | None) -> None:
    if hidden is None:
        with pytest.raises(ValueError, match=r"task\.mask_ratio=0\.01 hides 0 of the 36 patches"):
            tube_mask(5, (4, 6, 6), ratio)
        return
    mask = tube_mask(5, (4, 6, 6), ratio)
    assert mask.shape == (5, 4, 6, 6)
    assert torch.equal(mask, mask[:, :1].expand_as(mask))
    assert mask.sum(dim=(1, 2, 3)).tolist() == [4 * hidden] * 5
    assert len(mask.flatten(1).unique(dim=0)) == 5  # each example has its own


def test_every_place_is_hidden_as_often_as_every_other() -> None:
    mask = tube_mask(4000, (1, 4, 4), 0.75, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mask.float().mean(dim=0), torch.full((1, 4, 4), 0.75), atol=0.03, rtol=0)


def test_patches_are_cubes_of_the_clip_and_go_back_to_their_places() -> None:
    clip = torch.randn(2, 3, 4, 16, 24)
    cut = patches(clip, 2, 8)
    assert cut.shape == (2, 2 * 2 * 3, 3, 2 * 8 * 8)
    assert torch.equal(cut[1, 1 * 6 + 1 * 3 + 2], clip[1, :, 2:, 8:, 16:].flatten(1))  # of time 1, row 1, column 2
    assert torch.equal(joined(cut, torch.Size((2, 2, 3)), 2, 8), clip)


def test_the_target_is_normalised_by_patch_and_channel() -> None:
    cut = 40 * torch.randn(2, 6, 3, 128) + 100
    target, mean, deviation = normalised(cut)
    array = cut.double().numpy()
    expected = (array - array.mean(-1, keepdims=True)) / array.std(-1, ddof=1, keepdims=True)
    np.testing.assert_allclose(target.numpy(), expected, atol=1e-4)
    torch.testing.assert_close(target * deviation + mean, cut)
    assert not normalised(torch.full((1, 1, 3, 128), 7.0))[0].any()  # of one colour there is nothing to tell


def test_the_loss_of_the_mean_of_each_patch_is_one() -> None:
    task = task_of().eval()
    with torch.no_grad():
        task.decoder[-1].weight.zero_()
        task.decoder[-1].bias.zero_()
    clip = torch.randn(4, 3, 4, 32, 32)
    told = task.step({"clip": clip, "video": torch.arange(4)})
    assert told["loss"] == told["loss, patch means"] == pytest.approx(127 / 128, abs=1e-5)
    assert told["explained"] == task.chance["explained"] == 0


def test_the_loss_is_that_of_its_definition() -> None:
    task, clip = task_of().eval(), torch.randn(3, 3, 4, 32, 32)
    told = task.step({"clip": clip, "video": torch.arange(3)})
    assert told["explained, mean of visible"] < 0  # of noise it is no better than any other noise
    hidden = task.hide(clip, torch.arange(3))
    answer = task(clip, hidden).detach().numpy()
    squares = []
    for video, time, row, column in np.argwhere(hidden.numpy()):
        cube = clip[video, :, 2 * time : 2 * time + 2, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].flatten(1)
        wanted = (cube - cube.mean(1, keepdim=True)) / cube.std(1, keepdim=True)
        squares.append((answer[video, time * 16 + row * 4 + column] - wanted.numpy()) ** 2)
    assert len(squares) == 3 * 2 * 12
    assert told["loss"].item() == pytest.approx(np.mean(squares), rel=1e-4)
    assert told["explained"].item() == pytest.approx(1 - told["loss"].item() / told["loss, patch means"].item())


def test_what_is_hidden_does_not_change_what_is_told() -> None:
    """Neither by its values nor by a gradient."""
    task, clip = task_of().eval(), torch.randn(2, 3, 4, 32, 32, requires_grad=True)
    hidden = task.hide(clip, torch.arange(2))
    told = task(clip, hidden)
    told.square().sum().backward()
    assert clip.grad is not None
    places = hidden.repeat_interleave(2, 1).repeat_interleave(8, 2).repeat_interleave(8, 3)[:, None].expand_as(clip)
    assert not clip.grad[places].any()
    assert clip.grad[~places].all()
    noise = torch.where(places, torch.randn_like(clip), clip)
    assert torch.equal(task(noise, hidden), told)


def test_held_out_videos_are_asked_the_same_each_time_and_others_are_not() -> None:
    task, clip = task_of(), torch.randn(4, 3, 4, 32, 32)
    first = task.hide(clip, torch.arange(4))
    assert torch.equal(first, task.hide(clip, torch.arange(4)))
    assert not torch.equal(first, task.hide(clip, torch.arange(4, 8)))
    assert not torch.equal(task.hide(clip, None), task.hide(clip, None))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_gradient_reaches_every_parameter(precision: torch.dtype) -> None:
    task = task_of().train()
    with torch.autocast("cpu", dtype=precision, enabled=precision == torch.bfloat16):
        told = task.step({**batch_of(), "clip": task.prepare(batch_of()["clip"])})
    assert all(value.dtype == torch.float32 and value.isfinite() for value in told.values())
    told["loss"].backward()
    assert not [name for name, p in task.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("size_pixels", [32, 48])
def test_a_few_videos_are_learned_by_heart(size_pixels: int) -> None:
    task, batch = task_of(), batch_of(4, size_pixels)
    before = figure(task.eval(), batch, "explained")
    taught(task, batch, steps=250, size=4)
    assert before < 0
    assert figure(task, batch, "explained") > 0.3


def test_the_pictures_are_the_frame_what_is_visible_and_what_was_told() -> None:
    task, batch = task_of().eval(), batch_of()
    frame, visible, told = task.pictures(batch)
    assert torch.equal(frame, batch["clip"][:, :, 2].float() / 255)
    hidden = task.hide(batch["clip"], batch["video"])[:, 1].repeat_interleave(8, 1).repeat_interleave(8, 2)
    gaps = hidden[:, None].expand_as(frame)
    assert (visible[gaps] == 0.5).all()
    assert torch.equal(visible[~gaps], frame[~gaps])
    assert torch.equal(told[~gaps], frame[~gaps])
    assert not torch.equal(told[gaps], frame[gaps])
    assert 0 <= told.min() <= told.max() <= 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"encoder": SmallClips()},
            r"task=masked_video hides patches from the encoder, and SmallClips sees .*encoder=vit",
        ),
        ({"mask_ratio": 1.0}, r"task\.mask_ratio=1 must lie between 0 and 1"),
        ({"mask_ratio": 0.0}, r"task\.mask_ratio=0 must lie between 0 and 1"),
        ({"decoder_depth": 0}, r"task\.decoder_depth=0: give at least 1"),
        ({"decoder_heads": 5}, r"task\.decoder_dim=24 and task\.decoder_heads=5: give an even width"),
    ],
)
def test_values_out_of_bounds_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        task_of(**options)


@pytest.mark.parametrize(
    ("ratio", "shape", "sentence"),
    [
        (
            0.95,
            (4, 16, 16),
            r"task\.mask_ratio=0\.95 hides 4 of the 4 patches of a frame, 2 x 2; give a ratio that hides",
        ),
        (0.75, (4, 20, 32), r"encoder\.patch_pixels=8, which do not fill frames of 20 x 32 pixels"),
        (
            0.75,
            (3, 32, 32),
            r"encoder\.tubelet_frames=2 do not fill clips of 3 frames; give task\.sampler\.num_frames a",
        ),
    ],
)
def test_clips_that_cannot_be_masked_are_refused(ratio: float, shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        task_of(mask_ratio=ratio).step({"clip": torch.randn(2, 3, *shape), "video": torch.arange(2)})


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_behind_the_mask_of_other_videos_is_told(seed: int) -> None:
    torch.manual_seed(seed)
    adam = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.05)
    encoder = ViT(dim=96, depth=3, heads=3)
    task = MaskedVideo(encoder, SAMPLER, adam, decoder_dim=48).eval()
    test = examples(SAMPLER, "test", 4)
    before = figure(task, test, "explained")
    taught(task, examples(SAMPLER, "train", 4), 600)
    after, guess = (figure(task, test, name) for name in ("explained", "explained, mean of visible"))
    print(f"{before:.3f} before, {after:.3f} after; the mean of the visible patches {guess:.3f}, that of each 0")
    assert guess < 0
    assert after > 0.03
