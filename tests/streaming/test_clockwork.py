"""Clockwork: which stage runs when, on which frame, at which cost. Its first law is in tests/test_laws.py."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from selfsup.encoders.encoder import FrameEncoder
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.video_resnet import VideoResNet
from selfsup.streaming.clockwork import Clockwork
from selfsup.streaming.skip import LinearSkip, fit_skip
from selfsup.streaming.stream import HeldFrames, stage_shares

FRAMES = 9
SCHEDULES: dict[str, dict[str, Any]] = {
    "alternating": {},
    "exponential": {"periods": [1, 2, 4, 8]},
    "pipelined": {"periods": [1], "cuts": [2, 4]},
    "pipelined and slow": {"periods": [1, 2], "cuts": [3]},
    "adaptive": {"periods": [1], "threshold": 0.3},
    "adaptive on the frame": {"periods": [1], "threshold": 0.3, "watched_stages": 0},
}


class Plain(FrameEncoder):
    """Three stages of one convolution each, which cost 1, 2 and 4 parts of 7."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 4, 4, 8)
        convolutions = [nn.Conv2d(one, other, 1) for one, other in itertools.pairwise(widths)]
        self.stages = nn.Sequential(*(nn.Sequential(layer, nn.ReLU()) for layer in convolutions))
        self.dim = 8


@pytest.fixture(scope="module")
def encoder() -> ResNet:
    torch.manual_seed(0)
    return ResNet().eval()


