"""Learning-rate schedules over a known number of steps, for the `schedule` block of a task."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup_fraction: float = 0.1) -> LambdaLR:
    """Rises linearly over `warmup_fraction` of the steps, then falls to zero along a half cosine
    (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts)."""
    warmup = max(1, round(warmup_fraction * total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))

    return LambdaLR(optimizer, factor)


def staircase(
    optimizer: Optimizer, total_steps: int, at_fractions: Sequence[float] = (0.8,), gamma: float = 0.1
) -> LambdaLR:
    """Multiplies the learning rate by `gamma` at each of `at_fractions` of the steps."""
    return LambdaLR(optimizer, lambda step: gamma ** sum(step >= fraction * total_steps for fraction in at_fractions))
