"""The head that sees time: blind to places, not to the order of moments."""

import torch

from selfsup.tasks.temporal_head import TemporalHead


def test_it_sees_the_order_of_moments_and_not_of_places() -> None:
    torch.manual_seed(0)
    head, maps = TemporalHead(5, 8, 3).eval(), torch.randn(2, 5, 6, 3, 4)
    logits = head(maps)
    assert logits.shape == (2, 3)
    torch.testing.assert_close(head(maps.flip(3).flip(4)), logits)
    assert (head(maps.flip(2)) - logits).abs().max() > 1e-3
    assert head(maps[:, :, :1]).shape == (2, 3)
