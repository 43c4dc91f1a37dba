"""What is wrong with a data set, told before a week of training on it.

Each check looks at what the index knows, and names the videos that it is about, what follows, and what to do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from selfsup.data.audio_policy import NO_TRACK, AudioPolicy, counted, told
from selfsup.data.index import Index, VideoInfo
from selfsup.data.listing import Video, plural, printable, some

UNEVEN = 1.5  # a frame that is shown that many times longer than usual; rounding of time stamps stays below
BREAKS_OFF = "breaks off at"


@dataclass(frozen=True)
class Limits:
    """From where on a video is worth a word.

    Args:
        size_pixels: the encoder's square; a video with a shorter side is enlarged.
        short_seconds, long_seconds: a video outside is named.
        imbalance: a class with so many times the videos of another is named.
        min_rms_db: below it a sound track is silent.

    Raises:
        ValueError: a limit that nothing can be within.
    """

    size_pixels: int = 112
    short_seconds: float = 1.0
    long_seconds: float = 600.0
    imbalance: float = 10.0
    min_rms_db: float = -60.0

    def __post_init__(self) -> None:
        if not 0 <= self.short_seconds < self.long_seconds:
            raise ValueError(
                f"limits.short_seconds={self.short_seconds:g} and limits.long_seconds={self.long_seconds:g}: give "
                "0 or more, and the second above the first"
            )
        if self.imbalance <= 1:
            raise ValueError(f"limits.imbalance={self.imbalance:g}: give more than 1, the ratio of equal classes")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its kind, the files, what it means, and what to do."""

    kind: str
    videos: tuple[str, ...]
    meaning: str
    cure: str


def findings(videos: Sequence[Video], index: Index, limits: Limits) -> list[Finding]:
    """All that is found, what cannot be used first."""
    known = [(video, index.videos[video.path]) for video in videos if video.path in index.videos]
    return list(
        chain(
            _unreadable(videos, index),
            _leaks(videos, known),
            _by_file(known, limits),
            _sound(known, limits),
            _classes([video for video, _ in known], limits),
        )
    )


def _unreadable(videos: Sequence[Video], index: Index) -> Iterator[Finding]:
    refused = [(video, index.refused[video.path]) for video in videos if video.path in index.refused]
    cut = [pair for pair in refused if BREAKS_OFF in pair[1]]
    rest = [pair for pair in refused if BREAKS_OFF not in pair[1]]
    for kind, pairs, cure in (
        ("undecodable", rest, "every task leaves them out and says so; fetch or encode them again to keep them"),
        ("truncated", cut, "every task leaves them out; fetch them again, or cut them where they break off"),
    ):
        if pairs:
            reasons = Counter(reason for _, reason in pairs)
            most = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(3))
            yield _finding(kind, (video for video, _ in pairs), most, cure)


def _leaks(videos: Sequence[Video], known: Sequence[tuple[Video, VideoInfo]]) -> Iterator[Finding]:
    by_group: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        if video.group and video.split:
            by_group[video.group].append(video)
    shared = {group: of for group, of in by_group.items() if len({video.split for video in of}) > 1}
    if shared:
        yield _finding(
            "group in two splits",
            chain.from_iterable(shared.values()),
            f"{plural(len(shared), 'group')}: {some(sorted(shared))}; what was seen in training cannot test",
            "training refuses such a list; put each group into one split",
        )
    by_content: dict[str, list[Video]] = defaultdict(list)
    for video, info in known:
        by_content[info.checksum].append(video)
    copies = [of for of in by_content.values() if len(of) > 1]
    leaking = [of for of in copies if len({video.split for video in of}) > 1]
    if leaking:
        yield _finding(
            "copy in two splits",
            chain.from_iterable(leaking),
            f"{plural(len(leaking), 'video')} under several names; the figures on held-out videos are too good",
            "keep one of each, or give its copies one group",
        )
    if contrary := [of for of in copies if len({video.label for video in of}) > 1]:
        yield _finding(
            "copy with another label",
            chain.from_iterable(contrary),
            f"{plural(len(contrary), 'video')}; one of the labels is wrong",
            "look at them, and keep the right one",
        )
    if harmless := [of for of in copies if of not in leaking and of not in contrary]:
        splits = any(video.split for video in videos)
        meaning = "they count more than others" if splits else "and may come to lie in two splits"
        yield _finding(
            "copies",
            chain.from_iterable(harmless),
            f"{plural(len(harmless), 'video')} under several names; {meaning}",
            "keep one of each" if splits else "keep one of each, or give its copies one group",
        )


