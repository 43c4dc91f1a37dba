"""The linear skip: what a fresh shallow map says of a held deep one."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from selfsup.encoders.encoder import FrameEncoder
from selfsup.encoders.resnet import ResNet
from selfsup.streaming.clockwork import Clockwork
from selfsup.streaming.skip import LinearSkip, fit_skip, load_skip
from selfsup.streaming.stream import HeldFrames


class Linear(FrameEncoder):
    """Two linear stages: the deep map is linear in the shallow one, on cells of 2 x 2 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 5, 2, stride=2))
        self.dim = 5


def drift(count: int, side: int, seed: int) -> Tensor:
    """Frames (T, 3, side, side) that change a little from one to the next."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(1, 3, side, side, generator=generator)
    return first + 0.2 * torch.randn(count, 3, side, side, generator=generator).cumsum(dim=0)


def test_where_the_deep_map_is_linear_in_the_shallow_one_nothing_is_lost() -> None:
    torch.manual_seed(0)
    encoder = Linear().eval()
    skip = fit_skip(encoder, [drift(40, 12, seed=0)], watched_stages=1, penalty=1e-6)
    skip.floor.fill_(-1e9)
    stream = Clockwork(encoder, [1, 5], watched_stages=1, skip=skip)
    held = Clockwork(encoder, [1, 5], watched_stages=1)
    for time, frame in enumerate(drift(5, 12, seed=1)):
        expected = HeldFrames(encoder).step(frame)
        found, stale = stream.step(frame), held.step(frame)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
        assert stale is not None
        assert torch.equal(stale, expected) == (time == 0)


def test_the_fit_is_ridge_regression() -> None:
    """Beside scikit-learn's, on examples that are collected one by one."""
    torch.manual_seed(0)
    encoder, frames = Linear().eval(), drift(6, 8, seed=0)
    skip = fit_skip(encoder, [frames], watched_stages=1, gaps_frames=(1, 3), penalty=0.5)
    with torch.no_grad():
        shallow, deep = encoder.stages[:1](frames), encoder.stages(frames)
    inputs, targets = [], []
    for gap in (1, 3):
        for time in range(gap, 6):
            change = F.pad(F.pixel_unshuffle(shallow[time] - shallow[time - gap], 2), (1, 1, 1, 1))
            for row in range(4):
                for column in range(4):
                    inputs.append(change[:, row : row + 3, column : column + 3].flatten().numpy())
                    targets.append((deep[time] - deep[time - gap])[:, row, column].numpy())
    examples = np.array(inputs, dtype=np.float64)
    alpha = 0.5 * (examples**2).sum(axis=0).mean()
    expected = Ridge(alpha=alpha, fit_intercept=False).fit(examples, np.array(targets))
    np.testing.assert_allclose(skip.weight.flatten(1).numpy(), expected.coef_, atol=1e-4)


def test_a_skip_is_closer_to_the_encoder_than_the_held_map() -> None:
    """With random weights, on another video than that of the fit."""
    torch.manual_seed(0)
    encoder = ResNet().eval()
    skip = fit_skip(encoder, [drift(30, 64, seed=0), drift(30, 64, seed=1)], watched_stages=1)
    streams = [Clockwork(encoder, [1, 8], watched_stages=1, skip=given) for given in (skip, None)]
    errors = torch.zeros(2)
    for frame in drift(8, 64, seed=2):
        expected = HeldFrames(encoder).step(frame)
        for number, stream in enumerate(streams):
            found = stream.step(frame)
            assert found is not None
            errors[number] += (found - expected).norm()
    assert errors[0] < 0.95 * errors[1]


def test_no_value_is_below_what_the_fit_has_seen() -> None:
    encoder = ResNet().eval()
    skip = fit_skip(encoder, [drift(4, 32, seed=0)], watched_stages=1)
    assert skip.floor.min() >= 0
    shallow = encoder.stages[:1](drift(2, 32, seed=1) * 100).detach()
    found = skip(shallow[:1], shallow[1:], torch.zeros(1, 512, 1, 1))
    assert (found >= skip.floor.view(-1, 1, 1)).all()


def test_a_saved_skip_is_the_same(tmp_path: Path) -> None:
    skip = fit_skip(Linear(), [drift(4, 8, seed=0)], watched_stages=1)
    skip.save(tmp_path / "skip.safetensors")
    loaded = load_skip(str(tmp_path / "skip.safetensors"))
    assert torch.equal(loaded.weight, skip.weight)
    assert torch.equal(loaded.floor, skip.floor)


def test_what_is_no_skip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "torn").write_bytes(b"no tensors")
    for path in (tmp_path / "torn", tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=rf"{path}: not a skip .*; fit it again"):
            load_skip(str(path))


def test_a_skip_of_another_stage_is_refused() -> None:
    encoder = ResNet().eval()
    skip = LinearSkip(torch.zeros(512, 4 * 128, 3, 3), torch.zeros(512))
    stream = Clockwork(encoder, [1, 2], watched_stages=1, skip=skip)
    stream.step(torch.randn(3, 32, 32))
    with pytest.raises(
        ValueError, match=r"fitted to maps of 128 and 512 channels, .* 64 and 512; give method\.watched"
    ):
        stream.step(torch.randn(3, 32, 32))


def test_videos_without_a_pair_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no video of more than 1 frame\(s\) to fit the skip to"):
        fit_skip(Linear(), [drift(1, 8, seed=0)], watched_stages=1)
