"""Correspondence: learned where it is there, at chance where it is not, and both classes are of the same things."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from selfsup.data.catalogue import Catalogue
from selfsup.data.frame_and_sound import FrameAndSound
from selfsup.encoders.encoder import FrameEncoder
from selfsup.encoders.resnet import ResNet
from selfsup.tasks import correspondence
from selfsup.tasks.audio_visual import CONTROLS, AudioVisual, replaced
from selfsup.tasks.correspondence import Embedded, accuracy, compared, figures, two_choice
from selfsup.tasks.fusion import FUSIONS, Distance, Localise
from selfsup.tasks.localisation import mosaic, pointing, told

RATE_HZ = 800


class Tiny(FrameEncoder):
    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.dim = 8
        self.stages = nn.Sequential(nn.Conv2d(in_channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Tanh())


class Spectrum(nn.Module):
    """Waveform (B, N) to the magnitudes of 16 bins over time, (B, 1, 1, 16, frames)."""

    def forward(self, waveform: Tensor) -> Tensor:
        windows = waveform.unfold(1, 32, 32)
        return torch.fft.rfft(windows)[..., :16].abs().transpose(1, 2)[:, None, None]


def task_of(fusion: str = "distance", encoder: type[FrameEncoder] = Tiny, **options: Any) -> AudioVisual:
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=0.01)
    negatives = options.get("negatives", "other_video")
    sampler = FrameAndSound(negatives, rate_hz=RATE_HZ)
    return AudioVisual(encoder(), Tiny(in_channels=1), sampler, Spectrum(), adam, fusion=fusion, dim=16, **options)


def batch_of(videos: int = 16, moments: int = 1, seed: int = 0, told: bool = True) -> dict[str, Tensor]:
    """The redder the frame, the louder its tone; where nothing is told, tones are in random order."""
    generator = torch.Generator().manual_seed(seed)
    loud = torch.rand(videos, moments, generator=generator)
    red = loud if told else loud.flatten()[torch.randperm(videos * moments, generator=generator)].view_as(loud)
    clip = 0.3 * torch.randn(videos, 3, moments, 16, 16, generator=generator)
    clip[:, 0] += 4 * red[:, :, None, None] - 2
    tone = torch.sin(torch.arange(RATE_HZ) * 0.8)
    return {"clip": clip, "sound": (0.05 + 0.9 * loud[:, :, None]) * tone, "video": torch.arange(videos)}


def taught(task: AudioVisual, steps: int = 120, **options: Any) -> AudioVisual:
    optimizer = task.configure_optimizers()
    task.train()
    for step in range(steps):
        task.progress = step / steps
        optimizer.zero_grad()
        task.step(batch_of(seed=step + 1, **options))["loss"].backward()
        optimizer.step()
    return task.eval()


@torch.no_grad()
def figures_of(task: AudioVisual, batch: dict[str, Tensor], negatives: str = "other_video") -> dict[str, float]:
    examples = task.embedded(batch, "test")
    return {name: value.item() for name, value in figures(task.head, examples, negatives, task.decides).items()}


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_correspondence_is_learned_and_no_more_than_it(fusion: str) -> None:
    task = taught(task_of(fusion), steps=240)
    name = "accuracy" if task.decides else "two_choice"
    held_out = batch_of(200)
    found = figures_of(task, held_out)
    assert found[name] > 0.75
    assert found["loss"] < 0.6
    nothing = figures_of(task, batch_of(600, told=False))
    assert nothing[name] == pytest.approx(0.5, abs=0.06)
    assert set(task.chance) >= {name, *(f"{name}, {control}" for control in CONTROLS)}
    for control in CONTROLS:
        sound = replaced(held_out["sound"], control, torch.Generator().manual_seed(0))
        assert figures_of(task, {**held_out, "sound": sound})[name] == pytest.approx(0.5, abs=0.06), control


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_every_head_is_evaluated_in_mixed_precision(fusion: str) -> None:
    trainer = pl.Trainer(
        accelerator="cpu", precision="bf16-mixed", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    loader = torch.utils.data.DataLoader([batch_of(8), batch_of(8, seed=1)], batch_size=None)
    (figures,) = trainer.validate(task_of(fusion), loader, verbose=False)
    assert 0 <= figures["val/two_choice"] <= 1
    assert figures["val/loss"] > 0


def test_two_moments_of_a_video_are_told_apart() -> None:
    task = taught(task_of("contrastive", negatives="other_time"), moments=2)
    assert figures_of(task, batch_of(200, moments=2), "other_time")["two_choice"] > 0.8


def test_both_kinds_stand_beside_their_mean() -> None:
    task = task_of(negatives="both").eval()
    found = figures_of(task, batch_of(40, moments=2), "both")
    for name in ("accuracy", "two_choice"):
        parts = [found[f"{name}, {kind}"] for kind in ("other_video", "other_time")]
        assert found[name] == pytest.approx(sum(parts) / 2)
        assert f"{name}, other_time" in task.chance


@pytest.mark.parametrize(("progress", "hard"), [(0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (0.9, 0.5)])
def test_the_curriculum_goes_from_other_videos_to_half_of_each(progress: float, hard: float) -> None:
    task = task_of(negatives="both", gain_jitter=0.0).train()
    task.progress = progress
    batch = batch_of(moments=2)
    torch.manual_seed(3)
    found = task.step(batch)["loss"]
    torch.manual_seed(3)
    examples = task.embedded(batch, "train")
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    easy, other = (
        correspondence.losses(*compared(task.head, examples, kind, generator)) for kind in ("other_video", "other_time")
    )
    torch.testing.assert_close(found, (1 - hard) * easy + hard * other)


class Pair(Distance):
    """Keeps what it is asked to compare."""

    def forward(self, frames: Tensor, sounds: Tensor) -> Tensor:
        self.asked = getattr(self, "asked", [])
        self.asked.append((frames, sounds))
        return super().forward(frames, sounds)


@pytest.mark.parametrize("kind", ["other_video", "other_time"])
@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 1]])
def test_both_classes_are_of_the_very_same_frames_and_sounds(kind: str, groups: list[int]) -> None:
    """So the marginals of anything, time, loudness or phase, are equal."""
    generator = torch.Generator().manual_seed(0)
    frames, sounds = torch.randn(6, 2, 4, generator=generator), torch.randn(6, 2, 4, generator=generator)
    numbers = torch.tensor(groups)
    head = Pair(4, 4, 4)
    compared(head, Embedded(frames, sounds, sounds, numbers, numbers), kind, generator)
    (own_frames, own_sounds), (other_frames, other_sounds) = head.asked
    assert torch.equal(own_frames, other_frames)
    assert sorted(own_sounds.tolist()) == sorted(other_sounds.tolist())
    assert not (own_sounds == other_sounds).all(dim=1).any()
    if kind == "other_video":
        group_of = {tuple(row): group for rows, group in zip(sounds.tolist(), groups, strict=True) for row in rows}
        pairs = zip(own_sounds.tolist(), other_sounds.tolist(), strict=True)
        assert all(group_of[tuple(own)] != group_of[tuple(other)] for own, other in pairs)


def test_a_free_grid_takes_negatives_from_the_other_sounds() -> None:
    task = task_of().eval()
    batch = batch_of(8)
    shared = task.embedded(batch, "train")
    assert torch.equal(shared.others, shared.sounds)
    free = task.embedded({**batch, "other_sound": 0.1 * batch["sound"]}, "train")
    torch.testing.assert_close(free.sounds, shared.sounds)
    assert (free.others - free.sounds).abs().max() > 1e-3


def test_undecided_answers_count_half() -> None:
    own, other = torch.tensor([1.0, 0.0, -1.0, 2.0]), torch.tensor([1.0, 0.0, -2.0, 3.0])
    assert accuracy(own, other).item() == pytest.approx((1 + 0.5 + 0 + 1 + 0 + 0.5 + 1 + 0) / 8)
    assert two_choice(own, other).item() == pytest.approx((0.5 + 0.5 + 1 + 0) / 4)


def test_a_batch_of_one_group_teaches_nothing_and_does_no_harm() -> None:
    task = task_of().train()
    task.groups["train"] = torch.zeros(16, dtype=torch.int64)
    outputs = task.step(batch_of())
    outputs["loss"].backward()
    assert set(outputs) == {"loss"}
    assert outputs["loss"] == 0


def test_the_gain_is_jittered_in_training_alone() -> None:
    heard: list[Tensor] = []
    task = task_of(gain_jitter=0.2)
    task.spectrogram.register_forward_hook(lambda module, given, result: heard.append(given[0]))
    sound = torch.ones(500, 1, RATE_HZ)
    task.eval().hear(sound)
    assert torch.equal(heard[0], sound[:, 0])
    task.train().hear(sound)
    gains = heard[1][:, 0]
    assert torch.equal(heard[1], gains[:, None].expand(-1, RATE_HZ))
    assert 0.8 <= gains.min() < 0.82
    assert 1.18 < gains.max() <= 1.2


def test_an_encoder_of_frames_becomes_one_of_sounds() -> None:
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=0.01)
    task = AudioVisual(Tiny(), ResNet(18), FrameAndSound(), Spectrum(), adam)
    assert task.audio_encoder.in_channels == 1
    assert task.audio_encoder.stages[0][0].weight.shape == (64, 1, 7, 7)
    assert task.hear(torch.randn(2, 1, 2048)).shape == (2, 1, 128)


def catalogue_of(groups: list[str]) -> Catalogue:
    splits = {"train": groups, "val": groups[:1] * 2, "test": []}
    videos: dict[str, list[Any]] = {split: [Path(name) for name in names] for split, names in splits.items()}
    labels: dict[str, list[str | None]] = {split: [None] * len(names) for split, names in splits.items()}
    return Catalogue(videos, labels, splits, [], [])


def test_groups_are_those_of_the_catalogue_and_one_alone_is_told() -> None:
    task = task_of()
    catalogue = catalogue_of(["a", "b", "a", "c"])
    task.begin(catalogue)
    assert task.groups["train"].tolist() == [0, 1, 0, 2]
    assert task.groups["val"].tolist() == [0, 1]
    assert catalogue.notes == ["all val videos are of one group, a: negatives are other videos of it"]
    assert task.reported == "val"
    with pytest.raises(ValueError, match=r"one training video: .*give task\.negatives=other_time"):
        task.begin(catalogue_of(["a"]))
    task_of(negatives="other_time").begin(catalogue_of(["a"]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fusion": "sum"}, r"task\.fusion='sum': choose one of concat, distance, localise, contrastive"),
        ({"gain_jitter": 1.0}, r"task\.gain_jitter=1 must lie in \[0, 1\)"),
        ({"curriculum_fraction": 0.0}, r"task\.curriculum_fraction=0 in \(0, 1\]"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        task_of(**options)


# --- where it sounds


def test_a_peak_is_inside_where_its_cell_is() -> None:
    similarity = torch.zeros(3, 2, 4)
    similarity[0, 1, 3] = similarity[1, 0, 1] = similarity[2, 0, 0] = 1
    truth = torch.zeros(3, 8, 8, dtype=torch.bool)
    truth[0, 6, 7] = truth[1, 2, 4] = truth[2, 2, 1] = True  # the middles of cells; the second of the cell beside
    hits = told("pointing", similarity, truth)
    assert hits["pointing"].tolist() == [1, 0, 1]
    assert hits["pointing, centre"].tolist() == [0, 0, 0]
    assert hits["pointing, anywhere"].tolist() == pytest.approx([1 / 64] * 3)


def test_a_mosaic_has_each_frame_once_and_the_object_where_it_sounds() -> None:
    frames = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 4, 6)
    tiles, where = mosaic(frames, torch.ones(8, 4, 6, dtype=torch.bool))
    assert tiles.shape == (8, 3, 8, 12)
    for number, (picture, mask) in enumerate(zip(tiles[:, 0], where, strict=True)):
        assert len(picture.unique()) == 4
        assert torch.equal(mask, picture == number)
        assert mask.sum() == 24
        top, left = divmod(number % 4, 2)
        assert mask[4 * top, 6 * left]


def test_the_pointing_game_finds_what_it_was_told_to_look_for() -> None:
    """The similarity is the frame's redness: the peak lies in the one red patch, in a mosaic in the reddest."""
    head = Localise(1, 1, 1)
    clip, truth = torch.zeros(8, 3, 1, 8, 8), torch.zeros(8, 1, 1, 8, 8)
    for number in range(8):
        clip[number, 0, 0, 5, number] = truth[number, 0, 0, 5, number] = 1.0 + number
    examples = Embedded(clip[:, None, :1, 0], torch.ones(8, 1, 1), torch.ones(8, 1, 1), *[torch.arange(8)] * 2)
    hits = pointing(head, lambda tiles: tiles[:, None, :1, 0], examples, {"clip": clip, "truth": truth})
    assert hits["pointing"].tolist() == [1] * 8
    assert hits["pointing, centre"].sum() == 0
    assert hits["pointing, mosaic"].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]  # of every second four the last
    assert hits["pointing, mosaic, anywhere"].tolist() == pytest.approx([1 / 256] * 8)
