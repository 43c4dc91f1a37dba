"""How well the classes of sounds are told from features of short windows, by folds that somebody else has dealt."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from selfsup.evaluation.features import check_known

LEAST_FOLDS = 3  # one to test on, one to choose by, one to learn from
COEFFICIENTS = 20
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class Folds:
    """`correct[i]` tells whether clip i was told rightly when its fold was held out; by fold the accuracy and the C."""

    correct: tuple[bool, ...]
    accuracy: dict[str, float]
    strengths: dict[str, float]


def windows(waveform: Tensor, window: int, hop: int) -> Tensor:
    """Waveform (N,) to windows (W, window), `hop` samples apart; a shorter one is filled with silence."""
    return F.pad(waveform, (0, max(0, window - len(waveform)))).unfold(0, window, hop)


def statistics(bands: Tensor) -> Tensor:
    """Bands (B, F, S) to their means and deviations over time, (B, 2 F)."""
    return torch.cat([bands.mean(dim=2), bands.std(dim=2)], dim=1)


def cepstrum(log_mel: Tensor) -> Tensor:
    """Log mel bands (B, F, S) to their first 20 cosine coefficients, MFCC (Davis & Mermelstein 1980), (B, 20, S)."""
    return torch.from_numpy(dct(log_mel.numpy(), axis=1, norm="ortho")[:, :COEFFICIENTS])


def tell_by_folds(
    features: NDArray[np.float32],
    clips: NDArray[np.int64],
    labels: Sequence[str],
    folds: Sequence[str],
    strengths: Sequence[float],
) -> Folds:
    """Multinomial logistic regression on windows; a clip's answer is the class of the highest mean log probability.

    Each fold is held out once. The strength is the one with which the other folds but the next tell the next best, the
    smallest of equal ones; then all others are learned from. Nothing of a fold is seen before it is told.

    Args:
        features: of the windows, (W, D).
        clips: the number of each window's clip, (W,).
        labels, folds: of each clip.
        strengths: scikit-learn's C, the inverse of the weight of the L2 penalty against the summed loss.

    Raises:
        ValueError: fewer than three folds, no strength above 0, or a class that some fold alone holds.
    """
    if not strengths or min(strengths) <= 0:
        raise ValueError(f"strengths {tuple(strengths)}: give at least one C above 0")
    names = sorted(set(folds), key=lambda name: (len(name), name))
    if len(names) < LEAST_FOLDS:
        raise ValueError(f"{len(names)} folds; choosing a strength and testing it takes {LEAST_FOLDS} or more")
    of_clip, classes = np.asarray(folds), np.asarray(labels)
    correct = np.zeros(len(labels), bool)
    chosen, accuracy = {}, {}
    for place, name in enumerate(names):
        inner = names[(place + 1) % len(names)]
        held, choose = of_clip == name, of_clip == inner
        for part, what in ((held, name), (choose, inner)):
            check_known(np.unique(classes[~held & ~part]), classes[part], "training folds'", f"fold {what}'s")
        scores = [
            _right(_fitted(features, clips, classes, ~held & ~choose, c), features, clips, classes, choose).mean()
            for c in sorted(strengths)
        ]
        chosen[name] = float(sorted(strengths)[int(np.argmax(np.round(scores, 12)))])
        model = _fitted(features, clips, classes, ~held, chosen[name])
        correct[held] = _right(model, features, clips, classes, held)
        accuracy[name] = float(correct[held].mean())
    return Folds(tuple(correct.tolist()), accuracy, chosen)


def _fitted(
    features: NDArray[np.float32], clips: NDArray[np.int64], classes: NDArray, taken: NDArray[np.bool_], c: float
) -> Pipeline:
    rows = taken[clips]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=MAX_ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak penalties; the inner fold judges them as they are
        return model.fit(features[rows], classes[clips[rows]])


def _right(
    model: Pipeline,
    features: NDArray[np.float32],
    clips: NDArray[np.int64],
    classes: NDArray,
    asked: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """For each clip that is asked, in their order, whether it is told rightly."""
    rows = asked[clips]
    margins = model.decision_function(features[rows])
    if margins.ndim == 1:  # of two classes scikit-learn tells the second's alone
        margins = np.stack([np.zeros_like(margins), margins], axis=1)
    scores = np.zeros((len(asked), len(model.classes_)))
    np.add.at(scores, clips[rows], log_softmax(margins, axis=1) / np.bincount(clips)[clips[rows], None])
    return model.classes_[scores[asked].argmax(axis=1)] == classes[asked]
