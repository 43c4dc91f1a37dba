"""Batches of a data set whose reading hangs or crashes are those of the rest of it."""

import math
import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch.utils.data import Dataset

from selfsup.data.guarded import LOOK_SECONDS, GuardedLoader, Readers
from tests.data.misbehaving import CRASH, HANG, RAISE, square


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch looks for dead processes every five seconds."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.3)


class Squares(Dataset):
    """The square of a number; a word, which stands for a video, does what it says to the process."""

    def __init__(self, items: list[int | str], slow_seconds: float = 0.0) -> None:
        self.items = items
        self.slow_seconds = slow_seconds
        self.readers = Readers(0)
        self.given_up: dict[int, str] = {}

    def name_of(self, video: int) -> str:
        return f"video {video}"

    def __getitem__(self, video: int) -> int | str:
        if video in self.given_up:
            return self.given_up[video]
        with self.readers.reading(video):
            time.sleep(self.slow_seconds)
            return square(self.items[video])


def loader(data: Squares, persistent: bool = False, timeout_seconds: float = 1.5, workers: int = 2) -> GuardedLoader:
    batches = [[number, number + 1] for number in range(0, len(data.items), 2)]
    options = {"num_workers": workers, "persistent_workers": persistent, "collate_fn": list}
    return GuardedLoader(data, batches, timeout_seconds, **options)


@pytest.mark.parametrize("persistent", [pytest.param(False, marks=pytest.mark.slow), True])
def test_what_hangs_and_what_crashes_is_given_up_and_named(persistent: bool) -> None:
    data = Squares([0, 1, 2, HANG, 4, 5, CRASH, HANG, 8, 9])
    batches = loader(data, persistent)
    slow, died = "not read within data.decode_timeout_seconds=1.5", "the process that read it died"
    expected = [[0, 1], [4, f"video 3: {slow}"], [16, 25], [f"video 6: {died}", f"video 7: {slow}"], [64, 81]]
    assert list(batches) == expected
    began = time.monotonic()
    assert list(batches) == expected, "another epoch"
    assert time.monotonic() - began < 1.5, "it hung again"


def test_patience_is_with_each_video_not_with_a_batch() -> None:
    """Each batch takes longer than the look and the timeout, each video of it does not."""
    data = Squares([*range(4)], slow_seconds=LOOK_SECONDS)
    assert list(loader(data)) == [[0, 1], [4, 9]]
    assert data.given_up == {}


def test_an_error_of_the_data_set_is_not_swallowed() -> None:
    with pytest.raises(RuntimeError, match="on purpose"):
        list(loader(Squares([0, 1, 2, RAISE])))


def test_a_process_that_dies_between_videos_stops_the_run() -> None:
    batches = iter(loader(Squares([*range(40)], slow_seconds=0.2)))
    next(batches)
    with pytest.raises(RuntimeError, match="exited unexpectedly"), no_one_reads(batches):
        list(batches)


@contextmanager
def no_one_reads(batches: Iterator[object]) -> Iterator[None]:
    """Meanwhile processes die, and what they were reading is not known."""
    loader_ = batches.gi_frame.f_locals["self"]
    loader_.readers.rows.zero_()
    for process in multiprocessing.active_children():
        process.kill()
    loader_.readers.rows.zero_()
    yield


def test_the_death_of_a_process_is_told_where_batches_are_taken_and_nowhere_else() -> None:
    """PyTorch's own handler raises in whatever the main process does at that moment, as in a training step."""
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader(Squares([*range(8)], slow_seconds=0.1)))
    next(batches)
    assert signal.getsignal(signal.SIGCHLD) == before
    batches.close()


def test_without_processes_it_is_a_plain_loader() -> None:
    data = Squares([*range(4)])
    assert list(loader(data, workers=0, timeout_seconds=math.inf)) == [[0, 1], [4, 9]]
