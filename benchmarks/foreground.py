"""How well motion alone finds the foreground of DAVIS 2016, and what each labeller costs.

    python benchmarks/foreground.py --root DAVIS --frames 30 --steps

`--root` is a folder of DAVIS, read as data=davis reads it, at the size that its frames have. J is the measure of DAVIS
(Perazzi et al. 2016, CVPR): intersection over union, averaged over the frames of a sequence but the first and the last,
then over sequences. Rejected frames count as their masks are. Beside the labellers stand rows that look at nothing.
Seconds are the processor's, of one thread: a busy machine changes them less.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import draw_segmentation_masks, make_grid, save_image

from selfsup.data.consensus import without_small_blobs
from selfsup.data.davis import davis
from selfsup.data.foreground import Labels, Rejection
from selfsup.data.motion_residual import MotionResidual
from selfsup.data.true_masks import read_masks
from selfsup.data.unlc import Unlc
from selfsup.evaluation.foreground import constant_masks, read_masked, region_similarity
from selfsup.verb import CONFIGURATION

LABELLERS = {
    "unlc": ("unlc",),
    "unlc, the camera left in": ("unlc", "foreground.saliency.camera=null"),
    "motion_residual": ("motion_residual",),
    "flow_threshold": ("flow_threshold",),
    "flow_threshold, the camera left in": ("flow_threshold", "foreground.camera=null"),
}
THRESHOLDS = (0.4, 0.5, 0.7)
PICTURES = 4  # a sequence


def labeller(name: str, *overrides: str) -> Any:
    """As the configuration states it."""
    with initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
        return instantiate(compose("train", [f"foreground={name}", *overrides]).foreground)


def load(video: Path, count: int | None) -> tuple[Tensor, NDArray[np.bool_]]:
    """The first frames of a sequence, uint8 (T, 3, H, W), and what is foreground, bool (T, H, W)."""
    truth = read_masks(video)
    assert truth is not None, "davis has written them"
    masked = read_masked(video, min(truth.shape[1:]), count)
    return masked.frames, masked.truth


def step_rows(frames: Tensor) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """What each step brings: masks (T, H, W) in [0, 1] of uNLC and of the motion residual, with steps changed."""
    unlc, residual = labeller("unlc"), labeller("motion_residual")
    assert isinstance(unlc, Unlc)
    assert isinstance(residual, MotionResidual)
    regions = unlc.superpixels.divide(frames)

    def agreed(saliency: NDArray[np.float32], consensus: Any = unlc.consensus, **parts: bool) -> NDArray[np.float32]:
        chosen = replace(unlc.superpixels, **parts).describe(frames, regions) if parts else descriptors
        graph = consensus.graph(chosen, regions.frame_numbers) if parts else whole
        return regions.paint(consensus.vote(regions.mean(saliency), graph, regions))

    descriptors = unlc.superpixels.describe(frames, regions)
    whole = unlc.consensus.graph(descriptors, regions.frame_numbers)
    faithful = replace(unlc.saliency, camera=None)(frames).values
    yield "uNLC, the camera left in", agreed(faithful)
    compensated = unlc.saliency(frames).values
    yield "+ camera compensated (`unlc`)", agreed(compensated)
    yield "the same, saliency alone", compensated
    yield "the same, no colour in the descriptor", agreed(compensated, colour=False)
    yield "the same, no location in the descriptor", agreed(compensated, location=False)
    yield "+ flow at full size", agreed(replace(unlc.saliency, side_pixels=None)(frames).values)
    blind = replace(residual, unlike_levels=1e-3)  # does not ask the picture
    homography, _ = replace(blind, background=labeller("flow_threshold").camera).score(frames)
    yield "+ score over the frame's typical miss", agreed(homography, residual.consensus)
    smooth, _ = blind.score(frames)
    yield "+ affine background, reweighted", agreed(smooth, residual.consensus)
    yield "the same, score of pixels alone", smooth
    yield "the same, mean over superpixels alone", regions.paint(regions.mean(smooth))
    final = agreed(residual.score(frames)[0], residual.consensus)
    cleaned = without_small_blobs(final, residual.blob_threshold, residual.blob_share)
    yield "+ the picture asked, small blobs away (`motion_residual`)", cleaned


def timed(function: Callable[..., Labels], *arguments: Any) -> tuple[Labels, float]:
    """The result and the processor's seconds."""
    start = time.process_time()
    result = function(*arguments)
    return result, time.process_time() - start