@pytest.fixture(scope="module")
def video() -> Tensor:
    """Frames (T, 3, 32, 32); some differ little from the one before, others much."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(FRAMES, 3, 32, 32, generator=generator)
    return (steps * torch.tensor([1, 0.1, 1, 0.1, 0.1, 0.1, 0.1, 2, 0.1]).view(-1, 1, 1, 1)).cumsum(dim=0)


def outputs(stream: Clockwork | HeldFrames, frames: Tensor) -> list[Tensor | None]:
    return [stream.step(frame) for frame in frames]


def same(first: Sequence[Tensor | None], second: Sequence[Tensor | None]) -> bool:
    """To the bit."""
    pairs = zip(first, second, strict=True)
    return all(one is other if one is None or other is None else torch.equal(one, other) for one, other in pairs)


@pytest.fixture(scope="module")
def skip(encoder: ResNet, video: Tensor) -> LinearSkip:
    return fit_skip(encoder, [video.flip(0)], watched_stages=2)


@torch.no_grad()
@pytest.mark.parametrize("periods", [[1, 1, 1, 2], [1, 2, 4, 8], [1, 1, 2, 3], [3]])
def test_each_stage_reads_the_newest_map_when_its_clock_ticks(
    encoder: ResNet, video: Tensor, periods: list[int]
) -> None:
    """Beside a loop over frames and stages that knows no clock but the time."""
    shares = stage_shares(encoder.stages, video[0])
    stream = Clockwork(encoder, periods)
    maps: list[Tensor] = [torch.empty(0)] * 5
    taken = [0] * 5
    for time, frame in enumerate(video):
        work = 0.0
        for number, stage in enumerate(encoder.stages):
            if time % periods[min(number, len(periods) - 1)] == 0:
                maps[number] = stage(maps[number - 1] if number else frame[None])
                taken[number] = taken[number - 1] if number else time
                work += shares[number]
        assert torch.equal(stream.step(frame), maps[-1][0])
        assert (stream.work, stream.lag_frames) == (pytest.approx(work), time - taken[-1])


@pytest.mark.parametrize("cuts", [[3], [1, 2, 3, 4]])
def test_pipelined_stages_give_the_encoders_output_later(encoder: ResNet, video: Tensor, cuts: list[int]) -> None:
    stream, late = Clockwork(encoder, [1], cuts), len(cuts)
    found = outputs(stream, video)
    assert found[:late] == [None] * late
    assert same(found[late:], outputs(HeldFrames(encoder), video[:-late]))
    assert (stream.work, stream.lag_frames) == (pytest.approx(1), late)


# The skip was fitted to the map after two stages, so that it goes with no clock that watches another.
WITH_SKIP = [(name, skips) for name in SCHEDULES for skips in (False, True) if not (skips and "frame" in name)]


@pytest.mark.parametrize(("name", "skips"), WITH_SKIP)
def test_a_still_video_gives_the_encoders_output(
    encoder: ResNet, video: Tensor, skip: LinearSkip, name: str, skips: bool
) -> None:
    expected = HeldFrames(encoder).step(video[0])
    stream = Clockwork(encoder, **SCHEDULES[name], skip=skip if skips else None)
    known = [one for one in outputs(stream, video[:1].expand(6, -1, -1, -1)) if one is not None]
    assert len(known) >= 4
    for one in known:
        torch.testing.assert_close(one, expected)


@pytest.mark.parametrize(("name", "skips"), WITH_SKIP)
def test_no_output_knows_a_later_frame(
    encoder: ResNet, video: Tensor, skip: LinearSkip, name: str, skips: bool
) -> None:
    stream = Clockwork(encoder, **SCHEDULES[name], skip=skip if skips else None)
    whole = outputs(stream, video)
    for last in (1, 4):
        stream.reset()
        changed = outputs(stream, torch.cat([video[: last + 1], torch.randn(FRAMES - last - 1, 3, 32, 32)]))
        assert same(changed[: last + 1], whole[: last + 1])
        assert not same(changed, whole)


@pytest.mark.parametrize("name", SCHEDULES)
def test_reset_forgets(encoder: ResNet, video: Tensor, name: str) -> None:
    stream = Clockwork(encoder, **SCHEDULES[name])
    first = outputs(stream, video)
    stream.reset()
    assert (stream.work, stream.lag_frames) == (0.0, 0)
    assert same(outputs(stream, video), first)


def test_a_slow_drift_is_not_missed(encoder: ResNet) -> None:
    """Every step is a quarter of the threshold: what is compared is the last updated frame, not the previous one."""
    start = torch.rand(3, 32, 32) + 1
    video = torch.stack([start * (1 + 0.05 * time) for time in range(13)])
    stream = Clockwork(encoder, [1], threshold=0.19, watched_stages=0)
    lags = []
    for frame in video:
        stream.step(frame)
        lags.append(stream.lag_frames)
    assert lags[:5] == [0, 1, 2, 3, 0]
    assert max(lags) < 6
    assert lags[5:].count(0) >= 1


def test_an_adaptive_clock_runs_the_deep_stages_where_the_watched_map_changes(encoder: ResNet, video: Tensor) -> None:
    stream = Clockwork(encoder, [1], threshold=0.3, watched_stages=2)
    shares = stage_shares(encoder.stages, video[0])
    shallow, reference, updates = [], None, []
    for frame in video:
        stream.step(frame)
        updates.append(stream.lag_frames == 0)
        with torch.no_grad():
            map_ = encoder.stages[:2](frame[None])
        changed = reference is None or float((map_ - reference).norm() / reference.norm()) >= 0.3
        if changed:
            reference = map_
        shallow.append(changed)
        assert stream.work == pytest.approx(1 if changed else sum(shares[:2]))
    assert updates == shallow
    assert 1 < sum(updates) < FRAMES


@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_with_scores_the_share_of_changed_classes_decides(gain: float) -> None:
    """Scores that grow change no class, however much they grow; half of the places that swap classes are a half."""
    stream = Clockwork(Plain(), [1], watched_stages=0, threshold=0.5, scores=nn.Identity())
    frame = torch.rand(3, 4, 4)
    swapped = frame.clone()
    swapped[:, :2] = frame[:, :2].roll(1, dims=0)
    lags = []
    for one in (frame, gain * frame, swapped, gain * swapped, frame):
        stream.step(one)
        lags.append(stream.lag_frames)
    assert lags == [0, 1, 0, 1, 0]


def test_what_is_run_is_counted() -> None:
    """By hand: the stages cost 12, 16 and 32 multiply-adds a pixel, the scores 8 and the skip 8 * 16 * 9 a pixel."""
    encoder = Plain().eval()
    frames = torch.rand(3, 3, 6, 6)
    scored = Clockwork(encoder, [1], watched_stages=1, threshold=9.0, scores=nn.Conv2d(4, 2, 1))
    worked = []
    for frame in frames:
        scored.step(frame)
        worked.append(60 * scored.work)
    assert worked == [pytest.approx(68), pytest.approx(20), pytest.approx(20)]
    skip = fit_skip(encoder, [frames], watched_stages=1)
    skipping = Clockwork(encoder, [1, 2], watched_stages=1, skip=skip)
    worked = []
    for frame in frames:
        skipping.step(frame)
        worked.append(60 * skipping.work)
    assert worked == [pytest.approx(60), pytest.approx(12 + 8 * 16 * 9), pytest.approx(60)]


def test_with_a_skip_the_estimated_change_decides_and_is_given_out(
    encoder: ResNet, video: Tensor, skip: LinearSkip
) -> None:
    stream = Clockwork(encoder, [1], threshold=0.2, watched_stages=2, skip=skip)
    held: tuple[Tensor, Tensor] | None = None
    updates = 0
    for frame in video:
        found = stream.step(frame)
        with torch.no_grad():
            shallow = encoder.stages[:2](frame[None])
            whole = encoder.stages[2:](shallow)
            estimate = whole if held is None else skip(shallow, *held)
        if held is None or float((estimate - held[1]).norm() / held[1].norm()) >= 0.2:
            held, updates = (shallow, whole), updates + 1
            assert torch.equal(found, whole[0])
        else:
            assert torch.equal(found, estimate[0])
    assert 1 < updates < FRAMES


def test_a_stream_leaves_no_gradient_and_the_encoders_mode_is_evaluation() -> None:
    encoder = ResNet().train()
    before = encoder.state_dict()["stages.stem.1.running_mean"].clone()
    found = Clockwork(encoder).step(torch.randn(3, 32, 32))
    assert found is not None
    assert not found.requires_grad
    assert torch.equal(encoder.state_dict()["stages.stem.1.running_mean"], before)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"periods": []}, r"method\.periods has 0 numbers, but the encoder has 5 stages \(stem, layer1, "),
        ({"periods": [1] * 6}, r"method\.periods has 6 numbers, but the encoder has 5 stages"),
        ({"periods": [0]}, r"method\.periods is \[0\]; give whole numbers of at least 1"),
        ({"periods": [1, 2, 1]}, r"method\.periods is \[1, 2, 1\].* none below the one before"),
        ({"periods": 2}, r"method\.periods is 2; give a list of whole numbers"),
        ({"periods": [1, 1.5]}, r"method\.periods is \[1, 1\.5\]; give a list of whole numbers"),
        ({"cuts": [5]}, r"method\.cuts holds 5, but the encoder has 5 stages .*; give numbers from 1 to 4"),
        ({"watched_stages": 5}, r"method\.watched_stages is 5, .* give one from 0 to 4"),
        ({"threshold": -0.1}, r"method\.threshold is -0\.1; give a number of at least 0"),
        ({"threshold": 0.1, "cuts": [3]}, r"method\.threshold=0\.1 and method\.cuts=\[3\]: .* give one of the two"),
    ],
)
def test_a_schedule_that_the_encoder_cannot_have_is_refused(
    encoder: ResNet, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Clockwork(encoder, **arguments)


def test_an_encoder_of_clips_is_refused() -> None:
    with pytest.raises(ValueError, match="VideoResNet looks at whole clips"):
        Clockwork(VideoResNet())
