"""Rankings of frames: their intervals and paired differences. Answers video by video are tested with figures."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from selfsup.evaluation.answers import RESAMPLES, Draws
from selfsup.evaluation.average_precision import mean_average_precision
from selfsup.evaluation.bootstrap import statistic_draws

Ranking = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.floating]]


def ranking(seed: int, videos: int = 12, frames: int = 10, classes: int = 3, skill: float = 1.0) -> Ranking:
    """Frames of a video are alike, as they are in life."""
    draw = np.random.default_rng(seed)
    video_of_frame = np.repeat(np.arange(videos), frames)
    truth = draw.random((videos, classes))[video_of_frame] + 0.3 * draw.random((videos * frames, classes)) > 0.75
    hard = draw.normal(size=(videos, classes))[video_of_frame]
    return video_of_frame, truth, skill * truth + hard + draw.normal(size=truth.shape)


def by_sklearn(truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.floating]) -> float:
    rows = weights > 0
    occur = [number for number in range(truth.shape[1]) if truth[rows, number].any()]
    return float(
        np.mean([average_precision_score(truth[rows, k], scores[rows, k], sample_weight=weights[rows]) for k in occur])
    )


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_mean_average_precision_is_that_of_scikit_learn(ties: bool) -> None:
    _, truth, scores = ranking(0)
    scores = scores.round() if ties else scores
    truth[:, 2] = False
    truth[3, 2] = True  # without weight in some draws, where the class does not count
    weights = np.random.default_rng(1).integers(0, 4, (25, len(truth)))
    expected = [by_sklearn(truth, scores, row) for row in weights]
    assert {bool(row[3]) for row in weights} == {True, False}
    np.testing.assert_allclose(mean_average_precision(truth, scores, weights), expected, atol=1e-12)


def test_where_no_class_has_weight_there_is_no_value() -> None:
    truth, scores = np.array([[True], [False]]), np.array([[1.0], [0.0]])
    values = mean_average_precision(truth, scores, np.array([[0, 1], [1, 1]]))
    assert np.isnan(values[0])
    assert values[1] == 1.0


@pytest.mark.parametrize("grouped", [False, True])
def test_each_draw_is_of_whole_videos_or_groups(grouped: bool) -> None:
    seen: list[NDArray[np.int64]] = []

    def statistic(times: NDArray[np.int64]) -> NDArray[np.float64]:
        seen.append(times)
        return times.sum(axis=1).astype(float)

    groups = ["a", "a", "b", "c", "c", "c"] if grouped else None
    draws = statistic_draws(statistic, 6, groups, resamples=50, seed=3)
    times = np.concatenate(seen)
    assert times.shape == (50, 6)
    assert draws.tolist() == times.sum(axis=1).tolist()
    if grouped:
        assert (times[:, 0] == times[:, 1]).all()
        assert (times[:, 3:] == times[:, 3:4]).all()
        assert (times[:, [0, 2, 3]].sum(axis=1) == 3).all()
    else:
        assert (times.sum(axis=1) == 6).all()
    few_at_a_time = statistic_draws(statistic, 6, groups, resamples=50, seed=3, cells=1_000_000)
    assert few_at_a_time.tolist() == draws.tolist()


def test_the_interval_holds_the_value_of_many_videos() -> None:
    """Of 40 sets of 25 videos, about 95 % of the intervals hold what 4,000 videos give."""
    (truth,) = mean_average_precision(*ranking(99, videos=4000, frames=4)[1:], np.ones((1, 16_000)))
    videos, held = [f"{number:02}" for number in range(25)], 0
    for seed in range(40):
        interval = Draws.of_ranking(videos, None, *ranking(seed, videos=25, frames=4)).interval()
        held += interval.low <= truth <= interval.high
        assert (interval.unit, interval.units, interval.confidence) == ("video", 25, 0.95)
    assert 32 <= held <= 40


def test_a_ranking_hangs_not_on_the_order_of_its_videos() -> None:
    videos = [f"{number:02}" for number in range(12)]
    groups = [name[0] + str(int(name) // 3) for name in videos]
    video_of_frame, truth, scores = ranking(0)
    one = Draws.of_ranking(videos, groups, video_of_frame, truth, scores)
    order = np.random.default_rng(0).permutation(12)
    place = np.argsort(order)
    other = Draws.of_ranking(
        [videos[number] for number in order], [groups[number] for number in order], place[video_of_frame], truth, scores
    )
    assert other == one
    assert one.value == pytest.approx(by_sklearn(truth, scores, np.ones(len(truth))), abs=1e-12)
    assert len(one.draws) == RESAMPLES
    assert one.interval().unit == "group"


def test_differences_are_paired_and_seeds_averaged() -> None:
    videos = [f"{number:02}" for number in range(12)]
    video_of_frame, truth, scores = ranking(0)
    better = scores + 0.2 * truth
    weak, strong = (Draws.of_ranking(videos, None, video_of_frame, truth, found) for found in (scores, better))
    difference = strong.minus(weak)
    assert difference.estimate == pytest.approx(strong.value - weak.value)
    assert difference.excludes_zero()
    assert difference.high - difference.low < (weak.interval().high - weak.interval().low) / 3
    assert weak.minus(weak).low == weak.minus(weak).high == 0
    mean = weak.averaged([strong])
    assert mean.value == pytest.approx((weak.value + strong.value) / 2)
    np.testing.assert_allclose(mean.draws, (np.array(weak.draws) + strong.draws) / 2)
    assert strong.minus(mean).estimate == pytest.approx(difference.estimate / 2)


def test_rankings_that_do_not_fit_are_refused() -> None:
    videos = [f"{number:02}" for number in range(12)]
    found = Draws.of_ranking(videos, None, *ranking(0))
    with pytest.raises(ValueError, match="12 videos in one and 12 in the other, of which 2 are in one alone, as 11"):
        found.minus(replace(found, videos=(*found.videos[:-1], "12")))
    with pytest.raises(ValueError, match="the groups of its videos differ"):
        found.minus(replace(found, groups=found.videos))
    with pytest.raises(ValueError, match="its frames differ in the classes"):
        found.minus(replace(found, draws=found.draws[1:]))
    video_of_frame, truth, scores = ranking(0)
    with pytest.raises(ValueError, match="no frame shows a class"):
        Draws.of_ranking(videos, None, video_of_frame, truth & False, scores)
    with pytest.raises(ValueError, match="the answers are of 1 video: a bootstrap draws among two"):
        Draws.of_ranking(["a"], None, 0 * video_of_frame, truth, scores)
