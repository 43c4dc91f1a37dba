"""Looks a data set over before it is trained on: `selfsup prepare doctor data=… [key=value …]`.

Says what is wrong with it, what that means and what to do, how fast it can be read, and how much room it would take
as packed frames.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from selfsup.data.catalogue import index_of
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.health import Finding, Limits, findings
from selfsup.data.index import Index, VideoInfo
from selfsup.data.rates import measure_rates
from selfsup.data.sampling import UniformSampler
from selfsup.data.videos import Video
from selfsup.pack import packing_of
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence

FEW = 3  # file names in the terminal; doctor.json has all


def examine(config: DictConfig, folder: Path) -> list[Finding]:
    """Writes doctor.json into `folder`, prints it as tables, and returns what was found."""
    check_complete(config)
    clips, frames = config.read_clips, config.clip_frames
    if clips < 1 or frames < 1:
        raise ValueError(f"read_clips={clips} and clip_frames={frames}: give at least 1 of each")
    console = Console(markup=False, highlight=False)
    limits: Limits = instantiate(config.limits)
    data: VideoDataModule = instantiate(config.data, _partial_=True)(sampler=UniformSampler(1))
    listing = data.list_videos(**data.source)
    if listing.indexed is not None:
        raise ValueError("the doctor looks at files, and these videos are packed; give the data they were packed from")
    paths = [video.path for video in listing.videos]
    index = index_of(paths, data.index_cache, data.index_processes, data.decode_timeout_seconds, data.executor)
    infos = list(index.videos.values())
    found = findings(listing.videos, index, limits)
    summary = summary_of(listing.videos, index)
    reading = reading_of(infos, data, config) if infos else {}
    report = {"data": summary, "reading": reading, "notes": listing.notes, "findings": [asdict(one) for one in found]}
    (folder / "doctor.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for note in listing.notes:
        console.print(f"  {note}", soft_wrap=True)
    _print_numbers("data set", summary, console)
    if reading:
        _print_numbers("reading", reading, console)
    _print_findings(found, console)
    console.print(f"run folder: {folder}", soft_wrap=True)
    return found


def summary_of(videos: Sequence[Video], index: Index) -> dict[str, Any]:
    """What there is, in numbers."""
    infos = index.videos.values()
    labels = Counter(label for video in videos for label in video.classes if label is not None)
    return {
        "videos": len(videos),
        "that can be decoded": len(infos),
        "hours": round(sum(info.duration_seconds for info in infos) / 3600, 3),
        "frames": sum(info.num_frames for info in infos),
        "with sound": sum(info.has_audio for info in infos),
        "classes": len(labels),
        "groups": len({video.group for video in videos if video.group}),
        **{f"{split} videos": count for split, count in Counter(video.split for video in videos).items() if split},
        "codecs": ", ".join(f"{count} {codec}" for codec, count in Counter(i.codec for i in infos).most_common()),
    }


def reading_of(infos: Sequence[VideoInfo], data: VideoDataModule, config: DictConfig) -> dict[str, Any]:
    """How fast and how large, as measured; room when packed is what `selfsup prepare … output=DIR` would take."""
    packing = packing_of(config, data)
    rates = measure_rates(
        infos, packing, clips=config.read_clips, frames=config.clip_frames, backend=data.reader, seed=config.seed
    )
    return {
        "clips read": rates.clips,
        "short side, pixels": packing.short_side_pixels,
        "clips a second a core, from the files": round(rates.raw_clips_per_second, 1),
        "clips a second a core, from packed frames": round(rates.packed_clips_per_second, 1),
        "times faster": round(rates.packed_clips_per_second / rates.raw_clips_per_second, 1),
        "room of the files, GB": round(sum(info.path.stat().st_size for info in infos) / 1e9, 3),
        "room when packed, GB": round(packing.room_bytes(infos, rates.bytes_per_frame) / 1e9, 3),
    }


def _print_numbers(title: str, numbers: dict[str, Any], console: Console) -> None:
    table = Table("what", title=title)
    table.add_column("", justify="right")
    for name, value in numbers.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    console.print(table)


def _print_findings(found: Sequence[Finding], console: Console) -> None:
    if not found:
        console.print("nothing is wrong")
        return
    table = Table("finding", title="findings", show_lines=True)
    table.add_column("videos", justify="right")
    table.add_column("what it means")
    table.add_column("what to do")
    table.add_column("such as")
    for one in found:
        names = [Path(video).name for video in one.videos[:FEW]]
        rest = len(one.videos) - len(names)
        shown = "\n".join([*names, *([f"and {rest} more"] if rest else [])])
        table.add_row(one.kind, str(len(one.videos) or ""), one.meaning, one.cure, shown)
    console.print(table)


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="doctor")
def main(config: DictConfig) -> None:
    """Entry point; see `in_one_sentence` for how it ends."""
    with in_one_sentence():
        examine(config, Path(HydraConfig.get().runtime.output_dir))
