"""Nearest neighbours against a loop over all pairs."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from selfsup.evaluation.knn import choose_k, knn


def blobs(number: int, seed: int, noise: float = 1.0) -> tuple[NDArray[Any], NDArray[Any]]:
    random = np.random.default_rng(seed)
    labels = np.array(["run", "jump", "sit"])[np.arange(number) % 3]
    centres = {name: np.eye(8)[index] for index, name in enumerate(["run", "jump", "sit"])}
    return np.stack([centres[name] for name in labels]) + noise * random.normal(size=(number, 8)) / 3, labels


def by_hand(gallery: Any, labels: Any, queries: Any, k: int, groups: Any = None, own: Any = None) -> list[str]:
    answers = []
    for number, query in enumerate(queries):
        cosine = [float(query @ g / np.linalg.norm(query) / np.linalg.norm(g)) for g in gallery]
        order = sorted(range(len(gallery)), key=lambda index: -cosine[index])
        if groups is not None:
            order = [index for index in order if groups[index] != own[number]]
        voters = [labels[index] for index in order[:k]]
        most = max(Counter(voters).values())
        answers.append(next(name for name in voters if Counter(voters)[name] == most))
    return answers


@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_knn_agrees_with_a_loop_over_all_pairs(k: int) -> None:
    gallery, labels = blobs(60, seed=0, noise=2.0)
    queries, truth = blobs(45, seed=1, noise=2.0)
    result = knn(gallery, labels, queries, truth, k)
    right = np.array(by_hand(gallery, labels, queries, k)) == truth
    assert result.accuracy == pytest.approx(right.mean())
    per_class = [right[truth == name].mean() for name in ("run", "jump", "sit")]
    assert result.balanced_accuracy == pytest.approx(np.mean(per_class))
    assert 1 / 3 < result.accuracy < 1
    assert (result.k, result.majority, result.uniform) == (k, pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_own_group_is_no_neighbour() -> None:
    features, labels = blobs(40, seed=2, noise=2.0)
    groups = [f"speaker{index // 5}" for index in range(40)]
    result = knn(features, labels, features, labels, 3, gallery_groups=groups, query_groups=groups)
    right = np.array(by_hand(features, labels, features, 3, groups, groups)) == labels
    assert result.accuracy == pytest.approx(right.mean())
    assert knn(features, labels, features, labels).accuracy == 1.0  # each finds itself
    alone = list(range(40))
    itself = knn(features, labels, features, labels, gallery_groups=alone, query_groups=alone)
    assert itself.accuracy == pytest.approx(
        (np.array(by_hand(features, labels, features, 1, alone, alone)) == labels).mean()
    )


def test_videos_without_a_group_exclude_nothing() -> None:
    features, labels = blobs(12, seed=3)
    nobody = [None, ""] * 6
    result = knn(features, labels, features, labels, gallery_groups=nobody, query_groups=nobody)
    assert result.accuracy == 1.0


def test_the_angle_decides_not_the_length_nor_the_axes() -> None:
    gallery, labels = blobs(60, seed=4, noise=2.0)
    queries, truth = blobs(45, seed=5, noise=2.0)
    reference = knn(gallery, labels, queries, truth, 5)
    random = np.random.default_rng(6)
    rotation = np.linalg.qr(random.normal(size=(8, 8)))[0]
    lengths = random.uniform(0.1, 10, size=(60, 1))
    order = random.permutation(60)
    assert knn(gallery @ rotation, labels, queries @ rotation, truth, 5) == reference
    assert knn(gallery * lengths, labels, queries, truth, 5) == reference
    assert knn(gallery[order], labels[order], queries, truth, 5) == reference


def test_a_tie_goes_to_the_nearest() -> None:
    gallery = np.array([[1, 0.1], [1, 0.2], [1, 0.3], [1, 0.4]])
    assert knn(gallery, ["b", "a", "a", "b"], [[1, 0]], ["b"], 4).accuracy == 1.0
    assert knn(gallery, ["a", "b", "b", "a"], [[1, 0]], ["a"], 2).accuracy == 1.0


def test_k_is_chosen_on_val() -> None:
    gallery, labels = blobs(300, seed=7, noise=4.0)
    val, truth = blobs(150, seed=8, noise=4.0)
    scores = {k: knn(gallery, labels, val, truth, k).accuracy for k in (1, 5, 20)}
    chosen = choose_k(gallery, labels, val, truth, ks=(20, 5, 1, 1000))
    assert scores[chosen] == max(scores.values()) > scores[1]
    with pytest.raises(ValueError, match="none fits a gallery of 300 videos"):
        choose_k(gallery, labels, val, truth, ks=(1000,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k=0 neighbours of a gallery of 3 videos; choose 1 to 3"),
        ({"k": 4}, "k=4 neighbours of a gallery of 3 videos"),
        ({"query_labels": ["c"]}, r"the query videos have 1 class that the gallery videos lack \(c\)"),
        ({"gallery_labels": ["a", "b"]}, "3 gallery features but labels of shape"),
        ({"gallery_labels": ["a", None, "b"]}, "some gallery videos have no label"),
        ({"queries": [[np.nan, 0]]}, "some query features are not finite"),
        ({"queries": np.zeros((0, 2)), "query_labels": []}, r"the query features have shape \(0, 2\)"),
        (
            {"gallery_groups": [1, 1, 1]},
            "gallery_groups and query_groups have 3 and None entries; give 3 and 1",
        ),
        ({"gallery_groups": [1, 1, 1], "query_groups": [1]}, "own group is the whole gallery"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "gallery": np.eye(3, 2) + 0.1,
        "gallery_labels": ["a", "b", "a"],
        "queries": [[1.0, 0.0]],
        "query_labels": ["a"],
    }
    with pytest.raises(ValueError, match=message):
        knn(**(arguments | changes))
