"""The bounded queue: nothing lost under `block`, exact counts under `drop_oldest`, and every way to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from selfsup.data.frame_queue import FrameQueue
from selfsup.data.live import LiveFrame
from selfsup.data.reader import UnreadableVideo


class Made:
    """Frames without pictures; each waits for `go`, if there is one."""

    name, fps = "made", 100.0

    def __init__(self, count: int, waits: bool = True, fails: Exception | None = None) -> None:
        self.count, self.waits, self.fails = count, waits, fails
        self.wanted_from = self.passed = 0
        self.closed = False
        self.go: threading.Semaphore | None = None

    def __iter__(self) -> Iterator[LiveFrame]:
        for number in range(self.count):
            if number < self.wanted_from:
                self.passed += 1
                continue
            if self.go is not None:
                self.go.acquire()
            yield LiveFrame(number, number / self.fps, np.zeros((1, 1, 3), np.uint8), None, time.perf_counter())
        if self.fails is not None:
            raise self.fails

    def close(self) -> None:
        self.closed = True


def until(queue: FrameQueue, produced: int) -> None:
    """Waits until the source has given so many frames."""
    for _ in range(2000):
        if queue.produced >= produced:
            return
        time.sleep(0.001)
    raise AssertionError(f"{queue.produced} of {produced} frames")


def test_block_loses_nothing() -> None:
    source = Made(50)
    with FrameQueue(source, size=3, policy="block") as queue:
        until(queue, 4)  # three wait, and one is in the source's hands
        found = []
        while (frame := queue.take()) is not None:
            assert queue.waiting <= 3
            found.append(frame.number)
        assert found == list(range(50))
        assert (queue.produced, queue.taken, queue.dropped, queue.skipped) == (50, 50, 0, 0)
        assert queue.take() is None, "the end stays the end"
    assert source.closed


def test_drop_oldest_keeps_the_newest_and_counts_the_others() -> None:
    with FrameQueue(Made(50), size=3, policy="drop_oldest") as queue:
        until(queue, 50)
        found = [queue.take(), queue.take(), queue.take()]
        assert [frame.number for frame in found if frame is not None] == [47, 48, 49]
        assert queue.take() is None
        assert (queue.produced, queue.taken, queue.dropped) == (50, 3, 47)


def test_drop_oldest_counts_right_while_frames_are_taken() -> None:
    with FrameQueue(Made(3000), size=2, policy="drop_oldest") as queue:
        found = []
        while (frame := queue.take()) is not None:
            found.append(frame.number)
            assert queue.taken + queue.dropped + queue.waiting <= queue.produced
        assert found == sorted(set(found))
        assert found[-1] == 2999
        assert queue.taken + queue.dropped == queue.produced == 3000
        assert queue.taken == len(found)


@pytest.mark.parametrize("size", [1, 8])
def test_skipped_frames_are_counted_wherever_they_are(size: int) -> None:
    source = Made(40)
    with FrameQueue(source, size=size) as queue:
        found = []
        while (frame := queue.take()) is not None:
            found.append(frame.number)
            queue.skip(frame.number + 4)
        assert found == list(range(0, 40, 4))
        assert (queue.taken, queue.skipped, queue.dropped) == (10, 30, 0)
        assert queue.produced == 40


def test_a_frame_of_a_source_that_waits_arrives_when_it_is_taken() -> None:
    with FrameQueue(Made(2)) as queue:
        until(queue, 2)
        before = time.perf_counter()
        frame = queue.take()
        assert frame is not None
        assert frame.arrived >= before
    with FrameQueue(Made(2, waits=False)) as queue:
        until(queue, 2)
        after = time.perf_counter()
        frame = queue.take()
        assert frame is not None
        assert frame.arrived <= after


def test_realtime_gives_each_frame_at_its_time() -> None:
    start = time.perf_counter()
    with FrameQueue(Made(20), realtime=True) as queue:
        arrived = []
        while (frame := queue.take()) is not None:
            arrived.append(frame.arrived)
            assert time.perf_counter() >= frame.arrived
    assert np.diff(arrived) == pytest.approx(np.full(19, 0.01))
    assert time.perf_counter() - start >= 0.19


def test_a_stall_and_a_failure_are_told_after_what_came_before() -> None:
    source = Made(3)
    source.go = threading.Semaphore(2)
    with FrameQueue(source, timeout_seconds=0.2) as queue:
        assert [frame.number for frame in (queue.take(), queue.take()) if frame is not None] == [0, 1]
        with pytest.raises(UnreadableVideo, match=r"made: gave nothing for 0.2 s"):
            queue.take()
        source.go.release()
    with FrameQueue(Made(2, fails=UnreadableVideo("made", "failed"))) as queue:
        until(queue, 2)
        assert [frame.number for frame in (queue.take(), queue.take()) if frame is not None] == [0, 1]
        for _ in range(2):
            with pytest.raises(UnreadableVideo, match="made: failed"):
                queue.take()


def test_an_interrupt_ends_the_wait() -> None:
    asked = threading.Event()
    source = Made(1)
    source.go = threading.Semaphore(0)
    timer = threading.Timer(0.1, asked.set)
    timer.start()
    with FrameQueue(source, timeout_seconds=30, interrupted=asked.is_set) as queue:
        assert queue.take() is None
        source.go.release()
    timer.join()


def test_leaving_early_frees_the_source() -> None:
    source = Made(10**9)
    with FrameQueue(source, size=2) as queue:
        queue.take()
    assert source.closed
    assert queue.produced == queue.taken + queue.waiting


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="policy is 'wait'; give drop_oldest or block"):
        FrameQueue(Made(1), policy="wait")
    with pytest.raises(ValueError, match="queue_frames is 0; give at least 1"):
        FrameQueue(Made(1), size=0)
    with pytest.raises(ValueError, match="timeout_seconds is 0; give a positive"):
        FrameQueue(Made(1), timeout_seconds=0)
