"""Draws the picture of the README with the project's own videos, reader and sampler.

    python docs/picture.py

Writes docs/temporal_order.png: for three synthetic videos, the five frames that the sampler asks for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from selfsup.data.index import VideoInfo, build_index
from selfsup.data.reader import VideoReader
from selfsup.data.videos import synthetic
from selfsup.tasks.temporal_order import OrderSampler

OUTER, MIDDLE, WRONG = "#4c566a", "#2e8b57", "#c1443c"
COLOURS = {"a": WRONG, "b": OUTER, "c": MIDDLE, "d": OUTER, "e": WRONG}


def draw(axes: Axes, frame: Tensor, name: str, seconds: float | None) -> None:
    """One frame, uint8 (C, H, W), framed in the colour of its part in the question."""
    axes.imshow(frame.permute(1, 2, 0).numpy(), interpolation="bicubic")
    axes.set_axis_off()
    box = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, lw=5, ec=COLOURS[name], clip_on=False)
    axes.add_patch(box)
    title = name if seconds is None else f"{name}   {seconds:.2f} s"
    axes.set_title(title, fontsize=10, color=COLOURS[name], family="monospace")


def draw_video(rows: list[Axes], info: VideoInfo, sampler: OrderSampler, seed: int) -> None:
    """The five frames of one video, and after a gap the tuple in order and one that is not."""
    times = sampler.times(info, torch.Generator().manual_seed(seed))
    with VideoReader(info.path, short_side_pixels=96) as video:
        frames = dict(zip("abcde", video.frames(times), strict=True))
    for axes, name, seconds in zip(rows[:5], "abcde", times, strict=True):
        draw(axes, frames[name], name, seconds)
    rows[5].set_axis_off()
    for axes, name in zip(rows[6:9], "bcd", strict=True):
        draw(axes, frames[name], name, None)
    rows[9].set_axis_off()
    for axes, name in zip(rows[10:], "bad" if seed % 2 else "bed", strict=True):
        draw(axes, frames[name], name, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("temporal_order.png"))
    options = parser.parse_args()

    videos = {video.label: video.path for video in synthetic().videos if video.split == "test"}
    chosen = [videos[label] for label in sorted(filter(None, videos))[:3]]
    index = build_index(chosen, cache=None, processes=1)
    sampler = OrderSampler(span_seconds=1.2, gap_seconds=0.2, reach_seconds=0.4)  # conf/task/temporal_order.yaml
    widths = [1] * 5 + [0.25] + [1] * 3 + [0.25] + [1] * 3
    figure, grid = plt.subplots(3, 13, figsize=(12, 3.6), squeeze=False, gridspec_kw={"width_ratios": widths})
    for number, (row, path) in enumerate(zip(grid, chosen, strict=True)):
        draw_video(list(row), index.videos[path], sampler, seed=number)
    figure.tight_layout(rect=(0, 0, 1, 0.93), h_pad=1.0)
    for column, text, colour in (
        (2, "five frames in order", OUTER),
        (7, "c lies between b and d", MIDDLE),
        (11, "a or e does not", WRONG),
    ):
        box = grid[0, column].get_position()
        figure.text((box.x0 + box.x1) / 2, 0.96, text, ha="center", fontsize=12, color=colour)
    figure.savefig(options.output, dpi=72)
    print(f"{options.output}: {options.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
