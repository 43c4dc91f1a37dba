"""Runs a function over many items on the nodes of a Ray cluster, any of which may be lost on the way.

Ray (Moritz et al. 2018, arXiv 1712.05889) starts an actor a core; each holds one process of `OneProcess`, so that a
file that crashes or hangs a decoder is told from a machine that is gone. What a lost node held is done by another.

An optional dependency: `pip install 'selfsup[ray]'`, on every node, as selfsup itself. Items name files by their paths,
so inputs, caches and outputs have to lie where all nodes see them.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

from selfsup.data.processes import Item, OneProcess, Outcome

LOST_NODES = 3  # an item whose nodes were lost so often is given up: it may be what ends them
_START_SECONDS = 300.0  # of a first actor, on a cluster that has to start machines


def run_on_ray(
    function: Callable[[Item], Any], items: Iterable[Item], *, processes: int, timeout_seconds: float
) -> Iterator[Outcome[Item]]:
    """As `run_in_processes`, on the cluster that RAY_ADDRESS names, or that this machine is a node of.

    Takes a core a process: of all nodes, up to `processes`. Nodes that join while it runs are used too.

    Raises ValueError where Ray is not installed or no cluster is found, OSError where it has no core to give.
    """
    ray = _connect()
    cluster = _Cluster(ray, function, timeout_seconds)
    waiting, lost = deque(enumerate(items)), Counter[int]()
    try:
        while waiting or cluster.at_work:
            cluster.grow(min(processes, len(waiting) + cluster.at_work))
            cluster.hand_out(waiting)
            for position, item, outcome in cluster.ended():
                if outcome is not None:
                    yield Outcome(item, outcome.value, outcome.failure, outcome.timed_out)
                elif lost[position] + 1 < LOST_NODES:
                    lost[position] += 1
                    waiting.appendleft((position, item))
                else:
                    yield Outcome(item, failure=f"{LOST_NODES} nodes were lost that held it")
    finally:
        cluster.end()


class _Cluster:
    """The actors, and what each is at."""

    def __init__(self, ray: ModuleType, function: Callable[[Any], Any], timeout_seconds: float) -> None:
        self.ray = ray
        self.arguments = (function, timeout_seconds)
        self.start = ray.remote(num_cpus=1, max_restarts=0)(OneProcess).remote
        self.starting: dict[Any, Any] = {}  # actors by the reference that comes when they are there
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, int, Any]] = {}  # actor, position and item by the reference of its outcome
        self.served = time.monotonic()  # when an actor was last there

    @property
    def at_work(self) -> int:
        """Items that actors hold."""
        return len(self.busy)

    def grow(self, wanted: int) -> None:
        """Asks for actors, as far as living nodes have cores. An item is given to none that is not there yet."""
        cores = sum(node["Resources"].get("CPU", 0) for node in self.ray.nodes() if node["Alive"])
        while len(self.starting) + len(self.idle) + len(self.busy) < min(wanted, int(cores)):
            actor = self.start(*self.arguments)
            self.starting[actor.ready.remote()] = actor

    def hand_out(self, waiting: deque[tuple[int, Any]]) -> None:
        """Gives waiting items to idle actors."""
        while waiting and self.idle:
            actor, (position, item) = self.idle.pop(), waiting.popleft()
            self.busy[actor.run.remote(item)] = (actor, position, item)

    def ended(self) -> Iterator[tuple[int, Any, Outcome[Any] | None]]:
        """Position and item of what ended within a second, and its outcome, or None where its node was lost."""
        done, _ = self.ray.wait([*self.busy, *self.starting], num_returns=1, timeout=1.0)
        for reference in done:
            if reference in self.starting:
                actor = self.starting.pop(reference)
                if self._answer(reference) is not None:
                    self.idle.append(actor)
                    self.served = time.monotonic()
                continue
            actor, position, item = self.busy.pop(reference)
            outcome = self._answer(reference)
            if outcome is not None:
                self.idle.append(actor)
            self.served = time.monotonic()
            yield position, item, outcome
        if not self.busy and time.monotonic() - self.served > _START_SECONDS:
            raise OSError(
                f"the Ray cluster had no core to give for {_START_SECONDS:g} s; end what else runs on it, or add nodes"
            )
        if not done and not self.busy and not self.starting:
            time.sleep(0.5)  # no node is alive: one may join

    def end(self) -> None:
        """Ends all actors and the processes that they hold."""
        for actor in [*self.starting.values(), *self.idle, *(actor for actor, _, _ in self.busy.values())]:
            self.ray.kill(actor)

    def _answer(self, reference: Any) -> Any:
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayActorError:  # its machine, or Ray's process there, is gone
            return None


def _connect() -> ModuleType:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ValueError("data.executor=ray needs the ray package: pip install 'selfsup[ray]'") from error
    if not ray.is_initialized():
        try:
            ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
        except ConnectionError as error:
            raise ValueError(
                "data.executor=ray: no Ray cluster is found; start one with `ray start --head`, or name one by "
                "RAY_ADDRESS"
            ) from error
    return ray
