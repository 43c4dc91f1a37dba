"""Flow against motions that are known: its sign and its size, by each algorithm."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.optical_flow import raft_small

from selfsup.data.flow import Dis, Farneback, FlowAlgorithm, Raft, flow
from selfsup.data.reader import VideoReader
from selfsup.data.synthetic import read_annotations

ALGORITHMS = [Dis(), Dis("fast"), Farneback()]


def translated(count: int = 3, u: int = 3, v: int = -2, side: int = 96) -> Tensor:
    """Uint8 (count, 3, side, side): a smooth random texture that moves by (u, v) pixels a frame."""
    noise = np.random.default_rng(0).integers(0, 256, (2 * side, 2 * side), np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    frames = [np.roll(texture, (v * time, u * time), axis=(0, 1))[:side, :side] for time in range(count)]
    return torch.from_numpy(np.stack(frames))[:, None].expand(-1, 3, -1, -1).contiguous()


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.name)
@pytest.mark.parametrize(("u", "v"), [(3, -2), (-3, 2), (0, 0), (5, 0)])
def test_a_translation_is_found_with_its_sign(algorithm: FlowAlgorithm, u: int, v: int) -> None:
    found = flow(translated(3, u, v), algorithm)
    assert found.shape == (2, 2, 96, 96)
    assert found.dtype == torch.float32
    interior = found[..., 16:-16, 16:-16]
    most = 0.2 if algorithm != Dis("fast") else 0.3  # its finest level is a quarter of the size
    assert (interior[:, 0] - u).abs().max() < most
    assert (interior[:, 1] - v).abs().max() < most


def test_grey_and_colour_give_the_same_flow() -> None:
    frames = translated()
    assert torch.equal(flow(frames), flow(frames[:, :1]))


def test_a_field_depends_on_its_two_frames_alone() -> None:
    frames = torch.cat([translated(4), translated(3, -1, 4)])
    whole = flow(frames)
    for first in range(5):
        assert torch.equal(flow(frames[first : first + 2])[0], whole[first])


def test_opencvs_threads_are_left_as_they_were() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        flow(translated())
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("size", [(32, 32), (32, 96), (96, 33), (47, 80)])
def test_small_frames_have_a_flow(size: tuple[int, int]) -> None:
    frames = translated()[..., : size[0], : size[1]]
    for algorithm in ALGORITHMS:
        assert flow(frames, algorithm).isfinite().all()
    assert flow(frames[..., :5, :9], Farneback()).isfinite().all()


def test_what_has_no_flow_is_refused() -> None:
    frames = translated()
    for wrong in (frames[0], frames.float(), frames[:, :2]):
        with pytest.raises(ValueError, match=r"give uint8 \(T, C, H, W\)"):
            flow(wrong)
    with pytest.raises(ValueError, match="at least 2"):
        flow(frames[:1])
    with pytest.raises(ValueError, match="frames of 96 x 31 pixels: DIS flow needs 32"):
        flow(frames[..., :31, :])
    with pytest.raises(ValueError, match="preset='slow'"):
        Dis("slow")


def test_raft_takes_local_weights_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="RAFT needs weights and none are downloaded"):
        Raft()
    with pytest.raises(ValueError, match=r"none\.pth: no such file"):
        Raft(str(tmp_path / "none.pth"))
    torch.manual_seed(0)
    torch.save(raft_small().state_dict(), tmp_path / "raft.pth")
    raft = Raft(str(tmp_path / "raft.pth"), size="small", updates=2)
    frames = translated(3)[..., :90, :]
    found = flow(frames, raft)
    assert found.shape == (2, 2, 90, 96)
    assert torch.equal(flow(frames[1:], raft)[0], found[1])
    assert raft.name != Raft(raft.weights_path, size="small", updates=3).name
    with pytest.raises(ValueError, match="is not a state dict of torchvision's raft_large"):
        flow(frames, Raft(raft.weights_path, size="large"))
    (tmp_path / "raft.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"raft\.pth: not a readable state dict"):
        flow(frames, Raft(raft.weights_path, size="small"))


@pytest.mark.parametrize(("algorithm", "share"), [(Dis(), 0.7), (Farneback(), 0.95)])
def test_it_agrees_with_the_exact_flow_of_synthetic_videos(
    algorithm: FlowAlgorithm, share: float, synthetic_manifest: Path
) -> None:
    errors, sizes, mirrored = [], [], []
    for path in sorted(synthetic_manifest.parent.rglob("*.mp4"))[::4]:
        exact = torch.from_numpy(read_annotations(path).flow)
        with VideoReader(path) as video:
            found = flow(video.frames(video.times_seconds.tolist()), algorithm)
        moves = exact.norm(dim=1) > 0.5
        errors.append((found - exact).norm(dim=1)[moves])
        sizes.append(exact.norm(dim=1)[moves])
        mirrored.append((found * torch.tensor([-1.0, 1.0]).view(2, 1, 1) - exact).norm(dim=1)[moves])
    error, size, wrong = (torch.cat(values).mean().item() for values in (errors, sizes, mirrored))
    print(f"{algorithm.name}: end-point error {error:.2f} px where {size:.2f} px move")
    # The backgrounds have little texture at 64 pixels. Zero flow has the error `size`, a wrong sign more.
    assert error < share * size
    assert error < 0.9 * wrong
