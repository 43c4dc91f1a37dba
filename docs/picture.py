"""Draws pictures of the README with the project's own videos, samplers and labellers.

    python docs/picture.py

Writes temporal_order.png, of three synthetic videos the five frames that the sampler asks for, and
motion_segmentation.png, of four what moves in them: a frame, its flow, the label made of it, and the truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from hydra.utils import instantiate
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from omegaconf import OmegaConf
from torch import Tensor
from torchvision.utils import flow_to_image

from selfsup.data.flow import Dis, flow
from selfsup.data.index import VideoInfo, build_index
from selfsup.data.reader import VideoReader
from selfsup.data.videos import synthetic
from selfsup.tasks.temporal_order import OrderSampler
from selfsup.verb import CONFIGURATION

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


def draw_order(output: Path) -> None:
    """The question of task=temporal_order."""
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
    figure.savefig(output, dpi=72)


def draw_foreground(output: Path) -> None:
    """What foreground=motion_residual finds, in columns of one video each."""
    labeller = instantiate(OmegaConf.load(CONFIGURATION / "foreground" / "motion_residual.yaml"))
    listed = synthetic(12, texture="fine", size_pixels=320).videos
    chosen = list({video.label: video.path for video in listed}.values())[:4]
    index = build_index(chosen, cache=None, processes=1)
    titles = ("a frame", "its flow", "label, from motion", "truth")
    figure, grid = plt.subplots(4, len(chosen), figsize=(1.6 * len(chosen) + 1, 6.2), layout="constrained")
    for column, path in zip(grid.T, chosen, strict=True):
        info = index.videos[path]
        seconds = np.arange(0, info.duration_seconds, 0.1)
        with info.open() as video:
            frames = video.frames(seconds)  # (T, 3, H, W)
            numbers = video.numbers(seconds)
        labels, truth = labeller(frames, seconds), info.true_masks()
        assert truth is not None, "synthetic videos have true masks"
        best = int(labels.confidence[:-1].argmax())
        motion = flow(frames[best : best + 2], Dis())[0]
        images = (frames[best], flow_to_image(motion), labels.masks[best], truth[numbers[best]])
        for axes, image in zip(column, images, strict=True):
            shown = torch.as_tensor(image)
            axes.imshow(shown.permute(1, 2, 0) if shown.ndim == 3 else shown, cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
    for axes, title in zip(grid[:, 0], titles, strict=True):
        axes.set_ylabel(title, fontsize=10)
    figure.savefig(output, dpi=72)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    for name, draw_it in {"temporal_order": draw_order, "motion_segmentation": draw_foreground}.items():
        output = options.folder / f"{name}.png"
        draw_it(output)
        print(f"{output}: {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
