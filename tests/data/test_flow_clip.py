"""A clip with the flow that starts at each of its frames, kept on disk or not."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from selfsup.data.clips import DenseClip, DenseViews, FixedClip, Segments
from selfsup.data.flow import Dis, Farneback
from selfsup.data.flow_clip import FlowClip, FlowViews
from selfsup.data.flow_fields import crop_example
from selfsup.data.index import VideoInfo, inspect
from selfsup.data.reader import VideoReader
from selfsup.data.transforms import train_crop
from tests.data.test_flow import translated
from tests.media import write_video


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    """A file of 50 frames of 96 x 96 pixels, 10 a second, that move by (3, -2) pixels a frame."""
    frames = translated(50).permute(0, 2, 3, 1).numpy()
    return inspect(write_video(tmp_path_factory.mktemp("flow") / "moving.mp4", frames))


def ask(sampler: FlowClip, info: VideoInfo, seed: int = 0) -> dict[str, Tensor]:
    with VideoReader(info.path) as video:
        return sampler(video, info, seeded(seed))


def test_flow_starts_at_each_frame_of_its_clip(moving: VideoInfo) -> None:
    example = ask(FlowClip(DenseClip(4), length=3, without_mean=False, bound_pixels=4.0), moving)
    assert example["clip"].shape == (3, 4, 96, 96)
    assert example["flow"].shape == (6, 4, 96, 96)
    interior = example["flow"][..., 20:-20, 20:-20] * 4
    assert (interior[0::2] - 3).abs().mean() < 0.1
    assert (interior[1::2] + 2).abs().mean() < 0.1
    assert example["flow"].abs().max() <= 1
    # The frame that the flow of step 0 leads to is the next frame of the clip.
    frames = example["clip"].float()
    assert (frames[:, 1, 10:-10, 13:-7] - frames[:, 0, 12:-8, 10:-10]).abs().mean() < 3


def test_the_mean_of_each_field_is_the_camera(moving: VideoInfo) -> None:
    example = ask(FlowClip(length=2), moving)
    assert example["flow"].mean(dim=(-2, -1)).abs().max() < 1e-3


def test_the_last_frames_start_no_flow(moving: VideoInfo) -> None:
    sampler = FlowClip(DenseClip(1), length=10)
    assert sampler.steps(moving) == 50
    with VideoReader(moving.path) as video:
        frames = video.frames(video.times_seconds)
        starts = set()
        for seed in range(60):
            clip = sampler(video, moving, seeded(seed))["clip"][:, 0]
            starts.add(int((frames.float() - clip.float()).abs().mean(dim=(1, 2, 3)).argmin()))
    assert max(starts) == 39
    assert min(starts) < 3


def test_a_video_with_too_few_frames_is_refused(tmp_path: Path) -> None:
    info = inspect(write_video(tmp_path / "short.mp4", translated(10).permute(0, 2, 3, 1).numpy()))
    assert FlowClip(length=9).refuse(info) is None
    assert ask(FlowClip(Segments(3), length=9), info)["flow"].shape == (18, 3, 96, 96)
    reason = "has 10 frames at 10 a second, a stack of 10 flow fields needs 11; shorten length"
    assert FlowClip(length=10).refuse(info) == reason
    with pytest.raises(ValueError, match=rf"short\.mp4: {reason}"):
        ask(FlowClip(length=10), info)
    assert FlowClip(DenseClip(8, loop=False), length=5).refuse(info) is not None


def test_fewer_steps_a_second_are_longer_steps(moving: VideoInfo) -> None:
    example = ask(FlowClip(Segments(2), length=2, fps=5, without_mean=False), moving)
    assert (example["flow"][0::2, :, 24:-24, 24:-24] * 20 - 6).abs().mean() < 0.2
    assert FlowClip(fps=100).rate_hz(moving) == pytest.approx(10)


def test_views_carry_their_flow(moving: VideoInfo) -> None:
    views = FlowViews(DenseViews(4, clips=3), FlowClip(length=5)).views(moving)
    assert len(views) == 3
    first, last = ask(views[0], moving), ask(views[-1], moving)
    assert first["clip"].shape == last["clip"].shape == (3, 4, 96, 96)
    with VideoReader(moving.path) as video:
        assert torch.equal(last["clip"][:, -1], video.frames([4.4])[0])  # of 50 frames the 45th


def test_senseless_settings_are_refused() -> None:
    for options in ({"length": 0}, {"fps": 0.0}, {"bound_pixels": -1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            FlowClip(**options)


# --- kept on disk


def cached(folder: Path, **options: object) -> FlowClip:
    return FlowClip(Segments(3), length=4, cache_folder=str(folder), **options)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_example_is_the_same_whether_its_flow_was_kept_or_not(moving: VideoInfo, tmp_path: Path) -> None:
    for seed in range(5):
        fresh = ask(FlowClip(Segments(3), length=4), moving, seed)
        for _ in range(2):
            again = ask(cached(tmp_path), moving, seed)
            assert torch.equal(again["flow"], fresh["flow"])
            assert torch.equal(again["clip"], fresh["clip"])
    assert len(files(tmp_path)) == 2  # 49 fields, 32 a file


def test_what_is_kept_is_not_computed_again(moving: VideoInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ask(cached(tmp_path), moving)

    def never(*_: object) -> Tensor:
        raise AssertionError("computed")

    monkeypatch.setattr(Dis, "__call__", never)
    assert torch.equal(ask(cached(tmp_path), moving)["flow"], wanted["flow"])
    for other in ({"bound_pixels": 10.0}, {"fps": 5.0}):
        with pytest.raises(AssertionError, match="computed"):
            ask(cached(tmp_path, **other), moving)
    before = len(files(tmp_path))
    ask(cached(tmp_path, algorithm=Farneback()), moving)
    assert len(files(tmp_path)) > before


# --- recordings


@pytest.mark.parametrize("name", ["surv_fight/videos/fight/fi001.mp4", "miracl_vc1/videos/begin/F01_01.mp4"])
def test_recordings_have_flow(real_videos: Path, tmp_path: Path, name: str) -> None:
    info = inspect(real_videos / name)
    sampler = FlowClip(Segments(3), length=5, cache_folder=str(tmp_path))
    with VideoReader(info.path, short_side_pixels=64) as video:
        example = sampler(video, info, seeded())
        assert torch.equal(sampler(video, info, seeded())["flow"], example["flow"])
    done = crop_example(train_crop(48, (0.5, 1.0), flip=True, stretch=False), example)
    assert done["flow"].shape == (10, 3, 48, 48)
    assert 0 < done["flow"].float().abs().mean() < 1


def test_frames_too_small_for_dis_are_refused_with_the_files_name(tmp_path: Path) -> None:
    info = inspect(write_video(tmp_path / "tiny.mp4", translated(8, side=8).permute(0, 2, 3, 1).numpy()))
    with pytest.raises(ValueError, match=r"tiny\.mp4: frames of 8 x 8 pixels: DIS flow needs 32"):
        ask(FlowClip(FixedClip((0.0,)), length=2), info)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(FlowClip(length=2, algorithm=Farneback()), info)["flow"].isfinite().all()
