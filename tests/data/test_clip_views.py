"""Views of a video: each from anywhere, none from beyond, and a refusal where there is no room."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from selfsup.data.clip_views import ClipViews
from selfsup.data.index import inspect
from selfsup.data.reader import VideoReader
from tests.data import barcodes
from tests.tasks.test_temporal_order import info_of

SAMPLER = ClipViews(views=3, num_frames=4, stride_seconds=0.08)  # 7 frames at 25 a second


def test_each_view_comes_from_anywhere_and_keeps_its_stride(tmp_path: Path) -> None:
    path = barcodes.write(tmp_path / "a.mp4", range(0, 20 * 40, 40))  # 20 frames, 14 starts
    info = inspect(path)
    starts, apart = torch.zeros(14), set()
    with VideoReader(path) as video:
        for seed in range(60):
            clip = SAMPLER(video, info, torch.Generator().manual_seed(seed))["clip"]
            assert clip.shape == (3, 3, 4, barcodes.HEIGHT, barcodes.WIDTH)
            numbers = [[barcodes.read_number(frame) for frame in view.transpose(0, 1)] for view in clip]
            for view in numbers:
                assert [number - view[0] for number in view] == [0, 2, 4, 6]
                starts[view[0]] += 1
            apart.add(abs(numbers[0][0] - numbers[1][0]))
        again = SAMPLER(video, info, torch.Generator().manual_seed(59))["clip"]
    assert torch.equal(again, clip)
    assert starts.min() > 0  # 180 draws of 14 starts
    assert {0, 1, 10} <= apart


def test_refuses_what_is_shorter_than_a_view() -> None:
    assert SAMPLER.refuse(info_of(7)) is None
    assert SAMPLER.refuse(info_of(6)) == (
        "too short for a view: lasts 0.24 s, 4 frames need 0.28 s; lower task.sampler.num_frames or stride_seconds"
    )
    assert ClipViews(num_frames=1).refuse(info_of(1)) is None


@pytest.mark.parametrize("values", [{"views": 1}, {"num_frames": 0}, {"stride_seconds": 0.0}])
def test_values_out_of_bounds_are_refused(values: dict[str, float]) -> None:
    (name,) = values
    with pytest.raises(ValueError, match=rf"task\.sampler: .*{name}="):
        replace(SAMPLER, **values)
