"""Spoiled masks: by as much as was asked, the same every time, and never without the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion

from selfsup.data.foreground_labels import ForegroundLabels
from selfsup.data.index import VideoInfo, inspect
from selfsup.data.noisy_masks import NoisyMasks, moved_boundary, truncated
from selfsup.data.synthetic import write_synthetic
from selfsup.data.true_masks import read_masks

DISC = np.hypot(*(np.mgrid[:60, :80] - np.array([30, 40])[:, None, None])) < 15


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    root = tmp_path_factory.mktemp("noisy") / "set"
    write_synthetic(root, videos=3, size_pixels=48, seconds=1, fps=8, processes=1)
    return inspect(sorted(root.glob("videos/*/*.mp4"))[0])


def truth(video: VideoInfo) -> torch.Tensor:
    masks = read_masks(video.path)
    assert masks is not None
    return torch.from_numpy(masks).float()


def test_a_boundary_moves_as_far_as_a_round_brush_does() -> None:
    brush = np.hypot(*(np.mgrid[-4:5, -4:5])) <= 4
    assert (moved_boundary(DISC, 4) == binary_dilation(DISC, brush)).all()
    assert (moved_boundary(DISC, -4) == binary_erosion(DISC, brush)).all()
    assert (moved_boundary(DISC, 0) == DISC).all()
    assert 0 < moved_boundary(DISC, -100).sum() < 10


@pytest.mark.parametrize("angle", [0.0, 1.0, 4.0])
def test_a_half_plane_cuts_off_its_share_of_the_box(angle: float) -> None:
    box = np.zeros((60, 80), bool)
    box[10:50, 20:70] = True
    kept = truncated(box, 0.3, angle)
    assert kept.sum() == pytest.approx(0.7 * box.sum(), rel=0.05)
    rows, columns = np.nonzero(box & ~kept)
    towards = np.array([np.cos(angle), np.sin(angle)])
    assert np.dot(towards, [columns.mean() - 44.5, rows.mean() - 29.5]) > 5  # what is gone lies towards the angle
    assert (truncated(box, 0, angle) == box).all()
    assert not truncated(np.zeros_like(box), 0.3, angle).any()


def test_labels_are_the_truth_or_spoiled_the_same_way_each_time(video: VideoInfo) -> None:
    times = [0.0, 0.25, 0.5]
    clean = NoisyMasks().of_video(video, times)
    assert (clean.masks == truth(video)[[0, 2, 4]]).all()
    assert clean.masks[1].any()
    noisy = NoisyMasks(0, 0.3, 0.3)
    labels = noisy.of_video(video, times)
    assert (labels.masks != clean.masks).any()
    assert (labels.masks == noisy.of_video(video, times).masks).all()
    assert (labels.masks[1:] == noisy.of_video(video, times[1:]).masks).all()  # whatever the parts
    assert (labels.masks != NoisyMasks(1, 0.3, 0.3).of_video(video, times).masks).any()


def test_they_are_kept_like_any_labels(video: VideoInfo, tmp_path: Path) -> None:
    labels = ForegroundLabels(NoisyMasks(boundary_share=0.2), folder=str(tmp_path))
    [chunk] = labels.chunks(video)
    labels.verdicts(video, chunk)
    kept = labels.store(video, chunk).read()
    assert kept is not None
    assert (kept.masks == labels.make(video, chunk).masks).all()
    assert (
        labels.store(video, chunk).path != ForegroundLabels(NoisyMasks(), folder=str(tmp_path)).store(video, chunk).path
    )


def test_what_is_not_known_cannot_be_spoiled(video: VideoInfo, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finds none; choose another labeller"):
        NoisyMasks()(torch.zeros(2, 3, 48, 48, dtype=torch.uint8), [0.0, 0.1])
    alone = tmp_path / "alone.mp4"
    alone.write_bytes(video.path.read_bytes())
    with pytest.raises(ValueError, match=r"alone\.mp4: no true masks are known"):
        NoisyMasks().of_video(inspect(alone), [0.0])


@pytest.mark.parametrize("name", ["boundary_share", "truncated_share"])
def test_shares_out_of_bounds_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"foreground\.{name}=1: give 0 or more, and less than 1"):
        NoisyMasks(**{name: 1.0})
