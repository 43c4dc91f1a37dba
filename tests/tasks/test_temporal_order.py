"""Shuffle and Learn: five frames in order, six tuples of them, and a loss that equals sampling one at a time."""

from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from selfsup.data.index import VideoInfo, inspect
from selfsup.data.reader import VideoReader
from selfsup.encoders.encoder import Encoder, FrameEncoder
from selfsup.tasks.temporal_order import OrderSampler, TemporalOrder
from tests.data import barcodes
from tests.media import moving, still, write_video

SAMPLER = OrderSampler(span_seconds=1.2, gap_seconds=0.2, reach_seconds=0.4)


def info_of(num_frames: int, fps: float = 25.0) -> VideoInfo:
    """A video of which nothing matters but its length; it moves everywhere alike."""
    return VideoInfo(
        path=Path("a.mp4"),
        duration_seconds=num_frames / fps,
        fps=fps,
        num_frames=num_frames,
        width=32,
        height=32,
        codec="h264",
        rotation=0,
        has_audio=False,
        checksum="",
        motion_rate_hz=10.0,
        motion=np.full(max(1, round((num_frames - 1) / fps * 10)), 0.05, np.float32),
    )


def draws(info: VideoInfo, count: int = 300) -> list[list[float]]:
    generator = torch.Generator().manual_seed(0)
    return [SAMPLER.times(info, generator) for _ in range(count)]


# --- the sampler


def test_times_keep_their_distances_in_a_long_video() -> None:
    info = info_of(250)
    spans, starts = [], []
    for times in draws(info):
        a, b, c, d, e = times
        assert 0.2 <= b - a <= 0.4
        assert 0.2 <= e - d <= 0.4
        assert 0.6 <= d - b <= 1.2
        assert 0.25 * (d - b) <= c - b <= 0.75 * (d - b)
        assert a >= 0
        assert e <= info.duration_seconds - 0.5 / info.fps
        spans.append(d - b)
        starts.append(a)
    assert min(spans) < 0.65
    assert max(spans) > 1.15
    assert min(starts) < 1
    assert max(starts) > 7


@pytest.mark.parametrize("fps", [5.0, 15.0, 25.0, 29.97])
@pytest.mark.parametrize("num_frames", [5, 6, 7, 10, 27, 60])
def test_five_times_fall_on_five_different_frames_of_any_video(num_frames: int, fps: float) -> None:
    info = info_of(num_frames, fps)
    shown = np.arange(num_frames) / fps
    borders = (shown[1:] + shown[:-1]) / 2
    for times in draws(info, 60):
        frames = np.searchsorted(borders, times, side="left").tolist()  # as the reader chooses
        assert all(left < right for left, right in pairwise(frames)), (times, frames)
        assert times[0] >= 0
        assert times[-1] <= info.duration_seconds


def test_distances_shrink_together_in_a_short_video() -> None:
    info = info_of(26)  # 1.04 s, where a window takes 2.0 s
    scale = (info.duration_seconds - 0.02) / SAMPLER.window_seconds
    for a, b, c, d, e in draws(info):
        assert 0.2 * scale - 1e-9 <= b - a <= 0.4 * scale + 1e-9
        assert 0.2 * scale - 1e-9 <= e - d <= 0.4 * scale + 1e-9
        assert 0.6 * scale - 1e-9 <= d - b <= 1.2 * scale + 1e-9
        assert b < c < d


def test_the_outer_frames_lie_anywhere_in_the_window() -> None:
    info = info_of(26)  # the window is the whole video, so that nothing else spreads them
    scale = (info.duration_seconds - 0.02) / SAMPLER.window_seconds
    first, last = scale * SAMPLER.reach_seconds, scale * (SAMPLER.window_seconds - SAMPLER.reach_seconds)
    shares = [(b - first) / (last - first - (d - b)) for _, b, _, d, _ in draws(info)]
    assert np.quantile(shares, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.08)
    assert len({round(times[3], 6) for times in draws(info)}) > 290, "d is not where the window ends"


def test_times_are_a_function_of_the_generator() -> None:
    info = info_of(100)
    assert draws(info, 20) == draws(info, 20)
    other = SAMPLER.times(info, torch.Generator().manual_seed(1))
    assert other != draws(info, 1)[0]


def test_refuses_what_is_too_short_or_static(tmp_path: Path) -> None:
    assert SAMPLER.refuse(info_of(5, fps=10)) is None
    assert SAMPLER.refuse(info_of(4)) == "too short for temporal order: 4 frames, at least 5 are needed"
    short = SAMPLER.refuse(info_of(6, fps=25))
    assert short == "too short for temporal order: 0.24 s, less than task.sampler.minimum_seconds=0.3"
    picky = OrderSampler(minimum_motion=0.01)
    assert picky.refuse(info_of(50)) is None
    static = inspect(write_video(tmp_path / "still.mp4", still(50), fps=25))
    assert picky.refuse(static) == "static: mean motion below task.sampler.minimum_motion=0.01"
    assert SAMPLER.refuse(static) is None