def save_pictures(path: Path, frames: Tensor, masks: Tensor, truth: NDArray[np.bool_]) -> None:
    """Some frames with the truth in green above, the mask in red below."""
    shown = np.linspace(1, len(frames) - 2, PICTURES).round().astype(int)
    pairs = [(frames[n], torch.from_numpy(truth[n]), "green") for n in shown]
    pairs += [(frames[n], masks[n] > 0.5, "red") for n in shown]
    drawn = [draw_segmentation_masks(frame, mask, alpha=0.5, colors=colour) for frame, mask, colour in pairs]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(make_grid(torch.stack(drawn).float() / 255, nrow=len(shown)), path)


def measure_labellers(options: argparse.Namespace, sequences: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Row by row: J at each threshold by sequence, rejections, seconds a frame."""
    rows: dict[str, dict[str, Any]] = {}
    for sequence, video in sequences.items():
        frames, truth = load(video, options.frames)
        for name, mask in constant_masks(truth.shape).items():
            row = rows.setdefault(name, {"J": {}, "seconds": 0.0, "frames": 0, "rejected": {}})
            row["J"][sequence] = [region_similarity(mask, truth)] * len(THRESHOLDS)
            row["frames"] += len(frames)
        for name in options.labellers:
            labels, seconds = timed(labeller(*LABELLERS[name]), frames, np.arange(len(frames)) / 24)
            masks = labels.masks.numpy()
            row = rows.setdefault(name, {"J": {}, "seconds": 0.0, "frames": 0, "rejected": {}})
            row["J"][sequence] = [region_similarity(masks > threshold, truth) for threshold in THRESHOLDS]
            row["seconds"] += seconds
            row["frames"] += len(frames)
            for reason, count in labels.counts().items():
                row["rejected"][reason.name] = row["rejected"].get(reason.name, 0) + count
            print(f"{sequence}: {name} {row['J'][sequence][1]:.3f}, {seconds / len(frames):.3f} s a frame", flush=True)
            if options.pictures:
                kept = options.pictures / f"{sequence}-{name.replace(', ', '-').replace(' ', '-')}.png"
                save_pictures(kept, frames, labels.masks, truth)
    return rows


def measure_steps(options: argparse.Namespace, sequences: dict[str, Path]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for sequence, video in sequences.items():
        frames, truth = load(video, options.frames)
        for name, masks in step_rows(frames):
            row = rows.setdefault(name, {"J": {}})
            row["J"][sequence] = [region_similarity(masks > threshold, truth) for threshold in THRESHOLDS]
            print(f"{sequence}: {name} {row['J'][sequence][1]:.3f}", flush=True)
    return rows


def table(rows: dict[str, dict[str, Any]], sequences: list[str]) -> str:
    """Markdown: mean J at each threshold, J at 0.5 by sequence, seconds and rejections where they are known."""
    lines = [
        f"| | {' | '.join(f'J at {threshold:g}' for threshold in THRESHOLDS)} | {' | '.join(sequences)} "
        "| s a frame | rejected |",
        "|---" * (len(THRESHOLDS) + len(sequences) + 3) + "|",
    ]
    for name, row in rows.items():
        means = np.mean([row["J"][sequence] for sequence in sequences], axis=0)
        cells = [f"{100 * value:.1f}" for value in means]
        cells += [f"{100 * row['J'][sequence][1]:.0f}" for sequence in sequences]
        cells.append(f"{row['seconds'] / row['frames']:.2f}" if row.get("seconds") else "")
        rejected = ", ".join(f"{count} {Rejection[key].value}" for key, count in row.get("rejected", {}).items())
        lines.append(f"| {name} | {' | '.join(cells)} | {rejected} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of DAVIS 2016")
    parser.add_argument("--frames", type=int, help="of each sequence, from its first on; all by default")
    parser.add_argument("--sequences", nargs="+", help="all by default")
    parser.add_argument("--labellers", nargs="*", default=list(LABELLERS), choices=list(LABELLERS))
    parser.add_argument("--steps", action="store_true", help="say what each step brings, too")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the masks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sequences = {video.path.stem: video.path for video in davis(options.root).videos}
    if unknown := [name for name in options.sequences or () if name not in sequences]:
        parser.error(f"--sequences: no sequence {unknown[0]!r} in {options.root}; there are {', '.join(sequences)}")
    sequences = {name: sequences[name] for name in options.sequences or sequences}
    result = {"labellers": measure_labellers(options, sequences)}
    if options.steps:
        result["steps"] = measure_steps(options, sequences)
    for rows in result.values():
        print(f"\n{table(rows, list(sequences))}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
