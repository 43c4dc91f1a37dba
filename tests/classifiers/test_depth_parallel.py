"""The simulation agrees with the stream tick by tick; what is taught, what is not counted, and what is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor

from selfsup.classifiers.cnn_rnn import CnnRnn
from selfsup.classifiers.depth_parallel import DepthParallelRnn
from selfsup.classifiers.skip_rnn import SkipRnn
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.video_resnet import VideoResNet
from selfsup.streaming.pipeline import DepthParallel
from selfsup.tasks.answers import FrameAnswers
from selfsup.tasks.scoring import FrameScoring, VideoScoring
from tests.classifiers.test_cnn_rnn import IMPOSSIBLE
from tests.tasks.test_action_recognition import catalogue

TICKS = 7


@pytest.fixture(scope="module")
def encoder() -> ResNet:
    torch.manual_seed(0)
    return ResNet().eval()


def clips(batch: int = 2, frames: int = TICKS) -> Tensor:
    return torch.randn(batch, 3, frames, 32, 32, generator=torch.Generator().manual_seed(2))


def parallel(encoder: ResNet, *options: Any, **named: Any) -> DepthParallelRnn:
    torch.manual_seed(1)
    return DepthParallelRnn(encoder, 4, *options, hidden_dim=8, **named).eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("number", "skip", "clocks"),
    [(1, False, None), (3, False, None), (3, True, None), (2, True, [1, 2]), (3, True, [1, 2, 4])],
)
def test_the_simulation_knows_what_the_stream_knows(
    encoder: ResNet, number: int, skip: bool, clocks: list[int] | None
) -> None:
    classifier = parallel(encoder, number, skip_connections=skip, clocks=clocks)
    (clip,) = clips(1)
    known = classifier.known(classifier.described(clip[None]))[0]
    with DepthParallel(encoder, number, "multiply_adds", clocks, skip) as stream:
        for tick in range(TICKS):
            maps = stream.step(clip[:, tick])
            assert (maps is None) == (tick < classifier.warm_up)
            if maps is not None:
                torch.testing.assert_close(known[tick], maps.mean(dim=(1, 2)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_one_sub_network_is_the_sequential_network_and_more_are_its_delay(encoder: ResNet) -> None:
    one, clip = parallel(encoder, 1), clips()
    sequential = CnnRnn(encoder, 4, "gru", hidden_dim=8).eval()
    sequential.load_state_dict(one.state_dict())
    assert torch.equal(one(clip), sequential(clip))
    three = parallel(encoder, 3, predictive=False)
    three.load_state_dict(one.state_dict())
    torch.testing.assert_close(three(clip)[:, 2:], sequential(clip)[:, :-2], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("skip", [False, True])
def test_the_live_head_on_the_stream_answers_as_the_simulation(encoder: ResNet, skip: bool) -> None:
    classifier = parallel(encoder, 3, skip_connections=skip)
    (clip,) = clips(1)
    head, answers = classifier.live(TICKS), []
    with DepthParallel(encoder, 3, "multiply_adds", skip_connections=skip) as stream:
        for tick in range(TICKS):
            if (maps := stream.step(clip[:, tick])) is not None:
                answers.append(head.step(maps.mean(dim=(1, 2))))
    torch.testing.assert_close(torch.stack(answers), classifier(clip[None])[0, 2:], rtol=1e-4, atol=1e-5)


def test_answers_of_the_past_are_taught_as_the_sequential_network_is(encoder: ResNet) -> None:
    foreseen, past = (parallel(encoder, 3, predictive=predictive) for predictive in (True, False))
    assert (foreseen.warm_up, past.warm_up) == (2, 2)
    foreseen.train()
    past.train()
    assert (foreseen.warm_up, past.warm_up) == (2, 0)


@torch.no_grad()
def test_later_frames_change_no_earlier_answer(encoder: ResNet) -> None:
    classifier, clip = parallel(encoder, 3, skip_connections=True), clips()
    changed = clip.clone()
    changed[:, :, 5:] = 0
    before, after = classifier(clip), classifier(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5], after[:, 5]), "the first sub-network sees this frame"


def test_the_first_answers_count_in_no_loss_and_no_figure(encoder: ResNet) -> None:
    classifier = parallel(encoder, 3)
    logits, labels = torch.randn(2, TICKS, 4), torch.randint(0, 2, (2, TICKS, 4)).float()
    spoilt = logits.clone()
    spoilt[:, :2] = 100
    assert torch.equal(classifier.join(spoilt), logits[:, 2:].mean(dim=1))
    of_videos = VideoScoring(catalogue(train=["a", "b", "c", "d"]), classifier, 0.0)
    batch = {"label": torch.tensor([0, 3]), "video": torch.tensor([0, 1])}
    for name, value in of_videos.outputs(logits, batch).items():
        assert torch.equal(value, of_videos.outputs(spoilt, batch)[name])
    of_frames = FrameScoring(catalogue(train=["a", "b", "c", "d"]), classifier, 0.0)  # type: ignore[arg-type]
    assert torch.equal(
        of_frames.outputs(logits, {"label": labels})["loss"], of_frames.outputs(spoilt, {"label": labels})["loss"]
    )
    answers = FrameAnswers([TICKS, TICKS], list("abcd"))
    frames = torch.arange(TICKS).expand(2, -1)
    of_frames.add(answers, spoilt, {"video": torch.tensor([0, 1]), "frame": frames, "label": labels})
    counted = answers.sums[:, -1].view(2, TICKS)
    assert counted.tolist() == [[0, 0, 1, 1, 1, 1, 1]] * 2


def test_a_teacher_pulls_the_states_and_is_left_alone(encoder: ResNet) -> None:
    torch.manual_seed(3)
    teacher = CnnRnn(ResNet(), 4, "gru", hidden_dim=8)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    student = parallel(ResNet(), 2, teacher=teacher, distillation_weight=10.0, dropout=0.0).train()
    assert all(name.startswith(("encoder.", "rnn.", "head.")) for name in student.state_dict())
    assert not any(parameter is other for parameter in student.parameters() for other in teacher.parameters())
    optimizer, clip = torch.optim.Adam(student.parameters(), 1e-3), clips(4)
    distances = []
    for _ in range(8):
        _, said = student.answer(clip)
        torch.testing.assert_close(said["loss"], 10 * said["distance"])
        optimizer.zero_grad()
        said["loss"].backward()
        optimizer.step()
        distances.append(said["distance"].item())
    assert distances[-1] < 0.7 * distances[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert student.eval().answer(clip)[1] == {}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        *((changed, sentence) for changed, sentence in IMPOSSIBLE if "num_layers" not in changed),
        ({"clocks": [1, 0]}, r"clocks is \[1, 0\]; give each of the 2 sub-networks a whole number"),
        ({"sub_networks": 10}, "sub_networks is 10; this encoder has 9 layers or blocks"),
        ({"distillation_weight": 1.0}, "distillation_weight is 1 without a teacher; give both, or neither"),
    ],
)
def test_an_impossible_option_is_refused(encoder: ResNet, option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DepthParallelRnn(encoder, 4, **option)


def test_what_cannot_be_cut_or_got_through_is_refused(encoder: ResNet) -> None:
    with pytest.raises(ValueError, match="VideoResNet looks at whole clips, and its layers at several"):
        DepthParallelRnn(VideoResNet(), 4)
    with pytest.raises(ValueError, match="a clip of 2 frames never gets through 3 sub-networks"):
        parallel(encoder, 3)(clips(frames=2))
    with pytest.raises(ValueError, match="SkipRnn cannot teach another network"):
        parallel(encoder, 2, teacher=SkipRnn(encoder, 4, hidden_dim=8), distillation_weight=1.0).train()(clips())
