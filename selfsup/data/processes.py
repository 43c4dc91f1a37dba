"""Runs a function over many items in processes that may crash or hang without taking the caller with them.

`concurrent.futures` gives up on all items when one worker dies and cannot end one that hangs in native code.
Decoders do both on broken files.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
_IMPORT_SECONDS = 60.0


@dataclass
class Outcome(Generic[Item]):
    """What became of one item: its `value`, or the `failure` of the process that held it, or that was too slow."""

    item: Item
    value: Any = None
    failure: str | None = None
    timed_out: bool = False


class _Worker:
    """One process, one pipe, at most one item in flight."""

    def __init__(self, function: Callable[[Any], Any], timeout_seconds: float) -> None:
        # Fork would copy the caller's threads' locks; spawn imports afresh.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.timeout_seconds = timeout_seconds
        self.item: Any = None
        self.busy = False
        self.fresh = True
        self.deadline = float("inf")

    def give(self, item: Any) -> None:
        self.item, self.busy = item, True
        self.deadline = time.monotonic() + self.timeout_seconds + (_IMPORT_SECONDS if self.fresh else 0.0)
        with contextlib.suppress(BrokenPipeError):  # `answer` will tell that it died
            self.pipe.send(item)

    def answer(self) -> Outcome[Any] | None:
        """What became of the item in flight, or None where it is not known yet."""
        try:
            if self.pipe.poll():
                outcome: Outcome[Any] = Outcome(self.item, value=self.pipe.recv())
                self.busy = self.fresh = False
                return outcome
        except (EOFError, OSError):  # OSError where it died before it read the item, or in the middle of its answer
            self.process.join(timeout=5.0)
            return Outcome(self.item, failure=f"its process died (exit code {self.process.exitcode})")
        if time.monotonic() >= self.deadline:
            return Outcome(self.item, failure=f"no answer within {self.timeout_seconds:g} s", timed_out=True)
        return None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class OneProcess:
    """One process that takes items one by one, and is replaced where one crashes it or does not answer in time."""

    def __init__(self, function: Callable[[Any], Any], timeout_seconds: float) -> None:
        self.function, self.timeout_seconds = function, timeout_seconds
        self.worker = _Worker(function, timeout_seconds)

    def ready(self) -> bool:
        """True: it is there."""
        return True

    def run(self, item: Any) -> Outcome[Any]:
        """What became of the item; it takes as long as that."""
        if not self.worker.process.is_alive():
            self._replace()
        self.worker.give(item)
        while (outcome := self.worker.answer()) is None:
            wait([self.worker.pipe], timeout=max(0.0, self.worker.deadline - time.monotonic()))
        if outcome.failure is not None:
            self._replace()
        return outcome

    def _replace(self) -> None:
        self.worker.end()
        self.worker = _Worker(self.function, self.timeout_seconds)


def _serve(function: Callable[[Any], Any], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, who ends this process
    while True:
        try:
            item = pipe.recv()
        except (EOFError, OSError):  # the caller has gone
            return
        value = function(item)
        try:
            pipe.send(value)
        except (BrokenPipeError, ConnectionResetError):  # it was killed meanwhile, and no one asks any more
            return


def run_in_processes(
    function: Callable[[Item], Any], items: Iterable[Item], *, processes: int, timeout_seconds: float
) -> Iterator[Outcome[Item]]:
    """Yields an `Outcome` an item, in the order in which they end.

    `function` is importable and returns a picklable value; its own errors are its own to catch. An item whose
    process dies, or does not answer within `timeout_seconds`, comes back with a `failure`, and a new process takes
    the next item. The first item of a process is given a minute more, for the imports.
    """
    queue = iter(items)
    workers = [_Worker(function, timeout_seconds) for _ in range(processes)]
    try:
        while True:
            for position, worker in enumerate(workers):
                if worker.busy:
                    continue
                if not worker.process.is_alive():  # it died after its last answer: no fault of the next item
                    worker.end()
                    workers[position] = worker = _Worker(function, timeout_seconds)
                for item in queue:
                    worker.give(item)
                    break
            busy = [worker for worker in workers if worker.busy]
            if not busy:
                return
            patience = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
            wait([worker.pipe for worker in busy], timeout=patience)
            for position, worker in enumerate(workers):
                if not worker.busy:
                    continue
                outcome = worker.answer()
                if outcome is None:
                    continue
                if outcome.failure is not None:
                    worker.end()
                    workers[position] = _Worker(function, timeout_seconds)
                yield outcome
    finally:
        for worker in workers:
            worker.end()
