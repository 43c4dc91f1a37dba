"""Skip RNN on sequences that are known: `python benchmarks/skip_rnn.py --record FILE.json [--seeds 0 1 2]`.

Two tasks, with the network of Campos et al. 2018 (arXiv 1708.06834, section 4), 110 units in one layer. adding: of 50
numbers, uniform in [-0.5, 0.5], two are marked, one in the first tenth and one in the last half, and their sum is asked
for; solved where the mean squared error is below a hundredth of the variance. digits: scikit-learn's images, 64 pixels
one by one, ten classes. Random skipping draws each step alone, at the share that Skip RNN used with the same cell and
seed under a budget.

Prints a Markdown table, a row a network. A run that the record holds is not done again, so that a killed benchmark goes
on with the run that it was at; runs of more seeds join it. One thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from selfsup.classifiers.skip_cells import SkipCells, SkipState

UNITS, BATCH, CLIP = 110, 256, 1.0
LENGTH, FIRST, SECOND = 50, 5, 25  # of the adding task; the first marker lies before FIRST, the second from SECOND on
VARIANCE = 2 / 12  # of the sum of two numbers that are uniform in [-0.5, 0.5]


class Drawn(NamedTuple):
    """Sequences (N, T, D) and what is asked of them: sums (N,) float, or classes (N,) int64."""

    inputs: Tensor
    targets: Tensor


class RandomSkips(SkipCells):
    """The same cells behind a gate that is open by chance: with `share` 1, the ordinary LSTM or GRU."""

    share = 1.0

    def step(self, inputs: Tensor, state: SkipState, real: Tensor | None = None) -> tuple[SkipState, Tensor]:
        """As `SkipCells.step`, whatever the state says is due."""
        drawn = torch.bernoulli(torch.full_like(state.probability, self.share))
        return super().step(inputs, state._replace(probability=drawn, accumulated=torch.zeros_like(drawn)), real)


class Network(nn.Module):
    """The answer after the last step, (B, outputs), and the gate (B, T); `share` None for Skip RNN's own gate."""

    def __init__(self, input_dim: int, outputs: int, cell: str, share: float | None) -> None:
        super().__init__()
        self.cells = (SkipCells if share is None else RandomSkips)(input_dim, UNITS, cell=cell)
        if isinstance(self.cells, RandomSkips) and share is not None:
            self.cells.share = share
        self.head = nn.Linear(UNITS, outputs)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        states, used = self.cells(inputs)
        return self.head(states[:, -1]), used


class Problem(NamedTuple):
    """A task: what is drawn to train on, what is held out, and the loss and figure of answers."""

    budget_weight: float  # λ
    outputs: int
    batch: Callable[[torch.Generator], Drawn]
    held_out: Drawn
    loss: Callable[[Tensor, Tensor], Tensor]
    figure: Callable[[Tensor, Tensor], Tensor]
    solved: Callable[[float], bool]


def adding(count: int, generator: torch.Generator) -> Drawn:
    """So many sequences (N, 50, 2), number and mark, and the sums of the marked."""
    numbers = torch.rand(count, LENGTH, generator=generator) - 0.5
    first = torch.randint(FIRST, (count, 1), generator=generator)
    second = torch.randint(SECOND, LENGTH, (count, 1), generator=generator)
    marks = torch.zeros(count, LENGTH).scatter_(1, torch.cat([first, second], dim=1), 1.0)
    return Drawn(torch.stack([numbers, marks], dim=2), (numbers * marks).sum(dim=1))


def adding_problem(seed: int) -> Problem:
    """Half the squared error is the loss, as in the authors' code, beside which their λ stand."""
    return Problem(
        budget_weight=1e-5,
        outputs=1,
        batch=lambda generator: adding(BATCH, generator),
        held_out=adding(2048, torch.Generator().manual_seed(10**6 + seed)),
        loss=lambda answers, sums: 0.5 * F.mse_loss(answers[:, 0], sums),
        figure=lambda answers, sums: F.mse_loss(answers[:, 0], sums),
        solved=lambda error: error < VARIANCE / 100,
    )


def digits_problem(seed: int) -> Problem:
    """Images are split by `seed`, stratified: four fifths to train on, one fifth for the test. Nothing is chosen."""
    pixels, classes = load_digits(return_X_y=True)
    rows = train_test_split(range(len(classes)), test_size=0.2, stratify=classes, random_state=seed)
    taught, held_out = (
        Drawn(torch.tensor(pixels[of] / 16, dtype=torch.float32)[:, :, None], torch.tensor(classes[of])) for of in rows
    )

    def batch(generator: torch.Generator) -> Drawn:
        few = torch.randperm(len(taught.inputs), generator=generator)[:BATCH]
        return Drawn(taught.inputs[few], taught.targets[few])

    return Problem(
        budget_weight=1e-4 * 784 / 64,  # the paper's 1e-4 is for 784 pixels
        outputs=10,
        batch=batch,
        held_out=held_out,
        loss=F.cross_entropy,
        figure=lambda answers, asked: (answers.argmax(dim=1) == asked).float().mean(),
        solved=lambda share: False,
    )


PROBLEMS = {"adding": adding_problem, "digits": digits_problem}


