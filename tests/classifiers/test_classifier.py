"""The contract of every classifier, on every kind of encoder it takes."""

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from selfsup.classifiers.classifier import Classifier
from selfsup.classifiers.cnn_rnn import CnnRnn
from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.classifiers.i3d import I3D
from selfsup.classifiers.skip_rnn import SkipRnn
from selfsup.classifiers.two_stream import TwoStream
from selfsup.encoders.c3d import C3D
from selfsup.encoders.caffenet import CaffeNet
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.resnet import ResNet

CLASSES = 5
CLASSIFIERS: dict[str, Callable[..., Classifier]] = {
    "frame_pooling": FramePooling,
    "cnn_rnn": CnnRnn,
    "skip_rnn": SkipRnn,
    "i3d": I3D,
    "two_stream": TwoStream,
}
ENCODERS: dict[str, Callable[[], Encoder]] = {"resnet18": ResNet, "caffenet": CaffeNet, "c3d": C3D}
PAIRS = [
    ("frame_pooling", "resnet18"),
    ("frame_pooling", "c3d"),
    ("cnn_rnn", "caffenet"),
    ("cnn_rnn", "c3d"),
    ("skip_rnn", "caffenet"),
    ("i3d", "caffenet"),
    ("two_stream", "resnet18"),
    ("two_stream", "c3d"),
]


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    torch.manual_seed(0)
    name, encoder = request.param
    return CLASSIFIERS[name](ENCODERS[encoder](), CLASSES)


def inputs_of(classifier: Classifier, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    channels = {"clip": 3, "flow": 20}
    # As small as the encoder lets it be: C3D in bfloat16 is slow on a CPU without its instructions.
    frames, pixels = (8, 16) if isinstance(classifier.encoders()["clip"], C3D) else (3, 40)
    return [
        torch.randn(batch, channels[name], frames, pixels, pixels, generator=generator) for name in classifier.inputs
    ]


def test_gives_logits_that_join_to_one_answer_a_clip(classifier: Classifier) -> None:
    logits = classifier.eval()(*inputs_of(classifier))
    assert logits.shape in ((2, CLASSES), (2, logits.shape[1], CLASSES))
    joined = classifier.join(logits)
    assert joined.shape == (2, classifier.num_classes) == (2, CLASSES)
    assert torch.equal(classifier.join(joined), joined)
    assert joined.std(dim=0).min() > 0


def test_its_encoders_are_named_by_its_inputs(classifier: Classifier) -> None:
    encoders = classifier.encoders()
    assert tuple(encoders) == classifier.inputs
    held = {id(parameter) for parameter in classifier.parameters()}
    for encoder in encoders.values():
        assert isinstance(encoder, Encoder)
        assert {id(parameter) for parameter in encoder.parameters()} <= held


def test_the_gradient_reaches_every_parameter(classifier: Classifier) -> None:
    classifier.train().zero_grad()
    logits = classifier(*inputs_of(classifier))
    (logits * torch.randn_like(logits)).sum().backward()
    without = [name for name, p in classifier.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    assert all(p.grad.any() for name, p in classifier.named_parameters() if "head" in name and p.grad is not None)
    classifier.zero_grad()


@torch.no_grad()
def test_bfloat16_gives_nearly_the_same_logits(classifier: Classifier) -> None:
    inputs = inputs_of(classifier, batch=1)
    expected = classifier.eval()(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = classifier(*inputs)
    assert ((found.float() - expected).norm() / expected.norm()).item() < 0.1


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_its_constructor_takes_an_encoder_and_the_number_of_classes_first(name: str) -> None:
    parameters = inspect.signature(CLASSIFIERS[name]).parameters
    assert list(parameters)[:2] == ["encoder", "num_classes"]
    assert all(p.default is not p.empty for p in list(parameters.values())[2:])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_one_class_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="num_classes is 1; a classifier chooses between at least 2"):
        CLASSIFIERS[name](CaffeNet(), 1)


def test_a_clip_too_short_for_the_encoder_is_refused() -> None:
    classifier = FramePooling(C3D(), 3)
    shortest = min(encoder.minimum_frames for encoder in classifier.encoders().values())
    with pytest.raises(ValueError, match=r"8 or more frames .* but got 7 of"):
        classifier(torch.zeros(1, 3, shortest - 1, 32, 32))


def test_i3d_refuses_a_3d_encoder() -> None:
    with pytest.raises(ValueError, match="only a 2-D encoder can be inflated, but C3D is 3-D; choose encoder=resnet18"):
        I3D(C3D(), 3)
