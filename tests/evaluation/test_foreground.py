"""J against scikit-learn's, and what a labeller scores on a video whose masks are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score
from torch import Tensor

from selfsup.data.davis import davis
from selfsup.data.foreground import Labels, Rejection
from selfsup.data.true_masks import annotations_path, write_masks
from selfsup.evaluation.foreground import constant_masks, read_masked, region_similarity, score
from tests.data.moving import square_mask
from tests.davis import write_davis
from tests.media import write_video


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFSUP_CACHE", str(tmp_path / "cache"))
    return davis(write_davis(tmp_path / "DAVIS", ["bear"], count=6)).videos[0].path


class Told:
    """A labeller that says what it was told, at half the size, and rejects the third frame."""

    def __init__(self, masks: np.ndarray) -> None:
        self.masks = torch.from_numpy(masks).float()

    def __call__(self, frames: Tensor, times_seconds: Sequence[float]) -> Labels:
        assert frames.shape[-2:] == self.masks.shape[-2:]
        count = len(frames)
        rejections = tuple(Rejection.BORDER if n == 2 else None for n in range(count))
        return Labels(torch.tensor(times_seconds), self.masks[:count], torch.ones(count), rejections)


def test_j_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    masks, truth = generator.random((2, 6, 12, 17)) > np.linspace(0.2, 0.9, 6)[:, None, None]
    wanted = [jaccard_score(truth[n].ravel(), masks[n].ravel()) for n in range(1, 5)]
    assert region_similarity(masks, truth) == pytest.approx(np.mean(wanted))
    assert region_similarity(masks & False, truth & False) == 1
    assert region_similarity(masks & False, truth | True) == 0


def test_masks_that_look_at_nothing() -> None:
    assert [float(mask.mean()) for mask in constant_masks((3, 40, 80)).values()] == [1.0, 0.25]


def test_a_labeller_is_scored_at_the_size_of_the_truth(video: Path) -> None:
    masked = read_masked(video, 60, max_frames=5)
    assert masked.frames.shape == (5, 3, 60, 80)
    assert np.array_equal(masked.truth, square_mask(6)[:5])
    half = square_mask(6)[:, ::2, ::2]
    found = score(Told(half), masked, 0.5)
    assert (found.similarity, found.frames, found.rejected) == (1.0, 5, {Rejection.BORDER: 1})
    assert found.cpu_seconds >= 0
    assert np.array_equal(found.picture.numpy() > 0.5, masked.truth[2])
    wrong = score(Told(np.roll(half, 1, axis=0)), masked, 0.5)  # a frame late: 32 of 40 columns
    assert wrong.similarity == pytest.approx(32 / 40)


def test_the_first_frames_are_those_of_the_file(video: Path) -> None:
    every, first = read_masked(video, 120), read_masked(video, 120, max_frames=3)
    assert len(every.frames) == 6
    assert torch.equal(every.frames[:3], first.frames)
    assert first.times_seconds == pytest.approx([0, 1 / 24, 2 / 24])


def test_what_cannot_be_scored_is_refused(video: Path, tmp_path: Path) -> None:
    short = write_video(tmp_path / "videos" / "any" / "short.mp4", np.zeros((2, 64, 64), np.uint8))
    with pytest.raises(ValueError, match=r"short.mp4: no true masks are known"):
        read_masked(short, 64)
    write_masks(short, np.zeros((2, 64, 64), bool))
    with pytest.raises(ValueError, match=r"short.mp4: 2 frame\(s\), and J leaves out the first and the last"):
        read_masked(short, 64)
    write_masks(video, square_mask(6)[:4])
    with pytest.raises(ValueError, match=r"bear.mov: 6 frames but 4 true masks"):
        read_masked(video, 64)
    annotations_path(video).unlink()
    with pytest.raises(ValueError, match=r"bear.mov: no true masks are known"):
        read_masked(video, 64)
