"""Skip RNN as a classifier: what it does not look at, its stream, its budget in the loss, and options out of range."""

from collections import OrderedDict
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from selfsup.classifiers.skip_rnn import SkipRnn, SkipStream
from selfsup.data.clips import Segments, SegmentViews
from selfsup.encoders.encoder import Encoder, FrameEncoder
from selfsup.tasks.action_recognition import ActionRecognition
from tests.classifiers.test_cnn_rnn import IMPOSSIBLE
from tests.tasks.test_action_recognition import catalogue

FRAMES = 10


class Small(FrameEncoder):
    """A convolution, which counts the frames that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.seen = 6, 0
        self.stages = nn.Sequential(OrderedDict(only=nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())))

    def forward(self, clip: Tensor) -> Tensor:
        self.seen += clip.shape[0] * clip.shape[2]
        return super().forward(clip)


class Deep(Encoder):
    """A 3-D convolution that leaves every other moment."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 4
        self.stages = nn.Sequential(OrderedDict(only=nn.Conv3d(3, 4, 3, stride=2, padding=1)))


def skipping(cell: str = "lstm", encoder: Encoder | None = None, **options: Any) -> SkipRnn:
    """With random weights, in evaluation mode; the gate opens now and then."""
    torch.manual_seed(0)
    classifier = SkipRnn(encoder or Small(), 3, cell, hidden_dim=8, num_layers=2, **options)
    for parameter in classifier.rnn.parameters():
        nn.init.normal_(parameter, std=0.7)
    nn.init.normal_(classifier.rnn.gate.weight, std=3.0)
    nn.init.constant_(classifier.rnn.gate.bias, -1.0)
    return classifier.eval()


def clips(batch: int = 4) -> Tensor:
    """Noise (B, 3, FRAMES, 8, 8), of another contrast in each frame."""
    generator = torch.Generator().manual_seed(3)
    contrast = 4 * torch.rand(batch, 1, FRAMES, 1, 1, generator=generator)
    return contrast * torch.randn(batch, 3, FRAMES, 8, 8, generator=generator)


