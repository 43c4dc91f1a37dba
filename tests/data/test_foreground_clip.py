"""A still frame and its mask: pure, cut by one crop, from frames that are fit to learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from selfsup.data.dataset import ClipDataset, collate
from selfsup.data.flow import Dis
from selfsup.data.flow_fields import crop_example
from selfsup.data.foreground import Labels, Rejection
from selfsup.data.foreground_clip import ForegroundClip
from selfsup.data.foreground_labels import ForegroundLabels
from selfsup.data.index import VideoInfo, inspect
from selfsup.data.object_window import ObjectWindow
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import PreparedSampler, UniformSampler
from selfsup.data.synthetic import read_annotations
from selfsup.data.transforms import evaluation_crop, train_crop
from selfsup.data.true_masks import read_masks
from tests.data.moving import HEIGHT, LEFT, STEP, TOP, WIDTH, moving_square
from tests.media import write_video


@dataclass(frozen=True)
class Reds:
    """Takes the red channel for the mask; even frames are no good."""

    def __call__(self, frames: Tensor, times_seconds: Any) -> Labels:
        bad = [Rejection.STATIC if number % 2 == 0 else None for number in range(len(frames))]
        masks = frames[:, 0].float() / 255
        times = torch.tensor(list(times_seconds), dtype=torch.float64)
        return Labels(times, masks, torch.ones(len(frames)), tuple(bad))


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    """A video of 12 frames, 120 x 160 pixels, whose brightness says which frame it is, with a bright square in it."""
    frames = np.zeros((12, HEIGHT, WIDTH), np.uint8)
    for number, frame in enumerate(frames):
        frame[:] = 5 * number
        frame[40:70, 50 + number : 90 + number] = 255
    return inspect(write_video(tmp_path_factory.mktemp("videos") / "square.mp4", frames))


def sampler(folder: Path, **options: Any) -> ForegroundClip:
    return ForegroundClip(
        ForegroundLabels(Reds(), short_side_pixels=120, chunk_frames=5, folder=str(folder)), **options
    )


def ask(asked: ForegroundClip, info: VideoInfo, seed: int, side: int = 120) -> dict[str, Tensor]:
    with VideoReader(info.path, short_side_pixels=side) as video:
        return asked(video, info, torch.Generator().manual_seed(seed))


def test_it_is_a_sampler_that_prepares(tmp_path: Path) -> None:
    assert isinstance(sampler(tmp_path), PreparedSampler)
    assert not isinstance(UniformSampler(), PreparedSampler)


def test_it_is_pure_and_draws_every_frame_that_is_fit(info: VideoInfo, tmp_path: Path) -> None:
    numbers = set()
    for seed in range(40):
        example = ask(sampler(tmp_path), info, seed)
        assert example.keys() == {"clip", "mask"}
        assert (example["clip"].shape, example["clip"].dtype) == ((3, 1, 120, 160), torch.uint8)
        assert (example["mask"].shape, example["mask"].dtype) == ((1, 1, 120, 160), torch.float32)
        numbers.add(round(example["clip"][:, 0, :20].float().mean().item() / 5))
        if seed < 3:
            again = ask(sampler(tmp_path), info, seed)
            assert all(torch.equal(example[name], again[name]) for name in example)
    chunks = sampler(tmp_path).labels.chunks(info)
    assert numbers == {number for chunk in chunks for number in chunk[1::2]}  # the labeller counts within a part


@pytest.mark.parametrize("side", [48, 120])
@pytest.mark.parametrize("window", [None, ObjectWindow()])
def test_a_mask_that_equals_the_red_of_its_frame_does_so_after_any_crop(
    info: VideoInfo, tmp_path: Path, window: ObjectWindow | None, side: int
) -> None:
    crops = [
        train_crop(40, (0.3, 1.0), True, False),
        train_crop(40, (0.5, 1.0), True, True),
        evaluation_crop(32, False),
    ]
    for number, crop in enumerate(crops):
        for seed in range(4):
            example = ask(sampler(tmp_path, window=window), info, seed, side)
            torch.manual_seed(seed)
            cropped = crop_example(crop, example)
            assert cropped["mask"].shape == (1, 1, *cropped["clip"].shape[-2:])
            assert cropped["mask"].dtype == torch.float16
            difference = (cropped["mask"][0, 0].float() - cropped["clip"][0, 0].float() / 255).abs()
            assert difference.mean() < 0.04, (number, seed)  # video compression, and 20 steps of the mask
            assert (difference > 0.2).float().mean() < 0.05  # edges, where frames were scaled elsewhere


def test_flips_and_pixels_of_mask_and_truth_follow_the_frame_exactly() -> None:
    picture = torch.randint(0, 256, (1, 1, 30, 40), dtype=torch.uint8)
    example = {"clip": picture.expand(3, -1, -1, -1), "mask": picture / 255, "truth": (picture > 127).float()}
    for crop in (v2.RandomHorizontalFlip(1.0), v2.RandomCrop(20), v2.Compose([v2.RandomCrop(25), v2.CenterCrop(9)])):
        cropped = crop_example(crop, example)
        assert torch.equal((cropped["mask"].float() * 255).round(), cropped["clip"][:1].float())
        assert torch.equal(cropped["truth"], (cropped["clip"][:1] > 127).half())


def test_the_window_holds_the_object_and_context(info: VideoInfo, tmp_path: Path) -> None:
    still = ObjectWindow(context=2.0, shift_share=0.0, scale_octaves=0.0)
    example = ask(sampler(tmp_path, window=still), info, 0)
    assert example["clip"].shape == (3, 1, 80, 80)
    rows, columns = (example["mask"][0, 0] > 0.5).nonzero(as_tuple=True)
    assert (rows.min().item(), rows.max().item()) == (25, 54)
    assert (columns.min().item(), columns.max().item()) == (20, 59)


def test_truth_is_that_of_the_frame(synthetic_manifest: Path, tmp_path: Path) -> None:
    known = inspect(sorted(synthetic_manifest.parent.rglob("*.mp4"))[0])
    example = ask(sampler(tmp_path), known, 1, 64)
    masks = torch.from_numpy(read_annotations(known.path).masks).float()
    with VideoReader(known.path) as video:
        frames = video.frames(video.times_seconds.tolist())
    number = int((frames.float() - example["clip"][:, 0].float()).abs().mean(dim=(1, 2, 3)).argmin())
    assert torch.equal(example["truth"][0, 0], masks[number])
    assert np.array_equal(read_masks(known.path), masks.numpy() > 0)
    assert read_masks(Path("/clip.mp4")) is None


def test_flow_is_that_from_the_frame_to_the_next(tmp_path: Path) -> None:
    """The square moves four pixels a frame to the right, and the background stands still."""
    moving = inspect(write_video(tmp_path / "moving.mp4", moving_square(10).permute(0, 2, 3, 1).numpy()))
    shown = sampler(tmp_path / "labels", flow=Dis())
    starts = set()
    for seed in range(20):
        flow = ask(shown, moving, seed)["flow"][:, 0]
        assert flow.shape == (2, HEIGHT, WIDTH)
        start = int((flow[0, TOP + 18] > 0.1).nonzero()[0])  # half of the square's speed, of the 20 pixels that are 1
        starts.add(round((start - LEFT) / STEP))
        inside = flow[:, TOP + 8 : TOP + 28, start + 10 : start + 26]
        assert inside.mean(dim=(1, 2)).numpy() == pytest.approx([STEP / 20, 0], abs=0.02)
        assert flow[:, 100:].abs().mean() < 0.01
    assert len(starts) > 2


def test_a_batch_of_videos_with_and_without_truth_has_none(
    info: VideoInfo, synthetic_manifest: Path, tmp_path: Path
) -> None:
    known = inspect(sorted(synthetic_manifest.parent.rglob("*.mp4"))[0])
    data = ClipDataset(
        [info, known], sampler(tmp_path), evaluation_crop(32, False), seed=0, short_side_pixels=36, backend="pyav"
    )
    batch = collate([data[0, 0], data[0, 1]])
    assert batch["mask"].shape == (2, 1, 1, 32, 32)
    assert "truth" not in batch
    assert collate([data[0, 1], data[1, 1]])["truth"].shape == (2, 1, 1, 32, 32)


def test_a_video_with_no_frame_to_learn_from_is_refused_in_use(info: VideoInfo, tmp_path: Path) -> None:
    asked = sampler(tmp_path)
    strict = replace(asked, labels=replace(asked.labels, minimum_confidence=1.1))
    with pytest.raises(ValueError, match=r"square\.mp4: no frame is fit to learn from"):
        ask(strict, info, 0)
    one = inspect(write_video(tmp_path / "one.mp4", moving_square(1).permute(0, 2, 3, 1).numpy()))
    assert asked.refuse(one) == "has 1 frame at 10 a second, and motion needs 2"
