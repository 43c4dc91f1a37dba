"""From a list of videos to those that take part, split by split, and those that do not, and why."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from selfsup.data.audio_policy import AudioPolicy, counted, told
from selfsup.data.cache import cache_folder
from selfsup.data.executors import Executor
from selfsup.data.index import Index, VideoInfo, build_index
from selfsup.data.labels import FrameLabels, Labels, VideoLabels
from selfsup.data.listing import Span, plural
from selfsup.data.processes import run_in_processes
from selfsup.data.sampling import ClipSampler, Prepared, PreparedSampler, SoundSampler
from selfsup.data.spans import cut_spans
from selfsup.data.videos import Listing, Video, printable, split_videos

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class LeftOut:
    """A listed video that takes no part, and why."""

    video: Video
    reason: str


def write_left_out(left_out: Sequence[LeftOut], path: Path) -> None:
    """Writes the left-out videos with label, split and reason, as JSON."""
    rows = [
        {
            "path": printable(left.video.path),
            "label": left.video.label,
            "split": left.video.split,
            "reason": left.reason,
        }
        for left in left_out
    ]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Catalogue:
    """What takes part: for each split the videos, their labels and their groups, in one order; and what does not.

    `notes` are sentences to print: how splits were made, what was ignored, how many were left out. `prepared` is what
    the sampler made beforehand, if it is one that does. `unheard` counts by reason and class the videos that were left
    out for their sound.
    """

    videos: dict[str, list[Any]]
    labels: dict[str, list[str | None]]
    groups: dict[str, list[str]]
    left_out: list[LeftOut]
    notes: list[str]
    prepared: Prepared | None = None
    unheard: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def classes(self) -> list[str]:
        """The labels of the training videos, sorted; empty where any video has none."""
        labels = [label for split in SPLITS for label in self.labels[split]]
        if any(label is None for label in labels):
            return []
        return sorted({str(label) for label in self.labels["train"]})

    @property
    def reported(self) -> str:
        """The split that figures are reported on: test, or val where there is no test video."""
        return "test" if self.videos["test"] else "val"

    @property
    def grouped(self) -> bool:
        """Whether the data name groups; without, every video is a group of its own."""
        return any(
            group != str(info.path)
            for split in SPLITS
            for info, group in zip(self.videos[split], self.groups[split], strict=True)
        )

    def class_numbers(self, split: str) -> list[int] | None:
        """The place of each video's label in `classes()`; None where a label is missing, or train lacks one."""
        places: dict[str | None, int] = {label: number for number, label in enumerate(self.classes())}
        labels = self.labels[split]
        return [places[label] for label in labels] if places and set(labels) <= set(places) else None

    def known(self, split: str) -> Labels | None:
        """What examples of the split are told; None where a label is missing, or train lacks one."""
        numbers = self.class_numbers(split)
        return None if numbers is None else VideoLabels(numbers)

    def strata(self, split: str) -> Sequence[str | frozenset[str | None] | None]:
        """What a share of the videos keeps in proportion: the class of each, or the set of its classes."""
        return self.labels[split]

    def part(self, split: str, chosen: Sequence[int], note: str) -> Catalogue:
        """The same, but of `split` only the videos at the places `chosen`; `note` says why."""
        kept: dict[str, Any] = {
            field.name: {**values, split: [values[split][place] for place in chosen]}
            for field in fields(self)
            if field.name != "unheard" and isinstance(values := getattr(self, field.name), dict)
        }
        return replace(self, **kept, notes=[*self.notes, note])

    def write_left_out(self, path: Path) -> None:
        """See the function of this name."""
        write_left_out(self.left_out, path)


@dataclass(frozen=True)
class SpanCatalogue(Catalogue):
    """A catalogue of videos whose frames have labels; a video as a whole has none, and `labels` holds None for each.

    Attributes:
        spans: for each split those of each video, as far as its file shows them.
    """

    spans: dict[str, list[tuple[Span, ...]]] = field(default_factory=dict)

    def classes(self) -> list[str]:
        """The labels of all spans of the training videos, sorted."""
        return sorted({span.label for spans in self.spans["train"] for span in spans})

    def known(self, split: str) -> FrameLabels | None:
        """What examples of the split are told; None where train lacks a class."""
        classes = self.classes()
        new = {span.label for spans in self.spans[split] for span in spans} - set(classes)
        return None if new else FrameLabels(self.spans[split], classes)

    def strata(self, split: str) -> Sequence[frozenset[str | None]]:
        """The set of classes of each video; {None} where no action is seen."""
        return [frozenset(span.label for span in spans) or frozenset([None]) for spans in self.spans[split]]


