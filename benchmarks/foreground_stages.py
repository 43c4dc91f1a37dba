"""What each stage of uNLC costs, beside an obvious implementation of the same stages in the same run.

    python benchmarks/foreground_stages.py --root DAVIS --sequence dog --frames 30

Seconds are the processor's, of one thread. The obvious implementation describes superpixel after superpixel with
scikit-image and numpy, and looks for neighbours by comparing each superpixel with all those in reach; shots, flow and
SLIC are the same in both, and are counted in both. Their votes must agree, or they did not do the same work; they are
not equal, since OpenCV's Lab and scikit-image's fall on either side of a histogram's edge now and then.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from numpy.typing import NDArray
from scipy.sparse import csr_array, lil_array
from skimage.color import rgb2gray, rgb2lab
from skimage.feature import hog
from torch import Tensor

from selfsup.data.consensus import Consensus
from selfsup.data.davis import davis
from selfsup.data.superpixels import Regions, Superpixels
from selfsup.data.unlc import Unlc
from selfsup.evaluation.foreground import read_masked
from selfsup.verb import CONFIGURATION

RANGES = [(0, 255)] * 3 + [(0, 100)] + [(-128, 127)] * 2  # of R, G, B, L, a and b


def obvious_descriptors(superpixels: Superpixels, frames: Tensor, regions: Regions) -> NDArray[np.float32]:
    """As `Superpixels.describe`, one superpixel after the other."""
    height, width = frames.shape[-2:]
    side = superpixels.patch_pixels
    rows = []
    for (row, column), number in zip(regions.centres(), regions.frame_numbers, strict=True):
        image = frames[number].permute(1, 2, 0).numpy()
        top, left = (
            int(np.clip(middle - side // 2, 0, length - side)) for middle, length in ((row, height), (column, width))
        )
        patch = image[top : top + side, left : left + side]
        channels = np.concatenate([patch, rgb2lab(patch)], axis=-1)
        gradients = hog(
            rgb2gray(patch),
            orientations=6,
            pixels_per_cell=(side // 3, side // 3),
            cells_per_block=(3, 3),
            block_norm="L2-Hys",
        )
        colours = [
            np.histogram(channels[..., n], superpixels.histogram_bins, bounds)[0] / side**2
            for n, bounds in enumerate(RANGES)
        ]
        rows.append(np.concatenate([gradients, *colours, [row / height, column / width]]))
    return np.stack(rows).astype(np.float32)


def obvious_graph(
    consensus: Consensus, descriptors: NDArray[np.float32], frame_numbers: NDArray[np.int64]
) -> csr_array:
    """As `Consensus.graph`, one superpixel after the other."""
    wanted = consensus.neighbours_a_frame * (2 * consensus.radius_frames + 1)
    weights = lil_array((len(descriptors), len(descriptors)), dtype=np.float32)
    for own, descriptor in enumerate(descriptors):
        near = np.flatnonzero(np.abs(frame_numbers - frame_numbers[own]) <= consensus.radius_frames)
        squared = ((descriptors[near] - descriptor) ** 2).sum(axis=1)
        nearest = np.argsort(squared, kind="stable")[:wanted]
        row = np.exp(-squared[nearest] / consensus.variance)
        row[near[nearest] == own] = 1
        weights[own, near[nearest]] = row / row.sum()
    return weights.tocsr()


def measure(frames: Tensor, unlc: Unlc) -> tuple[dict[str, float], dict[str, float], float]:
    """CPU seconds of each stage, ours and obvious, and the mean difference of the final votes."""

    def timed(name: str, into: list[dict[str, float]], function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.process_time()
        result = function(*arguments)
        for seconds in into:
            seconds[name] = time.process_time() - start
        return result

    ours: dict[str, float] = {}
    obvious: dict[str, float] = {}
    timed("shots", [ours, obvious], unlc.shots, frames)
    saliency = timed("flow and saliency", [ours, obvious], unlc.saliency, frames)
    regions = timed("superpixels (SLIC)", [ours, obvious], unlc.superpixels.divide, frames)
    described = timed("descriptors", [ours], unlc.superpixels.describe, frames, regions)
    described_obviously = timed("descriptors", [obvious], obvious_descriptors, unlc.superpixels, frames, regions)
    graph = timed("graph of neighbours", [ours], unlc.consensus.graph, described, regions.frame_numbers)
    graph_obviously = timed(
        "graph of neighbours", [obvious], obvious_graph, unlc.consensus, described_obviously, regions.frame_numbers
    )
    start = regions.mean(saliency.values)
    votes = timed("votes", [ours], unlc.consensus.vote, start, graph, regions)
    votes_obviously = timed("votes", [obvious], unlc.consensus.vote, start, graph_obviously, regions)
    return ours, obvious, float(np.abs(votes - votes_obviously).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of DAVIS 2016")
    parser.add_argument("--sequence", default="dog")
    parser.add_argument("--frames", type=int, default=30, help="from the first on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    [video] = [video for video in davis(options.root).videos if video.path.stem == options.sequence]
    frames = read_masked(video.path, short_side_pixels=240, max_frames=options.frames).frames
    with initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
        unlc = instantiate(compose("evaluate_foreground", ["foreground=unlc"]).foreground)
    ours, obvious, difference = measure(frames, unlc)
    print("| stage | seconds a frame | obvious | times faster |")
    print("|---|---|---|---|")
    ours["all"], obvious["all"] = sum(ours.values()), sum(obvious.values())
    for name, seconds in ours.items():
        mine, theirs = seconds / len(frames), obvious[name] / len(frames)
        print(f"| {name} | {mine:.4f} | {theirs:.4f} | {theirs / mine:.1f} |")
    print(f"{len(frames) / ours['all']:.1f} frames a second; votes differ by {difference:.4f} on average")
    print(json.dumps({"ours": ours, "obvious": obvious, "difference": difference, "frames": len(frames)}))


if __name__ == "__main__":
    main()
