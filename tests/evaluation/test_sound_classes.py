"""Classes by folds: told where they can be, at chance where they cannot, and nothing of a fold seen before."""

import numpy as np
import pytest
import torch

from selfsup.evaluation.sound_classes import cepstrum, statistics, tell_by_folds, windows

CLIPS, WINDOWS = 60, 3
LABELS = [f"class {number % 3}" for number in range(CLIPS)]
FOLDS = [str(number // 15 + 1) for number in range(CLIPS)]


def drawn(signal: float) -> tuple[np.ndarray, np.ndarray]:
    """Windows of noise (W, 8), to which the class adds `signal` in a direction of its own; and their clips."""
    generator = np.random.default_rng(0)
    clips = np.arange(CLIPS).repeat(WINDOWS)
    features = generator.normal(size=(len(clips), 8)).astype(np.float32)
    features[np.arange(len(clips)), clips % 3] += signal
    return features, clips


def test_what_is_there_is_told_and_what_is_not_is_not() -> None:
    told = tell_by_folds(*drawn(4.0), LABELS, FOLDS, [0.01, 1.0])
    assert np.mean(told.correct) > 0.95
    assert list(told.accuracy) == ["1", "2", "3", "4"]
    assert np.mean(list(told.accuracy.values())) == pytest.approx(np.mean(told.correct))
    noise = tell_by_folds(*drawn(0.0), LABELS, FOLDS, [0.01, 1.0])
    assert 0.1 < np.mean(noise.correct) < 0.6


def test_windows_of_a_clip_answer_together() -> None:
    features, clips = drawn(1.2)
    joined = tell_by_folds(features, clips, LABELS, FOLDS, [1.0])
    alone = tell_by_folds(
        features,
        np.arange(len(clips)),
        [LABELS[clip] for clip in clips],
        [FOLDS[clip] for clip in clips],
        [1.0],
    )
    assert np.mean(joined.correct) > np.mean(alone.correct)


def test_the_strength_is_chosen_without_the_fold_that_is_told() -> None:
    features, clips = drawn(0.7)
    strengths = [1e-4, 1e-2, 1.0, 100.0]
    before = tell_by_folds(features, clips, LABELS, FOLDS, strengths)
    spoiled = features.copy()
    spoiled[np.array(FOLDS)[clips] == "3"] = 0
    after = tell_by_folds(spoiled, clips, LABELS, FOLDS, strengths)
    assert after.strengths["3"] == before.strengths["3"]
    assert after.accuracy["3"] == pytest.approx(1 / 3)


def test_too_few_folds_and_a_class_of_one_fold_are_refused() -> None:
    features, clips = drawn(1.0)
    with pytest.raises(ValueError, match="2 folds; choosing"):
        tell_by_folds(features, clips, LABELS, ["1", "2"] * (CLIPS // 2), [1.0])
    with pytest.raises(ValueError, match="fold 1's"):
        tell_by_folds(features, clips, ["rare", *LABELS[1:]], FOLDS, [1.0])
    with pytest.raises(ValueError, match="give at least one C above 0"):
        tell_by_folds(features, clips, LABELS, FOLDS, [0.0])


def test_windows_of_a_waveform() -> None:
    waveform = torch.arange(25.0)
    assert windows(waveform, 10, 5)[:, 0].tolist() == [0, 5, 10, 15]
    short = windows(waveform[:4], 10, 5)
    assert short.tolist() == [[0, 1, 2, 3, 0, 0, 0, 0, 0, 0]]


def test_statistics_and_cepstrum_by_their_formulas() -> None:
    bands = torch.randn(2, 64, 30, generator=torch.Generator().manual_seed(0))
    expected = np.concatenate([bands.numpy().mean(axis=2), bands.numpy().std(axis=2, ddof=1)], axis=1)
    np.testing.assert_allclose(statistics(bands).numpy(), expected, atol=1e-5)
    place = np.pi / 64 * (np.arange(64) + 0.5)
    third = np.sqrt(2 / 64) * np.einsum("bfs,f->bs", bands.numpy(), np.cos(3 * place))
    assert cepstrum(bands).shape == (2, 20, 30)
    np.testing.assert_allclose(cepstrum(bands)[:, 3].numpy(), third, atol=1e-5)
