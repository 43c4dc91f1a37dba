"""Clip order: pieces that touch nowhere, all orders of them, and a label that nothing but the order tells."""

from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from selfsup.data.index import VideoInfo, inspect
from selfsup.data.reader import VideoReader
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.clip_order import ClipOrder, ClipsInOrder
from tests.data import barcodes
from tests.tasks.learning import SmallClips, SmallFrames, examples, figure, taught
from tests.tasks.test_temporal_order import info_of

SAMPLER = ClipsInOrder(clips=3, num_frames=4, stride_seconds=0.08, gap_seconds=0.2)


def task_of(encoder: Encoder, clips: int = 3, reversible: bool = False) -> ClipOrder:
    torch.manual_seed(0)
    adam = partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.05)
    task = ClipOrder(encoder, SAMPLER, adam, clips=clips, reversible=reversible, head_dim=64)
    return task.eval()  # BatchNorm would make an order's logits those of its batch


def clips_of(batch: int, frames: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, frames, 16, 16, generator=torch.Generator().manual_seed(seed))


# --- the sampler


def test_the_papers_window_is_that_of_64_frames() -> None:
    offsets = ClipsInOrder(3, 16, 0.04, 0.32).offsets_seconds() * 25
    assert np.round(offsets).astype(int).tolist() == [*range(16), *range(23, 39), *range(46, 62)]
    single = ClipsInOrder(clips=4, num_frames=1, gap_seconds=0.2)
    assert single.offsets_seconds().tolist() == pytest.approx([0, 0.2, 0.4, 0.6])


def test_the_clip_holds_the_frames_of_its_times(tmp_path: Path) -> None:
    path = barcodes.write(tmp_path / "a.mp4", range(0, 100 * 40, 40))  # 25 frames a second
    info = inspect(path)
    starts = set()
    with VideoReader(path) as video:
        for seed in range(12):
            clip = SAMPLER(video, info, torch.Generator().manual_seed(seed))["clip"]
            assert clip.shape == (3, 12, barcodes.HEIGHT, barcodes.WIDTH)
            assert clip.dtype == torch.uint8
            numbers = [barcodes.read_number(frame) for frame in clip.transpose(0, 1)]
            assert [number - numbers[0] for number in numbers] == [0, 2, 4, 6, 11, 13, 15, 17, 22, 24, 26, 28]
            starts.add(numbers[0])
        again = SAMPLER(video, info, torch.Generator().manual_seed(11))["clip"]
    assert torch.equal(again, clip)
    assert len(starts) > 6


def test_refuses_what_is_too_short_and_clips_that_share_a_frame() -> None:
    assert SAMPLER.refuse(info_of(29)) is None  # 28 strides of a frame
    assert SAMPLER.refuse(info_of(28)) == (
        "too short for the order of clips: lasts 1.12 s, 3 x 4 frames need 1.16 s; lower task.sampler.stride_seconds "
        "or gap_seconds"
    )
    slow: VideoInfo = info_of(20, fps=4.0)
    assert SAMPLER.refuse(slow) == (
        "shows a frame every 0.250 s, so that two clips could share one; raise task.sampler.gap_seconds=0.2"
    )
    assert replace(SAMPLER, gap_seconds=0.25).refuse(slow) is None


@pytest.mark.parametrize("values", [{"clips": 1}, {"clips": 6}, {"num_frames": 0}, {"gap_seconds": 0.0}])
def test_values_out_of_bounds_are_refused(values: dict[str, float]) -> None:
    (name,) = values
    with pytest.raises(ValueError, match=rf"task\.sampler: .*{name}="):
        replace(SAMPLER, **values)


# --- the task


