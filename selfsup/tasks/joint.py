"""Several tasks teach one encoder at once.

Multi-task self-supervision (Doersch and Zisserman, ICCV 2017, arXiv 1708.07860, section 3): each task has its own
questions and its own head, and the encoder is theirs together. At each step every task has the part of the batch that
its videos allow, and one optimizer follows the sum of the losses. Weights are given, or learned: by the uncertainty of
each task, loss / (2 σ²) + log σ (Kendall, Gal and Cipolla, CVPR 2018, arXiv 1705.07115, section 3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from selfsup.data.audio_policy import AudioPolicy
from selfsup.data.catalogue import Catalogue
from selfsup.data.joint_sampler import apart, joint_sampler
from selfsup.encoders.encoder import Encoder
from selfsup.tasks.task import Task

WEIGHTINGS = ("fixed", "uncertainty")


class Joint(Task):
    """Tasks of one encoder. Each is asked, trained and measured as it would be alone.

    Args:
        encoder: the one that all tasks hold.
        tasks: by name; their optimizers and schedules are not used.
        optimizer, schedule: see `Task`.
        weighting: "fixed", or "uncertainty", where weights are learned.
        weights: of the losses by name, where they are fixed; 1 for a task that is not named.
        audio: which videos take no part in tasks that hear, see `JointSampler`.

    Raises ValueError for no task, one that labels teach, one that is no part, or a value out of its bounds.
    """

    log_variances: Tensor

    def __init__(
        self,
        encoder: Encoder,
        tasks: Mapping[str, Task],
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        weighting: str = "fixed",
        weights: Mapping[str, float] | None = None,
        audio: AudioPolicy | None = None,
    ) -> None:
        _check(tasks, weighting, weights or {})
        questions = {name: task.sampler for name, task in tasks.items()}
        super().__init__(encoder, joint_sampler(questions, audio), optimizer, schedule)
        self.names = tuple(tasks)
        for name, task in tasks.items():
            assert task.encoder is encoder, "one encoder, built once"
            self.add_module(f"task_{name}", task)  # a child: Lightning hands it the trainer
            task.whole = (self, name)
        self.weights = {name: (weights or {}).get(name, 1.0) for name in tasks}
        self.log_variances = nn.Parameter(torch.zeros(len(tasks)), requires_grad=weighting == "uncertainty")
        self.weighting = weighting
        self.minimum_batch = max(least_examples(task) for task in tasks.values())
        self.left_out: dict[str, dict[str, str]] = {}
        self._gather_figures()

    @property
    def parts(self) -> dict[str, Task]:
        """The tasks by name."""
        return {name: getattr(self, f"task_{name}") for name in self.names}

    def begin(self, catalogue: Catalogue) -> None:
        """Counts the videos that serve each task, and lets each begin; ValueError where one has none to learn from."""
        sampler: Any = self.sampler
        refused = {split: [sampler.refusals(info) for info in videos] for split, videos in catalogue.videos.items()}
        for name, task in self.parts.items():
            reasons = {
                str(info.path): refusals[name]
                for split, videos in catalogue.videos.items()
                for info, refusals in zip(videos, refused[split], strict=True)
                if name in refusals
            }
            self.left_out[name] = reasons
            if all(name in refusals for refusals in refused["train"]):
                raise ValueError(
                    f"no training video serves {name}, one of task.tasks; the first: {next(iter(reasons.values()))}; "
                    "leave the task out, or ask less of the videos"
                )
            if reasons:
                count = sum(map(len, catalogue.videos.values()))
                kinds = "; ".join(f"{number} × {reason}" for reason, number in Counter(reasons.values()).most_common(3))
                catalogue.notes.append(f"{name}: {len(reasons)} of {count} videos do not serve it: {kinds}")
            if all(name in refusals for refusals in refused[catalogue.reported]):
                catalogue.notes.append(f"{name}: no {catalogue.reported} video serves it, so that it is not measured")
            with _named(name):
                task.begin(catalogue)
        self._gather_figures()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        """One step of each task on its part of the batch, and the weighted sum of their losses.

        A task of which the batch holds fewer examples than it can learn from has none in this step; "examples" tells.
        """
        served = apart(batch)
        losses: dict[str, Tensor] = {}
        for name, task in self.parts.items():
            part = served.get(name, {})
            examples = len(part.get("clip", ()))
            self._tell(name, "examples", torch.tensor(float(examples)))
            if examples < least_examples(task):
                continue
            self._check_channels(name, part["clip"])
            with _named(name):
                loss = task.training_step(part, batch_idx)
            if loss is not None:
                losses[name] = loss
        if not losses:
            return None
        total = self.weighted(losses)
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=1)
        if self.weighting == "uncertainty":
            for name, log_variance in zip(self.names, self.log_variances.detach(), strict=True):
                self._tell(name, "weight", (-log_variance).exp() / 2)
        return total

    def weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The sum of the losses by name, each with its weight."""
        if self.weighting == "fixed":
            return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
        log_variances = dict(zip(self.names, self.log_variances, strict=True))  # log σ²
        terms = [loss * (-log_variances[name]).exp() / 2 + log_variances[name] / 2 for name, loss in losses.items()]
        return torch.stack(terms).sum()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """That of each task on its part of the batch."""
        self._each_held_out("validation_step", batch, batch_idx)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """That of each task on its part of the batch."""
        self._each_held_out("test_step", batch, batch_idx)

    def on_validation_epoch_start(self) -> None:
        """That of each task."""
        self._each("on_validation_epoch_start")

    def on_validation_epoch_end(self) -> None:
        """That of each task."""
        self._each("on_validation_epoch_end")

    def on_test_epoch_start(self) -> None:
        """That of each task."""
        self._each("on_test_epoch_start")

    def on_test_epoch_end(self) -> None:
        """That of each task."""
        self._each("on_test_epoch_end")

    def on_test_end(self) -> None:
        """That of each task; what a guess scores may be known now."""
        self._each("on_test_end")
        self._gather_figures()

    def parameter_groups(self) -> Sequence[Any]:
        """The parameters that want a gradient; the uncertainties, if any, without weight decay."""
        taught = [p for p in self.parameters() if p.requires_grad and p is not self.log_variances]
        if not self.log_variances.requires_grad:
            return taught
        return [{"params": taught}, {"params": [self.log_variances], "weight_decay": 0.0}]

    def _each(self, hook: str) -> None:
        for task in self.parts.values():
            getattr(task, hook)()

    def _each_held_out(self, step: str, batch: dict[str, Any], batch_idx: int) -> None:
        served = apart(batch)
        for name, task in self.parts.items():
            if name in served:
                self._check_channels(name, served[name]["clip"])
                with _named(name):
                    getattr(task, step)(served[name], batch_idx)

    def _tell(self, name: str, figure: str, value: Tensor) -> None:
        self.log(f"train/{name}/{figure}", value, batch_size=1)

    def _check_channels(self, name: str, clip: Tensor) -> None:
        channels, given = getattr(self.encoder, "in_channels", clip.shape[-4]), clip.shape[-4]
        if channels != given:
            raise ValueError(
                f"{name}, one of task.tasks, gives clips of {given} channels, and the encoder takes {channels}; give "
                f"encoder.in_channels={given}, or leave the task out"
            )

    def _gather_figures(self) -> None:
        self.chance = {
            f"{name}/{figure}": value for name, task in self.parts.items() for figure, value in task.chance.items()
        }
        details = {name: task.details for name, task in self.parts.items() if task.details}
        self.details = {"tasks": list(self.names), "left_out": self.left_out, **details}


def least_examples(task: Task) -> int:
    """The fewest examples that a task is trained on here: normalisation over a batch needs two."""
    return max(2, task.minimum_batch)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Says which task a sentence is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}, one of task.tasks: {error}") from error


def _check(tasks: Mapping[str, Task], weighting: str, weights: Mapping[str, float]) -> None:
    if not tasks:
        raise ValueError("task.tasks is empty; name the tasks that are to teach the encoder")
    if labelled := [name for name, task in tasks.items() if task.evaluation_sampler is not None]:
        raise ValueError(f"task.tasks: {labelled[0]} learns from labels, and shares no batch with others; leave it out")
    if weighting not in WEIGHTINGS:
        raise ValueError(f"task.weighting={weighting!r}: give {' or '.join(WEIGHTINGS)}")
    if weights and weighting != "fixed":
        raise ValueError(
            f"task.weights={dict(weights)}: with task.weighting={weighting} weights are learned; drop them"
        )
    for name, weight in weights.items():
        if name not in tasks:
            raise ValueError(f"task.weights names {name}, which is not among task.tasks, {', '.join(tasks)}")
        if not 0 < weight < float("inf"):
            raise ValueError(f"task.weights.{name}={weight:g} must lie above 0")
