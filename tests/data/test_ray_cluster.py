"""Work on a real Ray cluster of two nodes on this machine, one of which is lost on the way."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfsup import prepare
from selfsup.data.executors import executor_named
from selfsup.data.ray_cluster import run_on_ray
from tests.verbs import call

ray = pytest.importorskip("ray")


@contextlib.contextmanager
def nodes(count: int) -> Iterator[tuple[Any, list[Any]]]:
    """A cluster whose head has no core, and so many nodes of one core."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        added = [cluster.add_node(num_cpus=1) for _ in range(count)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_ADDRESS", cluster.address)
            yield cluster, added
    finally:
        ray.shutdown()
        cluster.shutdown()


def slowly(item: tuple[Path, int]) -> int:
    """The square; leaves a line a call behind."""
    folder, number = item
    with open(folder / "calls", "a") as file:
        file.write(f"{number} {os.getpid()}\n")
    time.sleep(0.3)
    return number**2


def broken(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 2:
        ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock, as a decoder that hangs
    return number


def test_an_unknown_executor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.executor='slurm': choose one of local, ray"):
        executor_named("slurm")


def test_without_a_cluster_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(ValueError, match=r"no Ray cluster is found; start one with `ray start --head`"):
        next(iter(run_on_ray(slowly, [(tmp_path, 1)], processes=1, timeout_seconds=60)))


@pytest.mark.slow
def test_what_a_lost_node_held_is_done_by_another(tmp_path: Path) -> None:
    """Nothing is lost, and nothing comes twice."""
    with nodes(2) as (cluster, added):
        outcomes = []
        for outcome in run_on_ray(slowly, [(tmp_path, n) for n in range(40)], processes=8, timeout_seconds=60):
            outcomes.append(outcome)
            if len(outcomes) == 10:
                assert len({line.split()[1] for line in (tmp_path / "calls").read_text().splitlines()}) == 2
                cluster.remove_node(added[1], allow_graceful=False)
    assert sorted(outcome.item[1] for outcome in outcomes) == list(range(40))
    assert all(outcome.value == outcome.item[1] ** 2 and outcome.failure is None for outcome in outcomes)


@pytest.mark.slow
def test_a_node_that_joins_is_used(tmp_path: Path) -> None:
    with nodes(1) as (cluster, _):
        count = 0
        for _ in run_on_ray(slowly, [(tmp_path, n) for n in range(60)], processes=8, timeout_seconds=60):
            count += 1
            if count == 3:
                cluster.add_node(num_cpus=1)
    assert count == 60
    assert len({line.split()[1] for line in (tmp_path / "calls").read_text().splitlines()}) == 2


@pytest.mark.slow
def test_a_crash_and_a_hang_are_failures_of_their_items() -> None:
    with nodes(1):
        found = {one.item: one for one in run_on_ray(broken, range(4), processes=4, timeout_seconds=1)}
    assert (found[0].value, found[3].value) == (0, 3)
    assert found[1].failure == "its process died (exit code -11)"
    assert found[2].failure == "no answer within 1 s"
    assert found[2].timed_out


@pytest.mark.slow
def test_packing_on_a_cluster_gives_the_bytes_of_one_machine(
    synthetic_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", "data.size_pixels=32")
    for name, more in {"here": (), "there": ("data.executor=ray",)}.items():
        # Each looks at the videos itself.
        words = (*data, f"output={name}", f"data.index_cache={name}.jsonl", f"hydra.run.dir=run-{name}", *more)
        with nodes(2) if more else contextlib.nullcontext():
            assert call(prepare.main, *words) == 0
    files = sorted(path.name for path in Path("here").iterdir())
    assert files == sorted(path.name for path in Path("there").iterdir())
    for name in files:
        assert (Path("here") / name).read_bytes() == (Path("there") / name).read_bytes(), name
