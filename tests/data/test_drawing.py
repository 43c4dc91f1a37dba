"""The video that is drawn: times, sizes, the band of what became of each frame, and names that cannot be written."""

from pathlib import Path

import av
import numpy as np
import pytest

from selfsup.data.drawing import COLOURS, DrawnVideo


def test_frames_keep_their_times_and_the_band_tells_their_fate(tmp_path: Path) -> None:
    video = DrawnVideo(tmp_path / "new" / "drawn.mp4")
    grey = np.full((64, 96, 3), 128, np.uint8)
    video.write(grey, 0.0, "encoded", "jump 90 %")
    video.write(grey, 0.1, "held", "jump 90 %")
    video.dropped(2)
    video.write(grey, 0.4, "skipped", "")
    video.write(np.full((48, 96, 3), 128, np.uint8), 0.4, "encoded", "")  # of another size, at the same time
    video.close()
    with av.open(str(tmp_path / "new" / "drawn.mp4")) as file:
        decoded = list(file.decode(video=0))
    assert [frame.time for frame in decoded][:3] == pytest.approx([0, 0.1, 0.4])
    assert decoded[3].time > decoded[2].time
    assert [(frame.width, frame.height) for frame in decoded] == [(96, 64)] * 4
    last = decoded[2].to_ndarray(format="rgb24")
    columns = last[-6:-1, -20:].reshape(5, 5, 4, 3).mean(axis=(0, 2))
    for column, name in zip(columns, ("encoded", "held", "dropped", "dropped", "skipped"), strict=True):
        distances = {other: np.abs(column - np.array(colour)).sum() for other, colour in COLOURS.items()}
        assert min(distances, key=lambda other: distances[other]) == name


@pytest.mark.parametrize("name", ["drawn.xyz", "drawn", "file/drawn.mp4"])
def test_a_name_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"drawn.*: cannot be written as a video \(.*\); give output=NAME.mp4"):
        DrawnVideo(tmp_path / name)
