"""Packs a data set into shards: `selfsup prepare data=… output=DIR [key=value …]`; see `selfsup.data.packer`."""

from __future__ import annotations

import time
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from selfsup.data.catalogue import LeftOut, index_of, write_left_out
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.index import Index
from selfsup.data.listing import Listing, plural, printable
from selfsup.data.packer import pack
from selfsup.data.packing import Packing
from selfsup.data.sampling import ClipSampler, PackableSampler, UniformSampler
from selfsup.data.shard_writer import Packed
from selfsup.verb import check_complete

FEW = 5  # videos that are named in the terminal; left_out.json has all


def pack_data(config: DictConfig, folder: Path) -> Packed:
    """Packs all videos that can be decoded, prints a table, and writes left_out.json into `folder`.

    Raises ValueError and OSError as `packer.pack` does, and ValueError where the task computes nothing to pack.
    """
    check_complete(config)
    began = time.monotonic()
    sampler: ClipSampler = instantiate(config.task.sampler) if config.pack.task else UniformSampler(1)
    if config.pack.task and not isinstance(sampler, PackableSampler):
        raise ValueError("pack.task=true: this task computes nothing of a video that could be kept; leave it out")
    data: VideoDataModule = instantiate(config.data, _partial_=True)(sampler=sampler)
    packing = packing_of(config, data)
    listing = data.list_videos(**data.source)
    if listing.indexed is not None:
        raise ValueError("these videos are packed already; give the data that they were packed from")
    paths = [video.path for video in listing.videos]
    index = index_of(paths, data.index_cache, data.index_processes, data.decode_timeout_seconds, data.executor)
    columns = (TextColumn("packing videos"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        row = bar.add_task("pack", total=None)
        packed = pack(
            listing.videos,
            index,
            Path(config.output),
            packing,
            sampler=sampler if isinstance(sampler, PackableSampler) else None,
            processes=data.index_processes,
            progress=lambda done, total: bar.update(row, completed=done, total=total),
            executor=data.executor,
        )
    left_out = left_out_of(listing, packed)
    write_left_out(left_out, folder / "left_out.json")
    _print_table(packed, index, left_out, time.monotonic() - began, Console(markup=False, highlight=False))
    return packed


def packing_of(config: DictConfig, data: VideoDataModule) -> Packing:
    """The packing of a configuration: frames as training reads them, where no other size is given."""
    size = config.pack.short_side_pixels
    return instantiate(config.pack, short_side_pixels=data.short_side_pixels if size is None else size)


def left_out_of(listing: Listing, packed: Packed) -> list[LeftOut]:
    """The videos that are not packed, and why."""
    return [
        LeftOut(video, row["refused"])
        for video, row in zip(listing.videos, packed.rows, strict=True)
        if "refused" in row
    ]


def _print_table(packed: Packed, index: Index, left_out: list[LeftOut], seconds: float, console: Console) -> None:
    infos = [row["info"] for row in packed.rows if "place" in row]
    lost = {left.video.path for left in left_out}
    originals = sum(info.path.stat().st_size for info in index.videos.values() if info.path not in lost)
    table = Table("what", title="packed")
    table.add_column("number", justify="right")
    for name, value in {
        "videos packed": f"{len(infos):,}",
        "videos left out": f"{len(left_out):,}",
        "packed without their sound": f"{len(packed.mute):,}",
        "frames": f"{sum(info['num_frames'] for info in infos):,}",
        "shards": f"{len(packed.contents.shards):,}",
        "of them in this run": f"{packed.made:,}",
        "room of the files, GB": f"{originals / 1e9:.3f}",
        "room of the shards, GB": f"{packed.size / 1e9:.3f}",
        "minutes": f"{seconds / 60:.1f}",
    }.items():
        table.add_row(name, value)
    console.print(table)
    reasons = [(printable(left.video.path), f"left out, {left.reason}") for left in left_out]
    reasons += [(printable(path), f"without sound, {reason}") for path, reason in packed.mute.items()]
    for path, reason in reasons[:FEW]:
        console.print(f"  {path}: {reason}", soft_wrap=True)
    if len(reasons) > FEW:
        console.print(f"  and {plural(len(reasons) - FEW, 'more video')}: see left_out.json", soft_wrap=True)
