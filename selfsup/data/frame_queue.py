"""Frames from a thread of their own, through a queue that is bounded: what happens when nobody takes them is chosen."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from selfsup.data.live import Frames, LiveFrame
from selfsup.data.reader import UnreadableVideo

POLICIES = ("drop_oldest", "block")
LOOK_SECONDS = 0.5  # between two looks at `interrupted`: what a signal's handler may safely do is to set a flag


class FrameQueue:
    """A source of frames that is read ahead of whoever takes them; a context in which it is read.

    produced = taken + dropped + skipped + waiting, at any moment.

    Args:
        source: is closed at the end.
        size: frames that may wait, at least 1.
        policy: when the queue is full, "drop_oldest" makes room, and "block" lets the source wait.
        realtime: give each frame at its time, counted from the first, as a camera would.
        timeout_seconds: a source that gives nothing for so long has stalled.
        interrupted: asked while waiting; True ends the stream.

    Attributes:
        produced: frames that the source had, those among them that it passed over.
        taken: given by `take`.
        dropped: lost to a full queue.
        skipped: passed over as `skip` asked.
        newest: number of the newest frame that the source gave; -1 before.

    Raises:
        ValueError: an unknown policy, or a number out of its range.
    """

    def __init__(
        self,
        source: Frames,
        *,
        size: int = 4,
        policy: str = "block",
        realtime: bool = False,
        timeout_seconds: float = 10.0,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"policy is {policy!r}; give {' or '.join(POLICIES)}")
        if size < 1:
            raise ValueError(f"queue_frames is {size}; give at least 1")
        if not 0 < timeout_seconds < float("inf"):
            raise ValueError(f"timeout_seconds is {timeout_seconds:g}; give a positive number of seconds")
        self.source, self.size, self.policy, self.realtime = source, size, policy, realtime
        self.timeout_seconds, self.interrupted = timeout_seconds, interrupted
        self.taken, self.dropped, self.newest = 0, 0, -1
        self._given, self._removed = 0, 0
        self._waiting: deque[LiveFrame] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._ended = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._produce, name="frames", daemon=True)

    @property
    def waits(self) -> bool:
        """Whether the source stands still while nobody takes a frame, so that a frame arrives when it is taken."""
        return self.source.waits and not self.realtime

    @property
    def produced(self) -> int:
        return self._given + self.source.passed

    @property
    def skipped(self) -> int:
        return self._removed + self.source.passed

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def take(self) -> LiveFrame | None:
        """The next frame; None at the end of the source, or where it was interrupted.

        Raises UnreadableVideo where the source has stalled or failed.
        """
        deadline = time.monotonic() + self.timeout_seconds
        with self._changed:
            while not self._waiting:
                left = deadline - time.monotonic()
                if self.interrupted() or (self._ended and self._failure is None):
                    return None
                if self._failure is not None:
                    raise self._failure
                if left <= 0:
                    raise UnreadableVideo(self.source.name, f"gave nothing for {self.timeout_seconds:g} s")
                self._changed.wait(min(left, LOOK_SECONDS))
            if self.interrupted():
                return None
            frame = self._waiting.popleft()
            self.taken += 1
            self._changed.notify_all()
        return frame._replace(arrived=time.perf_counter()) if self.waits else frame

    def skip(self, number: int) -> None:
        """Passes over the frames before `number`: those that wait, and those that the source need not decode."""
        with self._changed:
            self.source.wanted_from = max(self.source.wanted_from, number)
            while self._waiting and self._waiting[0].number < number:
                self._waiting.popleft()
                self._removed += 1
            self._changed.notify_all()

    def _produce(self) -> None:
        start = time.perf_counter()
        try:
            for frame in self.source:
                if self.realtime:
                    due = start + frame.seconds
                    self._stop.wait(max(0.0, due - time.perf_counter()))
                    frame = frame._replace(arrived=due)
                self._put(frame)
                if self._stop.is_set():
                    break
        except Exception as error:  # told by `take`, in the thread that can
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, frame: LiveFrame) -> None:
        with self._changed:
            self._given += 1
            self.newest = frame.number
            while len(self._waiting) >= self.size and not self._stop.is_set():
                if self.policy == "drop_oldest":
                    self._waiting.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if frame.number < self.source.wanted_from:
                self._removed += 1
            else:
                self._waiting.append(frame)
            self._changed.notify_all()

    def __enter__(self) -> FrameQueue:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(self.timeout_seconds)
        if not self._thread.is_alive():  # else it is held inside the decoder, and ends with the process
            self.source.close()
