"""Folders of shards that are not as they were written: one sentence that names the file, and no code of theirs runs."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest

from selfsup.data import videos
from selfsup.data.byte_ranges import read_ranges
from selfsup.data.packed import PackedInfo
from selfsup.data.shard_format import INDEX, VIDEOS
from selfsup.data.shards import shards
from tests.packs import pack_listing, rewrite

FIRST, SECOND = "shard-00000.tar", "shard-00001.tar"


def refused(root: Path, *words: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        shards(str(root))
    for word in words:
        assert word in str(error.value), error.value


def test_what_was_packed_is_listed(packed_synthetic: Path) -> None:
    listing = shards(str(packed_synthetic) + "/")
    assert len(listing.videos) == 24
    assert listing.indexed is not None
    assert len(listing.indexed.videos) == 24
    assert "24 packed videos, short side 48 pixels, all frames" in listing.notes[0]
    assert len(list(packed_synthetic.glob("shard-*.tar"))) > 2
    assert {path.name for path in packed_synthetic.iterdir() if "shard" not in path.name} == {
        INDEX, VIDEOS, "SHA256SUMS",
    }  # fmt: skip


def test_a_shard_that_is_cut_short(packed_copy: Path) -> None:
    size = (packed_copy / SECOND).stat().st_size
    os.truncate(packed_copy / SECOND, size - 1000)
    refused(packed_copy, f"{packed_copy}/{SECOND}: cut short, it has {size - 1000:,} bytes of {size:,}; copy it again")


def test_a_shard_that_grew(packed_copy: Path) -> None:
    with open(packed_copy / FIRST, "ab") as file:
        file.write(b"more")
    refused(packed_copy, FIRST, "too long")


def test_a_shard_that_is_missing(packed_copy: Path) -> None:
    (packed_copy / SECOND).unlink()
    refused(packed_copy, f"{packed_copy}/{SECOND}: this shard is missing; copy it again")


def test_a_shard_that_is_cut_short_while_it_is_read(packed_copy: Path) -> None:
    listing = shards(str(packed_copy))
    assert listing.indexed is not None
    info = listing.indexed.videos[listing.videos[0].path]
    os.truncate(packed_copy / FIRST, 2000)
    with pytest.raises(ValueError, match=rf"{FIRST}: byte \d+ is needed, and the file ends before it; copy it again"):
        info.open()
    (packed_copy / FIRST).unlink()
    with pytest.raises(FileNotFoundError, match=FIRST):
        info.open()


def test_a_shard_of_another_version(packed_copy: Path) -> None:
    shard = packed_copy / FIRST
    content = shard.read_bytes().replace(b'"format": 1', b'"format": 9', 1)
    shard.write_bytes(content)
    refused(packed_copy, f"{shard}: has format 9, this version reads 1; pack the videos anew")


def test_an_index_of_another_version(packed_copy: Path) -> None:
    rewrite(packed_copy / INDEX, format=2)
    refused(packed_copy, f"{packed_copy}/{INDEX}: has format 2, this version reads 1; pack the videos anew")


def test_shards_of_two_packings(
    packed_copy: Path, synthetic_manifest: Path, synthetic_index: Path, tmp_path: Path
) -> None:
    listing = videos.manifest(synthetic_manifest)
    few = listing._replace(videos=listing.videos[:1])
    pack_listing(few, synthetic_index, tmp_path / "other", quality=60)
    shutil.copy(tmp_path / "other" / FIRST, packed_copy / FIRST)
    contents = json.loads((packed_copy / INDEX).read_text())
    contents["shards"][0]["size"] = (packed_copy / FIRST).stat().st_size
    rewrite(packed_copy / INDEX, shards=contents["shards"])
    refused(
        packed_copy,
        f"{packed_copy}/{FIRST}: belongs to another packing than {INDEX}; keep the shards of each packing in a folder",
        "(quality: 60, not 75)",
    )


def test_a_folder_without_an_index(packed_copy: Path, tmp_path: Path) -> None:
    (packed_copy / INDEX).unlink()
    refused(
        packed_copy, f"{packed_copy}: no {INDEX} here; give the folder that selfsup prepare output=", "run it again"
    )
    refused(tmp_path / "nowhere", "nowhere")


@pytest.mark.parametrize("text", ["", "[]", '"text"', "{}", '{"format": 1}', "\x00" * 50])
def test_an_index_that_is_none(packed_copy: Path, text: str) -> None:
    (packed_copy / INDEX).write_text(text)
    refused(packed_copy, f"{packed_copy}/{INDEX}: ", "pack")


def test_rows_that_were_changed(packed_copy: Path) -> None:
    path = packed_copy / VIDEOS
    path.write_text(path.read_text().replace('"split": "test"', '"split": "train"', 1))
    refused(packed_copy, f"{path}: does not match its checksum in {INDEX}; copy both again")


@pytest.mark.parametrize(
    "change", [lambda row: row.pop("place"), lambda row: row["place"].pop("table"), lambda row: row.pop("info")]
)
def test_rows_that_say_too_little(packed_copy: Path, change: Callable[[dict[str, object]], object]) -> None:
    rows = [json.loads(line) for line in (packed_copy / VIDEOS).read_text().splitlines()]
    change(rows[3])
    sign(packed_copy, rows)
    refused(packed_copy, f"{packed_copy}/{VIDEOS}: is damaged", "pack the videos anew")


def sign(folder: Path, rows: list[dict[str, object]]) -> None:
    """Writes rows, and the checksum that makes them look right."""
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / VIDEOS).write_bytes(text)
    rewrite(folder / INDEX, videos_sha256=hashlib.sha256(text).hexdigest())


def test_a_shard_from_elsewhere_cannot_name_other_files(packed_copy: Path) -> None:
    contents = json.loads((packed_copy / INDEX).read_text())
    contents["shards"][0]["name"] = "../../etc/passwd"
    rewrite(packed_copy / INDEX, shards=contents["shards"])
    refused(packed_copy, "names a shard '../../etc/passwd', which is none")


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o755)


def test_a_hostile_shard_runs_no_code(packed_copy: Path, tmp_path: Path) -> None:
    """Pickles in the place of the table, of a frame and of what a task keeps, each with the checksum that it needs."""
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    pickle.loads(bomb)
    assert (tmp_path / "exploded").is_dir()  # it does what it says
    (tmp_path / "exploded").rmdir()
    rows = [json.loads(line) for line in (packed_copy / VIDEOS).read_text().splitlines()]
    shard = bytearray((packed_copy / FIRST).read_bytes())
    (first, second) = (row for row in rows[:2])
    start, size, _ = first["place"]["table"]
    shard[start : start + len(bomb)] = bomb
    first["place"]["table"][2] = crc32(shard[start : start + size])
    start = second["place"]["frames"]
    shard[start : start + len(bomb)] = bomb
    table = second["place"]["table"][0]
    stop = int.from_bytes(shard[table + 8 : table + 16], "little")
    shard[table + 16 : table + 20] = crc32(shard[start : start + stop]).to_bytes(4, "little")
    second["place"]["table"][2] = crc32(shard[table : table + second["place"]["table"][1]])
    (packed_copy / FIRST).write_bytes(shard)
    sign(packed_copy, rows)
    listing = shards(str(packed_copy))
    assert listing.indexed is not None
    one, other = (listing.indexed.videos[video.path] for video in listing.videos[:2])
    assert isinstance(one, PackedInfo)
    for info in (one, other):
        with pytest.raises(ValueError, match=r"mp4|shard"), info.open() as video:
            video.frames([0.0])
    assert not (tmp_path / "exploded").exists()


def test_ranges_that_lie_near_each_other_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(400_000)
    (tmp_path / "file").write_bytes(content)
    ranges = [(0, 10), (10, 500), (60_000, 60_001), (300_000, 400_000)]
    assert [bytes(part) for part in read_ranges(str(tmp_path / "file"), ranges)] == [
        content[start:stop] for start, stop in ranges
    ]
    with pytest.raises(ValueError, match="byte 400001 is needed, and the file ends before it"):
        read_ranges(str(tmp_path / "file"), [(399_999, 400_001)])


def test_a_shard_is_a_tar_of_whole_files(packed_synthetic: Path) -> None:
    for path in packed_synthetic.glob("shard-*.tar"):
        with tarfile.open(path) as shard:
            assert all(entry.isfile() and entry.mtime == 0 and not entry.uid for entry in shard)
