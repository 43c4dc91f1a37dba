"""The change of each stage from frame to frame, against the same numbers by hand, whatever runs the stages."""

import pytest
import torch

from selfsup.encoders.caffenet import CaffeNet
from selfsup.streaming.stage_change import StageChange
from selfsup.streaming.stream import HeldFrames


@torch.no_grad()
def test_the_change_of_each_stage_is_the_mean_over_the_frames_that_it_saw() -> None:
    torch.manual_seed(0)
    encoder = CaffeNet().eval()
    clip = torch.randn(5, 3, 40, 40)
    change, stream = StageChange(encoder), HeldFrames(encoder, 2)
    for frame in clip:
        stream.step(frame)
    found = change.means()
    change.close()
    stream.step(clip[0])
    stream.step(clip[0])
    assert change.means() == found, "it watches no longer"
    maps = clip[::2]
    assert list(found) == list(encoder.stage_names)
    for name, stage in encoder.stages.named_children():
        maps = stage(maps)
        steps = [float((maps[at + 1] - maps[at]).norm() / maps[at].norm()) for at in (0, 1)]
        assert found[name] == pytest.approx(sum(steps) / 2, rel=1e-4)


def test_one_frame_has_no_change() -> None:
    encoder = CaffeNet()
    change = StageChange(encoder)
    HeldFrames(encoder).step(torch.randn(3, 40, 40))
    assert change.means() == {}
