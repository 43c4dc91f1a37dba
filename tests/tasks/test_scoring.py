"""Labels of frames: who may answer, what is asked of T' steps, how the views of a frame are joined, and the figures."""

from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.functional.classification import multilabel_average_precision

from selfsup.classifiers.cnn_rnn import CnnRnn
from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.classifiers.i3d import I3D
from selfsup.data.catalogue import SpanCatalogue
from selfsup.data.clips import DenseClip, DenseViews, SegmentViews
from selfsup.data.controls import CONTROLS
from selfsup.data.listing import Span
from selfsup.encoders.c3d import C3D
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.resnet import ResNet
from selfsup.tasks.action_recognition import ActionRecognition
from selfsup.tasks.answers import FrameAnswers
from selfsup.tasks.scoring import FrameScoring, at_frames
from tests.data.test_clips import video_of

EACH = partial(FramePooling, pooling="none")


def catalogue(**names: list[str]) -> SpanCatalogue:
    """A video of 25 frames a second and 2 seconds for each string, an action of a second for each of its letters."""
    every = {split: names.get(split, []) for split in ("train", "val", "test")}
    return SpanCatalogue(
        videos={split: [video_of(50) for _ in of] for split, of in every.items()},
        labels={split: [None] * len(of) for split, of in every.items()},
        groups={split: [f"{split}{row}" for row in range(len(of))] for split, of in every.items()},
        left_out=[],
        notes=[],
        spans={split: [tuple(Span(0.0, 1.0, name) for name in held) for held in of] for split, of in every.items()},
    )


def task(classifier: Any = EACH, encoder: Encoder | None = None, **options: Any) -> ActionRecognition:
    torch.manual_seed(0)
    views = DenseViews(8, clips=None, every_seconds=0.2)
    built = ActionRecognition(encoder or ResNet(18), DenseClip(8), views, classifier, torch.optim.SGD, **options)
    built.begin(catalogue(train=["ab", "b", ""], val=["a", "b"]))
    return built.eval()


def batch(size: int = 2, frames: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "clip": torch.randn(size, 3, frames, 32, 32, generator=generator),
        "label": (torch.rand(size, frames, 2, generator=generator) < 0.4).float(),
        "video": torch.arange(size) % 2,
        "frame": torch.arange(frames).expand(size, -1),
    }


# --- who may answer


@pytest.mark.parametrize("classifier", [FramePooling, I3D])
def test_a_classifier_that_answers_once_a_clip_is_refused(classifier: Any) -> None:
    sentence = r"answers once a clip, .*data\.labels=frame asks at each moment; choose classifier=cnn_rnn, or .*=none$"
    with pytest.raises(ValueError, match=sentence):
        task(classifier)


def test_label_smoothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"task\.label_smoothing=0\.1 moves .* set it to 0 with data\.labels=frame"):
        task(label_smoothing=0.1)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            {"train": ["a", "a", ""]},
            r"name 1 class \(a\); a classifier needs two or more: give what else is seen spans",
        ),
        ({"train": ["", ""]}, r"name 0 classes \(\); a classifier needs two or more"),
        (
            {"train": ["ab"], "val": ["ac"]},
            r"spans of the val videos name 1 classes that those of the training videos lack \(c\); move a group",
        ),
    ],
)
def test_spans_that_cannot_teach_are_refused(names: dict[str, list[str]], sentence: str) -> None:
    built = ActionRecognition(ResNet(18), DenseClip(8), DenseViews(8), EACH, torch.optim.SGD)
    with pytest.raises(ValueError, match=sentence):
        built.begin(catalogue(**names))


def test_clips_that_do_not_say_when_are_refused() -> None:
    given = batch()
    del given["label"]
    with pytest.raises(ValueError, match="do not say when their frames are shown; choose clips=windows"):
        task().step(given)


# --- the loss


@pytest.mark.parametrize("classifier", [EACH, CnnRnn])
def test_the_loss_is_that_of_each_class_in_each_frame(classifier: Any) -> None:
    built, given = task(classifier), batch()
    logits = built(given)
    assert logits.shape == (2, 8, 2)
    each = [
        F.binary_cross_entropy_with_logits(logits[video, frame, name], given["label"][video, frame, name])
        for video in range(2)
        for frame in range(8)
        for name in range(2)
    ]
    outputs = built.step(given)
    assert set(outputs) == {"loss"}
    torch.testing.assert_close(outputs["loss"], torch.stack(each).mean())


@pytest.mark.parametrize(("steps", "frames"), [(2, 16), (4, 16), (3, 8), (1, 5), (8, 8), (5, 7)])
def test_each_frame_takes_the_answer_of_the_step_whose_centre_is_nearest(steps: int, frames: int) -> None:
    logits = torch.arange(steps).float()[None, :, None]
    found = at_frames(logits, frames)[0, :, 0].long().tolist()
    centres = [(step + 0.5) * frames / steps - 0.5 for step in range(steps)]
    for frame, step in enumerate(found):
        assert abs(centres[step] - frame) == pytest.approx(min(abs(centre - frame) for centre in centres))
    assert found == sorted(found)
    assert set(found) == set(range(steps))


def test_a_step_of_a_3d_encoder_is_taught_the_share_of_its_frames() -> None:
    built, given = task(EACH, C3D()), batch(frames=16)
    logits = built(given)
    assert logits.shape == (2, 2, 2)
    shares = given["label"].reshape(2, 2, 8, 2).mean(dim=2)
    torch.testing.assert_close(built.step(given)["loss"], F.binary_cross_entropy_with_logits(logits, shares))


# --- the figures


