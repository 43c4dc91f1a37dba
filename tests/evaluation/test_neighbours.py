"""Neighbours across sight and hearing: the right ones, with the frame and the sound that were compared."""

import json
import re
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.io import read_image

from selfsup.data.index import inspect
from selfsup.evaluation.neighbours import BORDER_PIXELS, SIDE_PIXELS, Moment, nearest, write_neighbours
from tests.data import barcodes

RATE_HZ = 8000


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> list[Moment]:
    """Three videos with noise of their own for 3 seconds, compared at 0, 1 and 2 seconds."""
    folder = tmp_path_factory.mktemp("videos")
    generator = np.random.default_rng(0)
    paths = [
        barcodes.write_sound(folder / f"<{number}>.mkv", generator.uniform(-0.9, 0.9, (1, 3 * RATE_HZ)), RATE_HZ)
        for number in range(3)
    ]
    return [Moment(inspect(path), "a & b", number + 0.6, number) for number, path in enumerate(paths)]


SIMILARITIES = {
    "frame to sound": torch.tensor([[3.0, 1, 2], [3, 2, 1], [1, 1, 3]]),
    "sound to frame": torch.tensor([[1.0, 2, 3], [1, 2, 3], [3, 2, 1]]),
}


def test_the_nearest_come_first_and_equal_ones_in_their_order() -> None:
    assert nearest(SIMILARITIES["frame to sound"], 0, 2) == [0, 2]
    assert nearest(SIMILARITIES["frame to sound"], 2, 3) == [2, 0, 1]


def test_what_is_shown_and_played_is_what_was_compared(moments: list[Moment], tmp_path: Path) -> None:
    written = write_neighbours(tmp_path, moments, SIMILARITIES, sound_seconds=1.0, rate_hz=RATE_HZ, queries=2, count=2)
    places = {"frame to sound": [[0, 0, 2], [2, 2, 0]], "sound to frame": [[0, 2, 1], [2, 0, 1]]}
    page = (tmp_path / "index.html").read_text()
    shown = [int(place) for place in re.findall(r'src="frames/(\d+)\.png"', page)]
    heard = [int(place) for place in re.findall(r'src="sounds/(\d+)\.wav"', page)]
    assert shown == heard == [place for rows in places.values() for row in rows for place in row]
    assert "a &amp; b, &lt;0&gt;.mkv at 0.00 s" in page
    tables = json.loads((tmp_path / "neighbours.json").read_text())
    cells = [cell for table in tables for row in table["rows"] for cell in row]
    assert [int(Path(cell["sound"]).stem) for cell in cells] == heard
    assert cells[0]["caption"] == "a & b, <0>.mkv at 0.00 s"
    assert all((tmp_path / cell[name]).is_file() for cell in cells for name in ("image", "sound"))
    side, cell = SIDE_PIXELS + 2 * BORDER_PIXELS, SIDE_PIXELS + 2 * BORDER_PIXELS + 2
    for direction, rows in places.items():
        of = written[direction]
        assert [int(path.stem) for path in of.sounds] == [place for row in rows for place in row]
        assert of.captions[1].startswith("row 1, neighbour 1: a & b, <")
        picture = read_image(str(of.path))
        assert torch.equal(picture, of.picture)
        for row, number in ((row, column) for row in range(2) for column in range(3)):
            framed = picture[:, 2 + row * cell :, 2 + number * cell :][:, :side, :side]
            place = rows[row][number]
            inner = framed[:, BORDER_PIXELS:-BORDER_PIXELS, BORDER_PIXELS:-BORDER_PIXELS]
            assert torch.equal(inner, read_image(str(tmp_path / "frames" / f"{place:04d}.png")))
            colour = framed[:, 0, 0].tolist()
            own = place == rows[row][0]
            assert colour == ([0, 0, 0] if number == 0 else [25, 178, 51] if own else [255] * 3)
    for place, moment in enumerate(moments):
        with wave.open(str(tmp_path / "sounds" / f"{place:04d}.wav")) as file:
            assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (1, RATE_HZ, RATE_HZ)
            played = np.frombuffer(file.readframes(RATE_HZ), np.int16) / 32767
        generator = np.random.default_rng(0)
        noise = [generator.uniform(-0.9, 0.9, (1, 3 * RATE_HZ)) for _ in range(3)][place][0]
        start = round(moment.heard_seconds * RATE_HZ)
        np.testing.assert_allclose(played, noise[start : start + RATE_HZ], atol=1e-4)


def test_a_video_that_is_gone_is_named(moments: list[Moment], tmp_path: Path) -> None:
    gone = [*moments[:2], Moment(moments[2].info, None, 60.0, 2.0)]
    gone[2].info.path.rename(tmp_path / "elsewhere.mkv")
    with pytest.raises((ValueError, OSError), match=r"<2>\.mkv"):
        write_neighbours(tmp_path, gone, SIMILARITIES, sound_seconds=1.0, rate_hz=RATE_HZ)
    (tmp_path / "elsewhere.mkv").rename(gone[2].info.path)
