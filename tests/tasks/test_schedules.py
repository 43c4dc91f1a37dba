"""Learning rates against their formulas, step by step."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.optim import SGD

from selfsup.tasks.schedules import staircase, warmup_cosine


def rates(schedule: Callable[..., Any], steps: int) -> list[float]:
    """The learning rate in each of `steps` steps, and the one after the last; the full one is 0.5."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = SGD([parameter], lr=0.5)
    scheduler = schedule(optimizer, total_steps=steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [*seen, optimizer.param_groups[0]["lr"]]


def test_warmup_cosine_rises_and_falls() -> None:
    seen = rates(partial(warmup_cosine, warmup_fraction=0.2), 20)
    assert seen[:4] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    expected = [0.25 * (1 + math.cos(math.pi * (step - 4) / 16)) for step in range(4, 21)]
    assert seen[4:] == pytest.approx(expected, abs=1e-9)
    assert seen[-2] > 0  # the last step still learns
    assert seen[-1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_warmup_cosine_holds_for_any_length(steps: int, fraction: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = rates(partial(warmup_cosine, warmup_fraction=fraction), steps)
    assert all(0 < rate <= 0.5 for rate in seen[:-1])
    assert max(seen) == pytest.approx(0.5)


def test_staircase_multiplies_at_each_fraction() -> None:
    seen = rates(partial(staircase, at_fractions=(0.5, 0.9), gamma=0.1), 10)
    assert seen == pytest.approx([0.5] * 5 + [0.05] * 4 + [0.005] * 2)


def test_staircase_by_default_falls_once() -> None:
    assert rates(staircase, 5) == pytest.approx([0.5] * 4 + [0.05] * 2)
