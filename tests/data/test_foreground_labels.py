"""Labels of a data set: made once, in parallel as in a row, after a kill and a full disk; bad videos are refused."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from selfsup.data.flow_threshold import FlowThreshold
from selfsup.data.foreground_labels import ForegroundLabels
from selfsup.data.index import VideoInfo, inspect
from selfsup.data.processes import run_in_processes
from selfsup.data.reader import VideoReader
from selfsup.data.shots import ShotDetector
from tests.data.moving import moving_square, square_mask
from tests.media import write_video

LABELLER = FlowThreshold(shots=ShotDetector(min_frames=4))
STATIC, SHORT = "nothing moves by itself", "its shot is too short"


def video(path: Path, frames: torch.Tensor) -> VideoInfo:
    return inspect(write_video(path, frames.permute(0, 2, 3, 1).numpy()))


@pytest.fixture(scope="module")
def infos(tmp_path_factory: pytest.TempPathFactory) -> list[VideoInfo]:
    """Squares of 12, 13 and 14 frames that move, a still picture that is looped, and a black video."""
    root = tmp_path_factory.mktemp("videos")
    moving = [video(root / f"{count}.mp4", moving_square(count)) for count in (12, 13, 14)]
    still = video(root / "still.mp4", moving_square(1).expand(8, -1, -1, -1))
    return [*moving, still, video(root / "black.mp4", torch.zeros(8, 3, 64, 96, dtype=torch.uint8))]


def labels(folder: Path, **options: Any) -> ForegroundLabels:
    return ForegroundLabels(LABELLER, **{"short_side_pixels": 120, "chunk_frames": 8, "folder": str(folder), **options})


def make(labels: ForegroundLabels, infos: list[VideoInfo]) -> int:
    """As `prepare`, but in this process; the number of files that were written."""
    before = stamps(labels.where())
    for info in infos:
        for chunk in labels.chunks(info):
            labels.verdicts(info, chunk)
    return len(stamps(labels.where()).items() - before.items())


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.foreground")}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.foreground")}


def test_parallel_is_serial_byte_for_byte_and_nothing_is_made_twice(infos: list[VideoInfo], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    serial = labels(tmp_path / "one").prepare(infos, processes=1, progress=lambda *done: seen.append(done))
    parallel = labels(tmp_path / "two").prepare(infos, processes=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert len(content(tmp_path / "one")) == 8  # 12, 13 and 14 frames in two parts, 8 in one
    assert seen[0] == (0, 55)
    assert seen[-1] == (55, 55)
    assert replace(parallel, folder=serial.folder) == serial
    assert (serial.frames, serial.made, serial.fit, serial.refused) == (55, 55, 39, {})
    assert serial.rejected == {STATIC: 16}
    assert serial.note() == f"55 frames labelled, 39 fit to learn from; rejected: 16 × {STATIC}"
    times = stamps(tmp_path / "one")
    again = labels(tmp_path / "one").prepare(infos, processes=2)
    assert (again.made, again.fit) == (0, 39)
    assert stamps(tmp_path / "one") == times
    assert make(labels(tmp_path / "three"), infos) == 8  # on the fly
    assert content(tmp_path / "three") == content(tmp_path / "one")


def test_a_video_without_a_frame_to_learn_from_says_what_it_is_of(infos: list[VideoInfo], tmp_path: Path) -> None:
    made = labels(tmp_path)
    assert [made.refuse(info) for info in infos] == [None] * 5  # nothing is known yet
    make(made, infos)
    still = f"no frame is fit to learn from: 8 × {STATIC}"
    assert [made.refuse(info) for info in infos] == [None, None, None, still, still]
    strict = replace(made, minimum_confidence=1.1)
    assert strict.refuse(infos[0]) == "no frame is fit to learn from: 12 × labelled with a confidence below 1.1"


def test_a_cut_in_every_frame_and_two_frames_are_no_shot(tmp_path: Path) -> None:
    colours = torch.arange(12)[:, None, None, None] * 20
    flashing = colours.expand(-1, 3, 64, 64).to(torch.uint8).clone()
    flashing[::2] = 255 - flashing[::2]
    two = [video(tmp_path / "cuts.mp4", flashing), video(tmp_path / "two.mp4", moving_square(2))]
    made = labels(tmp_path / "kept")
    make(made, two)
    assert "no frame is fit to learn from" in (made.refuse(two[0]) or "")
    assert made.refuse(two[1]) == f"no frame is fit to learn from: 2 × {SHORT}"


def test_one_frame_tiny_frames_and_a_file_that_is_gone_are_refused_and_the_others_labelled(
    infos: list[VideoInfo], tmp_path: Path
) -> None:
    one = video(tmp_path / "one.mp4", moving_square(1))
    made = labels(tmp_path / "kept", short_side_pixels=16)
    assert made.refuse(one) == "has 1 frame at 10 a second, and motion needs 2"
    small = video(tmp_path / "small.mp4", moving_square(6))
    with pytest.raises(ValueError, match=r"small.mp4: frames of 21 x 16 pixels: foreground needs 32 either way"):
        made.make(small, range(6))
    gone = replace(infos[0], path=tmp_path / "gone.mp4", checksum="gone")
    prepared = labels(tmp_path).prepare([one, gone, infos[1]], processes=1)
    assert prepared.refused == {gone.path: "no such file"}
    assert prepared.fit == prepared.made == 13


def test_labels_cut_short_or_of_other_settings_are_made_again(infos: list[VideoInfo], tmp_path: Path) -> None:
    made = labels(tmp_path)
    make(made, infos[:1])
    before = content(tmp_path)
    cut = next(tmp_path.rglob("*.foreground"))
    cut.write_bytes(cut.read_bytes()[:-5])
    assert made.refuse(infos[0]) is None
    assert make(made, infos[:1]) == 1
    assert content(tmp_path) == before
    others = [
        replace(made, labeller=replace(LABELLER, threshold_pixels=2.0)),
        replace(made, fps=5.0),
        replace(made, short_side_pixels=100),
        replace(made, chunk_frames=20),
    ]
    for other in others:
        assert make(other, infos[:1]) == len(other.chunks(infos[0]))
    assert make(replace(made, minimum_confidence=0.5), infos[:1]) == 0
    assert all((tmp_path / name[:2] / name).read_bytes() == content_ for name, content_ in before.items())


@contextmanager
def full_disk(limit_bytes: int) -> Iterator[None]:
    """Any file that grows beyond the limit fails to be written, in new processes too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_space_left_stops_with_one_sentence_and_loses_nothing(infos: list[VideoInfo], tmp_path: Path) -> None:
    made = labels(tmp_path)
    make(made, infos[:1])
    before = content(tmp_path)
    with full_disk(400), pytest.raises(OSError, match=r"the labels of .* could not be written \(.*\); those written"):
        made.prepare(infos, processes=1)
    assert before.items() <= content(tmp_path).items()
    assert not list(tmp_path.rglob(".*"))  # nothing unfinished
    assert make(made, infos) == 6


