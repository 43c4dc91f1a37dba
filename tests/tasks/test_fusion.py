"""Each head against its formula."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfsup.tasks.fusion import FUSIONS, Concat, Contrastive, Distance, Fusion, Localise


def maps(seed: int, dim: int, rows: int = 3) -> Tensor:
    return torch.randn(rows, dim, 2, 4, 5, generator=torch.Generator().manual_seed(seed))


def head_of(name: str) -> Fusion:
    torch.manual_seed(0)
    return FUSIONS[name](6, 7, 8)


def logits(head: Fusion) -> Tensor:
    return head(head.frames(maps(0, 6)), head.sounds(maps(1, 7)))


def through(layers: nn.Sequential, features: Tensor) -> Tensor:
    """Max-pooled maps through two linear layers."""
    first, _, second = layers
    return second(first(features.flatten(2).max(dim=2).values).relu())


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    head = head_of(name)
    (logits(head) * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
    assert [name for name, of in head.named_parameters() if of.grad is None or not of.grad.any()] == []
    assert logits(head).shape == (3,)


def test_concat_is_a_perceptron_on_both_vectors() -> None:
    head = head_of("concat")
    assert isinstance(head, Concat)
    both = torch.cat([maps(0, 6).flatten(2).max(dim=2).values, maps(1, 7).flatten(2).max(dim=2).values], dim=1)
    first, _, second = head.layers
    assert (first.in_features, first.out_features, second.out_features) == (13, 8, 1)
    torch.testing.assert_close(logits(head), second(first(both).relu())[:, 0])


def test_distance_is_a_line_over_the_euclidean_distance_of_directions() -> None:
    head = head_of("distance")
    assert isinstance(head, Distance)
    frames, sounds = through(head.frame_layers, maps(0, 6)), through(head.sound_layers, maps(1, 7))
    far = (F.normalize(frames) - F.normalize(sounds)).norm(dim=1)
    torch.testing.assert_close(logits(head), -4 * far + 4 * math.sqrt(2))
    rest = [name for name, _ in head.named_parameters() if "layers" not in name]
    assert rest == ["slope", "offset"]  # two parameters
    same = head.frames(maps(0, 6))
    same.retain_grad()
    head(same, same.detach()).sum().backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()


def test_localise_takes_the_position_that_fits_best() -> None:
    head = head_of("localise")
    assert isinstance(head, Localise)
    frames, sounds = head.frames(maps(0, 6)), through(head.sound_layers, maps(1, 7))
    assert frames.shape == (3, 8, 4, 5)
    expected = torch.stack([(frame * sound[:, None, None]).sum(0) for frame, sound in zip(frames, sounds, strict=True)])
    torch.testing.assert_close(head.similarity(frames, sounds), expected)
    torch.testing.assert_close(logits(head), expected.flatten(1).max(dim=1).values)


def test_contrastive_is_the_cosine_over_a_temperature() -> None:
    head = head_of("contrastive")
    assert isinstance(head, Contrastive)
    frames, sounds = through(head.frame_layers, maps(0, 6)), through(head.sound_layers, maps(1, 7))
    torch.testing.assert_close(logits(head), F.cosine_similarity(frames, sounds) / 0.07)
    with torch.no_grad():
        head.log_scale.fill_(9.0)
    assert head.scale.item() == pytest.approx(100)
