"""LeJEPA: SIGReg held against NumPy, views against their centre, and no collapse without negatives."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from selfsup.data.clip_views import ClipViews
from selfsup.data.transforms import EachClip
from selfsup.tasks.invariant_prediction import InvariantPrediction
from tests.tasks.learning import SmallFrames, examples, figure, taught
from tests.tasks.test_contrastive import batch_of

SAMPLER = ClipViews(2, 1, 0.1)


def task_of(**options: Any) -> InvariantPrediction:
    torch.manual_seed(0)
    adam = partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.05)
    settings = {"dim": 8, "hidden_dim": 16, "directions": 32} | options
    return InvariantPrediction(SmallFrames(16), SAMPLER, adam, **settings)


def epps_pulley(values: np.ndarray) -> float:
    """N times the distance of the characteristic function of (N,) from a normal one's, under the window exp(-t²/2).

    A trapezoid over 17 points from 0 to 3, and as much from -3 to 0.
    """
    points = np.linspace(0, 3, 17)
    empirical = np.exp(1j * np.outer(points, values)).mean(axis=1)
    distance = np.abs(empirical - np.exp(-(points**2) / 2)) ** 2
    return len(values) * 2 * np.trapezoid(distance * np.exp(-(points**2) / 2), points)


def test_sigreg_is_the_mean_of_the_test_along_random_directions() -> None:
    """The directions are drawn again from the same seed; each view is tested by itself."""
    views = torch.randn(3, 20, 8, generator=torch.Generator().manual_seed(1)) * 1.5 + 0.2  # (V, N, D)
    task = task_of()
    torch.manual_seed(5)
    told = task.gaussian(views)
    torch.manual_seed(5)
    directions = torch.randn(8, 32)
    directions = (directions / directions.norm(dim=0)).numpy()
    expected = np.mean([epps_pulley(view.numpy() @ one) for view in views for one in directions.T])
    assert told.item() == pytest.approx(expected, rel=1e-4)


def test_sigreg_is_least_for_a_gaussian() -> None:
    task = task_of(directions=256)
    normal = torch.randn(2000, 8, generator=torch.Generator().manual_seed(1))
    assert task.gaussian(normal) == pytest.approx(1.05, abs=0.15)  # of any number of examples
    for other in (
        0 * normal,
        0.5 * normal,
        normal + 0.5,
        normal.sign() * normal.abs().sqrt(),
        normal[:, :1] * torch.ones(8),
    ):
        assert task.gaussian(other) > 5


def test_the_loss_is_that_of_its_definition() -> None:
    task, batch = task_of(gaussian_weight=0.1, global_views=2).eval(), batch_of(6, views=3)
    torch.manual_seed(5)
    told = task.step(batch)
    embedded = task.project(task.encoder(batch["clip"].flatten(0, 1)).mean(dim=(2, 3, 4))).unflatten(0, (6, 3))
    centres = embedded[:, :2].mean(dim=1, keepdim=True)
    invariance = ((embedded - centres) ** 2).mean()
    torch.testing.assert_close(told["invariance"], invariance)
    torch.manual_seed(5)
    gaussian = task.gaussian(embedded.transpose(0, 1))
    torch.testing.assert_close(told["loss"], 0.1 * gaussian + 0.9 * invariance)


class Marked(nn.Module):
    """Counts what it crops."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []
        self.crop = EachClip(v2.RandomResizedCrop(8, scale=(0.2, 0.5), antialias=True))

    def forward(self, clip: Tensor) -> Tensor:
        self.seen.append(tuple(clip.shape))
        return self.crop(clip)


def test_local_views_are_cropped_in_training_alone() -> None:
    crop = Marked()
    task, batch = task_of(local_crop=crop).train(), batch_of(4, views=5)
    loss = task.step(batch)["loss"]
    assert crop.seen == [(4 * 3, 3, 1, 16, 16)]  # of five views two are global
    loss.backward()
    assert all(parameter.grad is not None for parameter in task.parameters())
    task.eval().step(batch)
    assert len(crop.seen) == 1


def test_a_batch_that_failures_have_left_with_one_video_goes_on() -> None:
    task = task_of().train()
    told = task.step(batch_of(1, views=2))
    assert "two_choice" not in told
    assert told["loss"].isfinite()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gaussian_weight": 0.0}, r"task\.gaussian_weight=0 must lie between 0 and 1"),
        ({"global_views": 0}, r"task\.global_views=0 and task\.directions=32: give at least 1"),
    ],
)
def test_values_out_of_bounds_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        task_of(**options)


def test_without_sigreg_everything_collapses_and_with_it_nothing() -> None:
    batch, deviations = {**batch_of(16), "clip": (batch_of(16)["clip"] * 40 + 128).clamp(0, 255).byte()}, {}
    for weight in (1e-9, 0.02):
        task = task_of(gaussian_weight=weight)
        taught(task, batch, steps=200, size=16)
        deviations[weight] = figure(task, batch, "deviation")
    assert deviations[1e-9] < 0.5 * deviations[0.02]
    assert deviations[0.02] > 0.5  # 1 is a Gaussian's


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_videos_are_told_apart_after_learning_from_others(seed: int) -> None:
    torch.manual_seed(seed)
    adam = partial(torch.optim.AdamW, lr=3e-3)
    task = InvariantPrediction(SmallFrames(), SAMPLER, adam, dim=32, hidden_dim=64, directions=256).eval()
    test = examples(SAMPLER, "test", 4)
    before = figure(task, test, "two_choice")
    taught(task, examples(SAMPLER, "train", 4), 120)
    after, deviation = figure(task, test, "two_choice"), figure(task, test, "deviation")
    print(f"{before:.3f} before, {after:.3f} after, chance 0.5, deviation {deviation:.3f}")
    assert after > 0.88
    assert 1 - after < 0.8 * (1 - before)
    assert deviation > 0.4
