"""Cross-modal retrieval: from a frame to sounds and frames, and from a sound to frames and sounds.

After Objects that Sound (Arandjelović and Zisserman 2018, arXiv 1712.06651, section 3.4), which reports nDCG@30 in the
four directions. The video of the query is no answer to the question of class, in either modality; it is the one answer
to that of `own`, which is asked across modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import ndcg_score

DIRECTIONS = ("frame to frame", "frame to sound", "sound to frame", "sound to sound")
KS = (1, 5, 10)
DEPTH = 30


@dataclass(frozen=True)
class CrossModal:
    """One direction. Each figure stands beside what a gallery in random order is expected to get.

    Attributes:
        own: recall at k of the query's own video, by k; empty within a modality.
        recall: share of the queries that have a video of their class among the first k, by k.
        ndcg: nDCG at 30, a video of the query's class being relevant.
        own_chance, recall_chance, ndcg_chance: of the same.
        queries: that have a video of their class, over which recall and nDCG are means.
    """

    own: Mapping[int, float]
    own_chance: Mapping[int, float]
    recall: Mapping[int, float]
    recall_chance: Mapping[int, float]
    ndcg: float | None
    ndcg_chance: float | None
    queries: int


def cross_modal(
    similarities: Mapping[str, ArrayLike], labels: Sequence[str | None], ks: Sequence[int] = KS
) -> dict[str, CrossModal]:
    """Figures of each direction.

    Args:
        similarities: by direction, (V, V): row q has those of query q to every video, its own included.
        labels: of the V videos; with None among them only `own` is told.
        ks: those larger than V - 1 are left out.

    Raises:
        ValueError: fewer than two videos, or shapes that do not fit.
    """
    if len(labels) < 2:
        raise ValueError(f"{len(labels)} videos with frame and sound; retrieval needs two or more")
    results = {}
    for direction, values in similarities.items():
        matrix = np.asarray(values, dtype=np.float64)
        if matrix.shape != (len(labels), len(labels)):
            raise ValueError(f"{direction}: similarities of shape {matrix.shape} for {len(labels)} videos")
        across = len(set(direction.split(" to "))) == 2
        results[direction] = _direction(matrix, labels, [k for k in ks if k < len(labels)], across)
    return results


def _direction(
    matrix: NDArray[np.float64], labels: Sequence[str | None], ks: Sequence[int], across: bool
) -> CrossModal:
    number = len(labels)
    own, own_chance = {}, {}
    if across:
        diagonal = np.diag(matrix)[:, None]
        # Ties count half: a constant answer gets what chance does.
        ahead = (matrix > diagonal).sum(axis=1) + 0.5 * ((matrix == diagonal).sum(axis=1) - 1)
        own = {k: float(np.mean(ahead < k)) for k in ks}
        own_chance = {k: k / number for k in ks}
    if any(label is None for label in labels):
        return CrossModal(own, own_chance, {}, {}, None, None, 0)
    names = np.asarray(labels)
    hits: dict[int, list[bool]] = {k: [] for k in ks}
    misses: dict[int, list[float]] = {k: [] for k in ks}
    gains, chances = [], []
    for query in range(number):
        others = np.arange(number) != query
        relevant, scores = (names == names[query])[others], matrix[query, others]
        if not relevant.any():
            continue
        ranked = relevant[np.argsort(-scores, kind="stable")]
        for k in ks:
            hits[k].append(bool(ranked[:k].any()))
            misses[k].append(_all_miss(len(ranked), int(relevant.sum()), k))
        gains.append(float(ndcg_score([relevant], [scores], k=DEPTH)))
        chances.append(_expected_ndcg(len(ranked), int(relevant.sum())))
    if not gains:
        return CrossModal(own, own_chance, {}, {}, None, None, 0)
    return CrossModal(
        own=own,
        own_chance=own_chance,
        recall={k: float(np.mean(hits[k])) for k in ks},
        recall_chance={k: 1 - float(np.mean(misses[k])) for k in ks},
        ndcg=float(np.mean(gains)),
        ndcg_chance=float(np.mean(chances)),
        queries=len(gains),
    )


def _all_miss(number: int, relevant: int, k: int) -> float:
    """Probability that none of `relevant` among `number` comes in the first k of a random order."""
    places = np.arange(k)
    return float(np.prod(np.clip(number - relevant - places, 0, None) / (number - places)))


def _expected_ndcg(number: int, relevant: int) -> float:
    """nDCG of a random order: each place is relevant alike often."""
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))
    return float(relevant / number * discounts[:number].sum() / discounts[:relevant].sum())
