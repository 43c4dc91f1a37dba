"""What wrong labels cost: `python benchmarks/noisy_labels.py --folder RUNS [--seeds 0 1 2] [--settings key=value …]`.

Trains task=motion_segmentation on the true masks of the synthetic videos, spoiled in a controlled way (the study of
Pathak et al. 2017, arXiv 1612.06370, section 4), and prints a Markdown table, a row a condition: the intersection over
union of the network with the true masks of held-out still frames, and the linear probe of its encoder. Every encoder
is probed on all videos, those too that taught it nothing. A run whose summary.json is there is not trained again;
the settings go to `selfsup train`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from selfsup import weights
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.sampling import UniformSampler
from selfsup.tasks.task import Task
from selfsup.verb import CONFIGURATION

# Of fewer videos more frames are shown, so that every training takes as many steps.
CONDITIONS = {
    "true masks": (),
    "boundary moved by up to 0.1": ("foreground.boundary_share=0.1",),
    "boundary moved by up to 0.2": ("foreground.boundary_share=0.2",),
    "boundary moved by up to 0.4": ("foreground.boundary_share=0.4",),
    "0.2 of the box cut off": ("foreground.truncated_share=0.2",),
    "0.5 of the box cut off": ("foreground.truncated_share=0.5",),
    "half of the videos": ("data.labels_fraction=0.5", "data.clips_per_video=4"),
    "a quarter of the videos": ("data.labels_fraction=0.25", "data.clips_per_video=8"),
}
SETTINGS = (
    "task=motion_segmentation",
    "foreground=noisy_masks",
    "data=synthetic",
    "data.clips_per_video=2",
    "trainer=cpu",
    "data.num_workers=0",
    "pictures.every_epochs=1000",
    "probe.max_videos=1",  # the run's own probe sees fewer videos where the training does; ours is below
)


def train(condition: str, seed: int, folder: Path, more: Sequence[str]) -> dict[str, Any]:
    """The summary of one run, which is trained unless it is there."""
    summary = folder / "summary.json"
    if not summary.exists():
        chosen = [*SETTINGS, *more, *CONDITIONS[condition], f"seed={seed}", f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, "-m", "selfsup.train", *chosen], check=True, stdout=sys.stderr)
    return json.loads(summary.read_text(encoding="utf-8"))


def probe(folders: dict[str, Path], seed: int, more: Sequence[str]) -> dict[str, dict[str, float]]:
    """Linear probe of each encoder and of the untrained one, all on the same videos, and chance."""
    with initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
        config = compose("train", [*SETTINGS, *more, f"seed={seed}", "probe.max_videos=2000"])
    pl.seed_everything(seed, verbose=False)
    encoders = {"untrained": instantiate(config.encoder)}
    task: Task = instantiate(config.task, _partial_=True)(encoder=encoders["untrained"])
    data: VideoDataModule = instantiate(config.data, _partial_=True)(sampler=UniformSampler(1))
    data.setup()
    for name, folder in folders.items():
        encoders[name] = weights.load(folder / "encoder.safetensors")
    rows = instantiate(config.probe)(encoders, data, task.normalize)
    [row] = [row for row in rows if str(row["figure"]).startswith("linear probe")]
    return {name: float(row[name]) for name in (*encoders, "chance")}


def spread(values: Sequence[float]) -> str:
    """ "76.1 (75.0 77.2) %": the mean and the value of each seed."""
    each = " ".join(f"{100 * value:.1f}" for value in values)
    return f"{100 * statistics.fmean(values):.1f} ({each}) %"


def table(overlaps: dict[str, list[tuple[float, float]]], probes: Sequence[dict[str, float]]) -> str:
    """A row a condition; `overlaps` holds (IoU with the truth, that of the best constant answer) of each seed."""
    lines = ["| labels | IoU with the truth | linear probe | against true masks |", "|---|---:|---:|---:|"]
    first = next(iter(overlaps))
    for name, pairs in overlaps.items():
        gain = [100 * (one[name] - one[first]) for one in probes]
        against = "" if name == first else f"{statistics.fmean(gain):+.1f} ({' '.join(f'{one:+.1f}' for one in gain)})"
        learned = spread([one[name] for one in probes])
        lines.append(f"| {name} | {spread([iou for iou, _ in pairs])} | {learned} | {against} |")
    lines.append(f"| untrained | | {spread([one['untrained'] for one in probes])} | |")
    guesses = [guess for _, guess in overlaps[first]]
    lines.append(f"| chance | {spread(guesses)} | {spread([one['chance'] for one in probes])} | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the runs, which are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS), choices=list(CONDITIONS))
    parser.add_argument("--settings", nargs="*", default=[], help="key=value for every training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    overlaps: dict[str, list[tuple[float, float]]] = {name: [] for name in options.conditions}
    probes = []
    for seed in options.seeds:
        folders = {name: options.folder.absolute() / f"{name.replace(' ', '_')}-{seed}" for name in options.conditions}
        for name, folder in folders.items():
            figures = train(name, seed, folder, options.settings)["figures"]
            [figure] = [figure for figure in figures if figure["figure"] == "iou, truth"]
            overlaps[name].append((figure["value"], figure["chance"]))
        probes.append(probe(folders, seed, options.settings))
        print(f"seed {seed}: {json.dumps(probes[-1])}", file=sys.stderr, flush=True)
    print(table(overlaps, probes))


if __name__ == "__main__":
    main()
