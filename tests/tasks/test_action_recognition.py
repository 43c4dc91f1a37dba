"""Action recognition: what is frozen stays, videos are judged by all their views, and bad labels are refused."""

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from selfsup.classifiers.cnn_rnn import CnnRnn
from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.data.catalogue import Catalogue
from selfsup.data.clips import Segments, SegmentViews
from selfsup.data.stored import StoredVideo
from selfsup.encoders.resnet import ResNet
from selfsup.tasks.action_recognition import ActionRecognition
from selfsup.tasks.answers import VideoAnswers


def catalogue(**labels: list[str | None]) -> Catalogue:
    every = {split: labels.get(split, []) for split in ("train", "val", "test")}
    return Catalogue(
        videos={
            split: [StoredVideo(Path(f"{split}{row}.mp4"), row) for row in range(len(of))]
            for split, of in every.items()
        },
        labels=every,
        groups={split: [f"{split}{row}" for row in range(len(of))] for split, of in every.items()},
        left_out=[],
        notes=[],
    )


def task(classifier: Any = FramePooling, **options: Any) -> ActionRecognition:
    torch.manual_seed(0)
    built = ActionRecognition(
        ResNet(18),
        Segments(4),
        SegmentViews(4),
        classifier,
        partial(torch.optim.SGD, lr=0.1, weight_decay=0.1),
        **options,
    )
    built.begin(catalogue(train=["a", "b", "c"], val=["b", "b", "a"]))
    return built


