"""The linear probe against softmax regression written out in torch."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from selfsup.evaluation.linear_probe import linear_probe

Split = tuple[NDArray[Any], NDArray[Any]]


def blobs(number: int, seed: int, classes: int = 4, dim: int = 10, noise: float = 2.0) -> Split:
    """Overlapping classes; the centres are the same for every seed."""
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    # A probe that does not standardise fails on these.
    scales = 10 ** np.random.default_rng(98).uniform(-3, 3, size=dim)
    random = np.random.default_rng(seed)
    labels = np.arange(number) % classes
    return (centres[labels] + noise * random.normal(size=(number, dim))) * scales + 3, labels


@pytest.fixture
def splits() -> tuple[Split, Split, Split]:
    return blobs(120, 0), blobs(80, 1), blobs(100, 2)


def softmax_regression(train: Split, strength: float, *others: NDArray[Any]) -> list[NDArray[Any]]:
    """Minimises C * sum of cross-entropies + |W|^2 / 2 and answers each of `others`."""
    mean, std = train[0].mean(axis=0), train[0].std(axis=0)
    inputs = torch.from_numpy((train[0] - mean) / std)
    targets = torch.from_numpy(train[1])
    weights = torch.zeros(inputs.shape[1], int(targets.max()) + 1, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(weights.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weights, bias], max_iter=2000, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        error = torch.nn.functional.cross_entropy(inputs @ weights + bias, targets, reduction="sum")
        total = strength * error + weights.square().sum() / 2
        total.backward()
        return total

    solver.step(loss)
    found = weights.detach().numpy(), bias.detach().numpy()
    return [((other - mean) / std @ found[0] + found[1]).argmax(axis=1) for other in others]


def test_probe_agrees_with_softmax_regression(splits: tuple[Split, Split, Split]) -> None:
    train, val, test = splits
    strengths = (1e-3, 1e-2, 1e-1, 1.0)
    result = linear_probe(*train, *val, *test, strengths=strengths)
    answers = {c: softmax_regression(train, c, val[0], test[0]) for c in strengths}
    val_accuracy = [float((answers[c][0] == val[1]).mean()) for c in strengths]
    assert result.val_accuracy == pytest.approx(val_accuracy)
    assert len(set(val_accuracy)) > 1
    assert result.c == strengths[int(np.argmax(val_accuracy))]
    right = answers[result.c][1] == test[1]
    assert result.accuracy == pytest.approx(right.mean())
    assert result.balanced_accuracy == pytest.approx(np.mean([right[test[1] == k].mean() for k in range(4)]))
    assert result.converged
    assert (result.majority, result.uniform) == (0.25, 0.25)
    assert result.at_edge == (result.c in (strengths[0], strengths[-1]))


def test_the_strength_is_chosen_on_val_alone(splits: tuple[Split, Split, Split]) -> None:
    train, val, test = splits
    result = linear_probe(*train, *val, *test)
    other = linear_probe(*train, *val, test[0], np.roll(test[1], 1))
    assert (other.c, other.val_accuracy) == (result.c, result.val_accuracy)
    assert other.accuracy != result.accuracy
    single = linear_probe(*train, *val, *test, strengths=[result.c])
    assert single.accuracy == result.accuracy
    assert not single.at_edge


def test_of_equal_strengths_the_smallest_wins() -> None:
    easy = blobs(80, 3, classes=2, noise=0.01)
    result = linear_probe(*easy, *easy, *easy, strengths=(10.0, 0.1, 1.0))
    assert result.val_accuracy == (1.0, 1.0, 1.0)
    assert result.c == 0.1


def test_rotation_order_and_names_of_classes_change_nothing(splits: tuple[Split, Split, Split]) -> None:
    train, val, test = splits
    reference = linear_probe(*train, *val, *test)
    assert linear_probe(*train, *val, *test) == reference
    order = np.random.default_rng(0).permutation(len(train[0]))
    columns = np.random.default_rng(1).permutation(10)
    mixed = [(features[:, columns] * 7 - 2, labels) for features, labels in splits]
    shuffled = linear_probe(mixed[0][0][order], mixed[0][1][order], *mixed[1], *mixed[2])
    assert replace(shuffled, converged=True) == reference
    names = np.array(["walk", "run", "jump", "sit"])
    named = [(features, names[labels].tolist()) for features, labels in splits]
    assert linear_probe(*named[0], *named[1], *named[2]) == reference


def test_unbalanced_classes_show_in_majority_and_balanced_accuracy() -> None:
    features, labels = blobs(200, 4, classes=2, noise=0.01)
    keep = (labels == 0) | (np.arange(200) < 20)
    result = linear_probe(features, labels, features, labels, features[keep], labels[keep])
    assert result.majority == pytest.approx(100 / 110)
    assert result.uniform == 0.5
    noise = np.random.default_rng(0).normal(size=(110, 10))
    blind = linear_probe(noise, labels[keep], noise, labels[keep], noise, labels[keep], strengths=[1e-8])
    assert (blind.accuracy, blind.balanced_accuracy) == (pytest.approx(100 / 110), 0.5)


def test_without_val_folds_keep_groups_whole() -> None:
    """Each group has a signature and a label: only folds by group see that the signature teaches nothing."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 6)
    labels = np.where(np.arange(20) % 2, "a", "b")[groups]
    features = random.normal(size=(20, 30))[groups] + 0.01 * random.normal(size=(120, 30))
    by_group = linear_probe(features, labels, None, None, features, labels, train_groups=groups.tolist())
    by_video = linear_probe(features, labels, None, None, features, labels)
    assert max(by_video.val_accuracy) == 1.0
    assert max(by_group.val_accuracy) < 0.75
    again = linear_probe(features, labels, None, None, features, labels, 0, train_groups=groups.tolist())
    assert again == by_group
    assert any(
        linear_probe(features, labels, None, None, features, labels, seed, train_groups=groups.tolist()) != by_group
        for seed in (1, 2, 3)
    )


