"""Linear probe: how well one linear layer tells the classes from frozen features."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, recall_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from selfsup.evaluation.features import check_known, labelled

Labels = Sequence[str | int | None] | NDArray[Any]
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
FOLDS = 5
TOLERANCE = 1e-6  # of the gradient of the mean loss; 1e-4 moved accuracies on 300 videos by a point


@dataclass(frozen=True)
class LinearProbe:
    """Shares in [0, 1], measured on test with the strength `c` that was best on val.

    `balanced_accuracy` is the mean over the test's classes. `majority` is what the best constant answer
    scores on test, `uniform` 1 / K. `val_accuracy` has the accuracy at each tried c, ascending; at either end
    of them `c` is `at_edge`, and a wider range may do better. `converged` is false where the solver stopped
    early. `correct[i]` tells whether test video i was told rightly.
    """

    accuracy: float
    balanced_accuracy: float
    c: float
    val_accuracy: tuple[float, ...]
    majority: float
    uniform: float
    at_edge: bool
    converged: bool
    correct: tuple[bool, ...]


def linear_probe(
    train: ArrayLike,
    train_labels: Labels,
    val: ArrayLike | None,
    val_labels: Labels | None,
    test: ArrayLike,
    test_labels: Labels,
    seed: int = 0,
    *,
    strengths: Sequence[float] = STRENGTHS,
    train_groups: Sequence[str | int] | None = None,
    max_iterations: int = 1000,
) -> LinearProbe:
    """Multinomial logistic regression on train, its L2 strength chosen on val, its accuracy read on test.

    Features are standardised by the mean and deviation of train. Of equally good strengths the smallest C
    wins. Without val the strength is chosen by cross-validation in train that keeps `train_groups` whole. The
    result is a function of the arguments; `seed` deals the folds, and is not used where val is given.

    Args:
        train, val, test: features (V, D); val may be None.
        train_labels, val_labels, test_labels: V classes each, text or numbers.
        strengths: scikit-learn's C, the inverse of the weight of the L2 penalty against the summed loss.
        train_groups: group of each training video, for the folds.
        max_iterations: of L-BFGS, for each strength.

    Raises:
        ValueError: a class in val or test that train lacks, one class only, or arrays that do not fit.
    """
    if not strengths or min(strengths) <= 0:
        raise ValueError(f"strengths {tuple(strengths)}: give at least one C above 0")
    strengths = sorted(strengths)
    train_x, train_y = labelled(train, train_labels, "train")
    test_x, test_y = labelled(test, test_labels, "test")
    known = np.unique(train_y)
    if len(known) < 2:
        raise ValueError(f"every training video has the label {str(known[0])!r}; a probe needs two classes or more")
    check_known(known, test_y, "train", "test")

    if val is not None and len(val_x := np.asarray(val)) > 0:
        val_x, val_y = labelled(val_x, [] if val_labels is None else val_labels, "val")
        check_known(known, val_y, "train", "val")
        scores, predictors, finished = _fit_each(train_x, train_y, val_x, val_y, strengths, max_iterations)
    else:
        scores = _cross_validated(train_x, train_y, train_groups, strengths, max_iterations, seed)
        _, predictors, finished = _fit_each(train_x, train_y, test_x, test_y, strengths, max_iterations)
    best = int(np.argmax(np.round(scores, 12)))  # the first of equal ones
    answers = predictors[best].predict(test_x)
    return LinearProbe(
        accuracy=float(accuracy_score(test_y, answers)),
        balanced_accuracy=float(recall_score(test_y, answers, labels=np.unique(test_y), average="macro")),
        c=float(strengths[best]),
        val_accuracy=tuple(scores),
        majority=float(np.unique(test_y, return_counts=True)[1].max() / len(test_y)),
        uniform=1.0 / len(known),
        at_edge=len(strengths) > 1 and best in (0, len(strengths) - 1),
        converged=finished[best],
        correct=tuple((answers == test_y).tolist()),
    )


def _fit_each(
    train: NDArray[np.float64],
    train_labels: NDArray[Any],
    held: NDArray[np.float64],
    held_labels: NDArray[Any],
    strengths: Sequence[float],
    max_iterations: int,
) -> tuple[list[float], list[Pipeline], list[bool]]:
    """For each strength, ascending: accuracy on the held-out set, the classifier, whether it converged."""
    scaler = StandardScaler().fit(train)
    scores, predictors, finished = [], [], []
    for strength in strengths:
        model = LogisticRegression(C=strength, max_iter=max_iterations, tol=TOLERANCE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told by `converged`
            model.fit(scaler.transform(train), train_labels)
        predictors.append(make_pipeline(scaler, model))
        scores.append(float(accuracy_score(held_labels, predictors[-1].predict(held))))
        finished.append(bool(model.n_iter_.max() < max_iterations))
    return scores, predictors, finished


def _cross_validated(
    features: NDArray[np.float64],
    labels: NDArray[Any],
    groups: Sequence[str | int] | None,
    strengths: Sequence[float],
    max_iterations: int,
    seed: int,
) -> list[float]:
    """For each strength the mean accuracy over folds of train."""
    runs = [
        _fit_each(features[fit], labels[fit], features[held], labels[held], strengths, max_iterations)[0]
        for fit, held in _folds(features, labels, groups, seed)
    ]
    means: list[float] = np.mean(runs, axis=0).tolist()
    return means


def _folds(
    features: NDArray[np.float64], labels: NDArray[Any], groups: Sequence[str | int] | None, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Folds that keep groups whole and the classes in proportion, as far as both can be had."""
    units = np.arange(len(labels)) if groups is None else np.asarray(groups)
    if len(units) != len(labels):
        raise ValueError(f"{len(labels)} training videos but {len(units)} train_groups; give one group a video")
    fewest = int(np.unique(labels, return_counts=True)[1].min())
    number = min(FOLDS, len(np.unique(units)), fewest if groups is None else FOLDS)
    folds = []
    if number > 1:
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")  # it is in fewer folds
            folds = list(kind(number, shuffle=True, random_state=seed).split(features, labels, groups))
    if not folds or any(len(np.unique(labels[fit])) < 2 for fit, _ in folds):
        raise ValueError(
            "no val, and train cannot be cut into folds of two classes: it has too few groups, or a "
            "class with one video; give a val split, or more groups"
        )
    return folds
