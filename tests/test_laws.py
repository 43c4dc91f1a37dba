"""Laws that hold for any weights and any number of processes: on real files to the bit, in floats to rounding."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from selfsup.classifiers.classifier import Classifier
from selfsup.classifiers.cnn_rnn import CnnRnn
from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.classifiers.skip_cells import SkipCells
from selfsup.data import videos
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.dataset import ClipDataset, derive_seed
from selfsup.data.frame_and_sound import FrameAndSound
from selfsup.encoders.caffenet import CaffeNet
from selfsup.encoders.encoder import FrameEncoder
from selfsup.encoders.inflated import inflate
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.video_resnet import VideoResNet
from selfsup.streaming.clockwork import Clockwork
from selfsup.tasks.temporal_order import OrderSampler

SAMPLER = OrderSampler(span_seconds=1.2, gap_seconds=0.2, reach_seconds=0.4)


@pytest.fixture
def data(synthetic_manifest: Path, synthetic_index: Path) -> Callable[..., VideoDataModule]:
    """Builds a data module, ready to serve."""

    def build(**arguments: Any) -> VideoDataModule:
        settings = {
            "sampler": SAMPLER,
            "size_pixels": 32,
            "batch_size": 4,
            "num_workers": 0,
            "clips_per_video": 2,
            "seed": 7,
        }
        module = VideoDataModule(
            videos.manifest,
            manifest=str(synthetic_manifest),
            index_cache=str(synthetic_index),
            **(settings | arguments),
        )
        module.setup()
        return module

    return build


def epoch_of(module: VideoDataModule, epoch: int) -> list[dict[str, Any]]:
    loader = module.train_dataloader()
    loader.batches.set_epoch(epoch)
    return list(loader)


def same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    return len(first) == len(second) and all(
        all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys() if name != "failures")
        for one, other in zip(first, second, strict=True)
    )


def test_an_epoch_is_the_same_for_any_number_of_workers(data: Callable[..., VideoDataModule]) -> None:
    alone = epoch_of(data(num_workers=0), 3)
    assert len(alone) == 8
    torch.manual_seed(123)  # what else happened in the process does not matter
    assert same(alone, epoch_of(data(num_workers=1), 3))
    assert same(alone, epoch_of(data(num_workers=2), 3))
    assert not same(alone, epoch_of(data(num_workers=0), 4))
    assert not same(alone, epoch_of(data(num_workers=0, seed=8), 3))


def test_a_frame_and_its_sound_are_the_same_for_any_number_of_workers(
    data: Callable[..., VideoDataModule],
) -> None:
    """A pure function of (seed, epoch, index): also what is heard, of training and of held-out videos."""
    sampler = FrameAndSound("both", rate_hz=8000)
    alone, beside = (data(sampler=sampler, clips_per_video=1, num_workers=workers) for workers in (0, 2))
    assert same(epoch_of(alone, 3), epoch_of(beside, 3))
    assert same(list(alone.val_dataloader()), list(beside.val_dataloader()))
    dataset, key = alone.training_dataset(), (3, 5)
    first = dataset[key]
    dataset[3, 6]
    assert torch.equal(dataset[key]["sound"], first["sound"])
    assert not torch.equal(dataset[4, 5]["sound"], first["sound"])
    assert not torch.equal(data(sampler=sampler, seed=8).training_dataset()[key]["sound"], first["sound"])


def test_any_epoch_can_be_computed_again_from_its_seed_alone(data: Callable[..., VideoDataModule]) -> None:
    """Order and content, from the definition: no loader, no epoch before it."""
    module, epoch, seed = data(), 5, 7
    dataset = ClipDataset(
        module.videos["train"], SAMPLER, module.train_crop, seed=seed, short_side_pixels=37, backend="pyav"
    )
    order = torch.randperm(32, generator=torch.Generator().manual_seed(derive_seed(seed, epoch))).tolist()
    position = 0
    for batch in epoch_of(module, epoch):
        for clip, video in zip(batch["clip"], batch["video"].tolist(), strict=True):
            index = order[position]
            assert video == index % 16
            if position % 5 == 0:  # one in five is enough
                example = dataset[epoch, index]
                assert isinstance(example, dict)
                assert torch.equal(clip, example["clip"])
            position += 1
    assert position == 32


def test_processes_of_a_distributed_run_see_what_one_would(data: Callable[..., VideoDataModule]) -> None:
    """Two processes with half the batch see, step by step, the examples that one sees with the whole."""
    one = data(batch_size=4).train_dataloader().batches
    two = [data(batch_size=2).train_dataloader().batches for _ in range(2)]
    for rank, batches in enumerate(two):
        batches.rank, batches.world_size = rank, 2
    for whole, *halves in zip(one, *two, strict=True):
        assert sorted(whole) == sorted(key for half in halves for key in half)


def test_held_out_examples_do_not_depend_on_training(data: Callable[..., VideoDataModule]) -> None:
    module = data()
    before = list(module.val_dataloader())
    epoch_of(module, 0)
    assert same(before, list(module.val_dataloader()))
    assert same(before, list(data(num_workers=2).val_dataloader()))


@pytest.mark.parametrize("build", [partial(ResNet, 18), CaffeNet], ids=["resnet18", "caffenet"])
def test_a_frame_encoder_sees_each_frame_alone(build: Callable[[], FrameEncoder]) -> None:
    torch.manual_seed(0)
    encoder = build().eval()
    clip = torch.randn(2, 3, 4, 80, 80)

    def features(clip: Tensor) -> Tensor:
        with torch.no_grad():
            return encoder(clip)

    whole = features(clip)
    apart = torch.cat([features(clip[:, :, t : t + 1]) for t in range(4)], dim=2)
    torch.testing.assert_close(whole, apart)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(features(clip[:, :, order]), whole[:, :, order])
    other = clip.clone()
    other[:, :, 1] += 1
    changed = (features(other) - whole).abs().amax(dim=(0, 1, 3, 4))
    assert changed[1] > 1e-3
    assert changed[[0, 2, 3]].max() < 1e-5


ORDER = [3, 0, 4, 1, 2]


def unlike_frames() -> Tensor:
    """A clip (2, 3, 5, 64, 64) of noise; each frame has more contrast than the one before, which random weights see."""
    return torch.randn(2, 3, 5, 64, 64) * (3.0 ** torch.arange(5)).view(-1, 1, 1)


def relative_change(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "max", "sum"])
def test_frame_pooling_is_blind_to_the_order_of_frames(pooling: str) -> None:
    torch.manual_seed(0)
    classifier = FramePooling(CaffeNet(), 6, pooling, hidden_dim=16).eval()
    clip = unlike_frames()
    logits = classifier(clip)
    torch.testing.assert_close(classifier(clip[:, :, ORDER]), logits)
    assert relative_change(classifier(clip[:, :, :3]), logits) > 1e-3  # but not to the frames


@torch.no_grad()
@pytest.mark.parametrize("build", [partial(CnnRnn, CaffeNet()), partial(FramePooling, VideoResNet("r3d_10"))])
def test_a_recurrent_and_a_3d_classifier_see_the_order_of_frames(build: Callable[..., Classifier]) -> None:
    torch.manual_seed(0)
    classifier = build(6).eval()
    clip = unlike_frames()
    logits = classifier.join(classifier(clip))
    assert relative_change(classifier.join(classifier(clip[:, :, ORDER])), logits) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_recurrent_classifier_is_causal(cell: str) -> None:
    torch.manual_seed(0)
    classifier = CnnRnn(CaffeNet(), 6, cell, num_layers=2).eval()
    clip = unlike_frames()
    logits = classifier(clip)
    for last in range(4):
        other = clip.clone()
        other[:, :, last + 1 :] = torch.randn_like(other[:, :, last + 1 :])
        changed = classifier(other)
        assert torch.equal(changed[:, : last + 1], logits[:, : last + 1])
        assert not torch.allclose(changed[:, last + 1], logits[:, last + 1])


@torch.no_grad()
@pytest.mark.parametrize(("cell", "kind"), [("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_a_skip_rnn_whose_gate_is_always_open_is_its_rnn(cell: str, kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    skip, rnn = SkipCells(7, 16, 2, cell), kind(7, 16, 2, batch_first=True)
    nn.init.constant_(skip.gate.bias, 1e3)
    rnn.load_state_dict(
        {
            f"{name}_l{layer}": tensor
            for layer, own in enumerate(skip.cells)
            for name, tensor in own.state_dict().items()
        }
    )
    inputs = torch.randn(3, 9, 7)
    outputs, used = skip(inputs)
    start = [part.contiguous() for part in skip.initial.unsqueeze(2).expand(-1, -1, 3, -1).unbind(1)]
    expected, _ = rnn(inputs, tuple(start) if cell == "lstm" else start[0])
    assert used.all()
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)
    state = skip.start(3)
    for time in range(9):  # and its own cells to the bit
        state = skip.update(inputs[:, time], state)
        assert torch.equal(outputs[:, time], state.output)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["replicate", "centre"])
def test_an_inflated_network_on_a_still_clip_is_the_2d_one(mode: str) -> None:
    torch.manual_seed(0)
    encoder = ResNet(18).eval()
    frame = torch.randn(1, 3, 1, 48, 48)
    expected = encoder(frame).expand(-1, -1, 5, -1, -1)
    torch.testing.assert_close(
        inflate(encoder, 3, mode)(frame.expand(-1, -1, 5, -1, -1)), expected, rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
@pytest.mark.parametrize("build", [partial(ResNet, 18), CaffeNet], ids=["resnet18", "caffenet"])
@pytest.mark.parametrize("threshold", [None, 0.0])
def test_clockwork_with_every_period_1_is_the_encoder(
    build: Callable[[], FrameEncoder], threshold: float | None
) -> None:
    torch.manual_seed(0)
    encoder = build().eval()
    stream = Clockwork(encoder, periods=[1], threshold=threshold)
    for frame in torch.randn(3, 3, 80, 80):
        assert torch.equal(stream.step(frame), encoder(frame[None, :, None])[0, :, 0])
        assert (stream.work, stream.lag_frames) == (pytest.approx(1), 0)
