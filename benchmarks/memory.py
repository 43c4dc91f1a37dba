"""Peak memory of a training step, by how many stages of the encoder are frozen.

    python benchmarks/memory.py

One step of action recognition, forward, backward and optimizer, on noise: ResNet-18, 16 clips of 8 frames of
112 x 112 pixels. Each depth runs in a fresh process, in the number format that training would choose. Counted is what
the step adds at its peak to what was there before it: on a GPU by PyTorch's allocator, on the CPU (Linux only) by the
kernel's high-water mark of resident memory, VmHWM, set back before the step. `ru_maxrss` would not do: a process
inherits it from its parent. Resident memory holds what the operators allocate beside tensors too.

The peak is the greater of two: the forward pass through the first stage, which no freezing saves, and what is kept for
the backward pass with gradients and the optimizer's state. It falls with depth until the first is all that is left.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import multiprocessing
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from selfsup.data.catalogue import Catalogue
from selfsup.data.stored import StoredVideo
from selfsup.precision import best_device, best_precision
from selfsup.tasks.action_recognition import ActionRecognition
from selfsup.verb import CONFIGURATION

CLASSES = 10
NOISE = 0.02  # share by which resident memory may differ from one process to the next


class Step(NamedTuple):
    """What is measured in one process."""

    freeze: str
    clips: int
    frames: int
    overrides: tuple[str, ...]


def configuration(overrides: tuple[str, ...]) -> DictConfig:
    """Of a training of action recognition, less the run's folder."""
    own = ["task=action_recognition", "data.size_pixels=112", "checkpoint=null", "pictures=null"]
    with initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
        config = compose("train", [*own, *overrides])
    del config.logger
    OmegaConf.resolve(config)
    return config


def catalogue() -> Catalogue:
    """Labels enough to make a classifier; there are no such videos."""
    names = [str(number) for number in range(CLASSES)]
    rows: dict[str, list[str]] = {"train": names, "val": [], "test": []}
    videos = {split: [StoredVideo(Path(name), row) for row, name in enumerate(of)] for split, of in rows.items()}
    return Catalogue(videos=videos, labels={**rows}, groups=rows, left_out=[], notes=[])


def peak_mib(step: Step) -> float:
    """MiB that the step adds at its peak."""
    config = configuration((*step.overrides, f"task.freeze={step.freeze}"))
    device = best_device()
    task: ActionRecognition = instantiate(config.task, _partial_=True)(encoder=instantiate(config.encoder))
    task.begin(catalogue())
    task.train().to(device)
    optimizer = task.optimizer(task.parameter_groups())
    size = config.data.size_pixels
    batch = {
        "clip": torch.randint(0, 256, (step.clips, 3, step.frames, size, size), dtype=torch.uint8, device=device),
        "label": torch.arange(step.clips, device=device) % CLASSES,
    }
    low = best_precision("auto") == "bf16-mixed"
    before = start_watch(device)
    with torch.autocast(device.type, torch.bfloat16) if low else nullcontext():
        loss = task.step({**batch, "clip": task.prepare(batch["clip"])})["loss"]
    loss.backward()
    optimizer.step()
    return (peak_bytes(device) - before) / 2**20


def start_watch(device: torch.device) -> int:
    """Bytes in use now; the peak counts from here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    # What building the network left free in the heap would otherwise be filled again unseen.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status_bytes("VmRSS")


def peak_bytes(device: torch.device) -> int:
    """The most bytes in use since `start_watch`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else status_bytes("VmHWM")


def status_bytes(name: str) -> int:
    """A row of /proc/self/status."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(rows[name].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=16, help="a batch (default: 16)")
    parser.add_argument("--frames", type=int, default=8, help="a clip (default: 8)")
    parser.add_argument("--repeats", type=int, default=3, help="processes a depth, of which the median counts")
    parser.add_argument("overrides", nargs="*", help="key=value, as for train.py")
    options = parser.parse_args()
    stages = instantiate(configuration(tuple(options.overrides)).encoder).stage_names
    depths = ["none", *stages[:-1], "all"]
    steps = [
        Step(freeze, options.clips, options.frames, tuple(options.overrides))
        for freeze in depths
        for _ in range(options.repeats)
    ]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        found = pool.map(peak_mib, steps, chunksize=1)
    groups = [sorted(found[start : start + options.repeats]) for start in range(0, len(found), options.repeats)]
    medians = [group[len(group) // 2] for group in groups]
    print("| `task.freeze` | peak, MiB | of none | least to greatest |")
    print("|---|---|---|---|")
    for freeze, group, median in zip(depths, groups, medians, strict=True):
        print(f"| {freeze} | {median:.0f} | {median / medians[0]:.2f} | {group[0]:.0f} to {group[-1]:.0f} |")
    rises = any(deeper > (1 + NOISE) * depth for depth, deeper in itertools.pairwise(medians))
    course = "RISES with a stage" if rises else "rises with no stage"
    print(f"\n{best_device().type}, {best_precision('auto')}: {medians[0]:.0f} to {medians[-1]:.0f} MiB, {course}")


if __name__ == "__main__":
    main()