def test_a_frame_that_two_views_show_is_averaged_and_counts_once() -> None:
    answers = FrameAnswers([4, 3], ["a", "b"])
    label = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    views = {(0, 1, 2): [[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]], (1, 2, 2): [[4.0, 1.0], [1.0, 1.0], [2.0, 2.0]]}
    for frames, logits in views.items():
        answers.add(torch.tensor([1]), torch.tensor([frames]), torch.tensor([logits]), label[:, list(frames)])
    seen = answers.sums[:, -1]
    assert seen.tolist() == [0, 0, 0, 0, 1, 2, 3]
    means = answers.sums[4:, :-1] / seen[4:, None]
    torch.testing.assert_close(means, torch.tensor([[1.0, 0.0], [3.0, 0.5], [1.0, 2.0]]))
    assert answers.details()["frames"] == 3
    assert answers.chance()["mAP"] == pytest.approx(1 / 3)
    # Class a is in frame 0, which stands second or third of three; b in frame 1, second.
    by_class = answers.details()["classes"]
    assert {name: row["average_precision"] for name, row in by_class.items()} == {  # type: ignore[attr-defined]
        "a": pytest.approx(1 / 3),
        "b": pytest.approx(1 / 2),
    }


@pytest.mark.parametrize("seed", range(5))
def test_mean_average_precision_is_that_of_torchmetrics(seed: int) -> None:
    """Of the classes that occur: the third never does. Ties too, and chance is what a constant scores."""
    generator = torch.Generator().manual_seed(seed)
    truth = (torch.rand(1, 200, 4, generator=generator) < torch.tensor([0.5, 0.05, 0.0, 0.2])).float()
    logits = (4 * torch.randn(1, 200, 4, generator=generator) + truth).round()
    answers = FrameAnswers([200], list("abcd"))
    answers.add(torch.tensor([0]), torch.arange(200)[None], logits, truth)
    by_class = multilabel_average_precision(logits[0], truth[0].long(), num_labels=4, average=None)
    assert answers.figures()["mAP"].item() == pytest.approx(by_class[[0, 1, 3]].mean().item(), abs=1e-6)
    assert set(answers.details()["classes"]) == set("abd")  # type: ignore[call-overload]
    constant = FrameAnswers([200], list("abcd"))
    constant.add(torch.tensor([0]), torch.arange(200)[None], torch.ones_like(logits), truth)
    assert constant.figures()["mAP"].item() == pytest.approx(constant.chance()["mAP"])


def test_frames_without_any_action_have_no_figure() -> None:
    answers = FrameAnswers([3], ["a", "b"])
    assert answers.figures() == answers.chance() == {}
    answers.add(torch.tensor([0]), torch.arange(3)[None], torch.zeros(1, 3, 2), torch.zeros(1, 3, 2))
    assert answers.figures() == answers.chance() == {}


def test_two_processes_gather_what_one_would_have_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    views = [
        (torch.tensor([0]), torch.arange(start, start + 6)[None], torch.randn(1, 6, 2, generator=generator))
        for start in (0, 3, 6, 4)
    ]
    truth = (torch.rand(12, 2, generator=generator) < 0.5).float()
    whole, *parts = (FrameAnswers([12], ["a", "b"]) for _ in range(3))
    for number, (video, frames, logits) in enumerate(views):
        for answers in (whole, parts[number % 2]):
            answers.add(video, frames, logits, truth[frames])
    others = iter([parts[1].sums, parts[1].truth])
    parts[0].gather(lambda mine: mine + next(others))
    torch.testing.assert_close(parts[0].sums, whole.sums)
    assert torch.equal(parts[0].truth, whole.truth)


def test_views_of_dense_windows_show_every_frame_and_others_are_told_of() -> None:
    known = catalogue(train=["ab"], test=["a", "b"])
    scoring = FrameScoring(known, EACH(ResNet(18), 2), 0.0)
    assert scoring.notes(DenseViews(8, clips=None, every_seconds=0.32)) == []
    (note,) = scoring.notes(SegmentViews(8))
    assert note == "the views show 16 of the 100 test frames, and figures are of these; clips=windows shows all"


@pytest.mark.parametrize("name", CONTROLS)
def test_under_a_control_frames_keep_their_number_and_label(name: str) -> None:
    built, given = task(), batch()
    less = built.scoring.controlled(given, CONTROLS[name])
    plain, frames = built(given), less["frame"]
    assert (frames != given["frame"]).sum() >= 14
    expected = plain.gather(1, frames[..., None].expand_as(plain))  # an answer to a frame alone goes with the frame
    torch.testing.assert_close(built(less), expected)
    assert torch.equal(less["label"], given["label"].gather(1, frames[..., None].expand_as(plain)))
    assert torch.equal(less["video"], given["video"])


def test_frames_are_ranked_by_the_mean_of_their_views() -> None:
    answers = FrameAnswers([2, 3], ["a", "b"])
    frames, truth = torch.tensor([[0, 2]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    for logits in ([[4.0, 0.0], [1.0, 2.0]], [[2.0, 1.0], [3.0, 4.0]]):
        answers.add(torch.tensor([1]), frames, torch.tensor([logits]), truth)
    videos, shown, means = answers.ranked()
    assert videos.tolist() == [1, 1]
    assert shown.tolist() == [[True, False], [False, True]]
    assert means.tolist() == [[3.0, 0.5], [2.0, 3.0]]


def test_a_classifier_says_whether_it_answers_at_each_moment() -> None:
    clip = torch.zeros(1, 3, 8, 32, 32)
    for build in (FramePooling, EACH, CnnRnn, I3D, partial(I3D, pooling="none")):
        classifier = build(ResNet(18), 2).eval()
        assert classifier.each_moment == (classifier(clip).ndim == 3)
