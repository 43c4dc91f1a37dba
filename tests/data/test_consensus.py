"""Consensus voting against a dense computation that follows the paper word for word."""

import numpy as np
import pytest
from numpy.typing import NDArray

from selfsup.data.consensus import Consensus, without_small_blobs, without_weak_blobs
from selfsup.data.superpixels import Regions

FRAMES, A_FRAME = 7, 12
SETTINGS = Consensus(radius_frames=2, neighbours_a_frame=2, variance=0.5, iterations=10, rounds=5)


@pytest.fixture
def regions() -> Regions:
    """Seven frames of twelve superpixels, each of 2 x 2 pixels."""
    one = np.arange(A_FRAME).reshape(3, 4).repeat(2, axis=0).repeat(2, axis=1)
    starts = np.arange(FRAMES) * A_FRAME
    return Regions(one + starts[:, None, None], starts)


def dense_graph(descriptors: NDArray[np.float32], settings: Consensus) -> NDArray[np.float64]:
    """One superpixel after another, with loops and full sorting."""
    count, frame = len(descriptors), np.arange(len(descriptors)) // A_FRAME
    weights = np.zeros((count, count))
    for number in range(count):
        near = np.flatnonzero(np.abs(frame - frame[number]) <= settings.radius_frames)
        apart = ((descriptors[near].astype(float) - descriptors[number]) ** 2).sum(axis=1)
        most = settings.neighbours_a_frame * (2 * settings.radius_frames + 1)
        for place in np.argsort(apart)[:most]:
            weights[number, near[place]] = np.exp(-apart[place] / settings.variance)
        weights[number, number] = 1
    return weights / weights.sum(axis=1, keepdims=True)


def test_graph_and_votes_are_those_of_a_dense_computation(regions: Regions) -> None:
    generator = np.random.default_rng(0)
    descriptors = generator.random((FRAMES * A_FRAME, 5)).astype(np.float32)
    dense = dense_graph(descriptors, SETTINGS)
    graph = SETTINGS.graph(descriptors, regions.frame_numbers)
    assert np.abs(graph.toarray() - dense).max() < 1e-5
    votes = start = generator.random(len(descriptors))
    for _ in range(SETTINGS.iterations):
        votes = dense @ votes
        votes = (votes.reshape(FRAMES, -1) / votes.reshape(FRAMES, -1).max(axis=1, keepdims=True)).ravel()
    assert np.abs(SETTINGS.vote(start, graph, regions) - votes).max() < 1e-4


def test_a_frame_without_a_vote_is_won_over_by_the_others(regions: Regions) -> None:
    """The same object in every frame; one frame's saliency missed it."""
    looks = np.zeros((FRAMES, A_FRAME, 1), np.float32)
    looks[:, 5:7] = 3
    votes = np.zeros((FRAMES, A_FRAME))
    votes[:3, 5:7] = votes[4:, 5:7] = 1
    graph = SETTINGS.graph(looks.reshape(-1, 1), regions.frame_numbers)
    found = SETTINGS.vote(votes.ravel(), graph, regions).reshape(FRAMES, A_FRAME)
    assert found[3, 5:7].min() > 0.9
    assert np.delete(found, [5, 6], axis=1).max() == 0


def test_no_votes_stay_none(regions: Regions) -> None:
    graph = SETTINGS.graph(np.random.default_rng(0).random((len(regions), 3)).astype(np.float32), regions.frame_numbers)
    assert not SETTINGS.vote(np.zeros(len(regions)), graph, regions).any()


def test_weak_and_small_blobs_are_lowered() -> None:
    mask = np.zeros((1, 10, 20), np.float32)
    mask[0, 2:8, 1:7] = 0.95
    mask[0, 2:5, 9:12] = 0.75
    mask[0, 2:8, 14:19] = 0.8
    weak = without_weak_blobs(mask, 0.7, 0.78)
    assert weak[0, 3, 10] == pytest.approx(0.175)
    small = without_small_blobs(mask, 0.7, 0.6)
    assert small[0, 3, 10] == pytest.approx(0.7)
    for kept in (weak, small):
        assert kept[0, 3, 3] == pytest.approx(0.95)
        assert kept[0, 3, 15] == pytest.approx(0.8)
    assert mask[0, 3, 10] == 0.75  # what was given is as it was