@pytest.mark.parametrize(
    ("clips", "reversible", "classes"), [(3, False, 6), (4, True, 12), (3, True, 3), (2, False, 2)]
)
def test_every_class_has_the_same_number_of_orders(clips: int, reversible: bool, classes: int) -> None:
    task = task_of(SmallFrames(), clips, reversible)
    orders = list(permutations(range(clips)))
    assert task.labels.bincount().tolist() == [len(orders) // classes] * classes
    assert task.chance == {"accuracy": pytest.approx(1 / classes)}
    label = dict(zip(orders, task.labels.tolist(), strict=True))
    assert all((label[order] == label[order[::-1]]) == reversible for order in orders)


@pytest.mark.parametrize(("clips", "reversible"), [(3, False), (4, True)])
def test_the_loss_is_that_of_showing_the_orders_one_by_one(clips: int, reversible: bool) -> None:
    """Pieces are put in each order before they are encoded, and the head is asked about that order alone."""
    task = task_of(SmallClips(8), clips, reversible)
    clip = clips_of(2, clips * 3)
    pieces = clip.unflatten(2, (clips, 3))  # (B, C, clips, T, H, W)
    losses, right = [], []
    for order, label in zip(permutations(range(clips)), task.labels, strict=True):
        shown = pieces[:, :, list(order)].flatten(2, 3)
        logits = task(shown)[:, 0]  # the first order is that in which they come
        losses.append(nn.functional.cross_entropy(logits, label.expand(2)))
        right.append((logits.argmax(1) == label).float().mean())
    told = task.step({"clip": clip})
    torch.testing.assert_close(told["loss"], torch.stack(losses).mean())
    torch.testing.assert_close(told["accuracy"], torch.stack(right).mean())


@pytest.mark.parametrize(("clips", "reversible"), [(3, False), (4, True)])
def test_pieces_that_are_all_alike_score_chance_exactly(clips: int, reversible: bool) -> None:
    task = task_of(SmallClips(8), clips, reversible)
    still = clips_of(5, 1).expand(-1, -1, clips * 2, -1, -1)
    told = task.step({"clip": still})
    assert told["accuracy"].item() == pytest.approx(task.chance["accuracy"])
    assert told["loss"] >= np.log(1 / task.chance["accuracy"]) - 1e-6


class Volume(SmallClips):
    minimum_frames = 2


def test_a_clip_encoder_sees_a_single_frame_as_a_still_clip() -> None:
    task, frames = task_of(Volume(8), 4, reversible=True), clips_of(2, 4)
    twice = frames.repeat_interleave(2, dim=2)
    torch.testing.assert_close(task(frames), task(twice))


def test_two_in_reversible_order_are_no_question() -> None:
    with pytest.raises(ValueError, match=r"task\.clips=2: give 3 to 5; two in a row and their reverse are one class"):
        task_of(SmallFrames(), 2, reversible=True)


def test_the_gradient_reaches_everything() -> None:
    task = task_of(SmallClips(8)).train()
    task.step({"clip": clips_of(4, 6)})["loss"].backward()
    for name, parameter in task.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name.endswith("0.bias"), name  # BatchNorm takes a bias away


def test_a_tiny_set_is_learned_by_heart() -> None:
    task = task_of(SmallClips(16))
    batch = {"clip": torch.randint(0, 256, (6, 3, 6, 16, 16), dtype=torch.uint8)}
    before = figure(task, batch, "loss")
    taught(task, batch, steps=40, size=6)
    assert figure(task, batch, "loss") < 0.5 * before


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_order_is_learned_from_synthetic_videos(seed: int) -> None:
    """Frame sorting, chance 1/12, and clip order, chance 1/6, on videos that were not trained on."""
    for sampler, encoder, steps, least in (
        (ClipsInOrder(4, 1, 0.04, 0.6), SmallFrames(), 150, 0.18),
        (ClipsInOrder(3, 4, 0.1, 0.5), SmallClips(32), 70, 0.32),
    ):
        task = task_of(encoder, sampler.clips, reversible=sampler.num_frames == 1)
        torch.manual_seed(seed)
        taught(task, examples(sampler, "train", 4), steps)
        accuracy = figure(task, examples(sampler, "test", 4), "accuracy")
        print(f"clips of {sampler.num_frames} frames: {accuracy:.3f}, chance {task.chance['accuracy']:.3f}")
        assert accuracy > least
