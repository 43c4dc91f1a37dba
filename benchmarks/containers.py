"""The JPEGs of a clip out of each container that packed videos could lie in; measured by `shards.py --containers`."""

from __future__ import annotations

import importlib
import io
import itertools
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from selfsup.data.index import VideoInfo
from selfsup.data.packed import PackedInfo
from selfsup.data.shards import shards


class Clip(NamedTuple):
    """A run of frames of a video, of which the file and the packed frames are known."""

    raw: VideoInfo
    packed: PackedInfo
    first: int
    times_seconds: list[float]
    jpegs: list[bytes]


Read = Callable[[Clip], object]


def in_shards(clip: Clip) -> list[memoryview]:
    with clip.packed.open() as video:
        return video.jpegs(np.arange(clip.first, clip.first + len(clip.times_seconds)))


def in_lmdb(films: dict[str, list[bytes]], folder: Path) -> Read:
    lmdb = importlib.import_module("lmdb")
    store = lmdb.open(str(folder / "lmdb"), map_size=2**36)
    with store.begin(write=True) as write:
        for name, jpegs in films.items():
            for number, jpeg in enumerate(jpegs):
                write.put(f"{name}/{number:08d}".encode(), jpeg)

    def read(clip: Clip) -> list[bytes]:
        with store.begin() as begun:
            numbers = range(clip.first, clip.first + len(clip.times_seconds))
            return [begun.get(f"{clip.packed.path}/{number:08d}".encode()) for number in numbers]

    return read


def in_hdf5(films: dict[str, list[bytes]], folder: Path) -> Read:
    path = folder / "frames.h5"
    with h5py.File(path, "w") as file:
        for name, jpegs in films.items():
            group = file.create_group(name.strip("/"))
            content = np.frombuffer(b"".join(jpegs), np.uint8)
            group.create_dataset("frames", data=content, chunks=(min(len(content), 2**16),), fletcher32=True)
            group.create_dataset("stops", data=np.cumsum([0, *map(len, jpegs)]))
    file = h5py.File(path, "r")

    def read(clip: Clip) -> list[bytes]:
        group = file[str(clip.packed.path).strip("/")]
        stops = group["stops"][clip.first : clip.first + len(clip.times_seconds) + 1]
        content = group["frames"][stops[0] : stops[-1]].tobytes()
        return [content[start - stops[0] : stop - stops[0]] for start, stop in itertools.pairwise(stops)]

    return read


def in_litdata(films: dict[str, list[bytes]], folder: Path) -> Read:
    """An item a frame, as its reader fetches whole items."""
    litdata = importlib.import_module("litdata")
    streaming = importlib.import_module("litdata.streaming.cache")
    writer = streaming.Cache(str(folder / "litdata"), chunk_bytes="256MB")
    first, number = {}, 0
    for name, jpegs in films.items():
        first[name] = number
        for jpeg in jpegs:
            writer[number] = jpeg
            number += 1
    writer.done()
    writer.merge()
    data = litdata.StreamingDataset(str(folder / "litdata"))

    def read(clip: Clip) -> list[bytes]:
        start = first[str(clip.packed.path)] + clip.first
        return [data[number] for number in range(start, start + len(clip.times_seconds))]

    return read


def in_webdataset(folder: Path) -> Read:
    """The same tars through the library, which reads a shard from its start: all of it up to the video."""
    webdataset = importlib.import_module("webdataset")
    keys = {video.path: f"{number:08d}" for number, video in enumerate(shards(str(folder)).videos)}

    def read(clip: Clip) -> list[bytes]:
        samples = webdataset.WebDataset(clip.packed.place.shard, shardshuffle=False)
        sample = next(one for one in samples if one["__key__"] == keys[clip.packed.path])
        stops = [0, *np.load(io.BytesIO(sample["npy"]), allow_pickle=False)["stop"].tolist()]
        ends = stops[clip.first : clip.first + len(clip.times_seconds) + 1]
        return [sample["mjpeg"][start:stop] for start, stop in itertools.pairwise(ends)]

    return read


class Probe:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def runs_code(folder: Path) -> bool:
    """Whether litdata unpickles what a chunk holds where its index.json says so."""
    streaming = importlib.import_module("litdata.streaming.cache")
    writer = streaming.Cache(str(folder), chunk_bytes="1MB")
    writer[0] = pickle.dumps(Probe(folder.parent / "code-was-run"))
    writer.done()
    writer.merge()
    path = folder / "index.json"
    index = json.loads(path.read_text())
    index["config"]["data_format"] = ["pickle"]
    path.write_text(json.dumps(index))
    importlib.import_module("litdata").StreamingDataset(str(folder))[0]
    return (folder.parent / "code-was-run").exists()