def take_stock(
    listed: Listing,
    sampler: ClipSampler,
    *,
    fractions: Mapping[str, float],
    seed: int,
    cache: Path | None,
    processes: int,
    timeout_seconds: float,
    executor: Executor = run_in_processes,
    audio: AudioPolicy | None = None,
) -> Catalogue:
    """Splits and indexes the videos, and leaves out those that cannot be decoded or that `sampler` refuses.

    Where it is a `SoundSampler`, those that `audio` refuses are left out too. A `PreparedSampler` is first given the
    videos that can be decoded. `cache`, `processes`, `timeout_seconds` and `executor` are those of `build_index`;
    without a cache one in the user's cache folder is used. Raises ValueError where no training video is left.
    """
    split = split_videos(listed.videos, fractions=fractions, seed=seed)
    paths = [video.path for video in split.videos]
    index = listed.indexed or index_of(paths, cache, processes, timeout_seconds, executor)
    prepared = _prepare(sampler, list(index.videos.values()), processes, executor)
    refused = {**index.refused, **(prepared.refused if prepared is not None else {})}
    silent = _refused_by(audio, index) if audio is not None and isinstance(sampler, SoundSampler) else {}
    refused = {**silent, **refused}
    taken: dict[str, list[Video]] = {name: [] for name in SPLITS}
    left_out = []
    for video in split.videos:
        reason = refused.get(video.path) or sampler.refuse(index.videos[video.path])
        if reason is not None:
            left_out.append(LeftOut(video, reason))
            continue
        assert video.split is not None, "split_videos gives every video a split"
        taken[video.split].append(video)
    if not taken["train"]:
        absent = [left for left in left_out if left.video.split == "train"]
        raise ValueError(
            f"no training video is left of {len(absent)}, the first is {printable(absent[0].video.path)}: "
            f"{absent[0].reason}; give other videos, or ask less of them"
        )
    notes = [*listed.notes, *split.notes]
    if prepared is not None:
        notes.append(prepared.note())
    decoded = [video.label for video in split.videos if video.path in index.videos]
    lost = [(reason, left.video.label) for left in left_out if (reason := silent.get(left.video.path)) == left.reason]
    unheard = counted(lost, decoded)
    notes += told(unheard, decoded)
    if left_out:
        notes.append(_left_out_note(left_out, len(split.videos)))
    catalogue = Catalogue(
        videos={name: [index.videos[video.path] for video in videos] for name, videos in taken.items()},
        labels={name: [video.label for video in videos] for name, videos in taken.items()},
        groups={name: [video.group or str(video.path) for video in videos] for name, videos in taken.items()},
        left_out=left_out,
        notes=notes,
        prepared=prepared,
        unheard=unheard,
    )
    return _with_spans(catalogue, taken) if any(video.spans is not None for video in split.videos) else catalogue


def _with_spans(catalogue: Catalogue, taken: Mapping[str, Sequence[Video]]) -> SpanCatalogue:
    """The catalogue with the spans of the videos `taken`, cut at the end of each file, and a note where that was done.

    Raises ValueError for a span that begins after its file has ended.
    """
    spans: dict[str, list[tuple[Span, ...]]] = {}
    late: list[float] = []
    for split, videos in taken.items():
        cut = [cut_spans(video, info) for video, info in zip(videos, catalogue.videos[split], strict=True)]
        spans[split] = [kept for kept, _ in cut]
        frames = [1 / info.fps for info in catalogue.videos[split]]
        late += [seconds for (_, seconds), frame in zip(cut, frames, strict=True) if seconds > frame]
    note = f"{plural(len(late), 'video')} with spans that stop up to {max(late, default=0):.2f} s after its last frame"
    notes = [*catalogue.notes, f"{note}: cut there"] if late else catalogue.notes
    values = {field.name: getattr(catalogue, field.name) for field in fields(catalogue)}
    return SpanCatalogue(**{**values, "notes": notes}, spans=spans)


def _refused_by(audio: AudioPolicy, index: Index) -> dict[Path, str]:
    reasons = {path: audio.refuse(info) for path, info in index.videos.items()}
    return {path: reason for path, reason in reasons.items() if reason is not None}


def index_of(
    paths: list[Path],
    cache: Path | None,
    processes: int,
    timeout_seconds: float,
    executor: Executor = run_in_processes,
) -> Index:
    """`build_index` with a progress bar; without a cache one in the user's cache folder is used."""
    columns = (TextColumn("indexing videos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        row = bar.add_task("index", total=len(paths))
        return build_index(
            paths,
            cache=cache or _default_cache(paths),
            processes=processes,
            timeout_seconds=timeout_seconds,
            progress=lambda done, total: bar.update(row, completed=done),
            executor=executor,
        )


def _prepare(sampler: ClipSampler, infos: list[VideoInfo], processes: int, executor: Executor) -> Prepared | None:
    if not isinstance(sampler, PreparedSampler):
        return None
    columns = (TextColumn("labelling frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        row = bar.add_task("prepare", total=None)
        return sampler.prepare(
            infos,
            processes=processes,
            progress=lambda done, total: bar.update(row, completed=done, total=total),
            executor=executor,
        )


def _default_cache(paths: list[Path]) -> Path:
    common = os.path.commonpath([path.absolute() for path in paths])
    return cache_folder() / "index" / f"{hashlib.blake2b(os.fsencode(common), digest_size=8).hexdigest()}.jsonl"


def _left_out_note(left_out: list[LeftOut], total: int) -> str:
    kinds = Counter(left.reason for left in left_out)
    most = "; ".join(f"{count} × {reason}" for reason, count in kinds.most_common(3))
    more = f"; and {len(kinds) - 3} more reasons" if len(kinds) > 3 else ""
    return f"left out {len(left_out)} of {total} videos: {most}{more}"