def test_the_clip_holds_the_frames_of_its_times(tmp_path: Path) -> None:
    path = barcodes.write(tmp_path / "a.mp4", range(0, 100 * 40, 40))
    info = inspect(path)
    with VideoReader(path) as video:
        clip = SAMPLER(video, info, torch.Generator().manual_seed(3))["clip"]
        again = SAMPLER(video, info, torch.Generator().manual_seed(3))["clip"]
    assert clip.dtype == torch.uint8
    assert clip.shape == (3, 5, barcodes.HEIGHT, barcodes.WIDTH)
    assert torch.equal(clip, again)
    numbers = [barcodes.read_number(frame) for frame in clip.transpose(0, 1)]
    times = SAMPLER.times(info, torch.Generator().manual_seed(3))
    assert numbers == pytest.approx([time * 25 for time in times], abs=0.51)


def test_the_draw_with_the_most_distinct_middle_frame_is_kept(tmp_path: Path) -> None:
    # Still but for its end: most draws show c like a.
    path = write_video(tmp_path / "late.mp4", moving(60, still_until=40), fps=20)
    info = inspect(path)

    def distinct(clip: Tensor) -> float:
        a, _, c, _, e = clip.transpose(0, 1).float() / 255
        return min(((c - a) ** 2).mean().item(), ((c - e) ** 2).mean().item())

    with VideoReader(path) as video:
        for seed in range(5):
            generator = torch.Generator().manual_seed(seed)
            candidates = [
                video.frames(SAMPLER.times(info, generator)).transpose(0, 1) for _ in range(4)
            ]  # uint8 (3, 5, H, W)
            differences = [distinct(clip) for clip in candidates]
            impossible = OrderSampler(1.2, 0.2, 0.4, minimum_difference=2.0, tries=4)
            kept = impossible(video, info, torch.Generator().manual_seed(seed))["clip"]
            assert torch.equal(kept, candidates[int(np.argmax(differences))])
            anything = OrderSampler(1.2, 0.2, 0.4, minimum_difference=0.0, tries=4)
            first = anything(video, info, torch.Generator().manual_seed(seed))["clip"]
            assert torch.equal(first, candidates[0])


def test_five_frames_are_drawn_where_the_rate_varies(tmp_path: Path) -> None:
    info = inspect(write_video(tmp_path / "a.mp4", moving(60), fps=20))
    shown = np.concatenate([np.arange(30) * 0.005, 0.15 + np.arange(30) * 0.095])  # fast, then slow
    borders = (shown[1:] + shown[:-1]) / 2
    for seed in range(50):
        times = SAMPLER.times(info, torch.Generator().manual_seed(seed), shown)
        assert len(set(np.searchsorted(borders, times).tolist())) == 5


# --- the task


class Tiny(FrameEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.dim = 4
        self.stages = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh())


class Constant(Tiny):
    def forward(self, clip: Tensor) -> Tensor:
        return torch.ones(len(clip), self.dim, clip.shape[2], 1, 1)


def task_of(encoder: Encoder, head_dim: int | None = 8, negative_share: float = 0.75) -> TemporalOrder:
    optimizer = partial(torch.optim.SGD, lr=0.1)
    task = TemporalOrder(encoder, SAMPLER, optimizer, head_dim=head_dim, negative_share=negative_share)
    return task.eval()  # BatchNorm would make a tuple's logits those of its batch


