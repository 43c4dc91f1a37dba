"""Descriptors of superpixels against scikit-image and numpy, patch by patch."""

import sys

import numpy as np
import pytest
import torch
from skimage.color import rgb2gray, rgb2lab
from skimage.feature import hog
from torch import Tensor

from selfsup.data.superpixels import Superpixels, oriented_gradients, to_lab

SUPERPIXELS = Superpixels(segments=30, smoothing_pixels=1)


@pytest.fixture(scope="module")
def frames() -> Tensor:
    """Uint8 (2, 3, 50, 70), smooth random colours."""
    noise = torch.rand(2, 3, 10, 14, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(noise, size=(50, 70), mode="bicubic").clamp(0, 1) * 255).byte()


def test_a_missing_library_is_named_before_any_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ValueError, match=r"need scikit-image: pip install 'selfsup\[foreground\]'"):
        Superpixels()


def test_superpixels_are_numbered_through(frames: Tensor) -> None:
    regions = SUPERPIXELS.divide(frames)
    assert regions.labels.shape == (2, 50, 70)
    assert np.array_equal(np.unique(regions.labels), np.arange(len(regions)))
    assert regions.labels[0].max() + 1 == regions.labels[1].min() == regions.starts[1]
    assert np.array_equal(regions.frame_numbers, [label >= regions.starts[1] for label in range(len(regions))])


def test_mean_centre_and_paint_are_what_loops_say(frames: Tensor) -> None:
    regions = SUPERPIXELS.divide(frames)
    values = np.random.default_rng(0).random((2, 50, 70))
    means, centres = regions.mean(values), regions.centres()
    for number in range(len(regions)):
        _, rows, columns = np.nonzero(regions.labels == number)
        assert means[number] == pytest.approx(values[regions.labels == number].mean())
        assert centres[number] == pytest.approx(
            [(rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2], abs=0.5
        )
    assert np.array_equal(regions.paint(np.arange(len(regions))), regions.labels)


def test_gradients_are_those_of_scikit_image() -> None:
    patches = np.random.default_rng(0).random((20, 15, 15))
    found = oriented_gradients(patches)
    for patch, row in zip(patches, found, strict=True):
        theirs = hog(patch, orientations=6, pixels_per_cell=(5, 5), cells_per_block=(3, 3), block_norm="L2-Hys")
        assert row == pytest.approx(theirs, abs=1e-4)


def test_lab_is_that_of_scikit_image(frames: Tensor) -> None:
    image = frames[0].permute(1, 2, 0).numpy()
    assert np.abs(to_lab(image) - rgb2lab(image)).max() < 0.5  # OpenCV interpolates in a table


def test_a_descriptor_is_gradients_colours_and_place(frames: Tensor) -> None:
    regions = SUPERPIXELS.divide(frames)
    found = SUPERPIXELS.describe(frames, regions)
    assert found.shape == (len(regions), 176)
    centres, numbers = regions.centres(), regions.frame_numbers
    inside = [
        n for n, (row, column) in enumerate(centres) if 7 <= row < 50 - 7 and 7 <= column < 70 - 7
    ]  # whose patch is whole
    assert len(inside) > 10
    ranges = [(0, 255)] * 3 + [(0, 100)] + [(-128, 127)] * 2
    for number in inside:
        row, column = centres[number]
        image = frames[numbers[number]].permute(1, 2, 0).numpy()[row - 7 : row + 8, column - 7 : column + 8]
        channels = np.concatenate([image, rgb2lab(image)], axis=-1)
        colours = [np.histogram(channels[..., n], 20, ranges[n])[0] / 225 for n in range(6)]
        gradients = hog(
            rgb2gray(image), orientations=6, pixels_per_cell=(5, 5), cells_per_block=(3, 3), block_norm="L2-Hys"
        )
        assert found[number, :54] == pytest.approx(gradients, abs=1e-3)
        # Lab of OpenCV and of scikit-image may fall on either side of an edge.
        assert np.abs(found[number, 54:174] - np.concatenate(colours)).sum() < 0.1
        assert found[number, 174:] == pytest.approx([row / 50, column / 70], abs=1e-6)


def test_parts_of_the_descriptor_can_be_left_out(frames: Tensor) -> None:
    whole = SUPERPIXELS.describe(frames, regions := SUPERPIXELS.divide(frames))
    some = Superpixels(segments=30, smoothing_pixels=1, colour=False, location=False).describe(frames, regions)
    assert np.array_equal(some, whole[:, :54])
    with pytest.raises(ValueError, match="superpixels need a description"):
        Superpixels(colour=False, gradients=False, location=False)
    with pytest.raises(ValueError, match="patch_pixels=16: give a multiple of 3"):
        Superpixels(patch_pixels=16)
