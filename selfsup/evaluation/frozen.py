"""What a frozen encoder knows: all figures that features alone give, beside those of what knows less.

- an untrained encoder of the same architecture: what the architecture and the pixels give by themselves;
- frames in random order: what is left where time is destroyed;
- a single frame, repeated: what is left where nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfsup.data.controls import shuffled, single_frame
from selfsup.encoders.encoder import Encoder
from selfsup.evaluation.answers import Answers
from selfsup.evaluation.collapse import rankme
from selfsup.evaluation.features import Features, Reading
from selfsup.evaluation.figure import Figure, figure_of
from selfsup.evaluation.knn import choose_k, knn
from selfsup.evaluation.linear_probe import linear_probe
from selfsup.evaluation.protocol import Protocol
from selfsup.evaluation.retrieval import RetrievalProtocol, retrieval, vcop_vector

UNTRAINED, SHUFFLED, SINGLE = ", untrained encoder", ", shuffled frames", ", single frame"
VCOP = " (vcop)"


@dataclass(frozen=True)
class Labelled:
    """The videos of a split: their names, labels and, where they have two or more, groups, in one order."""

    videos: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...] | None


def readings(
    encoder: Encoder, untrained: Encoder, normalize: Callable[[Tensor], Tensor], **how: Any
) -> dict[str, Reading]:
    """What is read, by the end of the name of its figures. `how` is `stage` and `time` of `Reading`."""
    return {
        "": Reading(encoder, normalize, **how),
        UNTRAINED: Reading(untrained, normalize, **how),
        SHUFFLED: Reading(encoder, lambda clip: normalize(shuffled(clip)), **how),
        SINGLE: Reading(encoder, lambda clip: normalize(single_frame(clip)), **how),
        VCOP: Reading(encoder, normalize, how.get("stage"), vector=vcop_vector),
        VCOP + UNTRAINED: Reading(untrained, normalize, how.get("stage"), vector=vcop_vector),
    }


def frozen_figures(
    features: Mapping[str, Mapping[str, Features]],
    videos: Mapping[str, Labelled],
    protocol: Protocol,
    seed: int,
    held_out: str = "test",
) -> list[Figure]:
    """Linear probe, k-NN, retrieval by both protocols and effective rank of every reading.

    Args:
        features: by split and reading; rows in the order of `videos`.
        videos: by split, "train", "val" where there is one, and `held_out`.
        protocol: of the figures.
        seed: of the probe's folds where there is no val.
    """
    figures: list[Figure] = []
    test = videos[held_out]

    def add(name: str, correct: Sequence[bool], chance: float) -> None:
        answers = Answers(test.videos, tuple(float(right) for right in correct), test.groups)
        figures.append(figure_of(name, answers, chance, protocol))

    for end in features["train"]:
        values = {split: by_reading[end].values.numpy() for split, by_reading in features.items()}
        if end.startswith(VCOP):
            _add_recalls(add, values, videos, held_out, "vcop", end.removeprefix(VCOP))
            continue
        # Nothing is chosen on what is reported.
        train, val = values["train"], None if held_out == "val" else values.get("val")
        labels = {split: of.labels for split, of in videos.items()}
        probe = linear_probe(
            train,
            labels["train"],
            val,
            None if val is None else labels["val"],
            values[held_out],
            test.labels,
            seed,
            train_groups=videos["train"].groups,
        )
        add(f"linear probe{end}", probe.correct, probe.majority)
        k = choose_k(train, labels["train"], val, labels["val"]) if val is not None else 1
        nearest = knn(train, labels["train"], values[held_out], test.labels, k)
        add(f"k-NN{end}", nearest.correct, nearest.majority)
        _add_recalls(add, values, videos, held_out, "coclr", end)
        rank = rankme(torch.from_numpy(values[held_out]))
        figures.append(Figure(f"effective rank{end}", rank, None, None, protocol))
    return sorted(figures, key=lambda figure: _kind(figure.name))


def _kind(name: str) -> int:
    kinds = ("linear probe", "k-NN", "R@", "effective rank")
    return next(number for number, kind in enumerate(kinds) if name.startswith(kind))


def _add_recalls(
    add: Callable[[str, Sequence[bool], float], None],
    values: Mapping[str, np.ndarray],
    videos: Mapping[str, Labelled],
    held_out: str,
    protocol: RetrievalProtocol,
    end: str,
) -> None:
    found = retrieval(values["train"], videos["train"].labels, values[held_out], videos[held_out].labels, protocol)
    for k in found.recall:
        add(f"R@{k} ({protocol}){end}", found.correct(k), found.chance[k])
