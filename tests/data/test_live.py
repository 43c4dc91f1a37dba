"""Frames as they come: those of the reader from files, numbered ones over HTTP and through a pipe, and what fails."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from selfsup.data.live import FileFrames, OpenFrames, open_frames
from selfsup.data.reader import UnreadableVideo, VideoReader
from tests.data import barcodes
from tests.media import moving, write_video
from tests.served import served

COUNT = 40


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbered frames with B-frames between, 12 a group, 25 a second."""
    return barcodes.write(tmp_path_factory.mktemp("live") / "video.mp4", range(0, 40 * COUNT, 40))


@pytest.fixture(scope="module")
def transport(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same as an MPEG transport stream, which can be read from its middle."""
    return barcodes.write(tmp_path_factory.mktemp("live") / "video.ts", range(0, 40 * COUNT, 40)).read_bytes()


def numbers(frames: FileFrames | OpenFrames) -> list[int]:
    """What is written in the frames, which must be what they are numbered by."""
    found = []
    for frame in frames:
        number = barcodes.read_number(frame.image.transpose(2, 0, 1))
        assert frame.number == number
        assert frame.seconds == pytest.approx(number / 25)
        found.append(number)
    return found


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp4", {}), ("a.mkv", {"bf": "0"}), ("a.ts", {}), ("turned.mp4", {"rotation": 90}), ("odd.mp4", {})],
)
def test_a_file_gives_the_frames_of_the_reader(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    path = tmp_path / name
    if name == "odd.mp4":
        write_video(path, moving(COUNT, side=50)[:, :34])
    else:
        barcodes.write(path, range(0, 40 * COUNT, 40), **options)  # type: ignore[arg-type]
    live = FileFrames(path, short_side_pixels=17, shown_pixels=21)
    frames = list(live)
    with VideoReader(path, short_side_pixels=17) as reader:
        expected = reader.frames(reader.times_seconds.tolist()).permute(0, 2, 3, 1).numpy()
        assert live.fps == reader.fps
        assert [frame.seconds for frame in frames] == reader.times_seconds.tolist()
    assert np.array_equal(np.stack([frame.image for frame in frames]), expected)
    for frame in frames:
        assert frame.shown is not None
        assert min(frame.shown.shape[:2]) == 22, "even sides, for the encoder"
        assert all(side % 2 == 0 for side in frame.shown.shape[:2])
    live.close()


@pytest.mark.parametrize("jump", [1, 2, 5, 13, 30])
@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_frames_that_are_not_wanted_are_passed_over(tmp_path: Path, jump: int, suffix: str) -> None:
    live = FileFrames(barcodes.write(tmp_path / f"a.{suffix}", range(0, 40 * COUNT, 40)), 64)
    found = []
    for frame in live:
        found.append(barcodes.read_number(frame.image.transpose(2, 0, 1)))
        assert frame.number == found[-1]
        live.wanted_from = frame.number + 1 + jump
    assert found == list(range(0, COUNT, 1 + jump))
    assert len(found) + live.passed == COUNT
    live.close()


def test_what_is_passed_over_is_not_decoded(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = FileFrames(video, 64)
    read: list[tuple[int, int]] = []
    decode = live._source.decode
    monkeypatch.setattr(live._source, "decode", lambda *given: (read.append(given[:2]), decode(*given))[1])
    frames = iter(live)
    next(frames)
    live.wanted_from = 30
    assert next(frames).number == 30
    keyframe = int(live.table.keys[30])
    assert keyframe > 12
    assert [first for first, _ in read] == [0, keyframe], "decoding starts anew at the keyframe before frame 30"
    assert live.passed == 29
    live.close()


def test_a_looped_file_goes_on_counting(video: Path) -> None:
    live = FileFrames(video, 64, loop=True)
    frames = iter(live)
    for number in range(2 * COUNT + 3):
        frame = next(frames)
        assert frame.number == number
        assert barcodes.read_number(frame.image.transpose(2, 0, 1)) == number % COUNT
        assert frame.seconds == pytest.approx(number / 25)
    live.wanted_from = 5 * COUNT + 7
    assert next(frames).number == 5 * COUNT + 7
    assert live.passed == 3 * COUNT + 4
    live.close()


def test_a_url_gives_every_frame(transport: bytes) -> None:
    with served(transport, pieces=8, pause_seconds=0.02) as url:
        live = open_frames(url, 64)
        assert isinstance(live, OpenFrames)
        assert live.fps == pytest.approx(25)
        assert numbers(live) == list(range(COUNT))
        live.close()


def test_a_source_that_stalls_says_so(transport: bytes) -> None:
    with served(transport, pieces=4, stall_at=3) as url:
        live = open_frames(url, 64, timeout_seconds=0.5)
        found = []
        with pytest.raises(UnreadableVideo, match=r"video.ts: gave nothing for 0.5 s"):
            found += [frame.number for frame in live]
        live.close()
    with (
        served(transport, pieces=4, stall_at=0) as url,
        pytest.raises(UnreadableVideo, match=r"gave nothing for 0.5 s"),
    ):
        open_frames(url, 64, timeout_seconds=0.5)


def test_a_source_that_is_cut_gives_what_came_and_says_so(transport: bytes) -> None:
    with served(transport, lost=1000) as url:
        live = open_frames(url, 64)
        found = []
        with pytest.raises(UnreadableVideo, match=rf"video.ts: failed after {COUNT} frames"):
            found += [frame.number for frame in live]
        live.close()


def test_a_pipe_gives_every_frame(transport: bytes, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(transport,))
    writer.start()
    live = open_frames(str(pipe), 64)
    assert numbers(live) == list(range(COUNT))
    live.close()
    writer.join()


def test_a_damaged_stream_goes_on(transport: bytes) -> None:
    damaged = bytearray(transport)
    middle = len(damaged) // 2
    damaged[middle : middle + 400] = os.urandom(400)
    with served(bytes(damaged)) as url:
        live = open_frames(url, 64)
        assert len(list(live)) > COUNT // 2
        live.close()


def test_what_shows_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for name, said in [
        (str(tmp_path / "absent.mp4"), "no such file"),
        ("/dev/video99", "no such file"),
        (str(tmp_path), "is a folder"),
        (str(tmp_path / "text.mp4"), "cannot be opened as a video"),
        ("http://127.0.0.1:9/video.ts", "cannot be opened as a video"),
        ("nothing://here", "cannot be opened as a video"),
    ]:
        with pytest.raises((ValueError, OSError), match=said) as caught:
            open_frames(name, 64)
        assert name in str(caught.value)
    with served(b"this is not a video") as url, pytest.raises(UnreadableVideo, match="cannot be opened as a video"):
        open_frames(url, 64)
    with pytest.raises(ValueError, match="loop=true wants a file"):
        open_frames("http://127.0.0.1:9/video.ts", 64, loop=True)


def test_a_stream_of_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.ts"
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 16000
        container.mux(stream.encode(samples))
        container.mux(stream.encode())
    with served(path.read_bytes()) as url, pytest.raises(UnreadableVideo, match="holds no video"):
        open_frames(url, 64)
    with pytest.raises(UnreadableVideo, match="holds sound only, no video"):
        open_frames(str(path), 64)
