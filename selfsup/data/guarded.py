"""Batches from processes that may hang or crash on a video: the video is given up and named, and the batches go on.

A decoder can hang for ever in native code with the interpreter's lock held, where neither a thread nor a signal handler
of its process gets a turn; what helps is to kill the process. An example depends on its key alone, so that new
processes give the same batches, less the video.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, get_worker_info

LOOK_SECONDS = 1.0  # from one look at the processes to the next
DYING_SECONDS = 1.0  # from a broken connection until its process is known to be dead
PID, VIDEO, SINCE = range(3)  # columns; VIDEO is 0 where none is read, SINCE in nanoseconds


class Readers:
    """Which process reads which video, since when; in memory that all of them share.

    Args:
        count: of the processes.
    """

    def __init__(self, count: int) -> None:
        self.rows = torch.zeros(count, 3, dtype=torch.int64).share_memory_()

    @contextmanager
    def reading(self, video: int) -> Iterator[None]:
        """In a worker process: says that it reads this video while this lasts."""
        worker = get_worker_info()
        if worker is None:  # the main process
            yield
            return
        row = self.rows[worker.id]
        row[PID], row[SINCE] = os.getpid(), time.monotonic_ns()
        row[VIDEO] = video + 1
        try:
            yield
        finally:
            row[VIDEO] = 0

    def end_overdue(self, seconds: float) -> list[int]:
        """Kills the processes that have been reading one video for longer than that, and returns these videos."""
        before = time.monotonic_ns() - 1e9 * seconds
        living = {process.pid: process for process in multiprocessing.active_children()}
        found = []
        for pid, video, since in self.rows.tolist():
            if video and since < before and pid in living:
                found.append(video - 1)
                living[pid].kill()
        return found

    def of_the_dead(self) -> list[int]:
        """The videos that a process was reading when it died."""
        living = {process.pid for process in multiprocessing.active_children()}
        return [video - 1 for pid, video, _ in self.rows.tolist() if video and pid not in living]

    def end(self) -> None:
        """Kills all processes, and forgets them."""
        pids = self.rows[:, PID].tolist()
        for process in multiprocessing.active_children():
            if process.pid in pids:
                process.kill()
        self.rows.zero_()


class Guardable(Protocol):
    """A data set that says what it reads.

    Attributes:
        readers: to be told.
        given_up: the videos that are not to be read, and why.
    """

    readers: Readers
    given_up: dict[int, str]

    def name_of(self, video: int) -> str:
        """What to call a video in a message."""
        ...


class Untaken:
    """Batches of keys, less those at the start that were taken already."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches
        self.taken = 0

    @property
    def sampler(self) -> Any:
        """Where Lightning looks for `set_epoch`."""
        return getattr(self.batches, "sampler", None)

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.batches), self.taken, None)

    def __len__(self) -> int:
        assert isinstance(self.batches, Sized), "they can be counted"
        return len(self.batches)


class GuardedLoader(DataLoader):
    """A data loader whose processes may hang or crash on a video.

    With `num_workers` of 0 nothing can be done about either.

    Args:
        dataset: `Guardable`, where there are processes.
        batches: of keys.
        timeout_seconds: a video that one process reads for longer is given up.
        options: of `torch.utils.data.DataLoader`.
    """

    def __init__(self, dataset: Any, batches: Iterable[Any], timeout_seconds: float = math.inf, **options: Any) -> None:
        self.untaken = Untaken(batches)
        self.timeout_seconds = timeout_seconds
        self.readers = Readers(options.get("num_workers", 0))
        self.overdue: set[int] = set()
        if len(self.readers.rows):
            dataset.readers = self.readers
        super().__init__(dataset, batch_sampler=self.untaken, **options)

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        self.untaken.taken = 0
        ended = threading.Event()
        if len(self.readers.rows) and self.timeout_seconds < math.inf:
            threading.Thread(target=self._watch, args=(ended,), daemon=True).start()
        try:
            batches = self._begin()
            while True:
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                except Exception:  # of many kinds, by what was going on between two processes when one of them died
                    if not self._give_up():
                        raise
                    batches = self._begin()
                    continue
                self.untaken.taken += 1
                yield batch
        finally:
            ended.set()

    def _begin(self) -> Iterator[Any]:
        """Batches from new processes, or those of a persistent loader.

        PyTorch would raise in the middle of whatever runs when a process dies, and is asked to leave it to `next`.
        """
        if threading.current_thread() is not threading.main_thread():
            return super().__iter__()
        before = signal.getsignal(signal.SIGCHLD)
        batches = super().__iter__()
        signal.signal(signal.SIGCHLD, before)
        return batches

    def _watch(self, ended: threading.Event) -> None:
        """Ends what is overdue, in a thread: the main one may wait for a process that hangs to hand over a batch."""
        while not ended.wait(LOOK_SECONDS):
            self.overdue.update(self.readers.end_overdue(self.timeout_seconds))

    def _give_up(self) -> bool:
        """Whether there were videos to give up; then the processes are ended."""
        dead = self.readers.of_the_dead()
        patience = time.monotonic() + DYING_SECONDS
        while not dead and time.monotonic() < patience:
            time.sleep(DYING_SECONDS / 20)
            dead = self.readers.of_the_dead()
        found = dict.fromkeys(dead, "the process that read it died")
        reason = f"not read within data.decode_timeout_seconds={self.timeout_seconds:g}"
        found |= dict.fromkeys(self.overdue, reason)
        if not found:
            return False
        self.readers.end()
        self.overdue.clear()
        self._iterator = None  # of persistent processes
        dataset: Any = self.dataset
        dataset.given_up |= {video: f"{dataset.name_of(video)}: {reason}" for video, reason in found.items()}
        return True
