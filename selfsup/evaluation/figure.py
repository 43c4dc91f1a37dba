"""A figure: a number, its interval, what chance gets, and how it was measured; and what may be done with several."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from selfsup.evaluation.answers import Answers, Draws
from selfsup.evaluation.bootstrap import Interval
from selfsup.evaluation.protocol import FIELDS, Protocol

# Runs that are averaged may differ in these; runs that are compared must agree in those.
MAY_DIFFER = ("seeds", "commit")
MUST_AGREE = ("dataset", "checksum", "split", "level")
ABSENT = "absent"  # a setting of one record alone


@dataclass(frozen=True)
class Figure:
    """One number of an evaluation.

    Args:
        name: what was measured, as "linear probe" or "linear probe, untrained encoder"; figures of one name compare.
        value: a share, or what the name says.
        interval: of the value; None where it has none, as an effective rank.
        chance: what an ignorant answer gets; None where there is no such thing.
        protocol: how it was measured.
        answers: video by video, or draw by draw of a figure that is no mean over videos; None where it has no interval.
        seed_values: in a mean over seeds, the value of each.

    Raises:
        ValueError: a value that is not finite, or that is not the mean of its answers.
    """

    name: str
    value: float
    interval: Interval | None
    chance: float | None
    protocol: Protocol
    answers: Answers | Draws | None = None
    seed_values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.value, self.chance or 0.0, *self.seed_values)):
            raise ValueError(f"figure {self.name!r}: its value {self.value} or chance {self.chance} is not finite")
        if self.answers is not None and abs(self.value - self.answers.value) > 1e-6:
            raise ValueError(
                f"figure {self.name!r}: its value is {self.value:g} but that of its answers {self.answers.value:g}; "
                f"give answers with figures that come of them, and none with others"
            )


def figure_of(name: str, answers: Answers | Draws, chance: float | None, protocol: Protocol) -> Figure:
    """The value of `answers`, with a 95 % interval over their groups, or over videos where they have none."""
    return Figure(name, answers.value, answers.interval(), chance, protocol, answers)


def mean_over_seeds(figures: Sequence[Figure]) -> Figure:
    """The mean of figures that differ in nothing but their seeds (and commits, which it lists).

    The interval is drawn anew over videos, or their groups, each video's answers averaged over the seeds, or each
    draw; it is None where a figure has no answers. `seed_values` has the values.

    Raises:
        ValueError: no figure, unlike names or protocols, one seed twice, or unlike videos.
    """
    if not figures:
        raise ValueError("no figure to average; give one a seed")
    first = figures[0]
    for other in figures[1:]:
        if other.name != first.name:
            raise ValueError(f"figures {first.name!r} and {other.name!r} are of unlike names; average those of one")
        field = first.protocol.unlike(other.protocol, [name for name in FIELDS if name not in MAY_DIFFER])
        if field is not None:
            raise _refusal("averaged", first, other, field)
    seeds = [seed for figure in figures for seed in figure.protocol.seeds]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"figure {first.name!r}: one of the seeds {seeds} comes twice; give each run once")
    commits = dict.fromkeys(figure.protocol.commit for figure in figures if figure.protocol.commit)
    answers = None
    if all(figure.answers is not None for figure in figures):
        answers = _of_both(first.name, [figure.answers for figure in figures], lambda one, *rest: one.averaged(rest))
    chances = [figure.chance for figure in figures if figure.chance is not None]
    values = tuple(figure.value for figure in figures)
    return Figure(
        name=first.name,
        value=float(np.mean(values)),
        interval=None if answers is None else answers.interval(),
        chance=float(np.mean(chances)) if chances else None,
        protocol=replace(first.protocol, seeds=tuple(seeds), commit=", ".join(commits) or None),
        answers=answers,
        seed_values=values,
    )


@dataclass(frozen=True)
class Difference:
    """`a` minus `b` of one figure on the same videos; `unlike` are the fields in which their protocols differ."""

    name: str
    a: float
    b: float
    interval: Interval
    unlike: tuple[str, ...]


def compare(a: Figure, b: Figure) -> Difference:
    """The paired difference of two figures of one name on the same videos, with its 95 % interval.

    It is drawn over groups where the answers have them, else over videos.

    Raises:
        ValueError: unlike names, data sets, splits, levels, videos or groups, or a figure without answers.
    """
    if a.name != b.name:
        raise ValueError(f"figures {a.name!r} and {b.name!r} are of unlike names; compare those of one")
    field = a.protocol.unlike(b.protocol, MUST_AGREE)
    if field is not None:
        raise _refusal("compared", a, b, field)
    return Difference(
        name=a.name,
        a=a.value,
        b=b.value,
        interval=_of_both(a.name, [a.answers, b.answers], lambda one, other: one.minus(other)),
        unlike=tuple(name for name in FIELDS if a.protocol.unlike(b.protocol, [name])),
    )


def _refusal(what: str, a: Figure, b: Figure, field: str) -> ValueError:
    values = [getattr(figure.protocol, field) for figure in (a, b)]
    if field == "settings":
        field, *values = _unlike_setting(*values)
    return ValueError(
        f"figure {a.name!r} cannot be {what}: {field} is {values[0]!r} in one and {values[1]!r} in the other; "
        f"evaluate both alike"
    )


def _unlike_setting(a: str, b: str) -> tuple[str, Any, Any]:
    """The first setting, by its dotted name, in which two unlike records differ, and what it is in each."""
    name, one, other = "settings", _parsed(a), _parsed(b)
    while isinstance(one, dict) and isinstance(other, dict):
        unlike = [key for key in one.keys() | other.keys() if one.get(key, ABSENT) != other.get(key, ABSENT)]
        key = min(unlike)
        name, one, other = f"{name}.{key}", one.get(key, ABSENT), other.get(key, ABSENT)
    return name, one, other


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # a record may hold any text
        return text


def _of_both(name: str, answers: Sequence[Answers | Draws | None], join: Callable[..., Any]) -> Any:
    """What `join` makes of answers of one kind; ValueError, naming the figure, where they are not, or do not fit."""
    if None in answers or len({type(one) for one in answers}) > 1:
        raise ValueError(
            f"figure {name!r} has no answers video by video on one side, so no paired difference; evaluate again "
            f"where it is an accuracy"
        )
    try:
        return join(*answers)
    except ValueError as error:
        raise ValueError(f"figure {name!r}: {error}") from error
