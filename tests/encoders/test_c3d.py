"""C3D: the paper's sizes and the smallest clip."""

from itertools import pairwise

import pytest
import torch

from selfsup.encoders.c3d import C3D


def test_has_the_parameters_of_the_papers_convolutions() -> None:
    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    plain = sum(27 * a * b + b for a, b in pairwise(widths))
    assert sum(p.numel() for p in C3D(batch_norm=False).parameters()) == plain == 27_655_936
    assert sum(p.numel() for p in C3D().parameters()) == plain + 2 * sum(widths[1:])


def test_the_papers_clip_gives_the_papers_maps() -> None:
    with torch.device("meta"):
        encoder, x = C3D(batch_norm=False), torch.empty(1, 3, 16, 112, 112)
    sizes = []
    for stage in encoder.stages:
        x = stage(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [
        (64, 16, 112, 112),
        (128, 16, 56, 56),
        (256, 8, 28, 28),
        (512, 4, 14, 14),
        (512, 2, 7, 7),
    ]


@torch.no_grad()
def test_without_batch_norm_the_signal_keeps_its_scale() -> None:
    torch.manual_seed(0)
    features = C3D(batch_norm=False)(torch.randn(1, 3, 8, 32, 32))
    assert 0.1 < features.std() < 10


@pytest.mark.parametrize(
    ("shape", "got"),
    [((7, 16, 16), "7 of 16 x 16"), ((8, 15, 16), "8 of 15 x 16"), ((8, 16, 15), "of 16 x 15")],
)
def test_a_clip_too_small_is_refused_with_the_smallest(shape: tuple[int, int, int], got: str) -> None:
    with pytest.raises(ValueError, match=f"8 or more frames of at least 16 x 16 pixels, but got .*{got}; lengthen"):
        C3D()(torch.zeros(1, 3, *shape))
