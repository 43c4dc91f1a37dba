"""Where work on whole videos is done: in processes of this machine, or on the nodes of a cluster."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from selfsup.data.processes import Outcome, run_in_processes
from selfsup.data.ray_cluster import run_on_ray


class Executor(Protocol):
    """`run_in_processes`, or a function that keeps its promises elsewhere."""

    def __call__(
        self, function: Callable[[Any], Any], items: Iterable[Any], *, processes: int, timeout_seconds: float
    ) -> Iterator[Outcome[Any]]: ...


MOST_PROCESSES = 4096  # of a cluster, where no number is given; it has as many as it has cores
EXECUTORS: dict[str, Executor] = {"local": run_in_processes, "ray": run_on_ray}


def executor_named(name: str) -> Executor:
    """The executor of that name. ValueError where there is none."""
    if name not in EXECUTORS:
        raise ValueError(f"data.executor={name!r}: choose one of {', '.join(EXECUTORS)}")
    return EXECUTORS[name]