def test_constant_features_give_chance_and_no_warning() -> None:
    labels = np.arange(40) % 4
    constant = np.full((40, 5), 0.1, dtype=np.float32)
    result = linear_probe(constant, labels, constant, labels, constant, labels)
    assert result.accuracy == 0.25


def test_a_solver_that_stops_early_says_so(splits: tuple[Split, Split, Split]) -> None:
    train, val, test = splits
    assert not linear_probe(*train, *val, *test, max_iterations=1).converged


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": [0, 1, 7]}, r"the test videos have 1 class that the train videos lack \(7\)"),
        ({"val_labels": [0, 9, 8]}, r"the val videos have 2 classes that the train videos lack \(8, 9\)"),
        ({"train_labels": [1] * 6}, "every training video has the label '1'; a probe needs two classes"),
        ({"train_labels": [0, 1]}, "6 train features but labels of shape"),
        ({"train_labels": [0, 1, None, 0, 1, 0]}, "some train videos have no label"),
        ({"test": np.zeros((0, 2)), "test_labels": []}, r"the test features have shape \(0, 2\)"),
        ({"val": np.full((3, 2), np.inf)}, "some val features are not finite"),
        ({"strengths": (0.0, 1.0)}, "give at least one C above 0"),
        ({"val": None, "train_groups": [0] * 6}, "cannot be cut into folds"),
        ({"val": None, "train_groups": [0, 1] * 3}, "cannot be cut into folds"),
        ({"val": None, "train_groups": [0, 1]}, "6 training videos but 2 train_groups"),
        ({"val": None, "train_labels": [0, 0, 0, 0, 0, 1]}, "cannot be cut into folds"),
    ],
)
def test_what_cannot_be_probed_is_refused(changes: dict[str, Any], message: str) -> None:
    features, labels = np.arange(12.0).reshape(6, 2), [0, 1] * 3
    arguments: dict[str, Any] = {
        "train": features,
        "train_labels": labels,
        "val": features[:3],
        "val_labels": labels[:3],
        "test": features[:3],
        "test_labels": labels[:3],
    }
    with pytest.raises(ValueError, match=message):
        linear_probe(**(arguments | changes))
