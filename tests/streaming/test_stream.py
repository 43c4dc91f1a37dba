"""Streams that run the whole encoder: every frame, or every n-th; and what the stages cost."""

import pytest
import torch

from selfsup.encoders.resnet import ResNet
from selfsup.encoders.video_resnet import VideoResNet
from selfsup.streaming.stream import HeldFrames, stage_shares


@pytest.fixture(scope="module")
def encoder() -> ResNet:
    torch.manual_seed(0)
    return ResNet().eval()


@pytest.mark.parametrize("period", [1, 3])
def test_features_are_those_of_the_last_taken_frame(encoder: ResNet, period: int) -> None:
    clip = torch.randn(3, 7, 32, 32)
    with torch.no_grad():
        whole = encoder(clip[None])[0]
    stream = HeldFrames(encoder, period)
    for time in range(7):
        taken = time // period * period
        torch.testing.assert_close(stream.step(clip[:, time]), whole[:, taken], rtol=1e-4, atol=1e-5)
        assert (stream.work, stream.lag_frames) == (float(time == taken), time - taken)


def test_reset_forgets_the_held_frame(encoder: ResNet) -> None:
    first, second = torch.randn(2, 3, 32, 32)
    stream = HeldFrames(encoder, 2)
    stream.step(first)
    stream.reset()
    assert torch.equal(stream.step(second), HeldFrames(encoder).step(second))


def test_a_stream_leaves_no_gradient_and_no_mode_behind() -> None:
    encoder = ResNet().train()
    before = encoder.state_dict()["stages.stem.1.running_mean"].clone()
    assert not HeldFrames(encoder).step(torch.randn(3, 32, 32)).requires_grad
    assert torch.equal(encoder.state_dict()["stages.stem.1.running_mean"], before)


def test_shares_are_the_published_multiply_adds(encoder: ResNet) -> None:
    """Of He et al. 2016, table 1, counted by hand at 224 pixels: 118 M in the stem of 1.81 G in all."""
    shares = stage_shares(encoder.stages, torch.randn(3, 224, 224))
    stem = 64 * 112 * 112 * 3 * 7 * 7
    layer1 = 4 * 64 * 56 * 56 * 64 * 9
    assert sum(shares) == pytest.approx(1)
    assert shares[1] / shares[0] == pytest.approx(layer1 / stem)
    assert stem / shares[0] == pytest.approx(1.81e9, rel=0.01)


def test_what_cannot_stream_is_refused(encoder: ResNet) -> None:
    with pytest.raises(ValueError, match="VideoResNet looks at whole clips"):
        HeldFrames(VideoResNet())
    with pytest.raises(ValueError, match=r"method\.period is 0; give a whole number of at least 1"):
        HeldFrames(encoder, 0)
