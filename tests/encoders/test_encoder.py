"""The contract itself: what an input specification may say."""

import pytest

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
