"""Intervals: do they hold the truth as often as they say, and do they agree with scipy's?"""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from selfsup.evaluation.bootstrap import accuracy_interval, paired_difference


def test_the_interval_holds_a_binomial_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        interval = accuracy_interval(random.random(150) < 0.7, resamples=500, seed=trial)
        held += interval.low <= 0.7 <= interval.high
    # 300 trials of 0.95: standard deviation 0.013
    assert 0.91 <= held / 300 <= 0.985


def test_with_groups_it_is_wide_enough_and_without_too_narrow() -> None:
    """Groups of 10 videos that mostly fail or succeed together; the truth is 0.6."""
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 10)
    held = {"group": 0, "video": 0}
    for trial in range(200):
        chances = random.beta(1.2, 0.8, size=40)
        correct = random.random(400) < chances[groups]
        for how in (None, groups):
            interval = accuracy_interval(correct, how, resamples=300, seed=trial)
            held[interval.unit] += interval.low <= 0.6 <= interval.high
    assert held["group"] / 200 > 0.9
    assert held["video"] / 200 < 0.85


def test_a_paired_difference_holds_the_truth() -> None:
    random = np.random.default_rng(2)
    held = narrower = 0
    for trial in range(200):
        ease = random.random(200)  # one video is hard for both
        a, b = random.random(200) < ease**0.5, random.random(200) < ease  # means 2/3 and 1/2
        interval = paired_difference(a, b, resamples=500, seed=trial)
        held += interval.low <= 1 / 6 <= interval.high
        unpaired = 2 * 1.96 * ((a.var() + b.var()) / 200) ** 0.5
        narrower += interval.high - interval.low < unpaired
    assert held / 200 > 0.9
    assert narrower / 200 > 0.9


def test_intervals_agree_with_scipy() -> None:
    random = np.random.default_rng(3)
    a, b = random.random(300) < 0.7, random.random(300) < 0.6
    ours = accuracy_interval(a, seed=5)
    theirs = stats.bootstrap((a,), np.mean, n_resamples=10_000, method="percentile", random_state=5)
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, abs=0.004)
    ours = paired_difference(a, b, seed=5, confidence=0.9)
    theirs = stats.bootstrap(
        (a, b),
        lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis),
        paired=True,
        n_resamples=10_000,
        confidence_level=0.9,
        method="percentile",
        random_state=5,
    )
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, abs=0.004)
    assert ours.estimate == pytest.approx(a.mean() - b.mean())


def test_groups_agree_with_scipy_on_groups_of_unlike_sizes() -> None:
    """The accuracy is the ratio of two sums over groups, resampled in pairs."""
    random = np.random.default_rng(4)
    groups = np.repeat(np.arange(30), random.integers(1, 20, size=30))
    correct = random.random(len(groups)) < random.random(30)[groups]
    sums, sizes = np.bincount(groups, weights=correct), np.bincount(groups)
    theirs = stats.bootstrap(
        (sums, sizes),
        lambda sums, sizes, axis: sums.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True,
        n_resamples=10_000,
        method="percentile",
        random_state=0,
    )
    ours = accuracy_interval(correct, groups)
    assert ours.estimate == pytest.approx(correct.mean())
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, abs=0.006)
    assert (ours.unit, ours.units) == ("group", 30)


def test_the_same_seed_gives_the_same_interval_and_the_order_of_videos_does_not_matter() -> None:
    random = np.random.default_rng(5)
    a, b = random.random((2, 90)) < 0.5
    groups = [f"speaker{index // 10}" for index in range(90)]
    reference = paired_difference(a, b, groups, seed=1)
    assert paired_difference(a, b, groups, seed=1) == reference
    shares = random.random(90)
    assert accuracy_interval(shares, seed=2) != accuracy_interval(shares, seed=1)
    assert paired_difference(b, a, groups, seed=1).estimate == -reference.estimate
    inner = np.arange(90).reshape(9, 10)[:, ::-1].ravel()  # groups in the order of their first video
    assert paired_difference(a[inner], b[inner], groups, seed=1) == reference


def test_seeds_of_training_are_averaged_within_a_video() -> None:
    random = np.random.default_rng(6)
    runs = random.random((3, 80)) < 0.6
    assert accuracy_interval(runs) == accuracy_interval(runs.mean(axis=0))
    assert accuracy_interval(runs[:1]) == accuracy_interval(runs[0])
    unlike = paired_difference(runs, runs[0])  # three seeds against one
    assert unlike.estimate == pytest.approx(runs.mean() - runs[0].mean())
    # Repeating a run adds no information, so the interval must not shrink.
    assert accuracy_interval(np.repeat(runs[:1], 10, axis=0)) == accuracy_interval(runs[0])


def test_videos_without_a_group_stand_alone() -> None:
    correct = np.random.default_rng(7).random(40) < 0.5
    alone = accuracy_interval(correct, [None, ""] * 20)
    assert (alone.low, alone.high, alone.units) == (*_bounds(accuracy_interval(correct)), 40)


def test_equal_runs_differ_by_nothing() -> None:
    correct = np.arange(50) % 3 == 0
    same = paired_difference(correct, correct)
    assert (same.estimate, same.low, same.high, same.excludes_zero()) == (0, 0, 0, False)
    assert paired_difference(np.ones(50), np.zeros(50)).excludes_zero()
    assert paired_difference(np.zeros(50), np.ones(50)).excludes_zero()


def test_many_videos_are_drawn_in_parts() -> None:
    """More counts than are held at a time; the width is that of the normal law."""
    correct = np.random.default_rng(8).random(9000) < 0.5
    interval = accuracy_interval(correct, resamples=1500)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.5 / 9000**0.5, rel=0.1)


def _bounds(interval: Any) -> tuple[float, float]:
    return interval.low, interval.high


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (([1.0, 2.0],), {}, r"correct has values outside \[0, 1\]"),
        (([1.0, float("nan")],), {}, r"correct has values outside \[0, 1\]"),
        ((np.zeros((1, 2, 3)),), {}, r"correct has shape \(1, 2, 3\)"),
        (([],), {}, r"correct has shape \(0,\)"),
        (([1.0],), {}, "the answers are of 1 video: a bootstrap draws among two videos or more"),
        (([1, 0, 1], ["a", "a", "a"]), {}, "the answers are of 1 group: .* or leave out the groups"),
        (([1, 0, 1], ["a", "b"]), {}, "3 videos but 2 groups"),
        (([1, 0, 1],), {"confidence": 95}, "confidence=95: choose a share between 0 and 1"),
        (([1, 0, 1],), {"resamples": 0}, "resamples=0: choose at least 1"),
    ],
)
def test_what_has_no_interval_is_refused(arguments: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accuracy_interval(*arguments, **changes)


def test_runs_on_unlike_videos_are_no_pair() -> None:
    with pytest.raises(ValueError, match="correct_a has 3 videos but correct_b 2"):
        paired_difference([1, 0, 1], [1, 0])
