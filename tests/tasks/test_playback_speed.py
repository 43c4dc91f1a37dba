"""Playback speed: every class is of the same videos and times, and a single frame tells nothing."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from selfsup.data.index import inspect
from selfsup.data.reader import VideoReader
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.playback_speed import PlaybackSpeed, SpeedSampler
from tests.data import barcodes
from tests.tasks.learning import SmallClips, SmallFrames, examples, figure, taught
from tests.tasks.test_temporal_order import info_of

SAMPLER = SpeedSampler(speeds=(1, 2, 4), num_frames=4, stride_seconds=0.04)  # the fastest: 12 frames, and the first


def task_of(encoder: Encoder, speeds: tuple[int, ...] = (1, 2, 4)) -> PlaybackSpeed:
    torch.manual_seed(0)
    adam = partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.05)
    return PlaybackSpeed(encoder, SAMPLER, adam, speeds=speeds, head_dim=32).eval()


def test_each_clip_advances_by_its_speed(tmp_path: Path) -> None:
    path = barcodes.write(tmp_path / "a.mp4", range(0, 50 * 40, 40))  # 25 frames a second
    info = inspect(path)
    with VideoReader(path) as video:
        for seed in range(8):
            clip = SAMPLER(video, info, torch.Generator().manual_seed(seed))["clip"]
            assert clip.shape == (3, 3, 4, barcodes.HEIGHT, barcodes.WIDTH)
            numbers = [[barcodes.read_number(frame) for frame in one.transpose(0, 1)] for one in clip]
            for speed, shown in zip((1, 2, 4), numbers, strict=True):
                assert np.diff(shown).tolist() == [speed] * 3
        again = SAMPLER(video, info, torch.Generator().manual_seed(7))["clip"]
    assert torch.equal(again, clip)


def test_the_number_of_a_frame_does_not_tell_the_speed() -> None:
    """A frame taken from a clip at random is as early or late at any speed, by the test of Kolmogorov and Smirnov."""
    info, generator, chance = info_of(40), torch.Generator().manual_seed(0), np.random.default_rng(0)
    times = np.stack([SAMPLER.times_seconds(info, generator) for _ in range(1500)])  # (draws, S, T)
    assert times.min() >= 0
    assert times.max() <= info.duration_seconds - 1 / info.fps + 1e-9
    drawn = times[np.arange(1500)[:, None], np.arange(3), chance.integers(0, 4, (1500, 3))]  # (draws, S)
    for slower in range(2):
        assert ks_2samp(drawn[:, slower], drawn[:, 2]).statistic < 0.08
    means = drawn.mean(axis=0)
    assert means.max() - means.min() < 0.03


def test_refuses_what_would_tell_the_speed_by_itself() -> None:
    assert SAMPLER.refuse(info_of(13)) is None
    assert SAMPLER.refuse(info_of(12)) == (
        "too short for playback speed: lasts 0.48 s, 4 frames at speed 4 need 0.52 s; lower task.sampler.num_frames or "
        "speeds"
    )
    assert SAMPLER.refuse(info_of(40, fps=15)) == (
        "shows a frame every 0.067 s, so that the slowest clip would show some twice; raise "
        "task.sampler.stride_seconds=0.04"
    )
    assert replace(SAMPLER, stride_seconds=0.0667).refuse(info_of(40, fps=15)) is None  # a frame, in four digits
    assert replace(SAMPLER, speeds=(2, 4)).refuse(info_of(40, fps=15)) is None


@pytest.mark.parametrize(
    "values", [{"speeds": (2,)}, {"speeds": (2, 1)}, {"speeds": (0, 1)}, {"num_frames": 1}, {"stride_seconds": 0.0}]
)
def test_values_out_of_bounds_are_refused(values: dict[str, float]) -> None:
    (name,) = values
    with pytest.raises(ValueError, match=rf"task\.sampler.*{name}="):
        replace(SAMPLER, **values)


@pytest.mark.parametrize("encoder", [SmallFrames, SmallClips])
def test_each_speed_is_one_class_of_the_same_size(encoder: type[Encoder]) -> None:
    task = task_of(encoder(8))
    clip = torch.randn(5, 3, 3, 4, 16, 16)
    logits = torch.stack([task(clip[:, speed]) for speed in range(3)])  # (S, B, S)
    told = task.step({"clip": clip})
    expected = torch.stack([-logits[speed].log_softmax(1)[:, speed] for speed in range(3)]).mean()
    torch.testing.assert_close(told["loss"], expected)
    right = torch.stack([logits[speed].argmax(1) == speed for speed in range(3)]).float().mean()
    assert told["accuracy"] == right
    assert task.chance["accuracy"] == pytest.approx(1 / 3)


def test_clips_without_movement_score_chance_exactly() -> None:
    task = task_of(SmallClips(8))
    still = torch.randn(5, 1, 3, 1, 16, 16).expand(-1, 3, -1, 4, -1, -1)
    assert task.step({"clip": still})["accuracy"].item() == pytest.approx(1 / 3)


def test_a_tiny_set_is_learned_by_heart() -> None:
    task = task_of(SmallClips(16))
    batch = {"clip": torch.randint(0, 256, (4, 3, 3, 4, 16, 16), dtype=torch.uint8)}
    before = figure(task, batch, "loss")
    taught(task, batch, steps=40, size=4)
    assert figure(task, batch, "loss") < 0.5 * before


def single_frames(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """One frame of each clip, at random, in place of all."""
    clip = batch["clip"]
    number = torch.randint(0, clip.shape[3], (*clip.shape[:2], 1, 1, 1, 1)).expand(-1, -1, 3, -1, *clip.shape[-2:])
    return {**batch, "clip": clip.gather(3, number).expand_as(clip).contiguous()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_speed_is_learned_from_movement_alone(seed: int) -> None:
    """On videos that were not trained on; chance is 1/4."""
    sampler = SpeedSampler((1, 2, 4, 8), 6, 0.05)
    train, test = examples(sampler, "train", 3), examples(sampler, "test", 4)
    accuracies = []
    for shown in (lambda batch: batch, single_frames):
        task = task_of(SmallClips(32), (1, 2, 4, 8))
        torch.manual_seed(seed)
        taught(task, shown(train), 80, size=12)
        accuracies.append(figure(task, shown(test), "accuracy"))
    moving, still = accuracies
    print(f"accuracy {moving:.3f}, taught by single frames {still:.3f}, chance 0.25")
    assert moving > 0.5
    assert abs(still - 0.25) < 0.07
