"""The foreground labels of whole data sets: made once, in parallel, kept on disk, and read frame by frame."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from selfsup.data.cache import cache_folder
from selfsup.data.clips import ROUNDING, last_seconds
from selfsup.data.executors import Executor
from selfsup.data.foreground import Labeller, Labels, VideoLabeller, settings_of
from selfsup.data.foreground_store import ForegroundStore, Verdicts
from selfsup.data.index import VideoInfo
from selfsup.data.processes import run_in_processes
from selfsup.data.sampling import Prepared


@dataclass(frozen=True)
class ForegroundLabels:
    """Says which frames of a video are labelled, at which size, and where the labels are kept.

    Frames are counted at `fps`, from 0; frame n is the one shown at n / fps seconds. A long video is labelled in parts
    of equal length, each in a file of its own, so that memory is bounded and a stop loses one part a process. Frames
    are decoded by PyAV whatever `data.reader` is, so that labels are the same for all.

    Args:
        labeller: from frames to labels.
        fps: frames a second, at most the video's own; null: the video's own.
        short_side_pixels: of the frames that the labeller sees, whatever the encoder sees.
        chunk_frames: most frames of a part.
        minimum_confidence: frames that are labelled with less, in [0, 1], are rejected; one of which hardly a pixel is
            surely foreground would teach that nothing is.
        folder: of the labels of all videos; null: one in the user's cache folder.
        timeout_seconds: a video is refused where a part of it takes longer.

    Raises ValueError for a rate, size or time that is not positive, or fewer than 2 frames a part.
    """

    labeller: Labeller
    fps: float | None = None
    short_side_pixels: int = 240
    chunk_frames: int = 200
    minimum_confidence: float = 0.1
    folder: str | None = None
    timeout_seconds: float = 1800.0

    def __post_init__(self) -> None:
        if self.chunk_frames < 2:
            raise ValueError(f"labels.chunk_frames={self.chunk_frames}: motion needs at least 2 frames")
        for name in ("fps", "short_side_pixels", "timeout_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"labels.{name}={value:g}: give a positive number")

    def rate_hz(self, info: VideoInfo) -> float:
        """Frames a second. Never above the video's own rate: a repeated frame would look like a standstill."""
        return min(self.fps or info.fps, info.fps)

    def chunks(self, info: VideoInfo) -> list[range]:
        """The frames of each part."""
        count = math.floor(last_seconds(info) * self.rate_hz(info) + ROUNDING) + 1
        parts = math.ceil(count / self.chunk_frames)
        return [range(start, stop) for start, stop in pairwise(count * part // parts for part in range(parts + 1))]

    def times_seconds(self, info: VideoInfo, numbers: Sequence[int]) -> list[float]:
        """When frames are shown."""
        return [number / self.rate_hz(info) for number in numbers]

    def where(self) -> Path:
        """The folder of all labels."""
        return Path(self.folder) if self.folder is not None else cache_folder() / "foreground"

    def store(self, info: VideoInfo, chunk: range) -> ForegroundStore:
        """Where the labels of one part are kept, or will be."""
        key: dict[str, str | int | float] = {
            "video": info.checksum,
            "labeller": settings_of(self.labeller),
            "rate_hz": round(self.rate_hz(info), 6),
            "short_side_pixels": self.short_side_pixels,
            "first": chunk.start,
            "stop": chunk.stop,
        }
        return ForegroundStore(self.where(), key, info.kept)

    def make(self, info: VideoInfo, chunk: range) -> Labels:
        """Labels one part of a video, whether that was done before or not; ValueError where that is impossible."""
        times = self.times_seconds(info, chunk)
        if isinstance(self.labeller, VideoLabeller):
            return self.labeller.of_video(info, times)
        if reason := info.refuse_size(self.short_side_pixels):
            raise ValueError(f"{info.path}: {reason}, or keep the labels with it by pack.task=true")
        with info.open(short_side_pixels=self.short_side_pixels) as video:
            frames = video.frames(times)
        try:
            return self.labeller(frames, times)
        except ValueError as error:
            raise ValueError(f"{info.path}: {error}") from error

    def keep(self, info: VideoInfo, chunk: range, labels: Labels) -> None:
        """Writes the labels of one part; OSError in one sentence where that is impossible."""
        store = self.store(info, chunk)
        try:
            store.write(labels)
        except OSError as error:
            raise OSError(
                f"{store.path}: the labels of {info.path} could not be written ({error.strerror or error}); those "
                "written before are kept; free some space or give task.sampler.labels.folder, and run it again"
            ) from error

    def verdicts(self, info: VideoInfo, chunk: range) -> Verdicts:
        """Which frames of a part are fit to learn from. Makes and keeps the labels where there are none."""
        verdicts = self.store(info, chunk).verdicts()
        if verdicts is None:
            self.keep(info, chunk, self.make(info, chunk))
            verdicts = self.store(info, chunk).verdicts()
        assert verdicts is not None, "what was written can be read"
        return verdicts

    def reasons(self, verdicts: Verdicts) -> list[str | None]:
        """Why each frame is not fit to learn from; None where it is."""
        unsure = f"labelled with a confidence below {self.minimum_confidence:g}"
        return [
            rejection.value if rejection else unsure if confidence < self.minimum_confidence else None
            for rejection, confidence in zip(verdicts.rejections, verdicts.confidence.tolist(), strict=True)
        ]

    def refuse(self, info: VideoInfo) -> str | None:
        """Why no frame of a video can be learned from, as far as its labels are there."""
        chunks = self.chunks(info)
        if len(chunks[0]) < 2:
            return f"has {len(chunks[0])} frame at {self.rate_hz(info):.4g} a second, and motion needs 2"
        known = [self.store(info, chunk).verdicts() for chunk in chunks]
        reasons = Counter(reason for verdicts in known if verdicts is not None for reason in self.reasons(verdicts))
        if None in known or reasons[None]:
            return None
        return "no frame is fit to learn from: " + told({str(name): count for name, count in reasons.items()})

    def prepare(
        self,
        infos: Sequence[VideoInfo],
        *,
        processes: int,
        progress: Callable[[int, int], None] | None = None,
        executor: Executor = run_in_processes,
    ) -> Prepared:
        """Makes and keeps the labels that are not there yet.

        What was written stays whatever happens: the same call goes on where this one was stopped.

        Args:
            infos: the videos.
            processes: how many parts at once.
            progress: called with (frames done, frames in all), first with those that are there already.
            executor: where they are made.

        Raises OSError where labels cannot be written.
        """
        every = [(self, info, chunk) for info in infos for chunk in self.chunks(info) if len(chunk) > 1]
        missing = [item for item in every if self.store(*item[1:]).verdicts() is None]
        total, made = (sum(len(chunk) for _, _, chunk in items) for items in (every, missing))
        done = total - made
        report = progress or (lambda done, total: None)
        report(done, total)
        refused: dict[Path, str] = {}
        outcomes = executor(
            _make_and_keep,
            missing,
            processes=min(processes, max(1, len(missing))),
            timeout_seconds=self.timeout_seconds,
        )
        for outcome in outcomes if missing else ():
            _, info, chunk = outcome.item
            reason = f"not labelled: {outcome.failure}" if outcome.failure else outcome.value
            if isinstance(reason, OSError):
                raise reason
            if reason is not None:
                refused[info.path] = reason
                made -= len(chunk)
            done += len(chunk)
            report(done, total)
        reasons = Counter(
            reason
            for _, info, chunk in every
            if (verdicts := self.store(info, chunk).verdicts()) is not None
            for reason in self.reasons(verdicts)
        )
        fit = reasons.pop(None, 0)
        rejected = {str(name): count for name, count in reasons.most_common()}
        return Prepared(refused, fit, rejected, made, self.where())


def told(counts: dict[str, int]) -> str:
    """ "30 × nothing moves by itself; 2 × …", the most frequent first."""
    return "; ".join(f"{count} × {name}" for name, count in Counter(counts).most_common())


def _make_and_keep(item: tuple[ForegroundLabels, VideoInfo, range]) -> str | OSError | None:
    """Why the part cannot be labelled, or the error that no part can be kept, or None."""
    labels, info, chunk = item
    torch.set_num_threads(1)  # the processes are the parallelism
    try:
        made = labels.make(info, chunk)
    except (ValueError, OSError) as error:
        return str(error).removeprefix(f"{info.path}: ")
    try:
        labels.keep(info, chunk, made)
    except OSError as error:
        return error
    return None
