"""The square around an object: where it lies, how it moves, and what it does at the frame's edge."""

import pytest
import torch

from selfsup.data.object_window import ObjectWindow

STILL = ObjectWindow(context=2.0, shift_share=0.0, scale_octaves=0.0)


def mask(top: int, left: int, height: int, width: int) -> torch.Tensor:
    found = torch.zeros(60, 80)
    found[top : top + height, left : left + width] = 0.9
    return found


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_chance_the_object_is_in_the_middle_at_its_scale() -> None:
    assert STILL(mask(30, 40, 6, 10), generator()) == (23, 35, 20)


@pytest.mark.parametrize(
    ("object_", "square"),
    [
        ((0, 0, 4, 8), (0, 0, 16)),
        ((56, 76, 4, 4), (52, 72, 8)),
        ((10, 5, 50, 60), (0, 5, 60)),
        ((0, 0, 60, 80), (0, 10, 60)),
    ],
)
def test_the_square_stays_in_the_frame(object_: tuple[int, ...], square: tuple[int, int, int]) -> None:
    assert STILL(mask(*object_), generator()) == square


def test_faint_pixels_do_not_widen_it_and_an_empty_mask_is_the_frame() -> None:
    found = mask(30, 40, 6, 10)
    found[0, 0] = 0.4
    assert STILL(found, generator())[2] == 20
    assert STILL(torch.zeros(60, 80), generator()) == (0, 10, 60)


def test_jitter_covers_its_range_and_no_more() -> None:
    jittered = ObjectWindow(context=2.0, shift_share=0.1, scale_octaves=0.5)
    squares = [jittered(mask(28, 36, 5, 8), generator(seed)) for seed in range(200)]
    sides = [side for _, _, side in squares]
    assert min(sides) in (11, 12)  # 16 / sqrt(2) to 16 * sqrt(2)
    assert max(sides) in (22, 23)
    centres = [(top + side / 2 - 30.5, left + side / 2 - 40) for top, left, side in squares]
    furthest = max(abs(shift) for centre in centres for shift in centre)
    assert 1.5 < furthest <= 0.1 * 23 + 0.5
    assert jittered(mask(28, 36, 5, 8), generator(3)) == squares[3]


@pytest.mark.parametrize("bad", [{"context": 0.0}, {"shift_share": -0.1}, {"scale_octaves": float("nan")}])
def test_bad_values_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"window\.{next(iter(bad))}=.*: give"):
        ObjectWindow(**bad)