KILLED = """
import sys
from pathlib import Path
from selfsup.data.index import inspect
from tests.data.test_foreground_labels import labels
if __name__ == "__main__":
    infos = [inspect(Path(path)) for path in sys.argv[2:]]
    labels(Path(sys.argv[1])).prepare(infos, processes=1)
"""


@pytest.mark.slow
def test_a_killed_pass_goes_on(infos: list[VideoInfo], tmp_path: Path) -> None:
    script, folder = tmp_path / "prepare.py", tmp_path / "kept"
    script.write_text(KILLED)
    project = Path(__file__).parents[2]
    words = [sys.executable, str(script), str(folder), *(str(info.path) for info in infos)]
    process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(project)}, start_new_session=True)
    while len(content(folder)) < 2 and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = content(folder)
    assert 2 <= len(kept) < 8, "killed too late to show anything"
    before = stamps(folder)
    labels(folder).prepare(infos, processes=2)
    make(labels(tmp_path / "whole"), infos)
    assert content(folder) == content(tmp_path / "whole")
    assert before.items() <= stamps(folder).items()


def test_the_labeller_sees_frames_of_its_own_size(infos: list[VideoInfo]) -> None:
    small = ForegroundLabels(LABELLER, short_side_pixels=61)
    assert small.make(infos[0], range(6)).masks.shape == (6, 61, 81)


