"""Figures: averaged and compared where that means something, and refused where not."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from selfsup.evaluation.answers import Answers
from selfsup.evaluation.bootstrap import accuracy_interval, paired_difference
from selfsup.evaluation.figure import Figure, compare, figure_of, mean_over_seeds
from tests.evaluation.test_protocol import PROTOCOL

VIDEOS = tuple(f"videos/{index:02}.mp4" for index in range(60))


def figure(seed: int, right: float = 0.7, grouped: bool = True, **changes: Any) -> Figure:
    """An accuracy on 60 videos of 12 sources."""
    correct = tuple((np.random.default_rng(seed).random(60) < right).astype(float).tolist())
    groups = tuple(f"source{index // 5}" for index in range(60)) if grouped else None
    answers = Answers(VIDEOS, correct, groups)
    return figure_of("linear probe", answers, 0.5, replace(PROTOCOL, seeds=(seed,), **changes))


def backwards(one: Figure) -> Figure:
    answers = one.answers
    assert answers is not None
    groups = None if answers.groups is None else answers.groups[::-1]
    return replace(one, answers=Answers(answers.videos[::-1], answers.correct[::-1], groups))


def test_an_accuracy_is_the_mean_of_its_answers() -> None:
    one = figure(0)
    assert one.answers is not None
    assert one.value == pytest.approx(np.mean(one.answers.correct))
    assert one.interval == accuracy_interval(one.answers.correct, one.answers.groups)
    assert one.interval is not None
    assert one.interval.unit == "group"
    alone = figure(0, grouped=False).interval
    assert alone is not None
    assert alone.unit == "video"


def test_a_mean_over_seeds_averages_within_videos() -> None:
    figures = [figure(0), backwards(figure(1, commit="abc")), figure(2, commit="def")]
    mean = mean_over_seeds(figures)
    assert mean.value == pytest.approx(np.mean([one.value for one in figures]))
    assert mean.seed_values == tuple(one.value for one in figures)
    assert mean.protocol == replace(PROTOCOL, seeds=(0, 1, 2), commit="abc, def")
    assert mean.chance == 0.5
    runs = [figure(seed).answers for seed in range(3)]
    correct = np.array([run.correct for run in runs if run is not None])
    assert mean.interval == accuracy_interval(correct, runs[0].groups if runs[0] else None)
    assert mean.answers is not None
    assert mean.answers.correct == pytest.approx(correct.mean(axis=0))


def test_figures_without_answers_have_a_mean_without_an_interval() -> None:
    ranks = [
        Figure("effective rank", value, None, None, replace(PROTOCOL, seeds=(s,))) for s, value in enumerate([3, 5])
    ]
    mean = mean_over_seeds(ranks)
    assert (mean.value, mean.interval, mean.chance, mean.seed_values) == (4, None, None, (3, 5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "val"}, "cannot be averaged: split is 'test' in one and 'val' in the other"),
        ({"level": "clip"}, "level is 'video' in one and 'clip' in the other"),
        ({"label_fraction": 0.1}, "label_fraction is 1.0 in one and 0.1 in the other"),
        ({"clips": 1}, "clips is 10 in one and 1 in the other"),
        ({"decoder_version": "3.1"}, "decoder_version is '3.0' in one and '3.1' in the other"),
        ({"videos_refused": 3}, "videos_refused is 1 in one and 3 in the other"),
        ({"checksum": None}, "checksum is '0123456789abcdef' in one and None in the other"),
        ({"version": "9.9"}, "version is '.*' in one and '9.9' in the other"),
    ],
)
def test_unlike_protocols_are_not_averaged(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"figure 'linear probe' .*{message}"):
        mean_over_seeds([figure(0), figure(1, **changes)])


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (
            {"task": {"lr": 0.1, "freeze": "all"}},
            {"task": {"lr": 0.2, "freeze": "all"}},
            "settings.task.lr is 0.1 in one",
        ),
        ({"task": {"lr": None}}, {"task": {}}, "settings.task.lr is None in one and 'absent' in the other"),
        (
            {"epochs": 4, "a": [1]},
            {"epochs": 4, "a": {"b": 1}},
            r"settings.a is \[1\] in one and {'b': 1} in the other",
        ),
        ("by hand", {"epochs": 4}, "settings is 'by hand' in one and {'epochs': 4} in the other"),
    ],
)
def test_of_unlike_settings_the_first_is_named(one: Any, other: Any, message: str) -> None:
    texts = [value if isinstance(value, str) else json.dumps(value) for value in (one, other)]
    with pytest.raises(ValueError, match=f"cannot be averaged: {message}"):
        mean_over_seeds([figure(seed, settings=text) for seed, text in enumerate(texts)])


def test_other_things_that_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no figure to average"):
        mean_over_seeds([])
    with pytest.raises(ValueError, match=r"one of the seeds \[0, 0\] comes twice"):
        mean_over_seeds([figure(0), figure(0)])
    with pytest.raises(ValueError, match="'linear probe' and '1-NN' are of unlike names"):
        mean_over_seeds([figure(0), replace(figure(1), name="1-NN")])


def test_a_comparison_is_the_paired_difference_whatever_the_order_of_videos() -> None:
    a, b = figure(0, right=0.9), figure(1, right=0.5, clips=1)
    found = compare(a, backwards(b))
    assert a.answers is not None
    assert b.answers is not None
    assert found.interval == paired_difference(a.answers.correct, b.answers.correct, a.answers.groups)
    assert found.interval.estimate == pytest.approx(a.value - b.value)
    assert (found.a, found.b, found.unlike) == (a.value, b.value, ("clips", "seeds"))
    assert compare(mean_over_seeds([a, figure(2)]), b).interval.excludes_zero()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "other"}, "cannot be compared: dataset is 'surv_fight' in one and 'other' in the other"),
        ({"checksum": "fedc"}, "checksum is"),
        ({"split": "val"}, "split is 'test' in one and 'val' in the other"),
        ({"level": "clip"}, "level is 'video' in one and 'clip' in the other"),
    ],
)
def test_unlike_protocols_are_not_compared(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(figure(0), figure(1, **changes))


def test_other_things_that_have_no_difference() -> None:
    one = figure(0)
    with pytest.raises(ValueError, match="are of unlike names"):
        compare(one, replace(one, name="1-NN"))
    with pytest.raises(ValueError, match="has no answers video by video"):
        compare(one, replace(one, answers=None))
    assert one.answers is not None
    fewer = Answers(VIDEOS[:-2], one.answers.correct[:-2])
    with pytest.raises(ValueError, match=r"60 videos in one and 58 in the other, of which 2 .* as videos/58.mp4"):
        compare(one, figure_of("linear probe", fewer, 0.5, one.protocol))
    with pytest.raises(ValueError, match="the groups of its videos differ"):
        compare(one, figure(1, grouped=False))


def test_answers_and_values_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="2 videos, 1 answers and 2 groups"):
        Answers(("a", "b"), (1.0,))
    with pytest.raises(ValueError, match="the video 'a' is named twice"):
        Answers(("a", "a"), (1.0, 0.0))
    with pytest.raises(ValueError, match=r"some lie outside \[0, 1\]"):
        Answers(("a",), (float("nan"),))
    with pytest.raises(ValueError, match=r"its value is 0.9 but that of its answers 0.5"):
        Figure("f", 0.9, None, None, PROTOCOL, Answers(("a", "b"), (1.0, 0.0)))
    with pytest.raises(ValueError, match="is not finite"):
        Figure("f", float("nan"), None, None, PROTOCOL)
