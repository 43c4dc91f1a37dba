"""Nearest training videos of a held-out video, by the features of a frozen encoder: as short videos that play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from selfsup.data.index import VideoInfo
from selfsup.data.listing import printable
from selfsup.data.short_video import write_short_video
from selfsup.evaluation.neighbours import write_record

SIDE_PIXELS = 96
FPS = 8.0
MOST_SECONDS = 3.0
TITLE = "Nearest training videos of a held-out video"


@dataclass(frozen=True)
class Featured:
    """Videos, their labels and their features: `values` (V, D), in one order."""

    videos: Sequence[VideoInfo]
    labels: Sequence[str | None]
    values: Tensor


def write_video_neighbours(
    folder: Path, queries: Featured, gallery: Featured, *, asked: int = 4, count: int = 4
) -> Path:
    """Writes the nearest videos of the gallery, by cosine, of some queries, and returns `neighbours.json`.

    Each is written as at most three seconds of its middle, in the square in the middle of its frames.

    Args:
        folder: written to, made where it is missing.
        queries: held-out videos, of which `asked`, spread evenly, are shown.
        gallery: training videos.
        asked: most queries.
        count: of neighbours each.

    Raises ValueError or OSError where a file cannot be read any more.
    """
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    count = min(count, len(gallery.videos))
    search = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(gallery.values.numpy())
    rows = []
    for place in np.linspace(0, len(queries.videos) - 1, min(asked, len(queries.videos))).astype(int).tolist():
        found = search.kneighbors(queries.values[place][None].numpy(), return_distance=False)[0].tolist()
        label = queries.labels[place]
        cells = [_cell(folder, f"query-{place:04d}", queries, place, "query")]
        for number in found:
            kind = "own" if label is not None and gallery.labels[number] == label else "other"
            cells.append(_cell(folder, f"gallery-{number:04d}", gallery, number, kind))
        rows.append(cells)
    labelled = any(label is not None for label in queries.labels)
    return write_record(folder, {f"{TITLE}, green where they are of its class" if labelled else TITLE: rows})


def _cell(folder: Path, name: str, videos: Featured, place: int, kind: str) -> dict[str, str]:
    path = folder / "videos" / f"{name}.mp4"
    if not path.exists():
        write_short_video(path, middle_clip(videos.videos[place]), FPS)
    label = videos.labels[place]
    caption = printable(videos.videos[place].path.name)
    return {
        "kind": kind,
        "caption": caption if label is None else f"{printable(label)}, {caption}",
        "video": path.relative_to(folder).as_posix(),
    }


def middle_clip(info: VideoInfo) -> Tensor:
    """At most three seconds from the middle of a video, eight frames a second, square, uint8 (T, 3, 96, 96).

    Raises ValueError or OSError where the file cannot be read any more.
    """
    last = max(0.0, info.duration_seconds - 1 / info.fps)
    shown = min(MOST_SECONDS, last)
    times = torch.arange(0, shown + 1e-6, 1 / FPS) + (last - shown) / 2
    with info.open(short_side_pixels=SIDE_PIXELS) as video:
        frames = video.frames([min(time, video.duration_seconds) for time in times.tolist()])
    return F.center_crop(frames, [SIDE_PIXELS, SIDE_PIXELS])
