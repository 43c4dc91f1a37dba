"""Splits that never share a group: named ones are kept and checked, missing ones are carved out of train."""

import math
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from selfsup.data.listing import SPLITS, Listing, Video, plural, printable, some, sorted_by_path

FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}


def split_videos(videos: Iterable[Video], fractions: Mapping[str, float] = FRACTIONS, seed: int = 0) -> Listing:
    """Gives every video a split, and says how in the notes. The same videos and seed give the same splits.

    - No split is named: by group where videos have one, else by video, to `fractions` of the videos, each
      label in proportion as far as whole groups allow.
    - Some are named: they stay; a missing val or test is carved out of train by group, in the ratio of
      `fractions`. Videos without a split are then left out, and counted.

    A split of fraction 0 is not made; any other gets at least one group. Raises ValueError where two splits
    share a group, a file is listed twice, there are fewer groups than splits, or no video is named train.
    """
    videos = sorted_by_path(videos)
    _check_fractions(fractions)
    _check_paths(videos)
    wanted = {split: fractions[split] for split in SPLITS if fractions.get(split, 0.0) > 0}
    named = {video.split for video in videos if video.split}
    if not named:
        listed = _divide(videos, wanted, seed)
        shares = "/".join(f"{100 * share:g}" for share in wanted.values())
        note = f"no split is named: split by {_kind(videos)}, {shares} %, seed {seed}: {_sizes(listed)}"
        return Listing(listed, [note])
    notes = []
    listed = [video for video in videos if video.split]
    check_groups(listed)
    if left_out := [video.path for video in videos if not video.split]:
        count = plural(len(left_out), "video")
        notes.append(f"left out {count} without a split, as others have one ({some(left_out)})")
    train = [video for video in listed if video.split == "train"]
    if not train:
        raise ValueError(
            f"no video is named train, only {' and '.join(sorted(named))} "
            f"({some([video.path for video in listed])}); name some train (data=davis: give "
            "data.videos.test_sequences, and the others are), or leave every split blank"
        )
    carved = [split for split in wanted if split not in named]
    if carved:
        whole = sum(wanted[split] for split in ["train", *carved])
        parts = {split: wanted[split] / whole for split in ["train", *carved]}
        rest = [video for video in listed if video.split != "train"]
        listed = sorted_by_path(rest + _divide(train, parts, seed))
        notes.append(
            f"no {' and no '.join(carved)} is named: carved out of train by {_kind(train)}, seed {seed}: "
            f"{_sizes(listed)}"
        )
    return Listing(listed, notes)


def check_groups(videos: Iterable[Video]) -> None:
    """ValueError where two splits share a group; names the group, the splits and a file of each."""
    seen: dict[str, dict[str, Video]] = defaultdict(dict)
    for video in videos:
        if video.group and video.split:
            seen[video.group].setdefault(video.split, video)
    shared = {group: splits for group, splits in seen.items() if len(splits) > 1}
    if shared:
        group, splits = next(iter(shared.items()))
        files = " and ".join(f"{name} ({printable(video.path)})" for name, video in splits.items())
        more = f", as do {plural(len(shared) - 1, 'further group')}" if len(shared) > 1 else ""
        raise ValueError(
            f"group {group!r} lies in the splits {files}{more}; what a model has seen cannot test it: "
            f"put each group into one split, or leave the split column blank"
        )


def _check_fractions(fractions: Mapping[str, float]) -> None:
    if unknown := sorted(set(fractions) - set(SPLITS)):
        raise ValueError(f"fractions: unknown split {unknown[0]!r}; the splits are {', '.join(SPLITS)}")
    low = min(fractions.values(), default=0.0)
    if low < 0 or fractions.get("train", 0.0) <= 0 or not math.isclose(sum(fractions.values()), 1.0, abs_tol=1e-6):
        raise ValueError(
            f"fractions {dict(fractions)}: they must sum to 1, none below 0 and train above 0, "
            f"as in train 0.7, val 0.1, test 0.2"
        )


def _check_paths(videos: list[Video]) -> None:
    if not videos:
        raise ValueError("there is no video to split; list at least one")
    times = Counter(os.path.normpath(video.path) for video in videos)
    if twice := [path for path, count in times.items() if count > 1]:
        raise ValueError(
            f"{printable(twice[0])}: listed twice ({plural(len(twice), 'such file')}); list each file once, "
            f"or a copy of it may lie in two splits"
        )


def _kind(videos: list[Video]) -> str:
    return "group" if any(video.group for video in videos) else "video"


def _sizes(videos: list[Video]) -> str:
    counts = Counter(video.split for video in videos)
    groups = Counter(split for split, _ in {(video.split, video.group) for video in videos if video.group})
    return ", ".join(
        f"{split} {plural(counts[split], 'video')}" + (f" ({plural(groups[split], 'group')})" if groups[split] else "")
        for split in SPLITS
        if counts[split]
    )


def _divide(videos: list[Video], parts: dict[str, float], seed: int) -> list[Video]:
    """Whole groups into `parts` (fractions that sum to 1), larger groups first, each where its labels lack
    most.
    """
    groups: dict[tuple[str, str], list[Video]] = defaultdict(list)
    for video in videos:
        # A video without a group is its own; the flag keeps a path and a group of one name apart.
        groups[("group", video.group) if video.group else ("path", os.fspath(video.path))].append(video)
    if len(groups) < len(parts):
        kind = _kind(videos)
        raise ValueError(
            f"{plural(len(groups), kind)} ({some([video.path for video in videos])}) cannot fill the splits "
            f"{', '.join(parts)}: add {kind}s, name the splits, or set the fraction of one to 0"
        )
    members = list(groups.values())  # in the order of their first path, wherever the data lie
    random.Random(seed).shuffle(members)
    members.sort(key=len, reverse=True)  # stable: chance decides among groups of one size

    labels: dict[str | None, float] = defaultdict(float)
    for label, share in _shares(videos):
        labels[label] += share
    lacking = {part: {label: count * parts[part] for label, count in labels.items()} for part in parts}
    room = {part: len(videos) * share for part, share in parts.items()}
    placed: dict[str, list[list[Video]]] = {part: [] for part in parts}

    def lack(part: str, group: list[Video]) -> tuple[float, float]:
        own = sum(lacking[part][label] * share for label, share in _shares(group)) / len(group)
        return round(own, 9), round(room[part], 9)

    for group in members:
        part = max(parts, key=lambda part: lack(part, group))
        placed[part].append(group)
        room[part] -= len(group)
        for label, share in _shares(group):
            lacking[part][label] -= share
    for part in parts:
        if not placed[part]:  # its share is less than one group
            donor = placed[max(parts, key=lambda name: len(placed[name]))]
            placed[part].append(donor.pop(_spare(donor)))
    return sorted_by_path(
        replace(video, split=part) for part, groups in placed.items() for group in groups for video in group
    )


def _shares(videos: list[Video]) -> list[tuple[str | None, float]]:
    """The classes of each video with its share in them: a video of several is one video all the same."""
    return [(label, 1 / len(video.classes)) for video in videos for label in video.classes]


def _spare(groups: list[list[Video]]) -> int:
    """The last of `groups`, thus among the smallest, whose labels the others have too; else the last."""
    labels = Counter(label for group in groups for video in group for label in video.classes)
    for index in reversed(range(len(groups))):
        own = Counter(label for video in groups[index] for label in video.classes)
        if all(labels[label] > count for label, count in own.items()):
            return index
    return len(groups) - 1
