"""What Lightning adds to a training step, against a bare PyTorch loop that does the same work.

    python benchmarks/training.py --steps 40 --repeats 5

Both train the task of the configuration from the same weights on the same batches, with the same augmentation,
optimizer, schedule and number format; Lightning with the callbacks, logger and progress bar of a run. They take
turns, so that a busy machine slows both alike. The ratio is the median over repeats of (Lightning's seconds a step /
the bare loop's), by the clock and by the processor, whose time a busy machine changes less. Both must end in the same
weights, or they did not do the same work.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader

from selfsup.callbacks.quarantine import Quarantine
from selfsup.data.dataset import derive_seed
from selfsup.precision import best_precision
from selfsup.tasks.task import Task
from selfsup.train import make_trainer
from selfsup.verb import CONFIGURATION, quiet

WARM_UP_STEPS = 3  # not counted


class Moment(NamedTuple):
    """Or a time span: seconds of the clock, and of the processor over all threads."""

    wall: float
    cpu: float


def now() -> Moment:
    return Moment(time.perf_counter(), time.process_time())


class Stopwatch(pl.Callback):
    """Notes when each step ended; a step under Lightning is all that happens from one end to the next."""

    def __init__(self) -> None:
        self.ends: list[Moment] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.ends.append(now())


def seconds_a_step(ends: list[Moment]) -> Moment:
    first, last, steps = ends[WARM_UP_STEPS - 1], ends[-1], len(ends) - WARM_UP_STEPS
    return Moment((last.wall - first.wall) / steps, (last.cpu - first.cpu) / steps)


def make_batches(config: DictConfig, steps: int) -> DataLoader:
    """Batches of noise, "clip" uint8 (B, 3, 5, H, W): a step takes as long on it as on videos."""
    size = config.data.size_pixels
    generator = torch.Generator().manual_seed(0)
    shape = (config.data.batch_size, 3, 5, size, size)
    batches: Any = [
        {"clip": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator), "failures": []}
        for _ in range(steps)
    ]
    return DataLoader(batches, batch_size=None)  # they are batches already


def run_bare(task: Task, batches: DataLoader, seed: int, autocast: bool) -> Moment:
    """Trains `task` on the batches, one epoch; returns seconds a step."""
    task.train()
    optimizer = task.optimizer([parameter for parameter in task.parameters() if parameter.requires_grad])
    schedule = task.schedule(optimizer, total_steps=len(batches)) if task.schedule is not None else None
    ends = []
    for number, batch in enumerate(batches):
        torch.manual_seed(derive_seed(seed, 0, number, 0))
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            loss: Tensor = task.step({**batch, "clip": task.prepare(batch["clip"])})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        ends.append(now())
    return seconds_a_step(ends)


def run_lightning(task: Task, batches: DataLoader, config: DictConfig, folder: Path) -> Moment:
    """The same with the trainer, callbacks and logger of a run."""
    stopwatch = Stopwatch()
    data = instantiate(config.data, _partial_=True)(sampler=task.sampler)
    callbacks = [instantiate(config.checkpoint), Quarantine(data, data.max_failed_fraction), stopwatch]
    trainer = make_trainer(config, folder, callbacks, checkpoint=None)
    trainer.fit(task, train_dataloaders=batches)
    return seconds_a_step(stopwatch.ends)


def differences(one: Task, other: Task) -> list[str]:
    """The names of the tensors that are not equal to the last bit."""
    tensors = other.state_dict()
    return [name for name, tensor in one.state_dict().items() if not torch.equal(tensor, tensors[name])]


def compare(config: DictConfig, steps: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Both loops in turn, `repeats` times; one unmeasured turn first."""
    pl.seed_everything(config.seed, verbose=False)
    fresh: Task = instantiate(config.task, _partial_=True)(encoder=instantiate(config.encoder))
    autocast = best_precision(config.trainer.accelerator) == "bf16-mixed"
    batches = make_batches(config, steps)
    seconds: dict[str, list[Moment]] = {"bare": [], "lightning": []}
    for repeat in range(repeats + 1):
        tasks = {name: copy.deepcopy(fresh) for name in seconds}
        for name in sorted(seconds, reverse=repeat % 2 == 0):
            if name == "bare":
                spent = run_bare(tasks[name], batches, config.seed, autocast)
            else:
                spent = run_lightning(tasks[name], batches, config, folder)
            if repeat > 0:
                seconds[name].append(spent)
        if differing := differences(tasks["bare"], tasks["lightning"]):
            raise SystemExit(f"the loops end in different weights ({differing[0]}): they did not do the same work")
    pairs = list(zip(seconds["bare"], seconds["lightning"], strict=True))
    return {
        "ratio": statistics.median(other.wall / bare.wall for bare, other in pairs),
        "cpu_ratio": statistics.median(other.cpu / bare.cpu for bare, other in pairs),
        "ratios": [round(other.wall / bare.wall, 4) for bare, other in pairs],
        "cpu_ratios": [round(other.cpu / bare.cpu, 4) for bare, other in pairs],
        "bare_ms": 1e3 * statistics.median(bare.wall for bare, _ in pairs),
        "lightning_ms": 1e3 * statistics.median(other.wall for _, other in pairs),
        "steps": steps,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "bf16": autocast,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help=f"a repeat, of which {WARM_UP_STEPS} are not counted")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("overrides", nargs="*", help="key=value, as for train.py")
    options = parser.parse_args()
    if options.steps <= WARM_UP_STEPS:
        parser.error(f"--steps {options.steps}: give more than the {WARM_UP_STEPS} that are not counted")
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        own = [
            f"checkpoint.folder={folder}",
            "pictures=null",
            f"logger.csv.save_dir={folder}",
            "trainer=cpu",
            "trainer.max_epochs=1",
        ]
        with initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
            config = compose("train", [*own, *options.overrides])
        OmegaConf.resolve(config)
        result = compare(config, options.steps, options.repeats, Path(folder))
    print(
        f"Lightning / bare loop, a step: {result['ratio']:.3f} by the clock, {result['cpu_ratio']:.3f} by the processor"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
