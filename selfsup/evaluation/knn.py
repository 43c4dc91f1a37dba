"""Nearest neighbours: does a video lie next to others of its class, with nothing trained?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, recall_score
from sklearn.neighbors import NearestNeighbors

from selfsup.evaluation.features import check_known, labelled

Labels = Sequence[str | int | None] | NDArray[Any]
Groups = Sequence[str | int | None] | NDArray[Any]


@dataclass(frozen=True)
class Knn:
    """Shares in [0, 1], of the queries; `majority` and `uniform` are what constant and random answers get.

    `correct[i]` tells whether query i was answered rightly.
    """

    accuracy: float
    balanced_accuracy: float
    k: int
    majority: float
    uniform: float
    correct: tuple[bool, ...]


def knn(
    gallery: ArrayLike,
    gallery_labels: Labels,
    queries: ArrayLike,
    query_labels: Labels,
    k: int = 1,
    *,
    gallery_groups: Groups | None = None,
    query_groups: Groups | None = None,
) -> Knn:
    """The class of each query by a vote of its `k` nearest gallery videos, by cosine distance.

    A tied vote goes to the class with the nearest video. Where the gallery is the set of queries, give the
    groups of both: a query's own group, itself included, is then no neighbour. (Give every video a number as
    its group to exclude only itself.) Features are neither centred nor whitened.

    Args:
        gallery, queries: features (G, D) and (Q, D).
        gallery_labels, query_labels: their classes.
        k: voters; fewer where a query has fewer neighbours outside its group.
        gallery_groups, query_groups: groups, both or neither. None and blank are no group.

    Raises:
        ValueError: k below 1 or above G, a query's class that the gallery lacks, a query without neighbours,
            or arrays that do not fit.
    """
    gallery_x, gallery_y = labelled(gallery, gallery_labels, "gallery")
    query_x, query_y = labelled(queries, query_labels, "query")
    check_known(gallery_y, query_y, "gallery", "query")
    if not 1 <= k <= len(gallery_x):
        raise ValueError(f"k={k} neighbours of a gallery of {len(gallery_x)} videos; choose 1 to {len(gallery_x)}")
    same = _own_groups(gallery_groups, len(gallery_x), query_groups, len(query_x))
    most_own = max((len(own) for own in same), default=0)
    search = NearestNeighbors(n_neighbors=min(len(gallery_x), k + most_own), metric="cosine", algorithm="brute")
    nearest = search.fit(gallery_x).kneighbors(query_x, return_distance=False)  # (Q, k + most_own), nearest first
    classes, codes = np.unique(gallery_y, return_inverse=True)
    answers = []
    for row, own in zip(nearest, same, strict=True):
        voters = [index for index in row.tolist() if index not in own][:k]
        if not voters:
            raise ValueError("a query's own group is the whole gallery; give a gallery of two groups or more")
        # The halving bonus sums to less than one vote: it decides ties, and nothing else.
        votes = np.bincount(codes[voters], 1 + 0.5 ** np.arange(1, len(voters) + 1), minlength=len(classes))
        answers.append(classes[votes.argmax()])
    return Knn(
        accuracy=float(accuracy_score(query_y, answers)),
        balanced_accuracy=float(recall_score(query_y, answers, labels=np.unique(query_y), average="macro")),
        k=k,
        majority=float(np.unique(query_y, return_counts=True)[1].max() / len(query_y)),
        uniform=1.0 / len(classes),
        correct=tuple((np.asarray(answers) == query_y).tolist()),
    )


def choose_k(
    gallery: ArrayLike,
    gallery_labels: Labels,
    val: ArrayLike,
    val_labels: Labels,
    ks: Sequence[int] = (1, 3, 5, 10, 20),
) -> int:
    """The k with the best accuracy on val, the smallest of equal ones; those above G are not tried.

    Raises ValueError as `knn` does, or where no number is left to try.
    """
    tried = sorted(k for k in set(ks) if k <= len(gallery_labels))
    if not tried:
        raise ValueError(f"ks {tuple(ks)}: none fits a gallery of {len(gallery_labels)} videos; add 1")
    scores = [knn(gallery, gallery_labels, val, val_labels, k).accuracy for k in tried]
    return tried[int(np.argmax(scores))]


def _own_groups(
    gallery: Groups | None, gallery_size: int, queries: Groups | None, query_size: int
) -> list[frozenset[int]]:
    """For each query the gallery rows of its group."""
    if gallery is None and queries is None:
        return [frozenset()] * query_size
    if gallery is None or queries is None or (len(gallery), len(queries)) != (gallery_size, query_size):
        sizes = [None if groups is None else len(groups) for groups in (gallery, queries)]
        raise ValueError(
            f"gallery_groups and query_groups have {sizes[0]} and {sizes[1]} entries; give {gallery_size} "
            f"and {query_size}, or neither"
        )
    rows: dict[Any, set[int]] = {}
    for index, group in enumerate(gallery):
        if group not in (None, ""):
            rows.setdefault(group, set()).add(index)
    return [frozenset(rows.get(group, ())) for group in queries]
