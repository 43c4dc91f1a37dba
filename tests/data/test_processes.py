"""An item that crashes or hangs its process is lost alone, with its reason; all others come back."""

import multiprocessing
import os
import signal
import time
from typing import Any

import pytest

from selfsup.data import processes
from selfsup.data.processes import _serve, run_in_processes
from tests.data.misbehaving import CRASH, DIE_LATER, HANG, RAISE, DiesOnArrival, process_id, square


@pytest.fixture(autouse=True)
def _quick_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    # These functions import nothing, so that a process that hangs on its first item need not be waited for.
    monkeypatch.setattr(processes, "_IMPORT_SECONDS", 5.0)


@pytest.fixture(autouse=True)
def _no_orphans() -> Any:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("number", [1, 3])
def test_each_item_that_ends_its_process_fails_alone(number: int) -> None:
    items = [1, CRASH, 2, "3", 4, RAISE, 5, 6]
    outcomes = {o.item: o for o in run_in_processes(square, items, processes=number, timeout_seconds=60)}
    assert {item: o.value for item, o in outcomes.items() if o.failure is None} == {1: 1, 2: 4, 4: 16, 5: 25, 6: 36}
    assert {item: o.failure for item, o in outcomes.items() if o.failure is not None} == {
        CRASH: f"its process died (exit code {-signal.SIGSEGV})",
        "3": "its process died (exit code 3)",
        RAISE: "its process died (exit code 1)",
    }


def test_an_item_that_hangs_fails_after_the_timeout_and_the_rest_goes_on() -> None:
    start = time.monotonic()
    outcomes = list(run_in_processes(square, [2, HANG, 3, 4], processes=1, timeout_seconds=0.5))
    assert [(o.item, o.value) for o in outcomes if o.failure is None] == [(2, 4), (3, 9), (4, 16)]
    assert [(o.item, o.failure) for o in outcomes if o.failure] == [(HANG, "no answer within 0.5 s")]
    assert time.monotonic() - start < 30


def test_a_process_that_dies_after_its_answer_costs_no_other_item() -> None:
    outcomes = []
    for outcome in run_in_processes(square, [DIE_LATER, 2, 3], processes=1, timeout_seconds=60):
        outcomes.append(outcome)
        if outcome.item == DIE_LATER:
            time.sleep(1.0)  # it dies while it has nothing to do
    assert {o.item: (o.value, o.failure) for o in outcomes} == {DIE_LATER: (0, None), 2: (4, None), 3: (9, None)}


def test_a_process_that_dies_before_it_reads_its_item_is_a_failure_too() -> None:
    outcomes = list(run_in_processes(DiesOnArrival(), [1, 2], processes=1, timeout_seconds=60))
    assert [(o.item, o.failure) for o in outcomes] == [(i, "its process died (exit code 9)") for i in (1, 2)]


def test_a_slow_caller_does_not_turn_an_answer_into_a_timeout() -> None:
    outcomes = []
    for outcome in run_in_processes(square, [1, 2, 3, 4], processes=2, timeout_seconds=0.3):
        outcomes.append(outcome)
        time.sleep(0.6)
    assert {o.item: o.value for o in outcomes} == {1: 1, 2: 4, 3: 9, 4: 16}


def test_the_items_run_in_other_processes_which_end_with_the_caller() -> None:
    outcomes = run_in_processes(process_id, iter(range(100)), processes=2, timeout_seconds=60)
    workers = {next(outcomes).value, next(outcomes).value}
    assert os.getpid() not in workers
    outcomes.close()  # the caller loses interest
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_no_items() -> None:
    assert list(run_in_processes(square, [], processes=1, timeout_seconds=1)) == []


def test_a_process_whose_caller_was_killed_ends_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(str.upper, theirs))
    process.start()
    theirs.close()
    ours.send("too late")
    ours.close()
    process.join(timeout=120)
    assert process.exitcode == 0
    assert capfd.readouterr().err == ""
