"""Clockwork: each stage of an encoder has a clock, and its map is held while the clock does not tick.

Shelhamer, Rakelly, Hoffman and Darrell 2016, arXiv 1608.03609, sections 4 and 5: deep features change more slowly than
shallow ones, and need not be computed as often. Their network adds the scores of shallow and deep stages, old or new;
here that part is `skip` (see `LinearSkip`), as the encoders have no scores.

Axes: C channels, H height, W width, D features, K classes, S stages.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from selfsup.encoders.encoder import Encoder
from selfsup.streaming.change import changed_share, relative_change
from selfsup.streaming.stream import frame_encoder, stage_shares


class _Seen(NamedTuple):
    """The map (1, D, H, W) of a stage, the number of the frame that it is of, and what was watched of that frame."""

    map: Tensor
    time: int
    watched: Tensor | None = None
    scores: Tensor | None = None


class Clockwork:
    """Runs each stage when its clock ticks; its map is held for the frames between.

    A stage runs on every n-th frame, n its period, and where it has no map yet. Three kinds of clock, which may be
    joined:

    - fixed rates: `periods`, as [1, 1, 1, 2] (alternating) or [1, 2, 4, 8] (exponential);
    - pipelined: a stage after a cut reads what the one before it gave on the previous frame, so that the parts
      between the cuts can run at the same time;
    - adaptive: with a threshold, the stages after the watched one run only where there has been so much change since
      the frame that the last map is of. That is the last updated frame, not the previous one, so that a slow drift is
      not missed. It cannot be joined with cuts, which would leave an update halfway.

    What is compared are the classes of `scores` where these are given; else, with `skip`, the last map and its
    estimate; else the watched map then and now.

    `work` counts the stages that ran, `scores` and `skip`, by their multiply-adds. The comparison of maps has none.

    Args:
        encoder: 2-D; it is put into evaluation mode.
        periods: of the first stages, one or more, each at least as long as the one before; the last one is also that
            of all stages that follow. With [1] this is the encoder itself, frame by frame.
        cuts: numbers of stages, each the number that lie before a cut.
        watched_stages: the watched map is that after so many stages; 0: the frame itself.
        threshold: None: fixed rates alone. Else the share of places whose class has changed, in [0, 1], or the relative
            change ||new - old|| / ||old|| of maps; at 0 every frame is an update.
        scores: maps the watched map (1, D, H, W) to scores (1, K, H, W) of K classes.
        skip: (watched map now, watched map of the frame that the last map is of, last map) to the estimate that is
            given out in place of a held last map.

    Raises:
        ValueError: a 3-D encoder, or periods, cuts, a stage or a threshold that it cannot have.
    """

    def __init__(
        self,
        encoder: Encoder,
        periods: Sequence[int] = (1, 1, 1, 2),
        cuts: Sequence[int] = (),
        watched_stages: int = 2,
        threshold: float | None = None,
        scores: nn.Module | None = None,
        skip: nn.Module | None = None,
    ) -> None:
        self.encoder = frame_encoder(encoder)
        self.stages = list(self.encoder.stages)
        _check(self.encoder.stage_names, periods, cuts, watched_stages, threshold)
        self.periods = [periods[min(number, len(periods) - 1)] for number in range(len(self.stages))]
        self.cuts = frozenset(cuts)
        self.watched_stages = watched_stages
        self.threshold = threshold
        self.scores = scores.eval() if scores is not None else None
        self.skip = skip.eval() if skip is not None else None
        self._costs: dict[torch.Size, list[float]] = {}  # by shape of the frame, of each stage
        self._extra: dict[tuple[nn.Module, torch.Size], float] = {}  # the same of `scores` and `skip`
        self.reset()

    def reset(self) -> None:
        """Forgets what it has seen."""
        self.work, self.lag_frames, self.time = 0.0, 0, -1
        self.seen: list[_Seen | None] = [None] * len(self.stages)

    @torch.no_grad()
    def step(self, frame: Tensor) -> Tensor | None:
        """Frame (C, H, W) to the newest feature map (D, H', W'); None until a frame is through all cuts."""
        self.work, self.time = 0.0, self.time + 1
        before = list(self.seen)
        first = self._watched(_Seen(frame[None], self.time), 0, frame)
        now = self._run(range(self.watched_stages), first, before, frame)
        estimate = self._estimate(now, frame) if self.threshold is not None else None
        if self._has_changed(now, estimate):
            self._run(range(self.watched_stages, len(self.stages)), now, before, frame)
        last = self.seen[-1]
        if last is None:
            return None
        self.lag_frames = self.time - last.time
        if last is not before[-1] or estimate is None:
            estimate = self._estimate(now, frame)
        return (last.map if estimate is None else estimate)[0]

    def _run(self, numbers: range, newest: _Seen | None, before: Sequence[_Seen | None], frame: Tensor) -> _Seen | None:
        """Runs those of some stages whose clock ticks, and returns what the last of them holds then."""
        if frame.shape not in self._costs:
            self._costs[frame.shape] = stage_shares(self.stages, frame)
        for number in numbers:
            source = before[number - 1] if number in self.cuts else newest
            ticks = self.time % self.periods[number] == 0 or self.seen[number] is None
            if source is not None and ticks:
                self.work += self._costs[frame.shape][number]
                made = source._replace(map=self.stages[number](source.map))
                self.seen[number] = self._watched(made, number + 1, frame)
            newest = self.seen[number]
        return newest

    def _watched(self, made: _Seen, stages: int, frame: Tensor) -> _Seen:
        """A map after so many stages, with what is watched of it where it is the one to be watched."""
        if stages != self.watched_stages:
            return made
        scores = None
        if self.scores is not None:
            self.work += self._share(self.scores, frame, made.map)
            scores = self.scores(made.map)
        return made._replace(watched=made.map, scores=scores)

    def _has_changed(self, now: _Seen | None, estimate: Tensor | None) -> bool:
        """Whether the stages after the watched one are to run, by the frame that the last map is of."""
        last = self.seen[-1]
        if self.threshold is None or last is None:
            return True
        assert now is not None
        assert now.watched is not None
        assert last.watched is not None
        if now.scores is not None and last.scores is not None:
            return changed_share(now.scores, last.scores) >= self.threshold
        if self.skip is not None:
            return (0.0 if estimate is None else relative_change(estimate, last.map)) >= self.threshold
        return relative_change(now.watched, last.watched) >= self.threshold

    def _estimate(self, now: _Seen | None, frame: Tensor) -> Tensor | None:
        """What `skip` makes of the last map (1, D, H', W'); None where that is of this frame, or there is no skip."""
        last = self.seen[-1]
        if self.skip is None or now is None or last is None or now.watched is last.watched:
            return None
        assert now.watched is not None
        assert last.watched is not None
        inputs = (now.watched, last.watched, last.map)
        self.work += self._share(self.skip, frame, *inputs)
        return self.skip(*inputs)

    def _share(self, module: nn.Module, frame: Tensor, *inputs: Tensor) -> float:
        """What a module costs on these inputs, as a share of the encoder on the frame."""
        key = (module, frame.shape)
        if key not in self._extra:
            self._extra[key] = _multiply_adds(module, *inputs) / _multiply_adds(self.encoder.stages, frame[None])
        return self._extra[key]


def _multiply_adds(module: nn.Module, *inputs: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops()


def _check(
    names: Sequence[str], periods: Sequence[int], cuts: Sequence[int], watched_stages: int, threshold: float | None
) -> None:
    """Raises ValueError for a schedule that an encoder with stages of these names cannot have."""
    has = f"the encoder has {len(names)} stages ({', '.join(names)})"
    numbers = [periods] if isinstance(periods, int | float | str) else list(periods)
    if numbers == [periods] or not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"method.periods is {periods!r}; give a list of whole numbers, as [1, 1, 1, 2]")
    if not 1 <= len(periods) <= len(names):
        raise ValueError(f"method.periods has {len(periods)} numbers, but {has}; give one to {len(names)} of them")
    if min(periods) < 1 or sorted(periods) != list(periods):
        raise ValueError(
            f"method.periods is {list(periods)}; give whole numbers of at least 1, none below the one before: a stage "
            "that ran more often than the one before it would see the same map twice"
        )
    if wrong := [cut for cut in cuts if not 1 <= cut < len(names)]:
        raise ValueError(f"method.cuts holds {wrong[0]}, but {has}; give numbers from 1 to {len(names) - 1}")
    if not 0 <= watched_stages < len(names):
        raise ValueError(f"method.watched_stages is {watched_stages}, but {has}; give one from 0 to {len(names) - 1}")
    if threshold is not None and not threshold >= 0:
        raise ValueError(f"method.threshold is {threshold}; give a number of at least 0, or null for fixed rates")
    if threshold is not None and cuts:
        raise ValueError(
            f"method.threshold={threshold:g} and method.cuts={list(cuts)}: an update would stop at a cut; give one of "
            "the two"
        )
