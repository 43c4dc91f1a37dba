"""Packing: the same bytes whatever the number of processes and stops, and a clear word where it cannot go on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from selfsup.data import videos
from selfsup.data.index import build_index
from selfsup.data.packer import pack
from selfsup.data.packing import Packing
from selfsup.data.shard_format import INDEX, UNFINISHED
from selfsup.data.shards import shards
from tests.media import moving, write_video
from tests.packs import SIDE_PIXELS, files_of, pack_listing, pack_manifest

FIRST = "shard-00000.tar"
PACK = textwrap.dedent("""
    import sys
    from pathlib import Path
    from tests.packs import pack_manifest
    if __name__ == "__main__":
        manifest, index, output = map(Path, sys.argv[1:])
        try:
            packed = pack_manifest(manifest, index, output)
        except OSError as error:
            sys.exit(f"error: {error}")
        print("made", packed.made)
""")


def command(manifest: Path, index: Path, output: Path) -> list[str]:
    return [sys.executable, "-c", PACK, str(manifest), str(index), str(output)]


def test_two_processes_write_the_same_bytes_as_one(
    synthetic_manifest: Path, synthetic_index: Path, packed_synthetic: Path, tmp_path: Path
) -> None:
    packed = pack_manifest(synthetic_manifest, synthetic_index, tmp_path / "packed", processes=2)
    assert files_of(tmp_path / "packed") == files_of(packed_synthetic)
    assert packed.made == len(packed.contents.shards) > 2
    assert max(shard.size for shard in packed.contents.shards) <= 350_000
    before = (tmp_path / "packed" / FIRST).stat().st_mtime_ns
    again = pack_manifest(synthetic_manifest, synthetic_index, tmp_path / "packed")
    assert (again.made, again.contents, again.refused) == (0, packed.contents, {})
    assert (tmp_path / "packed" / FIRST).stat().st_mtime_ns == before


@pytest.mark.slow
def test_it_goes_on_after_kill_9(
    synthetic_manifest: Path, synthetic_index: Path, packed_synthetic: Path, tmp_path: Path
) -> None:
    output = tmp_path / "packed"
    running = subprocess.Popen(command(synthetic_manifest, synthetic_index, output))
    deadline = time.monotonic() + 100
    while not (output / "shard-00001.tar").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not (output / INDEX).exists()
    finished = {path.name: path.stat() for path in output.glob("shard-*.tar")}
    assert FIRST in finished
    with pytest.raises(ValueError, match="where it was stopped, run it again first"):
        shards(str(output))
    packed = pack_manifest(synthetic_manifest, synthetic_index, output, processes=2)
    assert packed.made == len(packed.contents.shards) - len(finished)
    for name, status in finished.items():
        now = (output / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert files_of(output) == files_of(packed_synthetic)


def test_it_goes_on_wherever_it_was_stopped(
    synthetic_manifest: Path, synthetic_index: Path, packed_synthetic: Path, tmp_path: Path
) -> None:
    """After the rows of a shard and before its name; with what a killed process has left."""
    stopped = Stop(after=200)
    with pytest.raises(KeyboardInterrupt):
        pack_manifest(synthetic_manifest, synthetic_index, tmp_path / "packed", progress=stopped)
    kept = sorted((tmp_path / "packed").glob("shard-*.tar"))
    kept[-1].unlink()
    (tmp_path / "packed" / UNFINISHED / "00000007-of-a-dead-run.part").write_bytes(b"half")
    packed = pack_manifest(synthetic_manifest, synthetic_index, tmp_path / "packed")
    assert packed.made == len(packed.contents.shards) - len(kept) + 1
    assert files_of(tmp_path / "packed") == files_of(packed_synthetic)


class Stop:
    """Progress that is interrupted."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, done: int, total: int) -> None:
        if done > self.after:
            raise KeyboardInterrupt


