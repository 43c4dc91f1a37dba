"""Classifiers on a stream: a live head answers frame by frame what the classifier answers to the clip so far."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from selfsup.classifiers.by_name import classifiers, find_classifier
from selfsup.classifiers.classifier import Classifier
from selfsup.classifiers.cnn_rnn import CnnRnn
from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.classifiers.i3d import I3D
from selfsup.classifiers.skip_rnn import SkipRnn
from selfsup.classifiers.sliding_clip import SlidingClip
from selfsup.classifiers.two_stream import TwoStream
from selfsup.encoders.caffenet import CaffeNet
from selfsup.encoders.encoder import Encoder, FrameEncoder

FRAMES, CLASSES = 9, 4


class Small(FrameEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.dim = 6
        self.stages = nn.Sequential(OrderedDict(only=nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())))


class Deep(Encoder):
    """Looks at three frames at once."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.minimum_frames = 6, 3
        self.stages = nn.Sequential(OrderedDict(only=nn.Conv3d(3, 6, 3)))


@pytest.fixture
def clip() -> Tensor:
    return torch.randn(1, 3, FRAMES, 8, 8, generator=torch.Generator().manual_seed(0))


def streamed(classifier: Classifier, clip: Tensor, window: int = FRAMES) -> Tensor:
    """Answers (T, K) of the live head to the features of a clip (1, C, T, H, W)."""
    head, encoder = classifier.live(window), classifier.encoders()["clip"]
    features = encoder(clip).mean(dim=(3, 4))[0]
    return torch.stack([head.step(features[:, time]) for time in range(clip.shape[2])])


STEPWISE: dict[str, tuple[Callable[..., Classifier], dict[str, Any]]] = {
    "single frame": (FramePooling, {"pooling": "none", "hidden_dim": 5, "dropout": 0.5}),
    "lstm": (CnnRnn, {"hidden_dim": 5, "num_layers": 2}),
    "gru": (CnnRnn, {"cell": "gru", "hidden_dim": 5, "join": "last"}),
    "skip_rnn": (SkipRnn, {"hidden_dim": 5}),
}


@pytest.mark.parametrize("name", STEPWISE)
@torch.no_grad()
def test_a_live_head_gives_the_classifiers_answer_to_each_frame(name: str, clip: Tensor) -> None:
    torch.manual_seed(3)
    kind, options = STEPWISE[name]
    classifier = kind(Small(), CLASSES, **options)
    torch.testing.assert_close(streamed(classifier, clip), classifier.eval()(clip)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "sum"])
@torch.no_grad()
def test_a_pooled_answer_is_that_to_the_last_frames(pooling: str, clip: Tensor) -> None:
    classifier = FramePooling(Small(), CLASSES, pooling)
    found = streamed(classifier, clip, window=4)
    for time in range(FRAMES):
        seen = clip[:, :, max(0, time - 3) : time + 1]
        torch.testing.assert_close(found[time], classifier(seen)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", STEPWISE)
@torch.no_grad()
def test_later_frames_change_no_earlier_answer_and_reset_forgets(name: str, clip: Tensor) -> None:
    kind, options = STEPWISE[name]
    classifier = kind(Small(), CLASSES, **options)
    changed = clip.clone()
    changed[:, :, 5:] += 1
    assert torch.equal(streamed(classifier, clip)[:5], streamed(classifier, changed)[:5])
    head = classifier.live(FRAMES)
    first = head.step(torch.ones(6))
    head.step(torch.zeros(6))
    head.reset()
    assert torch.equal(head.step(torch.ones(6)), first)
    assert not first.requires_grad


def test_two_streams_run_live_by_the_half_that_sees_frames_alone(clip: Tensor) -> None:
    half = TwoStream(CaffeNet(), CLASSES, streams="clip")
    assert half.live(2).step(torch.ones(half.encoders()["clip"].dim)).shape == (CLASSES,)
    with pytest.raises(ValueError, match=r"TwoStream does not run live: not live: .*the frames after it"):
        TwoStream(CaffeNet(), CLASSES, flow_frames=1).live(2)


@pytest.mark.parametrize("build", [FramePooling, CnnRnn])
@torch.no_grad()
def test_a_sliding_clip_asks_about_the_last_frames(build: Callable[..., Classifier], clip: Tensor) -> None:
    classifier = build(Deep(), CLASSES)
    sliding = SlidingClip(classifier, num_frames=5, period=2)
    assert sliding.clip_lag_frames == 2
    for time in range(FRAMES):
        found = sliding.step(clip[0, :, time])
        if time < 4:
            assert (found, sliding.work) == (None, 0.0)
            continue
        asked = time - time % 2  # at frames 4, 6 and 8
        logits = classifier(clip[:, :, asked - 4 : asked + 1])[0]
        expected = logits[-1] if classifier.each_moment else logits
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert (sliding.work, sliding.lag_frames) == (float(asked == time), time - asked)
    sliding.reset()
    assert sliding.step(clip[0, :, 0]) is None


def test_a_sliding_clip_refuses_what_reads_more_than_frames() -> None:
    with pytest.raises(ValueError, match="TwoStream does not run live: not live"):
        SlidingClip(TwoStream(CaffeNet(), CLASSES, flow_frames=1), 4)
    with pytest.raises(ValueError, match="period is 0; give at least 1"):
        SlidingClip(FramePooling(Deep(), CLASSES), 4, 0)


def test_every_classifier_says_whether_it_is_causal() -> None:
    found = classifiers()
    assert {FramePooling, CnnRnn, SkipRnn, I3D, TwoStream} <= set(found)
    for cls in found:
        assert ("causal" in cls.causality) or ("not live" in cls.causality)
        assert find_classifier(f"{cls.__module__}.{cls.__qualname__}") is cls
