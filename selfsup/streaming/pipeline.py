"""Depth-parallel: the sub-networks of an encoder run at the same time, each on another frame.

Massively parallel video networks (Carreira, Pătrăucean, Mazaré, Zisserman and Osindero 2018, arXiv 1806.03863, section
3): at each tick sub-network 1 takes the new frame, and every other one what the sub-network before it gave at the last
tick. Frames come through as fast as the slowest sub-network; features are n - 1 frames old.

Axes: C channels, H height, W width, D features, n sub-networks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor, nn

from selfsup.encoders.encoder import Encoder
from selfsup.encoders.sub_networks import Part, check_clocks, cut, joined, runs, units
from selfsup.streaming.stream import frame_encoder

CUTS = ("seconds", "multiply_adds")
MEASUREMENTS = 5  # of each unit, of which the shortest counts


class _Maps(NamedTuple):
    """The output (1, D, H, W) of a sub-network, and on a GPU the event after which it may be read."""

    maps: Tensor
    ready: torch.cuda.Event | None


class DepthParallel:
    """A thread a sub-network, with one intra-op thread each: PyTorch lets go of the interpreter inside its operations.

    `step` gives the features of frame t - (n - 1), the very numbers of the encoder on that frame with one thread, and
    returns while shallower sub-networks are still at work on newer frames; none is ever more than one tick behind. On a
    GPU each sub-network has a CUDA stream of its own (written with care, and not tested: no GPU was at hand).

    What a sub-network raises, `step` raises, at the latest one tick later, and the stream has ended. The threads end
    with `close`, with the `with` block, or with the last reference to the stream.

    Args:
        encoder: 2-D; it is put into evaluation mode.
        sub_networks: n; 1 is the encoder, frame by frame, on one thread.
        cut: where: balanced by the "seconds" of CPU time that each layer or block takes on the first frame (on a GPU as
            the other), by "multiply_adds", or numbers of layers or blocks, as [5, 4].
        clocks: of each sub-network: with a clock of c it runs at every c-th tick and holds its output between. See
            `frames_seen`. None: all 1.
        skip_connections: append to the features the newest outputs of the other sub-networks, each averaged over space:
            (D_n + D_1 + … + D_n-1, H', W'). Not with a cut by "seconds", which differs from run to run.

    Attributes:
        networks: the n sub-networks, once the first frame is there.
        threads: the workers, one a sub-network.

    Raises:
        ValueError: a 3-D encoder, more sub-networks than layers or blocks, or a cut or clocks that it cannot have.
    """

    def __init__(
        self,
        encoder: Encoder,
        sub_networks: int = 2,
        cut: str | Sequence[int] = "seconds",
        clocks: Sequence[int] | None = None,
        skip_connections: bool = False,
    ) -> None:
        self.encoder = frame_encoder(encoder)
        self.units = units(self.encoder)
        self.clocks = check_clocks(clocks, sub_networks)
        self.skip_connections = skip_connections
        self.networks: list[nn.Sequential] = []
        if skip_connections and cut == "seconds":
            raise ValueError(
                "cut=seconds differs from run to run, and a classifier with skip connections knows one cut; give "
                "cut=multiply_adds, as it was trained with"
            )
        self.by_seconds = cut == "seconds" and next(self.encoder.parameters()).device.type == "cpu"
        self._take(_parts(self.units, sub_networks, cut))
        self.threads = [ThreadPoolExecutor(1, thread_name_prefix="depth-parallel") for _ in range(sub_networks)]
        threads = torch.get_num_threads()
        for thread in self.threads:
            thread.submit(_one_thread).result()
        torch.set_num_threads(threads)  # what a worker sets is also the default of threads that start later
        self.queues = [torch.cuda.Stream() if self._on_gpu() else None for _ in range(sub_networks)]
        self.reset()

    def __enter__(self) -> DepthParallel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads; what they are at is finished first."""
        for thread in self.threads:
            thread.shutdown(cancel_futures=True)

    def reset(self) -> None:
        """Forgets what it has seen."""
        self.time, self.work, self.lag_frames = 0, 0.0, len(self.clocks) - 1
        self.outputs: list[Future[_Maps] | None] = [None] * len(self.clocks)
        self.seen = [-1] * len(self.clocks)

    @torch.no_grad()
    def step(self, frame: Tensor) -> Tensor | None:
        """Frame (C, H, W) to the feature map (D, H', W') of frame t - (n - 1); None for the first n - 1 frames."""
        self.encoder.check(frame[None, :, None])
        if self.by_seconds:
            costs = self.threads[0].submit(_seconds, self.units, frame).result()
            self._take(cut(self.units, len(self.clocks), costs))
            self.by_seconds = False
        try:
            before = self.outputs
            self._tick(frame)
            for output in before:
                if output is not None:
                    output.result()
            if self.outputs[-1] is None:
                return None
            maps = _here(self.outputs[-1])
            return self._with_fresh(maps)[0] if self.skip_connections else maps[0]
        except BaseException:
            self.close()
            raise

    def _take(self, parts: Sequence[Part]) -> None:
        self.networks = [part.network for part in parts]
        whole = sum(part.multiply_adds for part in parts)
        self.shares = [part.multiply_adds / whole for part in parts]

    def _tick(self, frame: Tensor) -> None:
        """Starts every sub-network whose clock ticks."""
        given, newest = _ready(frame[None]), self.time
        outputs, seen, self.work = list(self.outputs), list(self.seen), 0.0
        for place, clock in enumerate(self.clocks):
            source = given if place == 0 else self.outputs[place - 1]
            if source is not None and runs(self.time, place, clock):
                thread, network, queue = self.threads[place], self.networks[place], self.queues[place]
                outputs[place] = thread.submit(_run, network, source, queue)
                seen[place] = newest if place == 0 else self.seen[place - 1]
                self.work += self.shares[place]
        self.outputs, self.seen = outputs, seen
        if seen[-1] >= 0:
            self.lag_frames = self.time - seen[-1]
        self.time += 1

    def _with_fresh(self, maps: Tensor) -> Tensor:
        """Maps (1, D, H', W') and beside them the means of the other outputs of this tick."""
        means = [_here(output).mean(dim=(2, 3), keepdim=True) for output in self.outputs[:-1] if output is not None]
        return torch.cat([maps, *(mean.expand(-1, -1, *maps.shape[2:]) for mean in means)], dim=1)

    def _on_gpu(self) -> bool:
        return next(self.encoder.parameters()).is_cuda


