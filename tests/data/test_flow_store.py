"""Flow on disk: what is damaged, cut short or another video's is made again."""

from pathlib import Path

import numpy as np
import pytest

from selfsup.data.flow_store import CHUNK_FIELDS, FlowStore


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def store_of(folder: Path, count: int = 40, **key: str) -> FlowStore:
    return FlowStore(folder, key or {"video": "a"}, count, height=6, width=5)


def some(first: int, stop: int) -> np.ndarray:
    return np.random.default_rng(first).integers(-127, 128, (stop - first, 2, 6, 5)).astype(np.int8)


def test_a_damaged_file_is_never_trusted_and_is_made_again(tmp_path: Path) -> None:
    store, numbers = store_of(tmp_path), np.array([0, 3, 31, 32, 39])
    wanted = store.read(numbers, some)
    path = store.path(0)
    whole = path.read_bytes()
    damages = [whole[:length] for length in (0, 10, 16, 40, len(whole) - 1)] + [whole + b"x", b"\0" * len(whole)]
    damages += [
        whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(0, len(whole), len(whole) // 50)
    ]
    damages.append(store.path(1).read_bytes())  # another part of the same video
    for damage in damages:
        path.write_bytes(damage)
        assert np.array_equal(store.read(numbers, some), wanted)
        assert path.read_bytes() == whole
    assert len(files(tmp_path)) == 2  # nothing unfinished is left


def test_another_videos_file_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    mine, other = store_of(tmp_path, video="a"), store_of(tmp_path, video="b")
    mine.read(np.array([0]), some)
    other.path(0).parent.mkdir(parents=True, exist_ok=True)
    other.path(0).write_bytes(mine.path(0).read_bytes())
    zeros = other.read(np.array([0]), lambda first, stop: np.zeros((stop - first, 2, 6, 5), np.int8))
    assert not zeros.any()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        store_of(tmp_path).read(np.array([0]), some)
    assert files(tmp_path) == []


def test_only_the_files_that_are_needed_are_made(tmp_path: Path) -> None:
    asked = []

    def compute(first: int, stop: int) -> np.ndarray:
        asked.append((first, stop))
        return some(first, stop)

    store_of(tmp_path, count=3 * CHUNK_FIELDS + 1).read(np.array([CHUNK_FIELDS, 3 * CHUNK_FIELDS]), compute)
    assert asked == [(CHUNK_FIELDS, 2 * CHUNK_FIELDS), (3 * CHUNK_FIELDS, 3 * CHUNK_FIELDS + 1)]