def write_scaled(path: Path, frames: torch.Tensor, width: int, height: int) -> Path:
    """Writes frames uint8 (T, 3, H, W) at another size, scaled by the encoder's own converter."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"  # which odd sizes need
        stream.codec_context.thread_count = 1
        for frame in frames.permute(0, 2, 3, 1).numpy():
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(width, height, "yuv444p", threads=1)))
        container.mux(stream.encode())
    return path


def megabytes_to_label(item: tuple[ForegroundLabels, VideoInfo]) -> float:
    """By how much the most memory that this process ever held has grown."""
    made, info = item
    before = most_megabytes()
    assert made.make(info, made.chunks(info)[0]).masks.shape == (12, 240, 427)
    return most_megabytes() - before


def most_megabytes() -> float:
    """That this process has held so far. That of `resource` would count what its parent held before it began."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read as Linux tells it")
def test_frames_of_4k_are_never_held_at_their_size(tmp_path: Path) -> None:
    """At their size the frames would take 300 MB, and the masks 400."""
    info = inspect(write_scaled(tmp_path / "huge.mp4", moving_square(12), 3840, 2160))
    assert (info.width, info.height) == (3840, 2160)
    (outcome,) = run_in_processes(
        megabytes_to_label, [(ForegroundLabels(LABELLER), info)], processes=1, timeout_seconds=120
    )
    assert outcome.failure is None
    print(f"{outcome.value:.0f} MB more")
    assert outcome.value < 250


def test_odd_sizes_are_labelled_as_even_ones_are(tmp_path: Path) -> None:
    info = inspect(write_scaled(tmp_path / "odd.mp4", moving_square(12), 427, 241))
    assert (info.width, info.height) == (427, 241)
    made = labels(tmp_path / "kept", short_side_pixels=241, chunk_frames=12)
    assert make(made, [info]) == 1
    found = made.store(info, range(12)).read()
    assert found is not None
    assert found.masks.shape == (12, 241, 427)
    assert found.accepted.all()
    truth = torch.from_numpy(square_mask(12))[:, None].float()
    wanted = torch.nn.functional.interpolate(truth, (241, 427))[:, 0] > 0.5
    mask = found.masks > 0.5
    assert (mask & wanted).sum() / (mask | wanted).sum() > 0.6


def test_a_still_picture_that_is_looped_and_compressed_is_static(tmp_path: Path) -> None:
    """What an encoder makes of one picture is not the same in every frame."""
    looped = write_scaled(tmp_path / "looped.mp4", moving_square(1).expand(30, -1, -1, -1), 320, 240)
    info = inspect(looped)
    made = labels(tmp_path / "kept", short_side_pixels=240, chunk_frames=30)
    with VideoReader(looped) as video:
        frames = video.frames(video.times_seconds.tolist())
    assert (frames[1:] != frames[:-1]).any()
    make(made, [info])
    assert made.refuse(info) == f"no frame is fit to learn from: 30 × {STATIC}"


def test_parts_cover_a_long_video_evenly(infos: list[VideoInfo]) -> None:
    long = replace(infos[0], duration_seconds=61.0, fps=10.0)
    chunks = ForegroundLabels(LABELLER, chunk_frames=200).chunks(long)
    assert [len(chunk) for chunk in chunks] == [152, 153, 152, 153]
    assert np.array_equal(np.concatenate(chunks), np.arange(610))
    slower = ForegroundLabels(LABELLER, fps=2.0)
    assert [len(chunk) for chunk in slower.chunks(long)] == [122]
    assert slower.times_seconds(long, [0, 1, 121]) == [0.0, 0.5, 60.5]
    assert ForegroundLabels(LABELLER, fps=50.0).rate_hz(long) == 10.0


@pytest.mark.parametrize("bad", [{"chunk_frames": 1}, {"fps": 0.0}, {"short_side_pixels": 0}, {"timeout_seconds": -1}])
def test_bad_values_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"labels\.{next(iter(bad))}="):
        ForegroundLabels(LABELLER, **bad)
