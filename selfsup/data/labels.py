"""What an example is told of its video: its one class, or the classes that are seen in each of its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from selfsup.data.listing import Span

ROUNDING_SECONDS = 1e-3  # tables have few decimals: a span from 0.333 holds the frame at 1/3 s


class Labels(Protocol):
    """What is known of the videos of one split."""

    def of(self, number: int, example: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the example of video `number` is told; empty where that cannot be said of this example."""
        ...


@dataclass(frozen=True)
class VideoLabels:
    """ "label", int64 (), the class of the video; `numbers` holds that of each."""

    numbers: Sequence[int]

    def of(self, number: int, example: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"label": torch.tensor(self.numbers[number])}


@dataclass(frozen=True)
class FrameLabels:
    """ "label", float32 (T, K): 1 for each class that is seen in a frame, by "times_seconds" (T,) of the example.

    Nothing where the sampler does not say when its frames are shown. `spans` holds those of each video, of labels that
    are among the K `classes`.
    """

    spans: Sequence[Sequence[Span]]
    classes: Sequence[str]

    def of(self, number: int, example: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if "times_seconds" not in example:
            return {}
        return {"label": multi_hot(self.spans[number], self.classes, example["times_seconds"])}


def multi_hot(spans: Sequence[Span], classes: Sequence[str], times_seconds: Tensor) -> Tensor:
    """Times (T,) of frames to float32 (T, K): 1 where a span of the class has start ≤ time < stop, else 0.

    Times are compared to the millisecond. Spans of one class may overlap. KeyError for a label that is no class.
    """
    places = {label: place for place, label in enumerate(classes)}
    times = times_seconds.double()
    target = torch.zeros(len(times), len(classes))
    for start, stop, label in spans:
        inside = (times >= start - ROUNDING_SECONDS) & (times < stop - ROUNDING_SECONDS)
        target[inside, places[label]] = 1.0
    return target