class Kind(NamedTuple):
    """A network but for its cell: λ is `budget` times the published one; None where the gate is not its own."""

    name: str
    budget: float | None
    random: bool = False


# In the order in which they run: random skipping asks for the share of the first.
KINDS = {
    "skip": Kind("Skip {cell}, λ = {weight:g}", 1.0),
    "random": Kind("{cell}, random skips as often", None, random=True),
    "plain": Kind("{cell}", None),
    "free": Kind("Skip {cell}, λ = 0", 0.0),
    "dear": Kind("Skip {cell}, λ = {weight:g}", 10.0),
}
CELLS = ("gru", "lstm")


@torch.no_grad()
def measured(network: Network, problem: Problem) -> tuple[float, float]:
    """The figure on held-out sequences, and the share of steps that were used."""
    found = [network(part) for part in problem.held_out.inputs.split(BATCH)]
    answers, used = (torch.cat(parts) for parts in zip(*found, strict=True))
    return float(problem.figure(answers, problem.held_out.targets)), float(used.mean())


def train(
    problem: Problem, cell: str, budget_weight: float, share: float | None, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One run: its figure and share of used steps at the end, and both as they went.

    One whose gate does not learn ends where it has solved its task.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Network(problem.held_out.inputs.shape[2], problem.outputs, cell, share)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, options.steps)
    curve: list[tuple[int, float, float]] = []
    began = time.process_time()
    for step in range(1, options.steps + 1):
        inputs, targets = problem.batch(generator)
        answers, used = network(inputs)
        loss = problem.loss(answers, targets) + budget_weight * used.sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        falling.step()
        if step % options.every == 0 or step == options.steps:
            curve.append((step, *measured(network, problem)))
            print(f"  step {step}: {curve[-1][1]:.5f}, used {curve[-1][2]:.1%}", file=sys.stderr, flush=True)
            if share is not None and problem.solved(curve[-1][1]):
                break
    steps, figure, used_share = curve[-1]
    outcome = {"figure": figure, "used": used_share, "solved": problem.solved(figure), "steps": steps}
    return {**outcome, "cpu_seconds": time.process_time() - began, "curve": curve}


def spread(values: Sequence[float], form: str) -> str:
    """ "53.9 (52.1 55.7)": the mean, and the value of each seed."""
    return f"{statistics.fmean(values):{form}} ({' '.join(f'{value:{form}}' for value in values)})"


def key_of(task: str, kind: str, cell: str, seed: int) -> str:
    """The name of a run in the record."""
    return f"{task} {kind} {cell} {seed}"


def table(task: str, runs: dict[str, dict[str, Any]], seeds: Sequence[int]) -> str:
    """A row a network that has run, with the seeds that it ran with."""
    figure, form = ("squared error", ".5f") if task == "adding" else ("accuracy", ".1%")
    head = ["network", "seeds", figure, "used steps", *(["solved"] if task == "adding" else []), "training steps"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for kind, cell in product(KINDS, CELLS):
        done = [seed for seed in seeds if key_of(task, kind, cell, seed) in runs]
        found = [runs[key_of(task, kind, cell, seed)] for seed in done]
        if not found:
            continue
        name = KINDS[kind].name.format(cell=cell.upper(), weight=found[0]["budget_weight"])
        cells = [name, " ".join(map(str, done)), spread([run["figure"] for run in found], form)]
        cells.append(spread([run["used"] for run in found], ".1%"))
        if task == "adding":
            cells.append(f"{sum(run['solved'] for run in found)} of {len(found)}")
        lines.append(f"| {' | '.join(cells)} | {' '.join(str(run['steps']) for run in found)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, required=True, help="JSON; holds every run that has ended")
    parser.add_argument("--task", choices=list(PROBLEMS), default="adding")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--every", type=int, default=50, help="steps from one measurement to the next")
    parser.add_argument(
        "--learning-rate", type=float, default=5e-3, help="falls to 0; the paper's is 1e-4, and constant"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = {name: getattr(options, name) for name in ("steps", "every", "learning_rate")}
    runs: dict[str, dict[str, Any]] = {}
    if options.record.exists():
        runs = json.loads(options.record.read_text(encoding="utf-8"))
    for seed, kind, cell in product(options.seeds, KINDS, CELLS):
        key = key_of(options.task, kind, cell, seed)
        if key in runs and runs[key]["settings"] != settings:
            parser.error(f"{options.record} holds {key!r} with {runs[key]['settings']}; give another --record")
        if key in runs or kind not in options.kinds:
            continue
        problem, (_, budget, random) = PROBLEMS[options.task](seed), KINDS[kind]
        share = 1.0 if budget is None else None
        if random:
            asked = key_of(options.task, "skip", cell, seed)
            if asked not in runs:
                parser.error(f"{options.record} does not hold {asked!r}, whose share is asked for; add skip to --kinds")
            share = runs[asked]["used"]
        print(key, file=sys.stderr, flush=True)
        weight = problem.budget_weight * (budget or 0.0)
        found = train(problem, cell, weight, share, seed, options)
        runs[key] = {**found, "budget_weight": weight, "settings": settings}
        options.record.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    print(table(options.task, runs, options.seeds))


if __name__ == "__main__":
    main()
