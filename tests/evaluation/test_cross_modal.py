"""Cross-modal retrieval against a plain computation, and chance against random orders."""

from __future__ import annotations

import math

import numpy as np
import pytest

from selfsup.evaluation.cross_modal import DIRECTIONS, cross_modal

LABELS = ["a", "b", "a", "c", "b", "a", "c", "b", "a", "a"]


def test_figures_are_those_of_the_definition() -> None:
    matrix = np.random.default_rng(0).standard_normal((10, 10))
    found = cross_modal({"frame to sound": matrix}, LABELS, ks=(1, 3))["frame to sound"]
    own, recall, gains = [], [], []
    for query in range(10):
        order = sorted(range(10), key=lambda video: -matrix[query, video])
        own.append(order.index(query) < 3)
        others = [video for video in order if video != query]
        relevant = [LABELS[video] == LABELS[query] for video in others]
        recall.append(any(relevant[:3]))
        gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(relevant) if hit)
        gains.append(gain / sum(1 / math.log2(place + 2) for place in range(sum(relevant))))
    assert found.own[3] == pytest.approx(np.mean(own))
    assert found.recall[3] == pytest.approx(np.mean(recall))
    assert found.ndcg == pytest.approx(np.mean(gains))
    assert found.queries == 10


def test_chance_is_the_mean_of_random_orders() -> None:
    generator = np.random.default_rng(1)
    results = [
        cross_modal({"sound to frame": generator.random((10, 10))}, LABELS)["sound to frame"] for _ in range(300)
    ]
    first = results[0]
    for k in (1, 5):
        assert first.recall_chance[k] == pytest.approx(np.mean([of.recall[k] for of in results]), abs=0.03)
        assert first.own_chance[k] == pytest.approx(np.mean([of.own[k] for of in results]), abs=0.03)
    assert first.ndcg_chance == pytest.approx(np.mean([of.ndcg for of in results]), abs=0.01)


def test_a_perfect_match_and_a_constant_answer() -> None:
    classes = np.equal.outer(np.array(LABELS), np.array(LABELS)).astype(float)
    results = cross_modal({direction: classes + np.eye(10) for direction in DIRECTIONS}, LABELS)
    for direction, found in results.items():
        assert found.ndcg == 1.0
        assert found.recall[1] == 1.0
        assert found.own.get(1, 1.0) == 1.0
        assert bool(found.own) == (direction in ("frame to sound", "sound to frame"))
    constant = cross_modal({"frame to sound": np.zeros((10, 10))}, LABELS)["frame to sound"]
    assert constant.own[1] == 0.0
    assert constant.ndcg == pytest.approx(constant.ndcg_chance)


def test_without_labels_only_the_own_video_is_asked_for() -> None:
    found = cross_modal({"frame to sound": np.eye(3)}, [None, "a", "a"])["frame to sound"]
    assert found.own[1] == 1.0
    assert found.recall == {}
    assert found.ndcg is None


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="1 videos with frame and sound; retrieval needs two"):
        cross_modal({}, ["a"])
    with pytest.raises(ValueError, match=r"frame to sound: similarities of shape \(2, 3\) for 2 videos"):
        cross_modal({"frame to sound": np.zeros((2, 3))}, ["a", "b"])
