"""The contract itself: what an input specification may say."""

import pytest
import torch

from selfsup.encoders.encoder import InputSpecification


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"size_pixels": 0}, r"input.size_pixels is 0; give"),
        ({"size_pixels": 1.5}, r"input.size_pixels is 1.5; give"),
        ({"mean": (0.5,)}, r"must hold one number a channel"),
        ({"mean": (), "std": ()}, r"must hold one number a channel"),
        ({"mean": (0.5, float("nan"))}, r"input.mean .* finite"),
        ({"std": (0.2, 0.0)}, r"input.std .* above 0"),
        ({"fps": 0.0}, r"input.fps is 0.0; give"),
        ({"fps": float("inf")}, r"input.fps is inf; give"),
    ],
)
def test_an_impossible_input_is_refused(changed: dict, sentence: str) -> None:
    possible = {"size_pixels": 112, "mean": (0.5, 0.5), "std": (0.2, 0.2), "fps": None}
    assert InputSpecification(**possible).fps is None
    with pytest.raises(ValueError, match=sentence):
        InputSpecification(**{**possible, **changed})


def test_clips_of_another_size_are_warned_of() -> None:
    specification = InputSpecification(size_pixels=64, mean=(0.5,), std=(0.5,), fps=None)
    assert specification.warning(64) is None
    assert "trained on 64 pixels and sees 112 here; data.size_pixels=64" in str(specification.warning(112))


def test_normalize_takes_bytes_and_floats() -> None:
    specification = InputSpecification(size_pixels=4, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0), fps=None)
    clip = torch.randint(0, 256, (2, 3, 5, 4, 4), dtype=torch.uint8)
    shape = (1, 3, 1, 1, 1)
    expected = (clip / 255 - torch.tensor([0.5, 0.25, 0.0]).view(shape)) / torch.tensor([0.5, 0.25, 1.0]).view(shape)
    torch.testing.assert_close(specification.normalize(clip), expected)
    torch.testing.assert_close(specification.normalize(clip / 255), expected)
