"""Arrow of time: both classes are of the very same frames, and what has no direction scores chance."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from selfsup.data.index import inspect
from selfsup.data.reader import VideoReader
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.arrow_of_time import ArrowOfTime, MovingClip
from tests.data import barcodes
from tests.media import still, write_video
from tests.tasks.learning import SmallClips, SmallFrames, examples, figure, taught
from tests.tasks.test_temporal_order import info_of

SAMPLER = MovingClip(num_frames=5, stride_seconds=0.08)


def task_of(encoder: Encoder) -> ArrowOfTime:
    torch.manual_seed(0)
    adam = partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.05)
    return ArrowOfTime(encoder, SAMPLER, adam, head_dim=32).eval()


def test_the_clip_holds_the_frames_of_its_times(tmp_path: Path) -> None:
    path = barcodes.write(tmp_path / "a.mp4", range(0, 50 * 40, 40))  # 25 frames a second
    info = inspect(path)
    with VideoReader(path) as video:
        clips = [SAMPLER(video, info, torch.Generator().manual_seed(seed))["clip"] for seed in (0, 1, 2, 2)]
    for clip in clips:
        numbers = [barcodes.read_number(frame) for frame in clip.transpose(0, 1)]
        assert [number - numbers[0] for number in numbers] == [0, 2, 4, 6, 8]
    assert torch.equal(clips[2], clips[3])
    assert not torch.equal(clips[0], clips[1])


def test_refuses_what_is_too_short_or_static(tmp_path: Path) -> None:
    assert SAMPLER.refuse(info_of(9)) is None
    assert SAMPLER.refuse(info_of(8)) == (
        "too short for the arrow of time: lasts 0.32 s, 5 frames need 0.36 s; lower task.sampler.num_frames or "
        "stride_seconds"
    )
    picky = replace(SAMPLER, minimum_motion=0.01)
    static = inspect(write_video(tmp_path / "still.mp4", still(50), fps=25))
    assert picky.refuse(static) == "static: mean motion below task.sampler.minimum_motion=0.01"
    assert picky.refuse(info_of(50)) is None


@pytest.mark.parametrize("values", [{"num_frames": 1}, {"stride_seconds": 0.0}])
def test_values_out_of_bounds_are_refused(values: dict[str, float]) -> None:
    (name,) = values
    with pytest.raises(ValueError, match=rf"task\.sampler: .*{name}="):
        replace(SAMPLER, **values)


@pytest.mark.parametrize("encoder", [SmallFrames, SmallClips])
def test_each_clip_is_shown_both_ways(encoder: type[Encoder]) -> None:
    task, clip = task_of(encoder(8)), torch.randn(6, 3, 5, 16, 16)
    forward, backward = task(clip), task(clip.flip(2))
    told = task.step({"clip": clip})
    loss = (
        F.binary_cross_entropy_with_logits(forward, torch.ones(6))
        + F.binary_cross_entropy_with_logits(backward, torch.zeros(6))
    ) / 2
    torch.testing.assert_close(told["loss"], loss)
    assert told["accuracy"] == torch.cat([forward > 0, backward < 0]).float().mean()
    flipped = task.step({"clip": clip.flip(2)})  # what was right is wrong, and the other way round
    assert flipped["accuracy"].item() == pytest.approx(1 - told["accuracy"].item())


def test_what_is_the_same_both_ways_scores_chance_exactly() -> None:
    task = task_of(SmallClips(8))
    half = torch.randn(6, 3, 2, 16, 16)
    to_and_fro = torch.cat([half, half[:, :, :1], half.flip(2)], dim=2)
    standing = torch.randn(6, 3, 1, 16, 16).expand(-1, -1, 5, -1, -1)
    for clip in (to_and_fro, standing):
        told = task.step({"clip": clip})
        assert told["accuracy"] == task.chance["accuracy"] == 0.5
        assert told["loss"] >= torch.tensor(2.0).log() - 1e-6


def test_a_tiny_set_is_learned_by_heart() -> None:
    task = task_of(SmallClips(16))
    batch = {"clip": torch.randint(0, 256, (6, 3, 5, 16, 16), dtype=torch.uint8)}
    before = figure(task, batch, "loss")
    taught(task, batch, steps=40, size=6)
    assert figure(task, batch, "loss") < 0.5 * before


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("encoder", [SmallFrames, SmallClips])
def test_direction_is_learned_from_synthetic_videos(encoder: type[Encoder], seed: int) -> None:
    """On videos that were not trained on."""
    sampler = MovingClip(6, 0.4)
    task = task_of(encoder(32))
    torch.manual_seed(seed)
    taught(task, examples(sampler, "train", 4), 160, size=16)
    accuracy = figure(task, examples(sampler, "test", 4), "accuracy")
    print(f"{encoder.__name__}: accuracy {accuracy:.3f}, chance 0.5")
    assert accuracy > 0.6
