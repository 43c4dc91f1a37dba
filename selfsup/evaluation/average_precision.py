"""Mean average precision of frames, and how far chance in the choice of test videos moves it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_average_precision(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.number]
) -> NDArray[np.float64]:
    """The mean over classes of average precision, of frames that count by weights: (R,), for R weightings at a time.

    A class counts where a frame that shows it has weight; the value is not a number where there is none. The average
    precision is that of scikit-learn, which has weights too, but takes one weighting at a time: the sum of precisions
    at each threshold, each times the recall that it adds. Frames of one score are told at once.

    Args:
        truth: bool (F, K), whether a frame shows a class.
        scores: (F, K), larger for what is surer.
        weights: (R, F), not negative.
    """
    weights = weights.astype(np.float64)
    total = np.zeros(len(weights))
    classes = np.zeros(len(weights))
    for shown, score in zip(truth.T, scores.T, strict=True):
        order = np.argsort(-score, kind="stable")
        hits = np.flatnonzero(shown[order])
        if not len(hits):
            continue
        falling, sorted_weights = -score[order], weights[:, order]
        last = np.searchsorted(falling, falling[hits], side="right") - 1  # the last frame of a hit's score
        weight = sorted_weights[:, hits]
        found = weight.cumsum(axis=1)[:, np.searchsorted(hits, last, side="right") - 1]
        retrieved = sorted_weights.cumsum(axis=1)[:, last]
        precision = np.divide(found, retrieved, out=np.zeros_like(found), where=retrieved > 0)
        of_class = weight.sum(axis=1)
        occurs = of_class > 0
        total[occurs] += (weight * precision).sum(axis=1)[occurs] / of_class[occurs]
        classes += occurs
    return np.divide(total, classes, out=np.full(len(weights), np.nan), where=classes > 0)