def _by_file(known: Sequence[tuple[Video, VideoInfo]], limits: Limits) -> Iterator[Finding]:
    checks: tuple[tuple[str, Callable[[VideoInfo], bool], str, str], ...] = (
        (
            "still",
            lambda info: info.is_still,
            "one picture is shown throughout: no task that asks about time learns from it",
            "leave them out",
        ),
        (
            "short",
            lambda info: info.duration_seconds < limits.short_seconds,
            f"below {limits.short_seconds:g} s; a task leaves out what is shorter than its clips",
            "shorten the clips, as by task.sampler, or leave them out",
        ),
        (
            "long",
            lambda info: info.duration_seconds > limits.long_seconds,
            f"above {limits.long_seconds:g} s; an epoch sees one clip of each, as of a short one",
            "cut them into parts of one group, or raise data.clips_per_video",
        ),
        (
            "small",
            lambda info: min(info.width, info.height) < limits.size_pixels,
            f"a side below {limits.size_pixels} pixels is enlarged, which adds cost and no detail",
            "lower data.size_pixels, or leave them out",
        ),
        (
            "uneven frames",
            lambda info: info.longest_gap > UNEVEN,
            "of a variable rate, or with frames lost: where one is missing its neighbour is shown",
            "nothing, for frames are read by their times; check the camera where it is many",
        ),
    )
    for kind, holds, meaning, cure in checks:
        if found := [video for video, info in known if holds(info)]:
            yield _finding(kind, found, meaning, cure)


def _sound(known: Sequence[tuple[Video, VideoInfo]], limits: Limits) -> Iterator[Finding]:
    """Missing sound, where some have any; by class, since its absence may tell the class."""
    if all(info.sound is None for _, info in known):
        return
    policy = AudioPolicy(limits.min_rms_db, still_pictures=True)
    reasons = [(video, reason) for video, info in known if (reason := policy.refuse(info)) is not None]
    labels = [video.label for video, _ in known]
    for kind, pairs in (
        ("without sound", [pair for pair in reasons if pair[1] == NO_TRACK]),
        ("silent", [pair for pair in reasons if pair[1] != NO_TRACK]),
    ):
        if pairs:
            sentences = told(counted([(reason, video.label) for video, reason in pairs], labels), labels)
            meaning = "; ".join(text.removeprefix("left out for its sound: ") for text in sentences)
            cure = "tasks of sound leave them out; where one class has more of them, that tells the class"
            yield _finding(kind, (video for video, _ in pairs), meaning, cure)


def _classes(videos: Sequence[Video], limits: Limits) -> Iterator[Finding]:
    sizes = Counter(label for video in videos for label in video.classes if label is not None)
    unlabelled = [video for video in videos if video.spans is None and video.label is None]
    if sizes and unlabelled:
        yield _finding(
            "no label", unlabelled, "others have one", "pretraining needs none; to measure or classify, label them"
        )
    if len(sizes) > 1 and max(sizes.values()) > limits.imbalance * min(sizes.values()):
        (most, many), (least, few) = sizes.most_common(1)[0], sizes.most_common()[-1]
        yield Finding(
            "unequal classes",
            (),
            f"{most} has {plural(many, 'video')}, {least} {few}",
            "read balanced_accuracy beside accuracy, and add videos of the small ones",
        )
    trained = {label for video in videos if video.split == "train" for label in video.classes}
    new = [video for video in videos if video.split in ("val", "test") and not set(video.classes) <= trained]
    if trained - {None} and new:
        classes = sorted({str(label) for video in new for label in video.classes if label not in trained})
        yield _finding(
            "class that train lacks", new, some(classes), "a classifier refuses them; move a group of each into train"
        )
    groups: dict[str, set[str]] = defaultdict(set)
    for video in videos:
        for label in video.classes:
            if label is not None:
                groups[label].add(video.group or printable(video.path))
    if alone := sorted(label for label, of in groups.items() if len(of) == 1):
        yield Finding(
            "class of one group",
            (),
            f"{some(alone)}: it lies in one split, and cannot be both learned and tested",
            "add videos of other groups",
        )
    if sizes and not any(video.group for video in videos):
        yield Finding(
            "no group",
            (),
            "each video counts as a source of its own; clips cut from one film may lie in two splits",
            "name the source, speaker or camera of each in a manifest's column group",
        )


def _finding(kind: str, videos: Iterable[Video], meaning: str, cure: str) -> Finding:
    return Finding(kind, tuple(printable(video.path) for video in videos), meaning, cure)