def clips(batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, 5, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def logits_of_tuple(task: TemporalOrder, clip: Tensor, letters: str) -> Tensor:
    """Three frames of one clip (3, 5, H, W), each encoded by itself, to two logits."""
    features = [
        task.encoder(clip[None, :, "abcde".index(letter)].unsqueeze(2))[0].flatten(1).mean(1) for letter in letters
    ]
    return task.head(task.project(torch.stack(features)).flatten()[None])[0]


@pytest.mark.parametrize("head_dim", [None, 8])
@pytest.mark.parametrize("negative_share", [0.5, 0.75])
def test_the_loss_is_that_of_sampling_tuples_one_by_one(head_dim: int | None, negative_share: float) -> None:
    task = task_of(Tiny(), head_dim, negative_share)
    right, wrong = ["bcd", "dcb"], ["bad", "dab", "bed", "deb"]
    expected, correct = torch.zeros(()), {1: [], 0: []}
    for clip in clips():
        for letters in right + wrong:
            label = int(letters in right)
            probability = (1 - negative_share) / 2 if label else negative_share / 4
            logits = logits_of_tuple(task, clip, letters)
            expected = expected - probability * logits.log_softmax(0)[label] / 3
            in_order = logits.softmax(0)[1] > 1 - negative_share  # as likely as chance has it, or more
            correct[label].append(float(in_order == label))
    result = task.step({"clip": clips()})
    torch.testing.assert_close(result["loss"], expected)
    balanced = (np.mean(correct[1]) + np.mean(correct[0])) / 2
    assert result["accuracy"].item() == pytest.approx(balanced)


def test_a_head_that_knows_only_the_shares_is_at_the_border() -> None:
    """Unsure tuples are not all called out of order because three in four are."""
    task = task_of(Constant(), head_dim=None)
    with torch.no_grad():
        task.head.weight.zero_()
        for odds, predicted in ((0.9, 0), (1.1, 1)):
            task.head.bias.copy_(torch.tensor([0.75, 0.25 * odds]).log())
            logits = task(clips(1))[0] - task.log_prior
            assert logits.argmax(dim=-1).tolist() == [predicted] * 6


class Volume(Encoder):
    """Takes two frames at least."""

    minimum_frames = 2

    def __init__(self) -> None:
        super().__init__()
        self.dim = 4
        self.stages = nn.Sequential(nn.Conv3d(3, 4, (2, 3, 3)), nn.Tanh())


def test_a_clip_encoder_sees_each_frame_as_a_still_clip() -> None:
    task = task_of(Volume())
    clip = clips(1)
    still_b, still_c, still_d = (clip[:, :, t : t + 1].expand(-1, -1, 2, -1, -1) for t in (1, 2, 3))
    features = [task.project(task.encoder(one).mean(dim=(2, 3, 4))) for one in (still_b, still_c, still_d)]
    torch.testing.assert_close(task(clip)[:, 0], task.head(torch.cat(features, dim=1)))


def test_b_and_d_are_the_outer_frames_of_every_tuple() -> None:
    task = task_of(Tiny())
    clip = clips(1)[0]
    logits = task(clip[None])[0]
    for row, letters in zip(logits, ("bcd", "dcb", "bad", "dab", "bed", "deb"), strict=True):
        assert {letters[0], letters[2]} == {"b", "d"}
        torch.testing.assert_close(row, logits_of_tuple(task, clip, letters))
    assert task.in_order.tolist() == [1, 1, 0, 0, 0, 0]
    assert task.tuple_weights.tolist() == pytest.approx([0.125] * 2 + [0.1875] * 4)


def test_a_clip_played_backwards_has_the_same_loss() -> None:
    task = task_of(Tiny())
    forward, backward = task.step({"clip": clips()}), task.step({"clip": clips().flip(2)})
    torch.testing.assert_close(forward["loss"], backward["loss"])
    torch.testing.assert_close(forward["accuracy"], backward["accuracy"])
    shuffled = task.step({"clip": clips()[:, :, [2, 1, 0, 3, 4]]})
    assert abs(shuffled["loss"] - forward["loss"]) > 1e-4


def test_an_encoder_that_sees_nothing_scores_chance() -> None:
    task = task_of(Constant())
    result = task.step({"clip": clips(5)})
    assert result["accuracy"] == task.chance["accuracy"] == 0.5
    with torch.no_grad():
        for parameter in task.head.parameters():
            parameter.zero_()
    torch.testing.assert_close(task.step({"clip": clips()})["loss"], torch.tensor(2.0).log())


def test_frames_without_order_score_chance() -> None:
    task = task_of(Tiny())
    accuracy = task.step({"clip": torch.randn(600, 3, 5, 8, 8)})["accuracy"]
    assert accuracy.item() == pytest.approx(0.5, abs=0.03)


def test_the_papers_head_is_one_linear_layer() -> None:
    head = task_of(Tiny(), head_dim=None).head
    assert isinstance(head, nn.Linear)
    assert (head.in_features, head.out_features) == (12, 2)
    assert not list(task_of(Tiny(), head_dim=None).project.parameters())
    hidden = task_of(Tiny(), head_dim=8)
    assert hidden.project(torch.zeros(7, 4)).shape == (7, 8)
    assert hidden.head(torch.zeros(7, 24)).shape == (7, 2)


def test_the_gradient_reaches_the_encoder_and_a_step_lowers_the_loss() -> None:
    task = task_of(Tiny())
    loss = task.step({"clip": clips()})["loss"]
    loss.backward()
    for name, parameter in task.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    optimizer = task.configure_optimizers()
    optimizer.step()
    assert task.step({"clip": clips()})["loss"] < loss


def test_order_can_be_learned_and_no_more_than_order() -> None:
    """Frames that brighten in order are told apart; the same frames in random order are not."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(64, 1, 1, 1, 1, generator=generator)
    ramp = (start + torch.arange(5).view(1, 1, 5, 1, 1)).expand(64, 3, 5, 8, 8) / 5
    task = task_of(Tiny())
    optimizer = torch.optim.Adam(task.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        task.step({"clip": ramp})["loss"].backward()
        optimizer.step()
    assert task.step({"clip": ramp})["accuracy"] > 0.95
    order = torch.stack([torch.randperm(5, generator=generator) for _ in range(64)])
    mixed = torch.stack([one[:, row] for one, row in zip(ramp, order, strict=True)])
    assert task.step({"clip": mixed})["accuracy"] < 0.8


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 3])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"task\.negative_share=.* must lie between 0 and 1"):
        task_of(Tiny(), negative_share=share)


def test_batches_of_one_agree_with_the_batch() -> None:
    task = task_of(Tiny())
    together = task.step({"clip": clips()})["loss"]
    apart = torch.stack([task.step({"clip": one[None]})["loss"] for one in clips()])
    torch.testing.assert_close(together, apart.mean())
