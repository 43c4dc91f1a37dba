"""Do deep features change more slowly? `python benchmarks/velocity.py --root DAVIS --encoders A.safetensors …`.

The analysis of figure 4 in Shelhamer et al. 2016 (arXiv 1608.03609, section 3) for features: how much the map of each
stage changes from one frame to the next, as a share of its length (||new - old|| / ||old||), over the sequences of
DAVIS, each squeezed into the square that the encoder was trained on. Prints a Markdown table, a row an encoder and one
for an untrained ResNet-18; `--picture` draws one sequence of the first encoder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as F

import selfsup.weights
from selfsup.data.davis import davis
from selfsup.data.reader import VideoReader
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.resnet import ResNet
from selfsup.streaming.change import velocities


def speeds(encoder: Encoder, videos: dict[str, Path], count: int) -> dict[str, NDArray[np.float32]]:
    """(S + 1, T - 1) of each sequence: of the frames themselves, and after each of S stages."""
    found = {}
    assert encoder.input is not None
    side = encoder.input.size_pixels
    for name, path in videos.items():
        with VideoReader(path) as video:
            frames = video.frames(video.times_seconds[:count].tolist())  # uint8 (T, 3, H, W)
        seen = F.resize(frames, [side, side], antialias=True)
        found[name] = velocities(encoder, encoder.input.normalize(seen.unsqueeze(2))[:, :, 0]).numpy()
    return found


def draw(path: Path, sequence: str, values: NDArray[np.float32], stages: list[str]) -> None:
    """A line a stage, over the frames of one sequence."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(8, 3.5), layout="constrained")
    axes = picture.subplots()
    for stage, line in zip(stages, values, strict=True):
        axes.plot(range(1, len(line) + 1), line, label=f"{stage}: {line.mean():.3f}")
    axes.set(xlabel=f"frame of {sequence}", ylabel="relative change since the frame before", ylim=(0, None))
    axes.legend(ncols=3, fontsize="small")
    picture.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of DAVIS")
    parser.add_argument("--encoders", type=Path, nargs="+", required=True, help="files of ResNets, encoder.safetensors")
    parser.add_argument("--frames", type=int, default=40, help="of each sequence, from its first on")
    parser.add_argument("--picture", type=Path, help="PNG to write")
    parser.add_argument("--drawn", help="the sequence of the picture; by default the first")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    videos = {video.path.stem: video.path for video in davis(options.root).videos}
    drawn = options.drawn or min(videos)
    if drawn not in videos:
        parser.error(f"--drawn: no sequence {drawn!r} in {options.root}; there are {', '.join(videos)}")
    encoders: dict[str, Encoder] = {str(path): selfsup.weights.load(path) for path in options.encoders}
    first = next(iter(encoders.values()))
    untrained = ResNet()
    untrained.input = first.input
    stages = ["frame", *first.stage_names]
    print(f"| {' | '.join(['encoder', *stages])} |\n|---|{'---:|' * len(stages)}")
    for name, encoder in {**encoders, "untrained": untrained}.items():
        found = speeds(encoder, videos, options.frames)
        means = np.mean([values.mean(axis=1) for values in found.values()], axis=0)
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in means)} |", flush=True)
        if options.picture and encoder is first:
            draw(options.picture, drawn, found[drawn], stages)


if __name__ == "__main__":
    main()
