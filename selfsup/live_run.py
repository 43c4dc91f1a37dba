"""One stream from its first frame to its end: answers, what is printed and drawn of them, and what is counted."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from torch import Tensor

from selfsup.classifier_weights import Trained
from selfsup.data.drawing import DrawnVideo
from selfsup.data.frame_queue import FrameQueue
from selfsup.data.live import LiveFrame
from selfsup.data.reader import UnreadableVideo
from selfsup.live import LiveNetwork
from selfsup.streaming.tally import Tally


class Asked:
    """Whether a signal has asked the stream to stop, and which: `signal_number`."""

    signal_number: int | None = None

    def __call__(self) -> bool:
        return self.signal_number is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGINT and SIGTERM are noted while this lasts."""
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C ends at once
        self.signal_number = number


class LiveRun:
    """Answers to the frames of a queue.

    Args:
        network: what answers.
        queue: gives the frames.
        trained: the classifier, for the names of its classes; None where features are all that is asked for.
        drawn: the video to write; it is closed at the end.
        console: where answers are printed.
        print_every: frames that are looked at, from one line to the next.
        max_frames: stop after so many frames of the source.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(
        self,
        network: LiveNetwork,
        queue: FrameQueue,
        trained: Trained | None,
        drawn: DrawnVideo | None,
        console: Console,
        print_every: int = 30,
        max_frames: int | None = None,
    ) -> None:
        for name, value in (("print_every", print_every), ("max_frames", max_frames)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give at least 1")
        self.network, self.queue, self.trained, self.drawn, self.console = network, queue, trained, drawn, console
        self.print_every, self.max_frames = print_every, max_frames
        self.answer: Tensor | None = None
        self.tally = Tally()
        self._wanted = 0  # frames before this number need no look
        self._passed_over = 0  # frames that were taken, to be drawn, and not looked at
        self._drawn_drops = 0

    def to_its_end(self) -> UnreadableVideo | None:
        """Looks at frame after frame until the source ends or is interrupted. Returns what failed, if anything did."""
        try:
            with self.queue:
                while not self._full() and (frame := self.queue.take()) is not None:
                    looked_at = frame.number >= self._wanted
                    if looked_at:
                        self._look(frame)
                    else:
                        self._passed_over += 1
                    self._draw(frame, looked_at)
        except UnreadableVideo as error:
            return error
        finally:
            if self.drawn is not None:
                self.drawn.close()
        return None

    def _full(self) -> bool:
        passed = self.queue.taken + self.queue.skipped + self.queue.dropped
        return self.max_frames is not None and passed >= self.max_frames

    def _look(self, frame: LiveFrame) -> None:
        steps = self.network.steps
        self.answer = self.network.answer(frame.image)
        latency_ms = 1000 * (time.perf_counter() - frame.arrived)
        behind = 0 if self.queue.waits else max(0, self.queue.newest - frame.number)
        self.tally.add(steps.work, latency_ms, behind + steps.lag_frames)
        self._wanted = frame.number + 1 + self.network.skip()
        if self.drawn is None:  # else they are shown
            self.queue.skip(self._wanted)
        if (self.tally.answered - 1) % self.print_every == 0:
            self.console.print(self.line(frame.number), soft_wrap=True)

    def _draw(self, frame: LiveFrame, looked_at: bool) -> None:
        if self.drawn is None or frame.shown is None:
            return
        self.drawn.dropped(self.queue.dropped - self._drawn_drops)
        self._drawn_drops = self.queue.dropped
        state = "skipped" if not looked_at else "encoded" if self.network.steps.work else "held"
        self.drawn.write(frame.shown, frame.seconds, state, self.said())

    def said(self) -> str:
        """The likeliest class and how likely it is; "" where there is no answer."""
        if self.answer is None or self.trained is None:
            return ""
        likely = self.answer.sigmoid() if self.trained.labels == "frame" else self.answer.softmax(dim=0)
        top = int(likely.argmax())
        return f"{self.trained.classes[top]} {100 * float(likely[top]):.0f} %"

    def figures(self) -> dict[str, Any]:
        """Counts, speed, latency and computation so far: produced = taken + skipped + dropped + waiting."""
        skipped = self.queue.skipped + self._passed_over
        counts = {
            "produced": self.queue.produced,
            "taken": self.queue.taken - self._passed_over,
            "skipped": skipped,
            "dropped": self.queue.dropped,
            "waiting": self.queue.waiting,
            "encoded": self.tally.encoded,
            "held": self.tally.held,
        }
        return {"frames": counts, **self.tally.figures(skipped)}

    def line(self, number: int) -> str:
        """What is printed of a frame."""
        now = self.figures()
        counts, latency = now["frames"], now["latency_ms"]
        return (
            f"frame {number}: {self.said() or 'no answer'}, latency {latency['median']:.1f} ms (95 %: "
            f"{latency['p95']:.1f}), lag {now['lag_frames']['mean']:.1f} frames, {now['frames_per_second']:.1f} "
            f"frames/s, computation {now['computation']:.0%}, encoded {counts['encoded']}, held {counts['held']}, "
            f"skipped {counts['skipped']}, dropped {counts['dropped']}"
        )
