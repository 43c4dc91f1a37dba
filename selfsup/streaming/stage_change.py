"""How much the output of each stage changes from one frame of a stream to the next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from selfsup.encoders.encoder import Encoder
from selfsup.streaming.change import relative_change


class StageChange:
    """Watches an encoder at work: the relative change |f(t) - f(t-1)| / |f(t-1)| (L2) of each stage, averaged.

    Counted are the frames that a stage has seen, whoever asks it; a stage that is not run has no change.

    Args:
        encoder: of single frames.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._last: dict[str, Tensor] = {}
        self._sums = dict.fromkeys(encoder.stage_names, 0.0)
        self._counts = dict.fromkeys(encoder.stage_names, 0)
        self._hooks = [
            stage.register_forward_hook(self._watch(name)) for name, stage in encoder.stages.named_children()
        ]

    def means(self) -> dict[str, float]:
        """By stage, those that have seen two frames."""
        return {name: self._sums[name] / count for name, count in self._counts.items() if count}

    def close(self) -> None:
        """Watches no longer."""
        for hook in self._hooks:
            hook.remove()

    def _watch(self, name: str) -> Any:
        def seen(module: nn.Module, inputs: tuple[Tensor, ...], maps: Tensor) -> None:
            with torch.no_grad():
                last = self._last.get(name)
                if last is not None and last.shape == maps.shape and last.any():
                    self._sums[name] += relative_change(maps, last)
                    self._counts[name] += 1
                self._last[name] = maps

        return seen
