"""From every kind of file, by every backend: the frame with the nearest presentation time, or one clear sentence."""

import functools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch._utils import ExceptionWrapper

import selfsup.data.frame_table as frame_table
from selfsup.data.reader import UnreadableVideo, VideoReader
from tests.data import barcodes

COUNT = 80
CONSTANT = [40 * number for number in range(COUNT)]
VARIABLE = np.cumsum(np.random.default_rng(0).integers(15, 120, COUNT)).tolist()
CUT_SECONDS = 1.6  # frame 40; the keyframe before it is number 36

# name -> (file name, presentation times in ms, arguments of barcodes.write)
FILES: dict[str, tuple[str, list[int], dict]] = {
    "constant rate": ("constant.mp4", CONSTANT, {}),
    "variable rate": ("variable.mp4", VARIABLE, {}),
    "late first frame": ("late.mp4", [777 + tick for tick in CONSTANT], {}),
    "open groups": ("open.mp4", CONSTANT, {"x264-params": "scenecut=0:open-gop=1:bframes=3"}),
    "10 bit": ("ten.mp4", CONSTANT, {"pixel_format": "yuv420p10le"}),
    "matroska": ("variable.mkv", VARIABLE, {}),
    "transport stream": ("constant.ts", CONSTANT, {}),
    "mpeg": ("constant.mpg", CONSTANT, {"codec": "mpeg2video", "bf": "2", "g": "12"}),
    "xvid with B-frames": ("constant.avi", CONSTANT, {"codec": "mpeg4", "bf": "2", "g": "12"}),
    "wmv": ("constant.wmv", CONSTANT, {"codec": "msmpeg4v3", "g": "12"}),
    "vp8 with hidden frames": ("v8.webm", CONSTANT, {"codec": "libvpx", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    "vp9": ("v9.webm", CONSTANT, {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": "8"}),
    "upside down": ("r180.mp4", CONSTANT, {"rotation": 180}),
    "turned left": ("r90.mp4", CONSTANT, {"rotation": 90}),
    "turned right": ("r270.mp4", CONSTANT, {"rotation": 270}),
}


@functools.cache
def runs(code: str) -> bool:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.fixture(params=["pyav", "decord", "torchcodec"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "torchcodec":
        code = "import torchcodec.decoders, torchcodec.transforms"
        if not runs(code):
            pytest.skip("torchcodec does not load here: it needs FFmpeg's libraries on the machine")
    return request.param


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="session")
def recording(folder: Path):
    """Writes a file of FILES once and gives its path."""

    @functools.cache
    def write(name: str) -> Path:
        file_name, ticks, options = FILES[name]
        return barcodes.write(folder / file_name, ticks, **options)

    return write


@pytest.fixture(scope="session")
def cut(folder: Path, recording) -> Path:
    return barcodes.copy_from(recording("constant rate"), folder / "cut.mp4", CUT_SECONDS)


def numbers(frames: torch.Tensor) -> list[int]:
    return [barcodes.read_number(frame) for frame in frames]


@pytest.mark.parametrize("name", FILES)
def test_the_nearest_frame_is_given(name: str, backend: str, recording) -> None:
    ticks = np.array(FILES[name][1])
    times = (ticks - ticks[0]) / barcodes.TICKS_PER_SECOND
    with VideoReader(recording(name), backend=backend) as video:
        assert video.num_frames == COUNT
        np.testing.assert_allclose(video.times_seconds, times, atol=1.1e-3)
        assert (video.width, video.height) == (barcodes.WIDTH, barcodes.HEIGHT)
        assert video.rotation == -FILES[name][2].get("rotation", 0) % 360
        frames = video.frames(video.times_seconds)
        assert frames.shape == (COUNT, 3, barcodes.HEIGHT, barcodes.WIDTH)
        assert frames.dtype == torch.uint8
        assert numbers(frames) == list(range(COUNT))
        # At random times, unsorted and repeated; times near the border of two frames are left to rounding.
        asked = np.random.default_rng(1).uniform(0, video.duration_seconds, 30)
        distances = np.abs(asked[:, None] - times)
        clear = np.diff(np.sort(distances, axis=1)[:, :2])[:, 0] > 3e-3
        asked, nearest = np.tile(asked[clear], 2), np.tile(distances.argmin(axis=1)[clear], 2)
        assert numbers(video.frames(asked)) == nearest.tolist()
        assert numbers(video.frames([times[50]])) == [50]  # and after it, an earlier one
        assert numbers(video.frames([times[3]])) == [3]


def test_a_stream_copied_cut_shows_only_what_its_edit_list_shows(cut: Path, backend: str) -> None:
    hidden = 40 - 36
    with VideoReader(cut, backend=backend) as video:
        assert len(video._source.rows) == COUNT - 36
        assert video.num_frames == COUNT - 36 - hidden
        assert video.duration_seconds == pytest.approx(1.6)
        assert numbers(video.frames(video.times_seconds)) == list(range(40, COUNT))
        with pytest.raises(ValueError, match=r"cut\.mp4: no frame at 1\.72 s, the video ends at 1\.60 s; shorten"):
            video.frames([0.0, 1.72])
        with pytest.raises(ValueError, match=r"no frame at -0\.04 s, the video starts at 0\.00 s"):
            video.frames([-0.04])


@pytest.mark.parametrize("name", ["start.mp4", "constant.ts", "constant.avi", "variable.mkv"])
def test_a_truncated_file_ends_where_its_frames_end(name: str, backend: str, folder: Path, recording) -> None:
    if name == "start.mp4":
        whole = barcodes.write(folder / name, CONSTANT, container_options={"movflags": "faststart"})
    else:
        whole = recording(next(key for key in FILES if FILES[key][0] == name))
    data = whole.read_bytes()
    short = folder / f"short-{backend}-{name}"
    short.write_bytes(data[: int(len(data) * 0.75)])
    with VideoReader(short, backend=backend) as video:
        assert 20 < video.num_frames < COUNT - 3
        assert numbers(video.frames(video.times_seconds[:-1])) == list(range(video.num_frames - 1))
        with pytest.raises(ValueError, match=f"the video ends at {video.duration_seconds:.2f} s"):
            video.frames([video.duration_seconds + 0.1])


def test_a_frame_that_does_not_decode_is_never_replaced_by_a_repeat(folder: Path) -> None:
    path = barcodes.write(folder / "broken.avi", CONSTANT, codec="zlib", pixel_format="bgr24")
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][30]
        begin, length = packet.pos + 8, packet.size  # an AVI chunk begins with 8 bytes of name and size
    data = bytearray(path.read_bytes())
    data[begin : begin + length] = bytes(length)
    path.write_bytes(data)
    with VideoReader(path) as video:
        got = numbers(video.frames([29 * 0.04, 31 * 0.04]))
        assert got == [29, 31]
        assert numbers(video.frames([30 * 0.04]))[0] in (29, 31)
        assert video.num_frames == COUNT - 1
        assert numbers(video.frames(video.times_seconds)) == [n for n in range(COUNT) if n != 30]


@pytest.mark.parametrize("name", FILES)
def test_a_large_file_is_read_again_instead_of_kept(name: str, recording, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0.5, 2.7, 1.3]
    with VideoReader(recording(name)) as video:
        expected = video.frames(times)
    monkeypatch.setattr(frame_table, "KEPT_BYTES", 0)
    with VideoReader(recording(name)) as video:
        assert video._source.packets is None
        assert torch.equal(video.frames(times), expected)
        assert torch.equal(video.frames(times[1:]), expected[1:])


@pytest.mark.parametrize("name", ["constant rate", "variable rate", "turned left", "10 bit", "vp9"])
def test_backends_give_the_same_pixels(name: str, backend: str, recording) -> None:
    """Equal to 1 grey level on average at the file's own size; scaled ones differ by their filters, at edges."""
    for short_side_pixels, tolerance in [(None, 1.0), (48, 8.0)]:
        with VideoReader(recording(name), short_side_pixels=short_side_pixels) as video:
            expected = video.frames([0.0, 1.0, 2.0]).float()
        with VideoReader(recording(name), backend=backend, short_side_pixels=short_side_pixels) as video:
            frames = video.frames([0.0, 1.0, 2.0]).float()
        assert frames.shape == expected.shape
        assert (frames - expected).abs().mean() < tolerance


def test_frames_do_not_depend_on_what_else_is_read(recording) -> None:
    with VideoReader(recording("constant rate")) as video:
        everything = video.frames(video.times_seconds)
        for index in (0, 17, 18, 19, 47, 79):
            assert torch.equal(video.frames([video.times_seconds[index]])[0], everything[index])


@pytest.mark.parametrize("short_side_pixels", [16, 33, 64, 100])
def test_the_short_side_is_scaled(short_side_pixels: int, recording) -> None:
    for name in ("constant rate", "turned left"):
        with VideoReader(recording(name), short_side_pixels=short_side_pixels) as video:
            frames = video.frames([1.0])
        assert frames.shape[2:] == (short_side_pixels, 2 * short_side_pixels)
        assert numbers(frames) == [25]
    with pytest.raises(ValueError, match="short_side_pixels is 0; it must be at least 1"):
        VideoReader(recording("constant rate"), short_side_pixels=0)


def test_what_a_reader_tells(recording) -> None:
    with VideoReader(recording("variable rate")) as video:
        assert video.codec == "h264"
        assert video.path == recording("variable rate")
        assert not video.has_audio
        assert video.fps == pytest.approx(COUNT / video.duration_seconds)
        assert video.duration_seconds > video.times_seconds[-1]
        assert numbers(video.frames([video.duration_seconds])) == [COUNT - 1]
        with pytest.raises(ValueError, match="needs a list of seconds"):
            video.frames([])
        with pytest.raises(ValueError, match="no frame at nan s"):
            video.frames([float("nan")])


def refusals(folder: Path) -> dict[Path, str]:
    image = folder / "picture.png"
    still = av.VideoFrame.from_ndarray(barcodes.draw(1), format="rgb24")
    still.save(image)
    still.save(folder / "picture.jpg")
    tone = folder / "tone.wav"
    with av.open(str(tone), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video\n" * 100)
    whole = (folder / "constant.mp4").read_bytes()
    (folder / "headless.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "ebml.mkv").write_bytes(b"\x1a\x45\xdf\xa3\xff\xff\xff\xff" + bytes(200))
    return {
        image: "is an image, not a video",
        folder / "picture.jpg": "is an image, not a video",
        tone: "holds sound only, no video",
        folder / "empty.mp4": r"is empty \(0 bytes\)",
        folder / "text.mp4": "cannot be opened as a video",
        folder / "headless.mp4": "cannot be opened as a video",
        folder / "ebml.mkv": "cannot be opened as a video",
        folder: "is a folder",
        Path(os.devnull): "is a folder or a device",
    }


def test_what_is_no_video_is_refused_with_its_reason(folder: Path, recording, capfd) -> None:
    recording("constant rate")
    for path, reason in refusals(folder).items():
        with pytest.raises(UnreadableVideo, match=reason) as caught:
            VideoReader(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        assert caught.value.path == path
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4: no such file"):
        VideoReader(folder / "nowhere.mp4")
    with pytest.raises(ValueError, match='no video backend "vhs"; there are pyav, decord, torchcodec'):
        VideoReader(recording("constant rate"), backend="vhs")
    assert capfd.readouterr().err == ""


def test_a_backend_that_does_not_load_says_so(recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(ValueError, match='the video backend "decord" does not load'):
        VideoReader(recording("constant rate"), backend="decord")


@pytest.mark.parametrize("name", [b"with blanks .mp4", b"caf\xe9.mp4", "日本 %03d.mp4".encode(), b"http:a:b.mp4"])
def test_any_file_name(name: bytes, recording, tmp_path: Path, backend: str) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(recording("constant rate").read_bytes())
    with VideoReader(path, backend=backend) as video:
        assert numbers(video.frames([1.0])) == [25]
        with pytest.raises(ValueError, match="no frame at 9"):
            video.frames([9.0])


def test_the_error_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(UnreadableVideo("a.mp4", "is empty")))
    assert (error.path, error.reason, str(error)) == ("a.mp4", "is empty", "a.mp4: is empty")
    try:
        raise error
    except UnreadableVideo:
        wrapped = ExceptionWrapper(where="in a loader's worker")  # as a DataLoader carries it
    with pytest.raises(UnreadableVideo, match=r"a\.mp4: is empty"):
        wrapped.reraise()


def test_nothing_stays_open(recording, backend: str) -> None:
    def read() -> None:
        with VideoReader(recording("constant rate"), backend=backend) as video:
            video.frames([1.0])

    read()
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(20):
        read()
    assert len(os.listdir("/proc/self/fd")) <= len(before)


READ_ALL = """
import sys
from selfsup.data.reader import VideoReader
for path in sys.argv[2:]:
    print(path, end="\\t", flush=True)
    try:
        with VideoReader(path, backend=sys.argv[1], short_side_pixels=32) as video:
            frames = video.frames(video.times_seconds)
            assert len(frames) == video.num_frames > 0
            assert video.duration_seconds > 0 and video.fps > 0 and video.width > 0 and video.height > 0
            if video.has_audio:
                assert abs(video.audio(0.0, 0.05, 16000)).max() <= 1
            print("decoded", flush=True)
    except ValueError as error:
        print("refused", error, flush=True)
"""


@pytest.mark.slow
def test_real_files_decode_or_are_refused(real_videos: Path, backend: str) -> None:
    """In a process of their own, under a time limit: a crash or a hang names the last file printed."""
    files = sorted([*real_videos.glob("awkward/files/*"), *real_videos.glob("action_samples/videos/*")])
    command = [sys.executable, "-c", READ_ALL, backend, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    outcomes = dict(line.split("\t") for line in done.stdout.splitlines())
    assert list(outcomes) == [str(path) for path in files]
    refused = [path for path, outcome in outcomes.items() if outcome.startswith(f"refused {path}: ")]
    assert len(refused) == 13
    assert len(files) - len(refused) == list(outcomes.values()).count("decoded")
