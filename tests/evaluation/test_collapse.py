"""The numbers for collapse, against their definitions and invariances."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from selfsup.evaluation.collapse import feature_std, lidar, mean_cosine, rankme

MEASURES = [rankme, feature_std, mean_cosine]


def random_features(number: int = 60, dim: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(seed))


def rotation(dim: int) -> Tensor:
    return torch.linalg.qr(random_features(dim, dim, seed=1).double())[0].float()


def test_rankme_is_the_entropy_of_the_spectrum() -> None:
    features = random_features()
    gram = features.double().numpy().T @ features.double().numpy()
    spectrum = np.sqrt(np.linalg.eigvalsh(gram))
    shares = spectrum / spectrum.sum()
    assert rankme(features) == pytest.approx(np.prod(shares**-shares), rel=1e-4)


def test_rankme_counts_directions() -> None:
    basis = torch.linalg.qr(random_features(40, 6))[0]  # six orthonormal columns
    assert rankme(basis) == pytest.approx(6, rel=1e-4)
    assert rankme(basis[:, :2] @ random_features(2, 30)) < 2.001
    line = random_features(50, 1) @ random_features(1, 12)
    assert rankme(line) == pytest.approx(1, abs=1e-3)
    assert rankme(torch.zeros(5, 3)) == 1.0


def test_feature_std_and_mean_cosine_follow_their_definitions() -> None:
    features = random_features() + 0.5
    unit = features.double().numpy()
    unit = unit / np.sqrt((unit**2).sum(axis=1, keepdims=True))
    spread = np.sqrt((unit**2).mean(axis=0) - unit.mean(axis=0) ** 2).mean() * np.sqrt(12)
    assert feature_std(features) == pytest.approx(spread)
    cosines = [unit[i] @ unit[j] for i in range(60) for j in range(60) if i != j]
    assert mean_cosine(features) == pytest.approx(np.mean(cosines))


def test_collapsed_and_spread_features_are_told_apart() -> None:
    same = random_features(1, 64).expand(500, -1)
    spread = random_features(500, 64)
    assert feature_std(same) == pytest.approx(0, abs=1e-6)
    assert feature_std(spread) == pytest.approx(1, abs=0.05)
    assert mean_cosine(same) == pytest.approx(1)
    assert mean_cosine(spread) == pytest.approx(0, abs=0.01)
    assert rankme(same) == pytest.approx(1, abs=1e-3)
    assert rankme(spread) > 55


@pytest.mark.parametrize("measure", MEASURES)
def test_rows_may_be_permuted_and_scaled_together(measure: Callable[[Tensor], float]) -> None:
    features = random_features() + 0.3
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(2))
    assert measure(features[order]) == pytest.approx(measure(features), rel=1e-6)
    assert measure(7 * features) == pytest.approx(measure(features), rel=1e-6)


@pytest.mark.parametrize("measure", [rankme, mean_cosine])
def test_rank_and_cosine_do_not_depend_on_the_axes(measure: Callable[[Tensor], float]) -> None:
    features = random_features() + 0.3
    assert measure(features @ rotation(12)) == pytest.approx(measure(features), rel=1e-4)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(1, 4), r"shape \(1, 4\); give \(N, D\)"),
        (torch.zeros(4), r"shape \(4,\)"),
        (torch.full((3, 2), torch.nan), "not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(measure: Callable[[Tensor], float], features: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(features)


def views(number: int = 40, count: int = 10, dim: int = 6, within: float = 1.0) -> Tensor:
    """Videos that differ in all directions, and views that differ from them."""
    noise = torch.randn(number, count, dim, generator=torch.Generator().manual_seed(3))
    return random_features(number, dim)[:, None] + within * noise


def test_lidar_is_the_entropy_of_the_discriminants() -> None:
    values = views().double()
    means = values.mean(dim=1).numpy()
    between = np.cov(means.T)
    within = np.mean([np.cov(of.T) for of in values.numpy()], axis=0) + 1e-4 * np.eye(6)
    spectrum = scipy.linalg.eigh(between, within, eigvals_only=True)  # the generalised problem, B v = λ W v
    shares = spectrum / spectrum.sum()
    assert lidar(values) == pytest.approx(np.prod(shares**-shares), rel=1e-5)


def test_lidar_does_not_count_directions_that_only_tell_views_apart() -> None:
    few = views(within=0.01)
    few[:, :, 2:] = few[:, :1, 2:] * 1e-3  # videos differ in the first two directions, and hardly in the others
    noisy = few.clone()
    noisy[:, :, 2:] += 5 * torch.randn(40, 10, 4, generator=torch.Generator().manual_seed(4))
    assert lidar(noisy) == pytest.approx(2, abs=0.3)
    assert rankme(noisy.flatten(0, 1)) > 4, "which a rank of the features alone takes for information"


def test_lidar_of_a_collapse_is_one() -> None:
    assert lidar(torch.ones(5, 3, 4)) == 1.0
    line = random_features(50, 1)[:, None] @ random_features(1, 12)[None]
    assert lidar(line.expand(50, 4, 12) + 1e-4 * views(50, 4, 12)) < 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(4, 1, 3), r"shape \(4, 1, 3\); give \(N, V, D\)"),
        (torch.zeros(4, 3), r"shape \(4, 3\)"),
        (torch.zeros(1, 4, 3), "of one video"),
        (torch.full((3, 2, 3), float("nan")), "not finite"),
    ],
)
def test_lidar_refuses_what_is_no_views(wrong: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lidar(wrong)
