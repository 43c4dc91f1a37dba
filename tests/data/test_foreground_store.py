"""Labels on disk: what is damaged, cut short or of other settings counts as absent."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from selfsup.data.foreground import Labels, Rejection, settings_of
from selfsup.data.foreground_store import LEVELS, ForegroundStore
from selfsup.data.motion_residual import MotionResidual
from tests.data.moving import moving_square


def some_labels(count: int = 6, height: int = 90, width: int = 121) -> Labels:
    masks = torch.rand(count, 9, 11, generator=torch.Generator().manual_seed(0))
    masks = torch.nn.functional.interpolate(masks[None], size=(height, width), mode="nearest")[0]
    masks[2] = 0
    rejections = (None, Rejection.BORDER, Rejection.STATIC, None, None, Rejection.SKIPPED)
    confidence = torch.tensor([0.5, 0, 0, 0.25, 1, 0])
    return Labels(torch.arange(count, dtype=torch.float64) / 24, masks, confidence, rejections)


def store_of(folder: Path, **key: str) -> ForegroundStore:
    return ForegroundStore(folder, key or {"video": "a", "labeller": settings_of(MotionResidual())})


def test_what_is_kept_is_what_was_made_but_for_the_rounding(tmp_path: Path) -> None:
    labels, store = some_labels(), store_of(tmp_path)
    assert store.read() is None
    store.write(labels)
    found = store.read()
    assert found is not None
    assert (found.masks - labels.masks).abs().max() <= 0.5 / LEVELS + 1e-6
    assert torch.equal(found.times_seconds, labels.times_seconds)
    assert torch.equal(found.confidence, labels.confidence)
    assert found.rejections == labels.rejections
    some = store.read([4, 0])
    assert some is not None
    assert torch.equal(some.masks, found.masks[[4, 0]])
    assert some.rejections == (None, None)
    assert some.times_seconds.tolist() == found.times_seconds[[4, 0]].tolist()


def test_a_larger_mask_is_kept_small_and_given_back_at_its_size(tmp_path: Path) -> None:
    mask = torch.zeros(1, 480, 854)
    mask[:, 100:300, 200:500] = 1
    store_of(tmp_path).write(Labels(torch.zeros(1, dtype=torch.float64), mask, torch.ones(1), (None,)))
    found = store_of(tmp_path).read()
    assert found is not None
    both = (found.masks > 0.5) & (mask > 0.5)
    assert both.sum() / ((found.masks > 0.5) | (mask > 0.5)).sum() > 0.97


def test_a_damaged_file_counts_as_absent(tmp_path: Path) -> None:
    labels, store = some_labels(), store_of(tmp_path)
    store.write(labels)
    whole = store.path.read_bytes()
    damages = [whole[:length] for length in (0, 4, 16, 40, len(whole) - 1)] + [whole + b"x", b"\0" * len(whole)]
    damages += [
        whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(0, len(whole), len(whole) // 50)
    ]
    for damage in damages:
        store.path.write_bytes(damage)
        assert store.read() is None
    store.write(labels)
    assert store.path.read_bytes() == whole


def test_another_videos_labels_and_other_settings_are_not_taken(tmp_path: Path) -> None:
    mine = store_of(tmp_path)
    mine.write(some_labels())
    for other in (
        store_of(tmp_path, video="b", labeller=settings_of(MotionResidual())),
        store_of(tmp_path, video="a", labeller=settings_of(MotionResidual(odds=5))),
    ):
        assert other.read() is None
        other.path.parent.mkdir(parents=True, exist_ok=True)
        other.path.write_bytes(mine.path.read_bytes())
        assert other.read() is None


def test_a_write_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store = store_of(tmp_path)
    store.write(some_labels())
    before = store.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            store.write(some_labels(count=6, height=40))
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [before]


def test_no_file_holds_what_python_would_run(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    store.write(some_labels())
    content = store.path.read_bytes()[16:]
    header = json.loads(content[4 : 4 + int.from_bytes(content[:4], "little")])
    assert sum(header["bytes"]) + 4 + int.from_bytes(content[:4], "little") == len(content)


def test_a_frame_takes_less_than_three_kilobytes(tmp_path: Path) -> None:
    """Labels of superpixels of 240 x 320 pixels, with the noise of a motion residual."""
    frames = torch.nn.functional.interpolate(moving_square(10, (3, 1)).float(), scale_factor=2).byte()
    labels = MotionResidual()(frames, np.arange(10) / 25)
    assert labels.accepted.any()
    store_of(tmp_path).write(labels)
    assert store_of(tmp_path).path.stat().st_size / len(frames) < 3000
