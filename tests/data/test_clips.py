"""Windows, segments and views: within the video, in order, and each frame as likely as the next."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from selfsup.data.clips import DenseClip, DenseViews, FixedClip, Segments, SegmentViews, TimedSampler
from selfsup.data.index import VideoInfo, inspect
from selfsup.data.reader import UnreadableVideo, VideoReader
from tests.data import barcodes
from tests.data.test_sampling import info_of


def video_of(frames: int, fps: float = 25.0) -> VideoInfo:
    """A video of so many frames, of which nothing else matters."""
    return info_of(np.zeros(max(0, frames - 1)), rate_hz=fps, fps=fps)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shown(sampler: TimedSampler, info: VideoInfo, generator: torch.Generator) -> tuple[int, ...]:
    """The numbers of the frames, as the reader would choose them."""
    return tuple(np.ceil(sampler.times_seconds(info, generator) * info.fps - 0.5 - 1e-9).astype(int).tolist())


def numbers(clip: torch.Tensor) -> list[int]:
    return [barcodes.read_number(frame) for frame in clip.transpose(0, 1)]


@pytest.fixture(scope="module")
def barcoded(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    """40 frames at 25 a second, each with its number."""
    return inspect(barcodes.write(tmp_path_factory.mktemp("clips") / "a.mp4", range(0, 1600, 40)))


# --- dense clips


def test_a_dense_clip_holds_consecutive_frames_of_the_file(barcoded: VideoInfo) -> None:
    generator = seeded()
    with VideoReader(barcoded.path) as video:
        for _ in range(10):
            clip = DenseClip(16)(video, barcoded, generator)["clip"]
            assert clip.shape == (3, 16, barcodes.HEIGHT, barcodes.WIDTH)
            assert clip.dtype == torch.uint8
            assert np.diff(numbers(clip)).tolist() == [1] * 15


@pytest.mark.parametrize(("frames", "num_frames"), [(20, 16), (20, 1), (16, 16), (17, 16)])
def test_every_window_is_as_likely_as_every_other(frames: int, num_frames: int) -> None:
    info, generator = video_of(frames), seeded()
    drawn = Counter(shown(DenseClip(num_frames), info, generator)[0] for _ in range(4000))
    windows = frames - num_frames + 1
    assert set(drawn) == set(range(windows))  # the last frame is reached, and the first
    assert max(abs(count / 4000 * windows - 1) for count in drawn.values()) < 0.25


@pytest.mark.parametrize("sampler", [DenseClip(8, fps=12.5), DenseClip(8, stride_seconds=0.08)])
def test_a_rate_and_a_stride_say_the_same(sampler: DenseClip) -> None:
    for seed in range(50):
        times = sampler.times_seconds(video_of(60), seeded(seed))
        assert np.allclose(np.diff(times), 0.08)
        assert np.diff(shown(sampler, video_of(60), seeded(seed))).tolist() == [2] * 7


def test_a_rate_above_the_videos_own_repeats_frames() -> None:
    frames = np.array(shown(DenseClip(16, fps=50), video_of(40), seeded(3)))
    assert set(np.diff(frames)) <= {0, 1}
    assert len(set(frames.tolist())) in (8, 9)


@pytest.mark.parametrize("frames", [1, 5, 7, 15])
def test_a_short_video_is_looped_from_its_start(frames: int) -> None:
    assert shown(DenseClip(16), video_of(frames), seeded()) == tuple(number % frames for number in range(16))


def test_a_looped_file_shows_its_frames_in_turn(tmp_path: Path) -> None:
    info = inspect(barcodes.write(tmp_path / "short.mp4", range(0, 240, 40)))
    with VideoReader(info.path) as video:
        assert numbers(DenseClip(16)(video, info, seeded())["clip"]) == [number % 6 for number in range(16)]


def test_a_short_video_is_refused_where_it_may_not_be_looped(tmp_path: Path) -> None:
    sampler = DenseClip(16, loop=False)
    assert sampler.refuse(video_of(16)) is None
    reason = sampler.refuse(video_of(15))
    assert reason == "lasts 0.60 s, 16 frames 0.04 s apart need 0.64 s; set loop: true or take fewer frames"
    info = inspect(barcodes.write(tmp_path / "a.mp4", range(0, 200, 40)))
    with VideoReader(info.path) as video, pytest.raises(ValueError, match=r"a\.mp4: lasts 0\.20 s"):
        sampler(video, info, seeded())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_frames": 0}, "num_frames=0"),
        ({"fps": -1.0}, "fps=-1"),
        ({"stride_seconds": 0.0}, "stride_seconds=0"),
        ({"fps": 5.0, "stride_seconds": 0.2}, "one of the two"),
        ({"fps": float("nan")}, "fps=nan"),
    ],
)
def test_a_senseless_window_is_refused(options: dict, said: str) -> None:
    for kind in (DenseClip, DenseViews):
        with pytest.raises(ValueError, match=said):
            kind(**options)


# --- segments


def test_segments_draw_each_frame_of_their_part_alike() -> None:
    info, generator = video_of(40), seeded()
    drawn = np.array([shown(Segments(8), info, generator) for _ in range(3000)])
    for part in range(8):
        counts = np.bincount(drawn[:, part] - 5 * part, minlength=5)
        assert len(counts) == 5  # nothing from another part
        assert abs(counts / 600 - 1).max() < 0.25


def test_segments_of_a_file_come_in_order(barcoded: VideoInfo) -> None:
    with VideoReader(barcoded.path) as video:
        found = numbers(Segments(8)(video, barcoded, seeded())["clip"])
    assert [number // 5 for number in found] == list(range(8))


def test_more_segments_than_frames_repeat_them() -> None:
    drawn = shown(Segments(8), video_of(3), seeded())
    assert list(drawn) == sorted(drawn)
    assert set(drawn) == {0, 1, 2}


# --- views


def firsts(views: list[FixedClip], info: VideoInfo) -> list[int]:
    return [shown(view, info, seeded())[0] for view in views]


def test_ten_views_spread_from_the_first_frame_to_the_last() -> None:
    info = video_of(106)
    views = DenseViews(16, clips=10).views(info)
    assert firsts(views, info) == list(range(0, 91, 10))
    assert shown(views[-1], info, seeded())[-1] == 105
    assert all(np.diff(shown(view, info, seeded())).tolist() == [1] * 15 for view in views)


@pytest.mark.parametrize(("frames", "starts"), [(18, 3), (16, 1), (9, 1), (1, 1), (25, 10), (26, 10)])
def test_a_short_video_has_no_view_twice(frames: int, starts: int) -> None:
    info = video_of(frames)
    views = DenseViews(16, clips=10).views(info)
    assert len(views) == starts
    assert len({shown(view, info, seeded()) for view in views}) == starts


def test_one_view_is_the_middle() -> None:
    assert firsts(DenseViews(16, clips=1).views(video_of(36)), video_of(36)) == [10]
    assert firsts(SegmentViews(1).views(video_of(41)), video_of(41)) == [20]


@pytest.mark.parametrize("frames", [16, 40, 41, 66, 1000])
def test_views_every_so_many_seconds_cover_a_video_of_any_length(frames: int) -> None:
    info = video_of(frames)
    views = DenseViews(16, clips=None, every_seconds=1.0).views(info)
    starts = firsts(views, info)
    assert starts[0] == 0
    assert starts[-1] == frames - 16 or frames == 16
    assert len(starts) == int(np.ceil((frames - 16) / 25)) + 1
    assert max(np.diff(starts), default=0) <= 26  # 25, and the rounding to a frame


def test_how_many_views_is_said_once() -> None:
    for options in ({"clips": None}, {"clips": 5, "every_seconds": 1.0}):
        with pytest.raises(ValueError, match="give one of the two"):
            DenseViews(**options)
    for options in ({"clips": 0}, {"clips": None, "every_seconds": -1.0}):
        with pytest.raises(ValueError, match="give"):
            DenseViews(**options)
    for options in ({"num_segments": 0}, {"num_views": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            SegmentViews(**options)


def test_segment_views_share_no_frame_and_stay_in_their_part() -> None:
    info = video_of(60)
    views = [shown(view, info, seeded()) for view in SegmentViews(4, num_views=3).views(info)]
    assert views == [(2, 17, 32, 47), (7, 22, 37, 52), (12, 27, 42, 57)]
    assert len(SegmentViews(4, num_views=3).views(video_of(4))) == 1
    assert len(SegmentViews(4, num_views=9).views(video_of(8))) == 2


# --- all of them, on recordings

SAMPLERS = [DenseClip(), DenseClip(16, fps=10), DenseClip(5, stride_seconds=0.3), Segments(), Segments(1), Segments(25)]
VIEWS = [DenseViews(), DenseViews(8, fps=5, clips=3), DenseViews(clips=None, every_seconds=0.5), SegmentViews(8, 3)]


def check(video: VideoReader, info: VideoInfo) -> None:
    for sampler in SAMPLERS:
        for seed in range(5):
            times = sampler.times_seconds(info, seeded(seed))
            assert times.min() >= 0
            assert times.max() <= info.duration_seconds
            assert np.array_equal(times, sampler.times_seconds(info, seeded(seed)))
            if isinstance(sampler, Segments) or sampler.slack_seconds(info) >= 0:
                assert (np.diff(times) >= 0).all()
    for kind in VIEWS:
        views = kind.views(info)
        assert views == kind.views(info)
        assert len({view.at_seconds for view in views}) == len(views) >= 1
        assert all(0 <= time <= info.duration_seconds for view in views for time in view.at_seconds)
    assert len(video.frames(DenseViews().views(info)[-1].at_seconds)) == 16
    assert Segments(3)(video, info, seeded())["clip"].shape[:2] == (3, 3)


@pytest.mark.parametrize("pattern", ["surv_fight/videos/fight/fi0?1.mp4", "miracl_vc1/videos/begin/F0*.mp4"])
def test_recordings_can_be_asked(real_videos: Path, pattern: str) -> None:
    paths = sorted(real_videos.glob(pattern))[:6]
    assert paths
    for path in paths:
        with VideoReader(path, short_side_pixels=32) as video:
            check(video, inspect(path))


def test_awkward_files_can_be_asked_or_are_refused_by_the_reader(real_videos: Path) -> None:
    asked = 0
    for path in sorted((real_videos / "awkward" / "files").iterdir()):
        if path.stat().st_size > 2**20:
            continue
        try:
            info = inspect(path)
        except (UnreadableVideo, ValueError):
            continue
        with VideoReader(path, short_side_pixels=32) as video:
            check(video, info)
        asked += 1
    assert asked > 5
