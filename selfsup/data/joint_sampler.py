"""Several questions to one video: the example has a part for each, and a video that one of them refuses has the others.

A part named NAME lies in the example, and in a batch of such examples, under "NAME/clip" and so on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from selfsup.data.audio_policy import AudioPolicy
from selfsup.data.executors import Executor
from selfsup.data.index import VideoInfo
from selfsup.data.processes import run_in_processes
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import ClipSampler, Prepared, PreparedSampler, SoundSampler

Value = TypeVar("Value")


@dataclass(frozen=True)
class JointSampler:
    """The questions of `parts`, each with chance of its own.

    Args:
        parts: by name.
        audio: which videos those of them that hear leave out; None: none but those that they refuse themselves.
    """

    parts: Mapping[str, ClipSampler]
    audio: AudioPolicy | None = None

    def refusals(self, info: VideoInfo) -> dict[str, str]:
        """Why a question cannot be asked of this video, by the name of its part."""
        reasons = {name: self._refusal(part, info) for name, part in self.parts.items()}
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def refuse(self, info: VideoInfo) -> str | None:
        """Why not one question can be asked, or None."""
        reasons = self.refusals(info)
        if len(reasons) < len(self.parts):
            return None
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        refused = self.refusals(info)
        seeds = torch.randint(2**62, (len(self.parts),), generator=generator).tolist()
        asked = {
            name: part(video, info, torch.Generator().manual_seed(seed))
            for seed, (name, part) in zip(seeds, self.parts.items(), strict=True)
            if name not in refused
        }
        return together(asked)

    def _refusal(self, part: ClipSampler, info: VideoInfo) -> str | None:
        unheard = self.audio.refuse(info) if self.audio is not None and isinstance(part, SoundSampler) else None
        return unheard or part.refuse(info)


@dataclass(frozen=True)
class PreparedJointSampler(JointSampler):
    """A joint sampler with parts that are `PreparedSampler`s."""

    def prepare(
        self,
        infos: Sequence[VideoInfo],
        *,
        processes: int,
        progress: Callable[[int, int], None] | None = None,
        executor: Executor = run_in_processes,
    ) -> Prepared:
        """See `PreparedSampler`; what is refused is left to the part's own `refuse`, since others may take it."""
        parts = [part for part in self.parts.values() if isinstance(part, PreparedSampler)]
        how: dict[str, Any] = {"processes": processes, "progress": progress, "executor": executor}
        first, *others = [part.prepare(infos, **how) for part in parts]
        rejected = Counter(first.rejected)
        for other in others:
            rejected.update(other.rejected)
        return replace(
            first,
            refused={},
            fit=first.fit + sum(other.fit for other in others),
            rejected=rejected,
            made=first.made + sum(other.made for other in others),
        )


def joint_sampler(parts: Mapping[str, ClipSampler], audio: AudioPolicy | None) -> JointSampler:
    """The joint sampler of these parts, one that prepares where any of them does."""
    prepared = any(isinstance(part, PreparedSampler) for part in parts.values())
    return (PreparedJointSampler if prepared else JointSampler)(parts, audio)


def apart(example: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """The parts of an example or batch by name; "" is the name of what lies in no part."""
    parts: dict[str, dict[str, Value]] = {}
    for key, value in example.items():
        name, _, own = key.rpartition("/")
        parts.setdefault(name, {})[own] = value
    return parts


def together(parts: Mapping[str, Mapping[str, Value]]) -> dict[str, Value]:
    """The inverse of `apart`."""
    return {f"{name}/{own}" if name else own: value for name, part in parts.items() for own, value in part.items()}
