"""Temporal coherence: the losses against plain computations, the slowest features of a mixture, and no collapse."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from scipy.stats import ks_2samp
from torch import Tensor, nn

from selfsup.data.index import inspect
from selfsup.data.reader import VideoReader
from selfsup.tasks.temporal_coherence import FORMS, NearAndFar, TemporalCoherence, coherence, ranking, slowness
from tests.data import barcodes
from tests.tasks.learning import SmallFrames, examples, figure, taught
from tests.tasks.test_temporal_order import info_of

SAMPLER = NearAndFar(near_seconds=0.12, far_seconds=0.6)


def task_of(form: str = "triplet", **options: Any) -> TemporalCoherence:
    torch.manual_seed(0)
    adam = partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.05)
    return TemporalCoherence(SmallFrames(16), SAMPLER, adam, form=form, **({"dim": 6, "hidden_dim": 16} | options))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- the sampler


def test_near_is_near_and_far_is_far(tmp_path: Path) -> None:
    path = barcodes.write(tmp_path / "a.mp4", range(0, 40 * 40, 40))  # 25 frames a second
    info, after = inspect(path), []
    with VideoReader(path) as video:
        for seed in range(40):
            clip = SAMPLER(video, info, torch.Generator().manual_seed(seed))["clip"]
            assert clip.shape == (3, 3, 1, barcodes.HEIGHT, barcodes.WIDTH)
            anchor, near, far = (barcodes.read_number(frame[:, 0]) for frame in clip)
            assert 1 <= abs(near - anchor) <= 3
            assert abs(far - anchor) >= 15
            after.append(far > anchor)
    assert 10 < sum(after) < 30


def test_no_frame_is_more_often_early_than_late() -> None:
    info, generator = info_of(40), torch.Generator().manual_seed(0)
    times = np.array([SAMPLER.times_seconds(info, generator) for _ in range(2000)])  # (draws, 3)
    last = info.duration_seconds - 1 / info.fps
    assert times.min() >= -1e-9
    assert times.max() <= last + 1e-9
    for frame in times.T:
        assert ks_2samp(frame, last - frame).statistic < 0.06


def test_refuses_what_is_too_short_or_too_slow() -> None:
    assert SAMPLER.refuse(info_of(16)) is None
    assert SAMPLER.refuse(info_of(15)) == (
        "too short for temporal coherence: lasts 0.60 s, frames task.sampler.far_seconds=0.6 apart need 0.64 s"
    )
    assert SAMPLER.refuse(info_of(20, fps=5)) == (
        "shows a frame every 0.200 s, none within task.sampler.near_seconds=0.12"
    )


@pytest.mark.parametrize("values", [{"near_seconds": 0.0}, {"far_seconds": 0.1}])
def test_values_out_of_bounds_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"task\.sampler: near_seconds=.* must lie between 0 and far_seconds="):
        replace(SAMPLER, **values)


# --- the losses


def test_slowness_of_whitened_features_is_their_mean_squared_change() -> None:
    embeddings = random(200, 3, 4) @ random(4, 4, seed=1)
    embeddings[:, 1] = 0.7 * embeddings[:, 0] + 0.3 * embeddings[:, 1]
    values = embeddings.flatten(0, 1).double().numpy()
    change = (embeddings[:, 1] - embeddings[:, 0]).double().numpy()
    whitening = scipy.linalg.sqrtm(np.linalg.inv(np.cov(values.T, bias=True))).real
    expected = ((change @ whitening) ** 2).mean()
    assert slowness(embeddings, epsilon=0.0).item() == pytest.approx(expected, rel=1e-3)


def test_slowness_is_the_same_in_any_linear_map_and_2_without_coherence() -> None:
    embeddings = random(4000, 3, 4)
    assert slowness(embeddings).item() == pytest.approx(2, abs=0.1)
    mixed = embeddings @ random(4, 4, seed=1) + random(4, seed=2)
    assert slowness(mixed, 0.0).item() == pytest.approx(slowness(embeddings, 0.0).item(), rel=1e-3)
    assert slowness(1e-3 * embeddings) == pytest.approx(slowness(embeddings).item(), rel=1e-3)
    same = torch.zeros(8, 3, 4, requires_grad=True)
    slowness(same).backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()


def test_the_slowest_of_a_mixture_are_found() -> None:
    """A linear network ends at the least generalised eigenvalues: the closed form of slow feature analysis."""
    time = torch.arange(3000) / 200
    sources = torch.stack([torch.sin(0.7 * time), torch.cos(1.9 * time), *random(3, 3000)], dim=1)
    mixture = sources @ random(5, 5, seed=3)
    frames = torch.stack([mixture[:-1], mixture[1:], mixture[:-1]], dim=1)  # (N, 3, 5); the last is of no concern
    torch.manual_seed(0)
    layer = nn.Linear(5, 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.03)
    for _ in range(400):
        optimizer.zero_grad()
        loss = slowness(layer(frames), epsilon=0.0)
        loss.backward()
        optimizer.step()
    change = (frames[:, 1] - frames[:, 0]).double().numpy()
    values = frames.flatten(0, 1).double().numpy()
    least = scipy.linalg.eigh(change.T @ change / len(change), np.cov(values.T, bias=True), eigvals_only=True)[:2]
    assert loss.item() == pytest.approx(least.mean(), rel=0.1)
    found = layer(mixture).detach().numpy()
    for slow in sources[:, :2].T.numpy():  # each slow source is a sum of the two outputs
        fit = np.linalg.lstsq(np.c_[found, np.ones(len(found))], slow, rcond=None)[0]
        assert np.corrcoef(np.c_[found, np.ones(len(found))] @ fit, slow)[0, 1] > 0.99


def test_coherence_is_mobahis_loss() -> None:
    anchor, near, far = random(5, 4), random(5, 4, seed=1), random(5, 4, seed=2)
    expected = 0.0
    for a, n, f in zip(anchor, near, far, strict=True):
        expected += ((a - n).abs().sum() / 4 + max(0.0, 1.5 - float((a - f).abs().sum()) / 4)) / 5
    torch.testing.assert_close(coherence(anchor, near, far, 1.5), torch.as_tensor(expected))


@pytest.mark.parametrize("hardest", [None, 2])
def test_ranking_is_that_of_wang_and_gupta(hardest: int | None) -> None:
    embeddings, videos = random(4, 3, 5), [0, 1, 0, 2]
    losses = []
    for b in range(4):
        anchor, near = embeddings[b, 0], embeddings[b, 1]
        others = torch.cat([embeddings[c] for c in range(4) if videos[c] != videos[b]])
        far = 1 - F.cosine_similarity(anchor[None], others)
        far = far.sort().values[:hardest]
        losses.append((1 - F.cosine_similarity(anchor, near, dim=0) - far + 0.5).clamp(min=0))
    told = ranking(embeddings[:, 0], embeddings[:, 1], embeddings, torch.tensor(videos), 0.5, hardest)
    torch.testing.assert_close(told, torch.cat(losses).mean())


def test_of_one_video_there_is_nothing_to_rank() -> None:
    embeddings = random(2, 3, 5).requires_grad_()
    loss = ranking(embeddings[:, 0], embeddings[:, 1], embeddings, torch.tensor([1, 1]), 0.5, 4)
    loss.backward()
    assert loss == 0
    assert embeddings.grad is not None
    assert not embeddings.grad.any()


# --- the task


def test_the_figure_is_that_of_the_nearer_frame() -> None:
    task = task_of().eval()
    batch = {"clip": random(5, 3, 3, 1, 16, 16), "video": torch.arange(5)}
    anchor, near, far = task(batch["clip"]).unbind(1)
    better = F.cosine_similarity(anchor, near) > F.cosine_similarity(anchor, far)
    assert task.step(batch)["two_choice"] == better.float().mean()
    still = {**batch, "clip": batch["clip"][:, :1].expand(-1, 3, -1, -1, -1, -1)}
    assert task.step(still)["two_choice"] == task.chance["two_choice"] == 0.5


def learnable(videos: int = 16) -> dict[str, Tensor]:
    """Each frame has a colour, near to that of the near frame."""
    anchor, far, step = random(videos, 3), random(videos, 3, seed=1), random(videos, 3, seed=2)
    colours = torch.stack([anchor, anchor + 0.2 * step, far], dim=1)[..., None, None, None]
    clip = colours + 0.5 * random(videos, 3, 3, 1, 16, 16, seed=3)
    return {"clip": (clip * 40 + 128).clamp(0, 255).byte(), "video": torch.arange(videos)}


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_falls_and_nothing_collapses(form: str) -> None:
    task, batch = task_of(form), learnable()
    before = figure(task.eval(), batch, "loss")
    taught(task, batch, steps=60, size=16)
    assert figure(task, batch, "loss") < 0.7 * before
    assert figure(task, batch, "two_choice") > 0.9
    assert figure(task, batch, "spread") > 0.3


def test_without_a_margin_everything_collapses() -> None:
    """What the figures of the test above are there to see."""
    batch, deviations = learnable(), {}
    for margin in (1e-9, 0.5):
        task = task_of("margin", margin=margin)
        taught(task, batch, steps=150, size=16)
        deviations[margin] = task(task.prepare(batch["clip"])).std(dim=(0, 1)).mean().item()
    assert deviations[1e-9] < 0.25 * deviations[0.5]


@pytest.mark.parametrize(("form", "least"), [("slow", 3), ("margin", 1), ("triplet", 2)])
def test_a_form_says_how_many_examples_it_wants(form: str, least: int) -> None:
    assert task_of(form).minimum_batch == least  # of slow: three frames an example, more than six features


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"form": "steady"}, r"task\.form='steady': choose one of slow, margin, triplet"),
        ({"margin": 0.0}, r"task\.margin=0 must lie above 0"),
        ({"hardest": 0}, r"task\.hardest=0 not below 1, or be null"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        task_of(**options)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_near_frames_are_found_in_videos_that_were_not_trained_on(seed: int) -> None:
    sampler = NearAndFar(0.1, 1.0)
    test = examples(sampler, "test", 4)
    for form, least in (("triplet", 0.95), ("slow", 0.9), ("margin", 0.85)):
        torch.manual_seed(seed)
        adam = partial(torch.optim.AdamW, lr=3e-3)
        task = TemporalCoherence(SmallFrames(), sampler, adam, form=form).eval()
        before, loss = figure(task, test, "two_choice"), figure(task, test, "loss")
        taught(task, examples(sampler, "train", 4), 120)
        after, spread = figure(task, test, "two_choice"), figure(task, test, "spread")
        told = f"loss {loss:.2f} to {figure(task, test, 'loss'):.2f}"
        print(f"{form}: {told}, {before:.3f} before, {after:.3f} after, chance 0.5, spread {spread:.3f}")
        assert after > least
        assert figure(task, test, "loss") < 0.8 * loss
        assert spread > 0.4
