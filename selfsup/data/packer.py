"""Packs a data set into shards, in processes, so that it can be stopped at any moment and goes on where it was.

Processes pack videos, each into a file of its own; this one joins the files in the order of the videos and closes a
shard when it is full. What a shard holds thus depends on the videos and the settings alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch

from selfsup.data.executors import Executor
from selfsup.data.index import Index, VideoInfo
from selfsup.data.listing import Video
from selfsup.data.packing import Packing, pack_video
from selfsup.data.processes import run_in_processes
from selfsup.data.sampling import PackableSampler
from selfsup.data.shard_format import FORMAT, INDEX, NoRoomError, read_contents, read_rows
from selfsup.data.shard_writer import Packed, ShardWriter
from selfsup.data.shards import row_of_video

_CHANGE_NO_BYTE = {"folder", "cache_folder", "timeout_seconds"}  # of samplers


class _Item(NamedTuple):
    """One video to pack into the file `part`."""

    info: VideoInfo
    packing: Packing
    sampler: PackableSampler | None
    number: int
    part: Path


def pack(
    videos: Sequence[Video],
    index: Index,
    output: Path,
    packing: Packing,
    *,
    sampler: PackableSampler | None = None,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor = run_in_processes,
) -> Packed:
    """Packs all videos that the index could decode; with `packing.task` what `sampler` computes of them too.

    Where `output` holds a part of the same packing, it goes on from there; where it holds all of it, nothing is done.
    `progress` is called with (frames done, frames in all); `executor` is where videos are packed, and has to see
    `output`. Raises ValueError where `output` holds anything else, or
    where no video can be packed, OSError where it cannot be written; finished shards stay.
    """
    root = Path(os.path.commonpath([os.path.abspath(video.path.parent) for video in videos]))
    listed = [row_of_video(video, root) for video in videos]
    sampler = sampler if packing.task else None
    plan = _plan(listed, videos, index, packing, sampler)
    if (output / INDEX).exists():
        return _finished(output, plan)
    infos = [index.videos.get(video.path) for video in videos]
    ends = list(accumulate(info.num_frames if info is not None else 0 for info in infos))
    report = progress or (lambda done, total: None)
    work = ShardWriter(output, packing.settings(), plan)
    try:
        begun = work.resume()
        items = [
            _Item(info, packing, sampler, number, work.part(number))
            for number, info in enumerate(infos)
            if info is not None and number >= begun
        ]
        report(ends[begun - 1] if begun else 0, ends[-1])
        for item, row in _in_order(items, _outcomes(items, processes, packing, executor)):
            work.take(item.number, item.part, row)
            report(ends[item.number], ends[-1])
        return work.finish(listed, [index.refused.get(video.path) for video in videos])
    except OSError as error:
        work.clear()
        raise OSError(
            f"{output}: cannot be written ({error.strerror or error}); the shards that are finished are kept: free "
            "some space, and run the same command again"
        ) from error


def _plan(
    listed: Sequence[dict[str, Any]],
    videos: Sequence[Video],
    index: Index,
    packing: Packing,
    sampler: PackableSampler | None,
) -> str:
    """A digest of all that the bytes depend on, but the versions of libraries."""
    files = [info.checksum if (info := index.videos.get(video.path)) else None for video in videos]
    known = [FORMAT, packing.settings(), list(listed), files, _settings_of(sampler)]
    return hashlib.blake2b(json.dumps(known, sort_keys=True).encode(), digest_size=16).hexdigest()


def _settings_of(part: object) -> object:
    """What a sampler is made of, as JSON can hold it, less what changes no byte."""
    if not is_dataclass(part):
        return repr(part)
    values = {field.name: _settings_of(getattr(part, field.name)) for field in fields(part)}
    kept = {name: value for name, value in values.items() if name not in _CHANGE_NO_BYTE}
    return {"class": type(part).__name__, **kept}


def _finished(output: Path, plan: str) -> Packed:
    contents = read_contents(str(output))
    if contents.plan != plan:
        raise ValueError(
            f"{output}: holds shards that were packed with other settings or of other videos; give another output"
        )
    return Packed(contents, read_rows(str(output), contents), made=0)


def _outcomes(
    items: Sequence[_Item], processes: int, packing: Packing, executor: Executor
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and row of each video, as they end."""
    if not items:
        return
    for outcome in executor(
        _pack_item, items, processes=min(processes, len(items)), timeout_seconds=packing.timeout_seconds
    ):
        row = outcome.value
        if outcome.failure is not None:
            row = {"refused": f"not packed: {outcome.failure}"}
        if isinstance(row, OSError):
            raise row
        yield outcome.item.number, row


def _in_order(
    items: Sequence[_Item], outcomes: Iterator[tuple[int, dict[str, Any]]]
) -> Iterator[tuple[_Item, dict[str, Any]]]:
    """The items with their rows; those that come early wait."""
    early: dict[int, dict[str, Any]] = {}
    for item in items:
        while item.number not in early:
            number, row = next(outcomes)
            early[number] = row
        yield item, early.pop(item.number)


def _pack_item(item: _Item) -> dict[str, Any] | OSError:
    """The row of a video, or why it cannot be packed; the error that its file cannot be written."""
    torch.set_num_threads(1)  # the processes are the parallelism
    try:
        with open(item.part, "w+b") as file:
            try:
                return pack_video(item.info, item.packing, item.sampler, f"{item.number:08d}", file)
            except NoRoomError:
                raise
            except (ValueError, OSError) as error:
                reason = str(error).removeprefix(f"{item.info.path}: ")
        item.part.unlink()
        return {"refused": reason}
    except OSError as error:
        item.part.unlink(missing_ok=True)
        return error
