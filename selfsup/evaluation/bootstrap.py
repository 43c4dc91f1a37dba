"""How far chance in the choice of test videos moves an accuracy: percentile intervals by the bootstrap.

Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13. Videos of one source or speaker fail
together; where groups are known, whole groups are drawn (the cluster bootstrap: Davison and Hinkley 1997, Bootstrap
Methods and their Application, section 3.8), and the interval is as wide as that.

With few groups the interval is too narrow: see `accuracy_interval` for how much was measured.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
_CELLS = 4_000_000  # numbers held at a time: 32 MB


@dataclass(frozen=True)
class Interval:
    """`estimate`, and the bounds between which it lies with the given confidence.

    `units` were drawn anew `resamples` times: videos, or groups of them.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    unit: Literal["video", "group"]
    units: int
    resamples: int

    def excludes_zero(self) -> bool:
        """Whether zero lies outside the bounds."""
        return self.low > 0 or self.high < 0


def accuracy_interval(
    correct: ArrayLike,
    groups: Sequence[str | int | None] | NDArray[Any] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of `correct` and its interval over draws of videos, or of whole groups.

    With few groups it is too narrow. On 1,500 simulated sets a number of groups (20 videos a group, of which a mean of
    60 % are right, correlated by 0.2 within a group), the 95 % interval held the truth in 78 % with 3 groups, 85 %
    with 5, 91 % with 10, 94 % with 20 and 94 % with 40; drawn over videos instead, in 62 to 65 %.

    Args:
        correct: (V,) for each video whether it was answered rightly, or the share of right answers in [0, 1]; or
            (S, V), of S training seeds on the same videos, averaged within each video. The interval then tells how
            the mean over seeds depends on the videos; it does not hold the spread of the seeds.
        groups: V groups; None or blank is a group of its own. Every video keeps the same weight.
        confidence: of the interval, in (0, 1).
        resamples: draws of the bootstrap.
        seed: of the draws; the same arguments give the same interval.

    Raises:
        ValueError: arrays that do not fit, numbers outside [0, 1], fewer than two videos or groups.
    """
    return _interval(_per_video(correct, "correct"), groups, confidence, resamples, seed)


def paired_difference(
    correct_a: ArrayLike,
    correct_b: ArrayLike,
    groups: Sequence[str | int | None] | NDArray[Any] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Accuracy of `a` minus that of `b` on the same videos in the same order, and its interval.

    Both are drawn together, so what makes a video hard for both cancels. Each may have training seeds of its own
    number, (S, V), which are averaged within a video first. Else as `accuracy_interval`.
    """
    a, b = _per_video(correct_a, "correct_a"), _per_video(correct_b, "correct_b")
    if len(a) != len(b):
        raise ValueError(f"correct_a has {len(a)} videos but correct_b {len(b)}; give the same videos in one order")
    return _interval(a - b, groups, confidence, resamples, seed)


def _per_video(correct: ArrayLike, name: str) -> NDArray[np.float64]:
    """(V,) or (S, V) to (V,), the mean over seeds."""
    values = np.asarray(correct, dtype=np.float64)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"{name} has shape {values.shape}; give (videos,) or (seeds, videos), at least one of each")
    if not ((values >= 0) & (values <= 1)).all():  # false for what is not a number, too
        raise ValueError(f"{name} has values outside [0, 1]; give for each video whether it is right, 0 or 1")
    return values if values.ndim == 1 else values.mean(axis=0)


def statistic_draws(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    videos: int,
    groups: Sequence[str | int | None] | NDArray[Any] | None = None,
    *,
    cells: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """What a statistic that is no mean over videos comes to in each draw of them, (resamples,).

    Of two runs on the same videos in the same order, draws of one seed are of the same videos, so their differences
    are paired.

    Args:
        statistic: from how often each video is drawn, (R, V), to its values, (R,).
        videos: V.
        groups: as in `accuracy_interval`.
        cells: numbers that `statistic` holds at a time for a draw, beside those of the V videos.
        resamples, seed: as in `accuracy_interval`.
    """
    unit_of_video, units = _numbered(videos, groups)
    drawn = _times(units, resamples, seed, max(units, videos, cells))
    return np.concatenate([statistic(times[:, unit_of_video]) for times in drawn])


def interval_of_draws(
    estimate: float,
    draws: NDArray[np.float64],
    videos: int,
    groups: Sequence[str | int | None] | NDArray[Any] | None = None,
    *,
    confidence: float = 0.95,
) -> Interval:
    """Percentile interval of draws of V videos, or of their groups, as `statistic_draws` gives them."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: choose a share between 0 and 1, such as 0.95")
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail]).tolist()
    unit: Literal["video", "group"] = "video" if groups is None else "group"
    return Interval(estimate, low, high, confidence, unit, _numbered(videos, groups)[1], len(draws))


def _interval(
    values: NDArray[np.float64],
    groups: Sequence[str | int | None] | NDArray[Any] | None,
    confidence: float,
    resamples: int,
    seed: int,
) -> Interval:
    rows, units = _numbered(len(values), groups)
    sizes = np.bincount(rows).astype(np.float64)
    sums = np.bincount(rows, weights=values).astype(np.float64)
    means = [(times @ sums) / (times @ sizes) for times in _times(units, resamples, seed, units)]
    return interval_of_draws(float(values.mean()), np.concatenate(means), len(values), groups, confidence=confidence)


def _times(units: int, resamples: int, seed: int, cells: int) -> Iterator[NDArray[np.int64]]:
    """How often each unit is drawn, in draws with replacement of as many units as there are: (draws, units) at a time.

    The draws hang on neither `cells` nor how many come at a time.
    """
    if resamples < 1:
        raise ValueError(f"resamples={resamples}: choose at least 1, better {RESAMPLES}")
    generator = np.random.default_rng(seed)
    together = max(1, _CELLS // cells)
    for start in range(0, resamples, together):
        yield generator.multinomial(units, np.full(units, 1 / units), size=min(together, resamples - start))


def _numbered(videos: int, groups: Sequence[str | int | None] | NDArray[Any] | None) -> tuple[NDArray[np.int64], int]:
    """The unit of resampling of each video, and how many units there are: two or more."""
    rows = np.arange(videos)
    if groups is not None:
        if len(groups) != videos:
            raise ValueError(f"{videos} videos but {len(groups)} groups; give one group a video")
        numbers: dict[Any, int] = {}
        keys = (("video", row) if group in (None, "") else group for row, group in enumerate(groups))
        rows = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    units = int(rows.max()) + 1
    if units < 2:
        unit = "video" if groups is None else "group"
        raise ValueError(
            f"the answers are of {units} {unit}: a bootstrap draws among two {unit}s or more; test on more"
            + ("" if groups is None else ", or leave out the groups")
        )
    return rows, units
