"""What the index knows of real files, what it refuses and why, and what it need not do twice."""

import csv
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from selfsup.data import index, processes
from selfsup.data.index import Index, build_index, inspect
from tests.data import barcodes, misbehaving
from tests.media import moving, still, write_video


class Indexed(NamedTuple):
    root: Path
    cache: Path
    index: Index

    def paths(self) -> list[Path]:
        return [*self.index.videos, *self.index.refused]


def write_files(root: Path) -> list[Path]:
    """Four videos, then what is none."""
    videos = [
        write_video(root / "moving.mp4", moving(30), fps=10, sound=True),
        write_video(root / "still.mkv", still(50, side=64), fps=25),
        write_video(root / "late.mp4", moving(60, still_until=40), fps=20),
        write_video(root / os.fsdecode(b"one \xff frame.mp4"), still(1)),
    ]
    whole = videos[0].read_bytes()
    (root / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "zero.mp4").touch()
    (root / "text.mp4").write_text("this is no video\n" * 100)
    Image.new("RGB", (16, 16)).save(root / "image.mp4", format="png")
    (root / "folder.mp4").mkdir()
    rest = ("truncated.mp4", "zero.mp4", "text.mp4", "image.mp4", "folder.mp4")
    return videos + [root / name for name in rest]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    root = tmp_path_factory.mktemp("videos")
    paths = write_files(root)
    progress: list[tuple[int, int]] = []
    cache = root / "cache" / "index.jsonl"
    built = build_index(paths, cache=cache, progress=lambda *counts: progress.append(counts))
    assert progress == [(done, len(paths)) for done in range(1, len(paths) + 1)]
    return Indexed(root, cache, built)


def inspections(indexed: Indexed, cache: Path) -> tuple[Index, int]:
    """The index of the same files from `cache`, and how many files were looked into for it."""
    progress: list[tuple[int, int]] = []
    built = build_index(indexed.paths(), cache=cache, progress=lambda *counts: progress.append(counts))
    return built, len(progress)


def same(first: Index, second: Index) -> bool:
    return (
        first == second
        and list(first.videos) == list(second.videos)
        and all(np.array_equal(first.videos[path].motion, second.videos[path].motion) for path in first.videos)
    )


def copied(cache: Path, folder: Path) -> Path:
    """A copy of `cache` that a test may spoil."""
    copy = folder / "index.jsonl"
    copy.write_bytes(cache.read_bytes())
    return copy


def test_fields(indexed: Indexed) -> None:
    info = indexed.index.videos[indexed.root / "moving.mp4"]
    assert info.path == indexed.root / "moving.mp4"
    assert (info.num_frames, info.width, info.height, info.codec, info.rotation) == (30, 32, 32, "h264", 0)
    assert info.duration_seconds == pytest.approx(3.0)
    assert info.fps == pytest.approx(10.0)
    assert info.has_audio
    other = indexed.index.videos[indexed.root / "still.mkv"]
    assert (other.num_frames, other.width, other.height, other.has_audio) == (50, 64, 64, False)
    assert other.duration_seconds == pytest.approx(2.0, abs=1e-3)  # Matroska counts milliseconds
    assert other.fps == pytest.approx(25.0, abs=0.02)
    assert len({info.checksum for info in indexed.index.videos.values()}) == 4


def test_motion_is_where_the_video_moves(indexed: Indexed) -> None:
    static = indexed.index.videos[indexed.root / "still.mkv"]
    assert static.motion.dtype == np.float32
    assert static.motion.max() < 1e-3
    late = indexed.index.videos[indexed.root / "late.mp4"]  # 2 s still, then 1 s of motion
    assert late.motion_rate_hz == 10
    assert len(late.motion) == 30
    assert late.motion[:19].max() < 0.005
    assert late.motion[21:].min() > 0.05
    assert late.motion.max() <= 1.0


def test_motion_of_known_frames(tmp_path: Path) -> None:
    frames = np.zeros((4, 32, 32), np.uint8)
    frames[1:, :, :8], frames[3] = 255, 255  # a quarter turns white, nothing, the rest turns white
    info = inspect(write_video(tmp_path / "steps.mp4", frames, fps=5), motion_hz=10)
    assert info.motion_rate_hz == pytest.approx(5.0)  # no more often than there are frames
    np.testing.assert_allclose(info.motion, [0.25, 0.0, 0.75], atol=0.01)


def test_what_is_known_of_sound(indexed: Indexed) -> None:
    sound = indexed.index.videos[indexed.root / "moving.mp4"].sound
    assert sound is not None
    assert sound.stop_seconds == pytest.approx(3.0, abs=0.1)  # AAC ends at a packet's end
    assert sound.rms_db == pytest.approx(-3.0, abs=1.0)  # a sine of full scale; the last tenth is padded
    assert sound.silent_share == 0
    assert indexed.index.videos[indexed.root / "still.mkv"].sound is None
    built, _ = inspections(indexed, indexed.cache)
    again = built.videos[indexed.root / "moving.mp4"].sound
    assert again is not None
    np.testing.assert_allclose(again.loudness_db, sound.loudness_db, atol=0.05)


def test_a_still_picture_is_told_from_a_standing_camera(indexed: Indexed, tmp_path: Path) -> None:
    stills = {path.name for path, info in indexed.index.videos.items() if info.is_still}
    assert stills == {"still.mkv", os.fsdecode(b"one \xff frame.mp4")}
    frames = still(20, side=64)
    frames[10:, :4, :4] = 255 - frames[10:, :4, :4]  # one corner of 1/256 of the picture
    assert not inspect(write_video(tmp_path / "corner.mp4", frames)).is_still


