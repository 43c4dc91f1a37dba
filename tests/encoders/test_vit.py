"""The vision transformer: VideoMAE's sizes, what a hidden token changes, places, short clips, and what it refuses."""

import numpy as np
import pytest
import torch

from selfsup.encoders.vit import ViT, positions, to_tokens


def small(**options: int) -> ViT:
    torch.manual_seed(0)
    return ViT(**{"dim": 24, "depth": 2, "heads": 2, "patch_pixels": 8} | options).eval()


def clip_of(frames: int = 4, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.randn(2, 3, frames, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("dim", "heads"), [(384, 6), (768, 12)])
def test_has_the_parameters_of_the_papers_networks(dim: int, heads: int) -> None:
    """Twelve blocks of attention, perceptron and two norms; the embedding, and the last norm."""
    with torch.device("meta"):
        encoder = ViT(patch_pixels=16, dim=dim, depth=12, heads=heads)
    in_a_block = 4 * (dim**2 + dim) + (8 * dim**2 + 5 * dim) + 4 * dim
    embedding = 3 * 2 * 16 * 16 * dim + dim
    assert sum(p.numel() for p in encoder.parameters()) == 12 * in_a_block + embedding + 2 * dim


@torch.no_grad()
def test_what_is_not_visible_changes_nothing_and_what_is_does() -> None:
    encoder, clip = small(), clip_of()
    visible = torch.zeros(2, 2, 2, 3, dtype=torch.bool)
    visible[0, :, 0, 1] = visible[1, :, 1, 2] = True
    before = encoder.encode_visible(clip, visible)
    assert before.shape == (2, 2, 24)
    other = torch.randn_like(clip)
    other[0, :, :, :8, 8:16] = clip[0, :, :, :8, 8:16]
    other[1, :, :, 8:, 16:] = clip[1, :, :, 8:, 16:]
    assert torch.equal(encoder.encode_visible(other, visible), before)
    other[0, 0, 0, 0, 8] += 1
    after = encoder.encode_visible(other, visible)
    assert (after[0] != before[0]).any(dim=1).all()  # attention spreads it over all times
    assert torch.equal(after[1], before[1])


@torch.no_grad()
def test_where_all_is_visible_the_features_are_those_of_the_encoder() -> None:
    encoder, clip = small(), clip_of()
    everything = torch.ones(2, 2, 2, 3, dtype=torch.bool)
    torch.testing.assert_close(encoder.encode_visible(clip, everything), to_tokens(encoder(clip)))


def test_places_are_the_sines_of_their_definition() -> None:
    found = positions((2, 3, 4), 24, torch.device("cpu"))
    rates = 10_000.0 ** -(np.arange(4) / 4)
    for number, (time, row, column) in enumerate(np.ndindex(2, 3, 4)):
        waves = [wave(place * rates) for place in (time, row, column) for wave in (np.sin, np.cos)]
        np.testing.assert_allclose(found[number].numpy(), np.concatenate(waves), atol=1e-6)
    assert len(positions((2, 3, 4), 26, torch.device("cpu")).unique(dim=0)) == 24  # no two are alike
    assert positions((1, 1, 1), 1024, torch.device("cpu")).shape == (1, 1024)  # ViT-L: no multiple of 6


def test_a_place_has_the_same_token_in_a_larger_clip() -> None:
    small_grid = positions((2, 3, 4), 24, torch.device("cpu")).view(2, 3, 4, 24)
    large_grid = positions((4, 6, 5), 24, torch.device("cpu")).view(4, 6, 5, 24)
    assert torch.equal(large_grid[:2, :3, :4], small_grid)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 3])
def test_the_last_frame_fills_the_last_tubelet(frames: int) -> None:
    encoder, clip = small(), clip_of(frames)
    features = encoder(clip)
    assert features.shape == (2, 24, (frames + 1) // 2, 2, 3)
    assert torch.equal(features, encoder(torch.cat([clip, clip[:, :, -1:]], dim=2)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"heads": 5}, r"encoder\.dim=24 and encoder\.heads=5: give an even width of at least 6 that the heads divide"),
        ({"dim": 27, "heads": 3}, r"encoder\.dim=27 and encoder\.heads=3: give an even width"),
        ({"heads": 0}, r"encoder\.heads=0: give an even width"),
        ({"depth": 0}, r"encoder\.depth=0: give at least 1"),
        ({"patch_pixels": 0}, r"encoder\.patch_pixels=0: give at least 1"),
        ({"tubelet_frames": 0}, r"encoder\.tubelet_frames=0: give at least 1"),
    ],
)
def test_numbers_out_of_bounds_are_refused(options: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        small(**options)


def test_frames_that_the_patch_does_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder\.patch_pixels=8, which do not fill frames of 16 x 20 pixels; give"):
        small()(clip_of(4, 16, 20))