def batch(size: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(size, 3, 4, 32, 32, generator=generator)
    return {"clip": clip, "label": torch.arange(size) % 3, "video": torch.arange(size)}


@pytest.mark.parametrize(("freeze", "kept"), [("none", 0), ("layer2", 3), ("all", 5)])
def test_frozen_stages_are_bitwise_constant_over_a_step(freeze: str, kept: int) -> None:
    built = task(freeze=freeze).train()
    before = {name: value.clone() for name, value in built.encoder.state_dict().items()}
    optimizer = built.configure_optimizers()
    built.step(batch())["loss"].backward()
    optimizer.step()
    frozen = built.encoder.stage_names[:kept]
    for name, value in built.encoder.state_dict().items():
        stage = name.split(".")[1]
        if stage in frozen:
            assert torch.equal(value, before[name]), name
        elif "num_batches_tracked" not in name:
            assert not torch.equal(value, before[name]), name
    assert [stage.training for stage in built.encoder.stages] == [False] * kept + [True] * (5 - kept)


def test_frozen_stages_keep_no_activations() -> None:
    """What autograd keeps for the backward pass falls with every stage that is frozen."""
    kept = []
    for freeze in ("none", "stem", "layer1", "layer2", "layer3", "all"):
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        built = task(freeze=freeze).train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = built.step(batch())["loss"]
        kept.append(sum(sizes.values()))
        del loss
    assert all(fewer < more for more, fewer in itertools.pairwise(kept)), kept
    assert kept[-1] < kept[0] / 50


def test_a_misspelt_stage_is_refused_before_the_videos_are_read() -> None:
    with pytest.raises(ValueError, match=r"freeze='layer9': ResNet has the stages stem, layer1, .*; give one of them"):
        task(freeze="layer9")


def test_learning_rates_fall_towards_the_input() -> None:
    built = task(layer_decay=0.5)
    groups = built.configure_optimizers().param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(list(built.parameters()))
    for power, stage in enumerate(reversed(built.encoder.stages), start=1):
        assert {rates[id(parameter)] for parameter in stage.parameters()} == {0.1 * 0.5**power}
    head = set(built.parameters()) - set(built.encoder.parameters())
    assert {rates[id(parameter)] for parameter in head} == {0.1}


def test_a_layer_decay_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layer_decay=1\.5 must lie above 0"):
        task(layer_decay=1.5)


def test_the_loss_of_a_recurrent_classifier_is_that_of_every_step() -> None:
    built = task(CnnRnn).eval()
    given = batch()
    outputs = built.step(given)
    logits = built(given)
    assert logits.shape == (4, 4, 3)
    by_hand = torch.stack([F.cross_entropy(logits[:, step], given["label"]) for step in range(4)]).mean()
    torch.testing.assert_close(outputs["loss"], by_hand)


def test_views_are_averaged_before_the_decision() -> None:
    """Two views that both lean to class 1 a little lose to one that is sure of class 0."""
    logits = {0: [[0.0, 1.0], [0.0, 1.0], [9.0, 0.0]], 1: [[0.0, 0.5]], 2: [[3.0, 0.0]]}
    answers = VideoAnswers(torch.tensor([0, 1, 1, 0]), 2)  # of the last video nothing could be read
    for video, views in logits.items():
        for view in views:
            answers.add(torch.tensor([video]), torch.tensor([view]))
    assert answers.told() == ([0, 1, 2], [True, True, False])
    figures = answers.figures()
    assert figures["accuracy"].item() == pytest.approx(2 / 3)
    assert figures["balanced_accuracy"].item() == pytest.approx((1 + 1 / 2) / 2)


def test_chance_is_the_largest_class_of_what_is_reported() -> None:
    expected = {"accuracy": pytest.approx(2 / 3), "balanced_accuracy": pytest.approx(1 / 3)}
    assert task(controls=False).chance == expected
    controls = {f"accuracy, {name}": pytest.approx(2 / 3) for name in ("shuffled frames", "single frame")}
    assert task().chance == expected | controls


class Evaluated(ActionRecognition):
    """Logs into a dictionary, and adds up over one process."""

    def log(self, name: str, value: Any, **_: Any) -> None:
        self.logged[name] = float(value)

    def _add_up(self, sums: Tensor) -> Tensor:
        return sums


@pytest.mark.parametrize("classifier", [FramePooling, CnnRnn])
def test_controls_show_whether_the_order_of_frames_counts(classifier: Any) -> None:
    torch.manual_seed(0)
    built = Evaluated(ResNet(18), Segments(4), SegmentViews(4), classifier, partial(torch.optim.SGD, lr=0.1))
    built.logged = {}  # type: ignore[assignment]
    built.begin(catalogue(train=["a", "b", "c"], val=["b", "b", "a", "c"]))
    built.eval()
    built.on_test_epoch_start()
    given = batch()
    built.step(given)
    sums = {name: answers.sums for name, answers in built.answers.items()}
    built.on_test_epoch_end()
    assert set(sums) == {"", "shuffled frames", "single frame"}
    assert {"test/accuracy", "test/accuracy, shuffled frames", "test/accuracy, single frame"} <= set(built.logged)
    torch.testing.assert_close(sums[""][:, :3].float(), built.classifier.join(built(given)))
    blind = torch.allclose(sums[""], sums["shuffled frames"], atol=1e-4)
    assert blind == (classifier is FramePooling)
    assert not torch.allclose(sums[""], sums["single frame"], atol=1e-4)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (
            {"train": ["a", None, "b"]},
            "1 of 3 train videos have no label, the first is train1.mp4; .* data.label=COLUMN",
        ),
        ({"train": ["a", "a"]}, "every training video has the label 'a'; a classifier needs two classes or more"),
        ({"train": ["a", "b"], "val": ["z"]}, r"the val videos have 1 classes that the training videos lack \(z\)"),
        ({"train": ["a", "b"], "test": ["y", "a"]}, r"the test videos have 1 classes .* lack \(y\); move a group"),
    ],
)
def test_labels_that_cannot_teach_are_refused(labels: dict[str, list[str | None]], sentence: str) -> None:
    built = ActionRecognition(ResNet(18), Segments(4), SegmentViews(4), FramePooling, torch.optim.SGD)
    with pytest.raises(ValueError, match=sentence):
        built.begin(catalogue(**labels))
