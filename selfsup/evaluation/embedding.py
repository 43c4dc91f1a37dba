"""Videos and their features as files that interactive browsers of embeddings open.

TensorBoard's projector (Smilkov et al. 2016, arXiv 1611.05469) draws features in three dimensions, with a thumbnail a
video. Renumics Spotlight shows a table of the videos, which play, beside the map. Both are other people's programs;
here their files are written.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from selfsup.data.index import VideoInfo
from selfsup.data.listing import printable
from selfsup.data.short_video import write_short_video
from selfsup.evaluation.video_neighbours import FPS, middle_clip

SPRITE_PIXELS = 48  # side of a thumbnail in the projector, whose picture of all has 8192 pixels a side at most
COLUMNS = ("name", "split", "label", "group", "clip", "thumbnail", "path", "features")


@dataclass(frozen=True)
class Embedded:
    """One video: what is known of it, and its features (D,). `label` and `group` are None where there is none."""

    info: VideoInfo
    split: str
    label: str | None
    group: str | None
    features: Tensor


def write_table(folder: Path, videos: Iterable[Embedded]) -> tuple[Path, Tensor]:
    """Writes `videos.csv`, a row a video, with `thumbnails/` and `clips/` beside it.

    Files are named relative to the table; `features` is a list in JSON.

    Args:
        folder: written to, made where it is missing.
        videos: in the order of the rows.

    Returns:
        The path of the table, and the thumbnails, uint8 (V, 3, 48, 48), in its order.

    Raises ValueError or OSError where a file cannot be read any more.
    """
    for name in ("thumbnails", "clips"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    path, thumbnails = folder / "videos.csv", []
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, video in enumerate(videos):
            clip = middle_clip(video.info)
            picture, played = Path("thumbnails", f"{number:05d}.png"), Path("clips", f"{number:05d}.mp4")
            middle = clip[len(clip) // 2]
            F.to_pil_image(middle).save(folder / picture)
            write_short_video(folder / played, clip, FPS)
            thumbnails.append(F.resize(middle, [SPRITE_PIXELS, SPRITE_PIXELS], antialias=True))
            known = [video.split, video.label or "", video.group or "", played.as_posix(), picture.as_posix()]
            features = json.dumps([round(value, 6) for value in video.features.tolist()])
            where = printable(video.info.path.absolute())
            writer.writerow([printable(video.info.path.name), *map(printable, known), where, features])
    return path, torch.stack(thumbnails)


def write_projector(folder: Path, videos: Sequence[Embedded], thumbnails: Tensor) -> None:
    """Writes what TensorBoard's projector reads, by PyTorch's own writer of it.

    Args:
        folder: for `tensorboard --logdir`.
        videos: two or more.
        thumbnails: of each, uint8 (V, 3, H, H).

    Raises ImportError where tensorboard is not installed.
    """
    from torch.utils.tensorboard import SummaryWriter  # wants the extra `tensorboard`

    rows = [
        [_in_one_cell(text) for text in (video.info.path.name, video.split, video.label, video.group)]
        for video in videos
    ]
    with SummaryWriter(str(folder)) as writer:
        values = torch.stack([video.features for video in videos])
        header = ["name", "split", "label", "group"]
        writer.add_embedding(values, rows, thumbnails.float() / 255, tag="videos", metadata_header=header)


def _in_one_cell(text: str | None) -> str:
    """The text in a table that is divided by tabs and line ends, and has no way to quote them."""
    return " ".join(printable(text or "-").split()) or "-"
