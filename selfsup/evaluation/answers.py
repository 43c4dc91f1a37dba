"""What lies behind a figure, video by video or draw by draw: from it come intervals and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from selfsup.evaluation.average_precision import mean_average_precision
from selfsup.evaluation.bootstrap import (
    Interval,
    accuracy_interval,
    interval_of_draws,
    paired_difference,
    statistic_draws,
)

RESAMPLES = 1000  # of a ranking, whose every draw is ranked anew


@dataclass(frozen=True)
class Answers:
    """Which videos were answered rightly: `correct[i]`, a share in [0, 1], is of the video named `videos[i]`.

    `groups` are theirs; None where intervals are to be drawn over videos. Raises ValueError for lengths that differ, a
    video named twice, or a share out of bounds.
    """

    videos: tuple[str, ...]
    correct: tuple[float, ...]
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        lengths = [len(self.videos), len(self.correct), len(self.videos if self.groups is None else self.groups)]
        if len(set(lengths)) > 1:
            raise ValueError("{} videos, {} answers and {} groups; give one of each a video".format(*lengths))
        if len(set(self.videos)) < len(self.videos):
            twice = next(video for video in self.videos if self.videos.count(video) > 1)
            raise ValueError(f"answers: the video {twice!r} is named twice; give each video one answer")
        if not all(0 <= share <= 1 for share in self.correct):
            raise ValueError("answers: some lie outside [0, 1]; give for each video the share of right answers")

    @property
    def value(self) -> float:
        """The share of right answers."""
        return float(np.mean(self.correct))

    def interval(self) -> Interval:
        """Of the value, at 95 %."""
        return accuracy_interval(self.correct, self.groups)

    def averaged(self, others: Sequence[Answers]) -> Answers:
        """With those of other seeds on the same videos: each video's mean."""
        correct = np.stack([np.array(self.correct), *(self._aligned(other) for other in others)]).mean(axis=0)
        return replace(self, correct=tuple(correct.tolist()))

    def minus(self, other: Answers) -> Interval:
        """The difference to others on the same videos, paired."""
        return paired_difference(self.correct, self._aligned(other), self.groups)

    def _aligned(self, other: Answers) -> NDArray[np.float64]:
        """The other's answers in the order of these videos."""
        rows = {video: row for row, video in enumerate(other.videos)}
        check_same_videos(self.videos, other.videos)
        order = [rows[video] for video in self.videos]
        if (None if other.groups is None else tuple(other.groups[row] for row in order)) != self.groups:
            raise ValueError("the groups of its videos differ; evaluate both with the same manifest")
        return np.array(other.correct)[order]


@dataclass(frozen=True)
class Draws:
    """What a figure that is no mean over videos came to in draws of them by the bootstrap.

    Draws of two runs on the same videos are of the same videos, one by one: see `statistic_draws`.

    Args:
        videos: V names, sorted.
        value: the figure itself.
        draws: its value in each draw; those in which it has none are left out.
        groups: V; None where videos were drawn.
    """

    videos: tuple[str, ...]
    value: float
    draws: tuple[float, ...]
    groups: tuple[str, ...] | None = None

    @classmethod
    def of_ranking(
        cls,
        videos: Sequence[str],
        groups: Sequence[str] | None,
        video_of_frame: NDArray[np.int64],
        truth: NDArray[np.bool_],
        scores: NDArray[np.floating],
    ) -> Draws:
        """Of the mean average precision of F frames of V videos, which all count alike.

        Args:
            videos, groups: V each.
            video_of_frame: int64 (F,), the row of each frame's video.
            truth, scores: (F, K), see `mean_average_precision`.

        Raises ValueError where fewer than two videos, or groups, can be drawn, or no frame shows a class.
        """
        if not truth.any():
            raise ValueError("no frame shows a class, so there is no ranking; test on more videos")
        by_name = np.argsort(np.array(videos), kind="stable")
        place = np.empty(len(videos), dtype=np.int64)
        place[by_name] = np.arange(len(videos))
        row = place[video_of_frame]
        names = tuple(videos[number] for number in by_name)
        grouped = None if groups is None else tuple(groups[number] for number in by_name)
        draws = statistic_draws(
            lambda times: mean_average_precision(truth, scores, times[:, row]),
            len(names),
            grouped,
            cells=len(row),
            resamples=RESAMPLES,
        )
        (value,) = mean_average_precision(truth, scores, np.ones((1, len(row)))).tolist()
        return cls(names, value, tuple(draws[~np.isnan(draws)].tolist()), grouped)

    def interval(self) -> Interval:
        """Of the value, at 95 %."""
        return interval_of_draws(self.value, np.array(self.draws), len(self.videos), self.groups)

    def averaged(self, others: Sequence[Draws]) -> Draws:
        """With those of other seeds on the same videos: the mean of each draw."""
        draws = np.stack([np.array(self.draws), *(self._paired(other) for other in others)]).mean(axis=0)
        value = float(np.mean([self.value, *(other.value for other in others)]))
        return replace(self, value=value, draws=tuple(draws.tolist()))

    def minus(self, other: Draws) -> Interval:
        """The difference to others on the same videos, draw by draw."""
        draws = np.array(self.draws) - self._paired(other)
        return interval_of_draws(self.value - other.value, draws, len(self.videos), self.groups)

    def _paired(self, other: Draws) -> NDArray[np.float64]:
        check_same_videos(self.videos, other.videos)
        if self.groups != other.groups:
            raise ValueError("the groups of its videos differ; evaluate both with the same manifest")
        if len(self.draws) != len(other.draws):
            raise ValueError("its frames differ in the classes that they show; evaluate both with the same manifest")
        return np.array(other.draws)


def check_same_videos(one: Sequence[str], other: Sequence[str]) -> None:
    """ValueError, with how many, where some videos are in one alone."""
    if only := sorted(set(one) ^ set(other)):
        raise ValueError(
            f"{len(one)} videos in one and {len(other)} in the other, of which {len(only)} are in one alone, as "
            f"{only[0]}; evaluate both on the same videos"
        )