def test_other_settings_want_another_folder(
    packed_copy: Path, synthetic_manifest: Path, synthetic_index: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="packed with other settings or of other videos; give another output"):
        pack_manifest(synthetic_manifest, synthetic_index, packed_copy, quality=50)
    with pytest.raises(KeyboardInterrupt):
        pack_manifest(synthetic_manifest, synthetic_index, tmp_path / "begun", progress=Stop(after=-1))
    with pytest.raises(ValueError, match="was begun here; give another output, or remove this folder"):
        pack_manifest(synthetic_manifest, synthetic_index, tmp_path / "begun", quality=50)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="is not empty, and no packing was begun in it; give another output"):
        pack_manifest(synthetic_manifest, synthetic_index, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    (tmp_path / "file").write_text("a file")
    with pytest.raises(OSError, match=r"file: cannot be written"):
        pack_manifest(synthetic_manifest, synthetic_index, tmp_path / "file")


def test_two_packings_at_once_do_not_mix(synthetic_manifest: Path, synthetic_index: Path, tmp_path: Path) -> None:
    other: list[str] = []

    def begin_another(done: int, total: int) -> None:
        try:
            pack_manifest(synthetic_manifest, synthetic_index, tmp_path / "packed")
        except ValueError as error:
            other.append(str(error))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_manifest(synthetic_manifest, synthetic_index, tmp_path / "packed", progress=begin_another)
    assert other == [f"{tmp_path / 'packed'}: another process is packing into it; wait for it, or end it"]


def test_what_cannot_be_decoded_is_left_out_counted_and_named(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    for number in range(4):
        write_video(root / f"{number}.mp4", moving(24, seed=number))
    (root / "none.mp4").write_bytes(b"no video")
    listing = videos.folder(root)
    index = build_index([video.path for video in listing.videos], cache=tmp_path / "index.jsonl")
    (root / "1.mp4").unlink()  # after it was indexed
    whole = (root / "2.mp4").read_bytes()
    (root / "2.mp4").write_bytes(whole[: len(whole) // 2])
    packed = pack(listing.videos, index, tmp_path / "packed", Packing(SIDE_PIXELS))
    assert packed.refused.keys() == {"1.mp4", "2.mp4", "none.mp4"}
    assert packed.refused["1.mp4"] == "no such file"
    assert "cannot be opened as a video" in packed.refused["none.mp4"]
    assert all(not reason.startswith("/") for reason in packed.refused.values())
    found = shards(str(tmp_path / "packed"))
    assert found.indexed is not None
    assert {path.name for path in found.indexed.videos} == {"0.mp4", "3.mp4"}
    assert {path.name: reason for path, reason in found.indexed.refused.items()} == packed.refused
    again = pack(listing.videos, index, tmp_path / "packed", Packing(SIDE_PIXELS))
    assert (again.made, again.refused) == (0, packed.refused)


def test_where_nothing_can_be_packed(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "none.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"none of 1 video can be packed, the first is none\.mp4: cannot be opened"):
        pack_listing(videos.folder(tmp_path / "videos"), tmp_path / "index.jsonl", tmp_path / "packed")


def test_a_track_that_cannot_be_packed_costs_the_sound_alone(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    write_video(root / "heard.mp4", moving(24), sound=True)
    shutil.copy(root / "heard.mp4", root / "spoiled.mp4")
    listing = videos.folder(root)
    index = build_index([video.path for video in listing.videos], cache=tmp_path / "index.jsonl")
    (spoiled,) = (path for path in index.videos if path.name == "spoiled.mp4")
    sound = index.videos[spoiled].sound
    assert sound is not None
    object.__setattr__(sound, "stop_seconds", 60.0)  # as if the track had lost its end since
    packed = pack(listing.videos, index, tmp_path / "packed", Packing(SIDE_PIXELS))
    assert packed.refused == {}
    assert packed.mute == {"spoiled.mp4": packed.mute["spoiled.mp4"]}
    assert "the track ends at" in packed.mute["spoiled.mp4"]
    found = shards(str(tmp_path / "packed")).indexed
    assert found is not None
    (info,) = (info for path, info in found.videos.items() if path.name == "spoiled.mp4")
    with info.open() as video, pytest.raises(ValueError, match=r"its sound was not packed .*the track ends at"):
        video.audio(0.0, 1.0, 16_000)


@pytest.mark.slow
def test_a_full_disk_leaves_finished_shards(
    synthetic_manifest: Path, synthetic_index: Path, packed_synthetic: Path, tmp_path: Path
) -> None:
    output = tmp_path / "packed"
    # The system answers a write past a size as it does on a full disk: with an OSError.
    limited = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + PACK.replace(
        "pack_manifest(manifest, index, output)", "pack_manifest(manifest, index, output, progress=shrink)"
    ).replace(
        'if __name__ == "__main__":',
        "def shrink(done, total):\n    if list(Path(sys.argv[3]).glob('shard-*')):\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        'if __name__ == "__main__":',
    )
    words = [sys.executable, "-c", limited, str(synthetic_manifest), str(synthetic_index), str(output)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert f"{output}: cannot be written (File too large); the shards that are finished are kept" in sentence
    assert "free some space, and run the same command again" in sentence
    assert "Traceback" not in done.stderr
    assert (output / FIRST).read_bytes() == (packed_synthetic / FIRST).read_bytes()
    assert not list((output / UNFINISHED).glob("*.part"))
    assert not list((output / UNFINISHED).glob("*.tar"))
    packed = pack_manifest(synthetic_manifest, synthetic_index, output)
    assert packed.made < len(packed.contents.shards)
    assert files_of(output) == files_of(packed_synthetic)