def of_all_frames(classifier: Any, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and gate from the features of every frame, step by step, without dropout."""
    states, used = classifier.rnn(classifier.encoder(clip).mean(dim=(3, 4)).transpose(1, 2))
    return classifier.head(states), used


@torch.no_grad()
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_only_used_frames_are_encoded(cell: str) -> None:
    classifier, clip = skipping(cell), clips()
    expected, used = of_all_frames(classifier, clip)
    assert len({tuple(row) for row in used.tolist()}) > 1, "every clip is skipped alike"
    assert 0.2 < used.mean() < 0.8
    classifier.encoder.seen = 0  # type: ignore[assignment]
    logits, said = classifier.answer(clip)
    assert classifier.encoder.seen == used.sum()
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(said, {"loss": 1e-4 * used.sum(dim=1).mean(), "used_frames": used.mean()})
    assert torch.equal(classifier(clip), logits)
    other = torch.where(used[:, None, :, None, None] > 0, clip, torch.full_like(clip, float("nan")))
    assert torch.equal(classifier(other), logits), "a skipped frame was looked at"


@pytest.mark.parametrize("training", [False, True])
def test_it_is_causal(training: bool) -> None:
    classifier, clip = skipping(dropout=0.0).train(training), clips()
    classifier.encoder.eval()
    logits = classifier(clip)
    for last in range(FRAMES - 1):
        other = clip.clone()
        other[:, :, last + 1 :] = torch.randn_like(other[:, :, last + 1 :])
        found = classifier(other)
        torch.testing.assert_close(found[:, : last + 1], logits[:, : last + 1], rtol=0, atol=0)
        assert last > FRAMES // 2 or not torch.equal(found, logits)


@torch.no_grad()
@pytest.mark.parametrize("jumps", [False, True])
def test_a_stream_answers_as_the_clip_does(jumps: bool) -> None:
    classifier = skipping()
    for clip in clips().split(1):
        expected, used = of_all_frames(classifier, clip)
        stream, time, seen = SkipStream(classifier), 0, []
        while time < FRAMES:
            passed = stream.skip(FRAMES - time) if jumps else 0
            for skipped in range(time, time + passed):
                assert stream.logits is not None
                torch.testing.assert_close(stream.logits, expected[0, skipped])
            time += passed
            if time < FRAMES:
                seen.append(time)
                logits = stream.step(classifier.encoder(clip[:, :, [time]]).mean(dim=(2, 3, 4))[0])
                torch.testing.assert_close(logits, expected[0, time])
                time += 1
        assert seen == (used[0].nonzero().flatten().tolist() if jumps else list(range(FRAMES)))
        stream.reset()
        assert stream.logits is None
        assert stream.skip(FRAMES) == 0


def test_a_3d_encoder_is_given_whole_clips() -> None:
    classifier, clip = skipping(encoder=Deep()), clips()
    logits, said = classifier.answer(clip)
    expected, used = of_all_frames(classifier, clip)
    assert used.shape == (4, FRAMES // 2)
    torch.testing.assert_close(logits, expected)
    assert said["used_frames"] == used.mean() < 1


def recognition(classifier: Any) -> ActionRecognition:
    built = ActionRecognition(
        Small(), Segments(FRAMES), SegmentViews(FRAMES), classifier, partial(torch.optim.Adam, lr=0.02)
    )
    built.begin(catalogue(train=["a", "b", "c"], val=["a", "b", "c", "a"]))
    return built


BATCH = {"clip": clips(), "label": torch.arange(4) % 3, "video": torch.arange(4)}


def test_the_budget_is_in_the_loss() -> None:
    built = recognition(lambda encoder, classes: skipping(encoder=encoder, budget_weight=0.5, dropout=0.0)).train()
    logits, used = of_all_frames(built.classifier, BATCH["clip"])
    by_step = [F.cross_entropy(logits[:, step], BATCH["label"]) for step in range(FRAMES)]
    outputs = built.step(BATCH)
    assert set(outputs) == {"loss", "clip_accuracy", "used_frames"}
    torch.testing.assert_close(outputs["loss"], torch.stack(by_step).mean() + 0.5 * used.sum(dim=1).mean())
    torch.testing.assert_close(outputs["used_frames"], used.mean())


@pytest.mark.parametrize(("budget_weight", "share"), [(0.0, 1.0), (0.5, 0.2)])
def test_a_gate_that_costs_closes(budget_weight: float, share: float) -> None:
    torch.manual_seed(0)
    built = recognition(partial(SkipRnn, hidden_dim=8, budget_weight=budget_weight)).train()
    optimizer = built.configure_optimizers()
    assert built.step(BATCH)["used_frames"] == 1.0
    for _ in range(30):
        optimizer.zero_grad()
        built.step(BATCH)["loss"].backward()
        optimizer.step()
    assert built.step(BATCH)["used_frames"].item() == pytest.approx(share, abs=0.15)


def test_the_controls_are_asked_without_the_figures_of_the_clip_being_lost() -> None:
    built = recognition(SkipRnn).eval()
    built.on_test_epoch_start()
    with torch.no_grad():
        outputs = built.step(BATCH)
        assert outputs["used_frames"] == built.answer(BATCH)[1]["used_frames"]
    assert all(answers.sums[:, -1].tolist() == [1.0] * 4 for answers in built.answers.values())


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        *IMPOSSIBLE,
        ({"budget_weight": -1.0}, "classifier.budget_weight is -1.0; give a number of at least 0"),
        ({"budget_weight": float("nan")}, "classifier.budget_weight is nan; give a number of at least 0"),
    ],
)
def test_an_impossible_option_is_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SkipRnn(Small(), 3, **changed)