def test_a_video_of_one_frame_has_no_motion(indexed: Indexed) -> None:
    info = indexed.index.videos[indexed.root / os.fsdecode(b"one \xff frame.mp4")]
    assert info.num_frames == 1
    assert info.motion.shape == (0,)


def test_what_is_no_video_is_refused_with_its_reason(indexed: Indexed) -> None:
    reasons = {path.name: reason for path, reason in indexed.index.refused.items()}
    assert reasons == {
        "truncated.mp4": "cannot be opened as a video (Invalid data found when processing input)",
        "zero.mp4": "is empty (0 bytes)",
        "text.mp4": "cannot be opened as a video (Invalid data found when processing input)",
        "image.mp4": "is an image, not a video",
        "folder.mp4": "is a folder or a device, not a video file",
    }


def test_a_video_that_breaks_off_says_where(tmp_path: Path) -> None:
    whole = barcodes.write(tmp_path / "a.mp4", range(0, 4000, 40), container_options={"movflags": "+faststart"})
    data = bytearray(whole.read_bytes())
    data[len(data) * 4 // 5 :] = bytes(len(data) - len(data) * 4 // 5)  # the size is right, the end never came
    whole.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.mp4: breaks off at 2\.\d\d s of 4\.00 s; fetch it again"):
        inspect(whole)


def test_a_second_pass_looks_into_no_file_and_says_the_same(indexed: Indexed) -> None:
    before = indexed.cache.read_bytes()
    built, count = inspections(indexed, indexed.cache)
    assert count == 0
    assert same(built, indexed.index)
    assert indexed.cache.read_bytes() == before


def test_a_stopped_pass_goes_on_and_a_changed_file_is_looked_into_again(indexed: Indexed, tmp_path: Path) -> None:
    cache = copied(indexed.cache, tmp_path)
    cache.write_bytes(cache.read_bytes()[:-9])  # killed in the middle of the last line
    changed = indexed.root / "still.mkv"
    status = changed.stat()
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    built, count = inspections(indexed, cache)
    assert count == 2
    assert same(built, indexed.index)
    assert inspections(indexed, cache) == (indexed.index, 0)  # the new lines can be read


def test_a_timeout_holds_until_a_longer_one_is_given(
    indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = indexed.root / "moving.mp4", tmp_path / "index.jsonl"
    counts: list[int] = []

    def build(seconds: float) -> Index:
        return build_index([path], cache=cache, timeout_seconds=seconds, progress=lambda done, _: counts.append(done))

    with monkeypatch.context() as patch:
        patch.setattr(processes, "_IMPORT_SECONDS", 0.0)
        assert build(0.01).refused == {path: "no answer within 0.01 s"}
        assert build(0.01).refused == {path: "no answer within 0.01 s"}
    assert counts == [1]
    assert build(60.0).videos == {path: indexed.index.videos[path]}
    assert counts == [1, 1]


def test_a_process_that_was_killed_is_no_lasting_reason(
    indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = copied(indexed.cache, tmp_path)
    extra = write_video(tmp_path / "new.mp4", moving(5))
    missing = tmp_path / "missing.mp4"
    paths = [extra, indexed.root / "moving.mp4"]
    with monkeypatch.context() as patch:
        patch.setattr(index, "_inspect_row", misbehaving.die)
        built = build_index(paths, cache=cache)
    assert built.refused == {extra: "its process died (exit code -9)"}
    assert list(built.videos) == paths[1:]
    built = build_index([missing, *paths], cache=cache)
    assert built.refused == {missing: "no such file"}
    assert list(built.videos) == paths


def test_a_file_that_is_no_index_is_not_written_to(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", still(5))
    data = video.read_bytes()
    with pytest.raises(ValueError, match=r"a\.mp4: not an index of videos"):
        build_index([video], cache=video)
    assert video.read_bytes() == data


def test_every_real_file_is_indexed_or_refused(real_videos: Path) -> None:
    rows = {}
    for name in ("awkward", "action_samples"):
        with open(real_videos / name / "manifest.csv", newline="", encoding="utf-8") as file:
            rows |= {real_videos / name / row["path"]: row for row in csv.DictReader(file)}
    start = time.monotonic()
    built = build_index(list(rows), processes=2, timeout_seconds=60)
    assert time.monotonic() - start < 120
    assert set(built.videos) | set(built.refused) == set(rows)
    assert not set(built.videos) & set(built.refused)
    for path, reason in built.refused.items():
        assert reason.strip(), path
        assert str(path) not in reason
    undecodable = {path for path, row in rows.items() if row["ffmpeg_rc"] != "0"}
    assert undecodable <= set(built.refused)
    sounds = {path for path in rows if path.suffix in (".mp3", ".wav")}
    assert sounds <= set(built.refused)
    assert len(built.videos) >= 0.5 * len(rows)
    for path, info in built.videos.items():
        assert info.num_frames >= 1, path
        assert info.duration_seconds > 0, path
        assert np.isfinite(info.motion).all(), path
        assert info.motion.size == 0 or 0 <= info.motion.min() <= info.motion.max() <= 1, path


def test_the_longest_gap_tells_frames_at_uneven_times(tmp_path: Path) -> None:
    even = inspect(barcodes.write(tmp_path / "even.mp4", range(0, 800, 40)))
    uneven = inspect(barcodes.write(tmp_path / "uneven.mp4", [*range(0, 400, 40), *range(480, 800, 40)]))
    assert (even.longest_gap, uneven.longest_gap) == (1.0, pytest.approx(3.0))
    assert inspect(barcodes.write(tmp_path / "one.mp4", [0])).longest_gap == 1.0
