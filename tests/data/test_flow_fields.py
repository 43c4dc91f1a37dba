"""What a flip, a resize and a crop do to a flow, and in what form it is handed on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from selfsup.data.flow import Dis, Farneback, FlowAlgorithm, flow
from selfsup.data.flow_fields import (
    FlowField,
    crop_example,
    dequantise,
    flip_flow,
    quantise,
    resize_flow,
    stack,
    subtract_mean,
    to_unit,
)
from selfsup.data.reader import VideoReader
from selfsup.data.transforms import evaluation_crop, evaluation_crops, train_crop
from tests.data.test_flow import translated


def test_a_flip_mirrors_and_negates_u() -> None:
    fields = torch.randn(3, 4, 8, 10)
    flipped = flip_flow(fields)
    assert torch.equal(flipped[:, [1, 3]], fields[:, [1, 3]].flip(-1))
    assert torch.equal(flipped[:, [0, 2]], -fields[:, [0, 2]].flip(-1))
    assert torch.equal(flip_flow(flipped), fields)
    assert torch.equal(flip_flow(quantise(fields)), quantise(flipped))  # to the bit, also as it is kept


@pytest.mark.parametrize("algorithm", [Dis(), Farneback()], ids=lambda algorithm: algorithm.name)
def test_the_flow_of_a_flipped_recording_is_the_flipped_flow(algorithm: FlowAlgorithm, real_videos: Path) -> None:
    with VideoReader(real_videos / "surv_fight/videos/fight/fi001.mp4", short_side_pixels=120) as video:
        frames = video.frames((np.arange(20) / video.fps).tolist())
    fields = flow(frames, algorithm)
    flipped = flow(frames.flip(-1), algorithm)
    size = fields.norm(dim=1).mean()
    error = (flipped - flip_flow(fields)).norm(dim=1).mean()
    wrong = (flipped - fields.flip(-1)).norm(dim=1).mean()  # u not negated
    print(f"{algorithm.name}: mean flow {size:.3f} px, flip error {error:.3f} px, with u as it was {wrong:.3f} px")
    assert error < 0.3 * size
    assert error < 0.3 * wrong


def test_a_resize_scales_the_vectors() -> None:
    fields = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(5, 2, 20, 30)
    resized = resize_flow(fields, 10, 90)
    assert resized.shape == (5, 2, 10, 90)
    assert torch.allclose(resized[:, 0], torch.tensor(9.0))
    assert torch.allclose(resized[:, 1], torch.tensor(-1.0))


def test_the_flow_of_resized_frames_is_the_resized_flow() -> None:
    frames = translated(side=128)
    found = flow(v2.functional.resize(frames, [64, 64], antialias=True))
    wanted = resize_flow(flow(frames), 64, 64)
    assert (found - wanted)[..., 12:-12, 12:-12].abs().max() < 0.3


def test_a_stack_holds_u_and_v_in_turn() -> None:
    fields = torch.arange(5 * 2).view(5, 2, 1, 1).float().expand(5, 2, 4, 6)  # u of field i is 2i, v is 2i + 1
    stacks = stack(fields, 3)
    assert stacks.shape == (6, 3, 4, 6)
    assert stacks[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert stacks[:, 2, 0, 0].tolist() == [4, 5, 6, 7, 8, 9]
    assert torch.equal(stack(fields, 3, torch.tensor([2, 0]))[:, 0], stacks[:, 2])
    for length in (0, 6):
        with pytest.raises(ValueError, match=f"length={length} from 5 flow fields"):
            stack(fields, length)


def test_mean_bound_and_eight_bits() -> None:
    fields = torch.randn(7, 2, 20, 30, generator=torch.Generator().manual_seed(0)) * 3 + 8
    assert subtract_mean(fields).mean(dim=(-2, -1)).abs().max() < 1e-5
    fields[0, 0, 0, :3] = torch.tensor([-300.0, 20.0, 0.0])
    unit = to_unit(fields, 20.0)
    assert unit[0, 0, 0, :3].tolist() == [-1, 1, 0]
    kept = dequantise(quantise(fields, 20.0), 20.0)
    assert kept[0, 0, 0, :3].tolist() == [-20, 20, 0]
    assert (kept - fields.clamp(-20, 20)).abs().max() <= 20 / 127
    small = torch.linspace(-0.5, 0.5, 1001)
    assert (dequantise(quantise(small)) - small).abs().max() < 0.03


# --- one crop for both


def patterned(bound: float = 1.0) -> dict[str, Tensor]:
    """A clip and a flow whose v is the brightness of the frame beside it; u is its half."""
    texture = translated(4, 1, 1, 48)
    brightness = texture[:, 0].float() / 255  # (T, H, W)
    values = torch.stack([brightness / 2, brightness] * 3) * bound
    return {"clip": texture.transpose(0, 1), "flow": values, "other": torch.ones(1)}


@pytest.mark.parametrize("stretch", [False, True])
def test_clip_and_flow_are_cropped_and_flipped_alike(stretch: bool) -> None:
    crop = train_crop(32, (0.3, 0.9), flip=True, stretch=stretch)
    signs = []
    for seed in range(12):
        torch.manual_seed(seed)
        done = crop_example(crop, patterned(0.2))
        assert done["flow"].shape == (6, 4, 32, 32)
        assert done["flow"].dtype == torch.float16
        torch.manual_seed(seed)
        alone = crop_example(crop, {"clip": patterned()["clip"]})
        assert torch.equal(alone["clip"], done["clip"])  # flow changes nothing for the clip
        u, v = done["flow"][0].float(), done["flow"][1].float()
        bright = done["clip"][0].float() / 255
        scale = (v.flatten() @ bright.flatten()) / bright.square().sum()  # of the resize
        assert (v - scale * bright).abs().max() < 0.02
        signs.append(torch.sign(u.mean()).item())
    assert set(signs) == {-1.0, 1.0}


def test_a_crop_that_enlarges_scales_the_vectors() -> None:
    example = {"clip": torch.zeros(3, 1, 20, 40, dtype=torch.uint8), "flow": torch.full((2, 1, 20, 40), 0.25)}
    done = crop_example(v2.Resize((40, 40), antialias=True), example)["flow"]
    assert torch.allclose(done[0].float(), torch.tensor(0.25))
    assert torch.allclose(done[1].float(), torch.tensor(0.5))
    assert crop_example(evaluation_crop(10, stretch=False), example)["flow"].float().mean() == pytest.approx(0.125)
    assert crop_example(torch.nn.Identity(), example)["flow"].shape == (2, 1, 20, 40)


def test_a_transform_that_turns_vectors_is_refused() -> None:
    field = FlowField(torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="flow does not follow rotate"):
        v2.RandomRotation(10)(field)
    with pytest.raises(ValueError, match="flow does not follow vertical_flip"):
        v2.RandomVerticalFlip(1.0)(field)


def test_the_side_crops_of_a_test_treat_both_alike() -> None:
    example = patterned(0.2)
    wide = {**example, "clip": example["clip"][..., :36, :], "flow": example["flow"][..., :36, :]}
    for crop in evaluation_crops(36, stretch=False, crops=3):
        done = crop_example(crop, wide)
        assert (done["flow"][1].float() - 0.2 * done["clip"][0].float() / 255).abs().max() < 1e-3