def _parts(parts: Sequence[Part], count: int, where: str | Sequence[int]) -> list[Part]:
    """The sub-networks; those of a cut by time are found once there is a frame."""
    if isinstance(where, str):
        if where not in CUTS:
            raise ValueError(f"cut is {where!r}; give {', '.join(CUTS)}, or numbers of layers or blocks, as [5, 4]")
        return cut(parts, count)
    if len(where) != count:
        raise ValueError(f"cut is {list(where)}, and sub_networks {count}; give a number for each sub-network")
    return joined(parts, where)


def _one_thread() -> None:
    """Sets the number of intra-op threads of the calling thread."""
    torch.get_num_threads()  # takes over the default, which the first operation would else put in place of the 1
    torch.set_num_threads(1)


@torch.no_grad()
def _seconds(parts: Sequence[Part], frame: Tensor) -> list[float]:
    """CPU time of this thread in each part, which other work on the machine hardly changes."""
    found, maps = [], frame[None]
    for part in parts:
        after, times = part.network(maps), []
        for _ in range(MEASUREMENTS):
            start = time.thread_time()
            part.network(maps)
            times.append(time.thread_time() - start)
        found.append(min(times))
        maps = after
    return found


def _run(network: nn.Module, source: Future[_Maps], queue: torch.cuda.Stream | None) -> _Maps:
    """One tick of a sub-network, in its thread."""
    given = source.result()
    with torch.no_grad():
        if queue is None:
            return _Maps(network(given.maps), None)
        with torch.cuda.stream(queue):
            if given.ready is not None:
                queue.wait_event(given.ready)
            given.maps.record_stream(queue)  # its memory is not taken again before this stream is done with it
            return _Maps(network(given.maps), queue.record_event())


def _ready(maps: Tensor) -> Future[_Maps]:
    """What is there already, as a sub-network's output."""
    ready: Future[_Maps] = Future()
    ready.set_result(_Maps(maps, torch.cuda.current_stream().record_event() if maps.is_cuda else None))
    return ready


def _here(output: Future[_Maps]) -> Tensor:
    """An output, to be read in the caller's thread and CUDA stream."""
    maps, ready = output.result()
    if ready is not None:
        here = torch.cuda.current_stream()
        here.wait_event(ready)
        maps.record_stream(here)
    return maps
