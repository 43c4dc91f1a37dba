"""Files that go into the page: as much as there is room for, and none from outside of the run."""

import base64
import json
from pathlib import Path

import pytest

from selfsup.reporting.media import Room, neighbours, pictures


def recorded(folder: Path, **cell: str) -> Path:
    """A run's folder with one neighbour of these files."""
    below = folder / "pictures" / "neighbours"
    below.mkdir(parents=True)
    (below / "a.png").write_bytes(b"png")
    cells = [{"kind": "query", "caption": "a", **cell}]
    (below / "neighbours.json").write_text(json.dumps([{"title": "near", "rows": [cells]}]))
    return folder


def test_room_is_for_the_first_and_the_others_are_named(tmp_path: Path) -> None:
    for name, size in (("a.png", 60), ("b.mp4", 50), ("c.png", 40)):
        (tmp_path / name).write_bytes(bytes(size))
    room = Room(100)
    assert room.uri(tmp_path / "a.png") == f"data:image/png;base64,{base64.b64encode(bytes(60)).decode()}"
    assert room.uri(tmp_path / "b.mp4") is None
    assert room.uri(tmp_path / "c.png") is not None
    assert room.bytes_left == 0
    assert room.refused == [f"{tmp_path / 'b.mp4'}, 0.0 MB"]


def test_neighbours_are_the_files_that_their_record_names(tmp_path: Path) -> None:
    (table,) = neighbours(recorded(tmp_path, image="a.png"), Room(100))
    assert table == {
        "title": "near",
        "rows": [[{"kind": "query", "caption": "a", "image": "data:image/png;base64,cG5n"}]],
    }
    assert pictures(tmp_path, Room(100)) == [], "what a table shows is not shown again"


@pytest.mark.parametrize("name", ["../../../secret.png", "secret.txt", "/etc/hostname"])
def test_a_record_cannot_name_a_file_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder = recorded(tmp_path / "run", image=name)
    with pytest.raises(ValueError, match="which is no picture, sound or video of its folder"):
        neighbours(folder, Room(100))


def test_a_link_to_the_outside_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    below = tmp_path / "run" / "pictures"
    below.mkdir(parents=True)
    (below / "link.png").symlink_to(tmp_path / "secret.png")
    (below / "epoch-0000.png").write_bytes(b"0")
    (below / "epoch-0005.png").write_bytes(b"5")
    names = [shown.name for shown in pictures(tmp_path / "run", Room(100))]
    assert names == ["pictures/epoch-0005.png", "pictures/epoch-0000.png"], "the newest first"


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder = recorded(tmp_path)
    (folder / "pictures" / "neighbours" / "neighbours.json").write_text('[{"title": "near"')
    with pytest.raises(ValueError, match=r"neighbours\.json: not as selfsup writes it"):
        neighbours(folder, Room(100))
