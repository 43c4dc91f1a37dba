"""A packed video answers as its file does: the same times, labels, sizes and sound, and nearly the same pixels."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from selfsup.data import videos
from selfsup.data.clips import DenseViews, Segments, SegmentViews
from selfsup.data.datamodule import SPLITS, VideoDataModule
from selfsup.data.dataset import Failure
from selfsup.data.flow import Dis
from selfsup.data.flow_clip import FlowClip
from selfsup.data.flow_threshold import FlowThreshold
from selfsup.data.foreground_clip import ForegroundClip
from selfsup.data.foreground_labels import ForegroundLabels
from selfsup.data.frame_and_sound import FrameAndSound
from selfsup.data.index import build_index, inspect
from selfsup.data.packed import PackedInfo
from selfsup.data.packing import Packing
from selfsup.data.sampling import ClipSampler
from selfsup.data.shards import shards
from selfsup.tasks.temporal_order import OrderSampler
from tests.media import moving, write_video
from tests.packs import SIDE_PIXELS, files_of, pack_listing

ORDER = OrderSampler(span_seconds=1.2, gap_seconds=0.2, reach_seconds=0.4)
JPEG_LEVELS = 6.0  # mean difference of pixels, of 255


def labels_in(folder: Path) -> ForegroundLabels:
    return ForegroundLabels(FlowThreshold(), fps=5, short_side_pixels=40, minimum_confidence=0, folder=str(folder))


def module(source: Path, sampler: ClipSampler, index: Path | None = None, **arguments: Any) -> VideoDataModule:
    """A data module of a manifest, or of a folder of shards."""
    lists = {"videos": videos.manifest, "manifest": str(source)} if index else {"videos": shards, "root": str(source)}
    settings = {"size_pixels": 40, "batch_size": 4, "num_workers": 0, "index_cache": str(index) if index else None}
    return VideoDataModule(**{**lists, "sampler": sampler, **settings, **arguments})


def infos_of(packed: Path) -> dict[str, PackedInfo]:
    """By name."""
    listing = shards(str(packed))
    assert listing.indexed is not None
    return {path.name: info for path, info in listing.indexed.videos.items() if isinstance(info, PackedInfo)}


def check_same(raw: dict[str, Any], packed: dict[str, Any], made_of_pixels: set[str]) -> None:
    """Equal, but for what is made of pixels, which is of one shape and nearly equal."""
    assert raw.keys() == packed.keys()
    assert raw["failures"] == packed["failures"] == []
    for name, value in raw.items():
        if not isinstance(value, Tensor):
            continue
        other = packed[name]
        assert (value.shape, value.dtype) == (other.shape, other.dtype), name
        if name == "clip":
            assert (value.float() - other.float()).abs().mean() < JPEG_LEVELS
        elif name == "sound":
            assert (value - other).abs().mean() < 1e-4  # AAC makes up its noise anew where a cut begins
        elif name not in made_of_pixels:
            assert torch.equal(value, other), name


@pytest.mark.parametrize(
    ("task", "made_of_pixels"),
    [
        ("temporal_order", set()),
        ("action_recognition", set()),
        ("two_stream", {"flow"}),
        ("audio_visual", set()),
        ("motion_segmentation", {"mask"}),
    ],
)
def test_every_task_gets_the_same_batches(
    task: str,
    made_of_pixels: set[str],
    synthetic_manifest: Path,
    synthetic_index: Path,
    packed_synthetic: Path,
    tmp_path: Path,
) -> None:
    samplers: dict[str, ClipSampler] = {
        "temporal_order": ORDER,
        "action_recognition": Segments(4),
        "two_stream": FlowClip(Segments(2), length=2),
        "audio_visual": FrameAndSound("both", sound_seconds=0.5, gap_seconds=0.5, truth=True),
        "motion_segmentation": ForegroundClip(labels_in(tmp_path / "labels")),
    }
    if task == "temporal_order":  # it looks at pixels when it chooses among its draws
        samplers[task] = OrderSampler(span_seconds=1.2, gap_seconds=0.2, reach_seconds=0.4, tries=1)
    views = SegmentViews(3) if task == "action_recognition" else None
    given = {"sampler": samplers[task], "evaluation_sampler": views, "index_processes": 1}
    raw = module(synthetic_manifest, index=synthetic_index, **given)
    packed = module(packed_synthetic, **given)
    raw.setup()
    packed.setup()
    if task == "motion_segmentation":
        # Which frames are fit to learn from hangs on pixels: the masks of both are there, and of one shape.
        one, other = next(iter(raw.train_dataloader())), next(iter(packed.train_dataloader()))
        assert one.keys() == other.keys() >= {"clip", "mask", "truth", "label"}
        assert {n: (v.shape, v.dtype) for n, v in one.items() if n != "failures"} == {
            n: (v.shape, v.dtype) for n, v in other.items() if n != "failures"
        }
        return
    for loaders in (
        (raw.train_dataloader(), packed.train_dataloader()),
        (raw.held_out("test"), packed.held_out("test")),
    ):
        for one, other in zip(*loaders, strict=True):
            check_same(one, other, made_of_pixels)


def test_labels_groups_and_splits_are_those_of_the_files(
    synthetic_manifest: Path, synthetic_index: Path, packed_synthetic: Path
) -> None:
    raw, packed = module(synthetic_manifest, ORDER, synthetic_index), module(packed_synthetic, ORDER)
    raw.setup()
    packed.setup()
    assert raw.catalogue.labels == packed.catalogue.labels
    assert raw.catalogue.groups == packed.catalogue.groups
    assert raw.catalogue.classes() == packed.catalogue.classes()
    for split in SPLITS:
        for one, other in zip(raw.videos[split], packed.videos[split], strict=True):
            assert one.path.name == other.path.name
            assert np.array_equal(one.motion, other.motion)
            told = ("duration_seconds", "fps", "num_frames", "width", "height", "has_audio", "sound", "change")
            assert {name: getattr(one, name) for name in told} == {name: getattr(other, name) for name in told}


def test_splits_that_are_not_named_are_drawn_alike(synthetic_manifest: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(synthetic_manifest.parent.rglob("*.mp4"))[:8]):
        (tmp_path / "videos" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        os.link(path, tmp_path / "videos" / "ab"[number % 2] / path.name)
    (tmp_path / "videos" / "a" / "broken.mp4").write_bytes(b"no video")
    pack_listing(videos.folder(tmp_path / "videos"), tmp_path / "index.jsonl", tmp_path / "packed")
    raw = VideoDataModule(
        videos.folder, ORDER, root=str(tmp_path / "videos"), index_cache=str(tmp_path / "index.jsonl"), size_pixels=40
    )
    packed = module(tmp_path / "packed", ORDER)
    raw.setup()
    packed.setup()
    for split in SPLITS:
        assert [i.path.name for i in raw.videos[split]] == [i.path.name for i in packed.videos[split]]
    told = [(left.video.path.name, left.video.split, left.reason) for left in packed.catalogue.left_out]
    assert told == [(left.video.path.name, left.video.split, left.reason) for left in raw.catalogue.left_out]
    assert told[0][0] == "broken.mp4"


def test_frames_at_any_times_in_any_order(synthetic_manifest: Path, packed_synthetic: Path) -> None:
    path = next(synthetic_manifest.parent.rglob("*.mp4"))
    info = infos_of(packed_synthetic)[path.name]
    times = [2.2, 0.0, 0.26, 0.25, 2.2, 1.0]
    with inspect(path).open(short_side_pixels=SIDE_PIXELS) as raw, info.open() as packed:
        assert np.array_equal(raw.times_seconds, packed.times_seconds)
        assert raw.numbers(times).tolist() == packed.numbers(times).tolist()
        one, other = raw.frames(times), packed.frames(times)
        assert one.shape == other.shape == (6, 3, SIDE_PIXELS, SIDE_PIXELS)
        assert one.stride() == other.stride()
        assert (one.float() - other.float()).abs().mean() < JPEG_LEVELS
        assert torch.equal(other[0], other[4])
        for reader in (raw, packed):
            with pytest.raises(ValueError, match=r"no frame at 9\.00 s, the video ends at"):
                reader.frames([9.0])
    with info.open(short_side_pixels=24) as smaller, inspect(path).open(short_side_pixels=24) as raw:
        one, other = raw.frames(times), smaller.frames(times)
        assert one.shape == other.shape
        assert (one.float() - other.float()).abs().mean() < 2 * JPEG_LEVELS


def test_sound_is_that_of_the_file_to_the_sixteenth_bit(synthetic_manifest: Path, packed_synthetic: Path) -> None:
    path = next(synthetic_manifest.parent.rglob("*.mp4"))
    info = infos_of(packed_synthetic)[path.name]
    with inspect(path).open() as raw, info.open() as packed:
        for start, stop in ((0.0, 0.5), (0.1234, 1.7), (info.heard_seconds - 0.25, info.heard_seconds)):
            one, other = raw.audio(start, stop, 16_000), packed.audio(start, stop, 16_000)
            assert one.shape == other.shape
            assert one.abs().max() > 0.01
            assert (one - other).abs().max() < 2e-5
        for reader in (raw, packed):
            with pytest.raises(ValueError, match="the track ends at"):
                reader.audio(2.0, 60.0, 16_000)
        with pytest.raises(ValueError, match=r"packed at 16000 Hz, 8000 Hz are asked for; .* pack\.sound_hz=8000"):
            packed.audio(0.0, 1.0, 8_000)


def test_a_long_track_is_the_same_in_every_part(tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "long.mp4", np.repeat(moving(1, side=16), 700, axis=0), sound=True)
    pack_listing(
        videos.folder(tmp_path / "videos"), tmp_path / "index.jsonl", tmp_path / "packed", short_side_pixels=16
    )
    info = infos_of(tmp_path / "packed")["long.mp4"]
    with inspect(tmp_path / "videos" / "long.mp4").open() as raw, info.open() as packed:
        for start in (0.0, 59.5, 61.3, 68.9):
            one, other = raw.audio(start, start + 1, 16_000), packed.audio(start, start + 1, 16_000)
            assert (one - other).abs().max() < 2e-5


def test_fewer_frames_a_second(synthetic_manifest: Path, synthetic_index: Path, tmp_path: Path) -> None:
    listing = videos.manifest(synthetic_manifest)
    few = listing._replace(videos=listing.videos[:1])
    pack_listing(few, synthetic_index, tmp_path / "packed", fps=7.0, sound_hz=None)
    (info,) = infos_of(tmp_path / "packed").values()
    raw = inspect(few.videos[0].path)
    assert (info.num_frames, info.duration_seconds) == (17, raw.duration_seconds)  # 2.4 seconds
    assert info.fps == pytest.approx(17 / 2.4)
    assert (info.has_audio, info.sound) == (False, None)
    with raw.open(short_side_pixels=SIDE_PIXELS) as file, info.open() as packed:
        assert np.abs(packed.times_seconds - np.arange(17) / 7).max() <= 0.025 + 1e-9  # half a frame of the file
        assert set(packed.times_seconds) <= set(file.times_seconds)
        one, other = file.frames(packed.times_seconds.tolist()), packed.frames(packed.times_seconds.tolist())
        assert (one.float() - other.float()).abs().mean() < JPEG_LEVELS
        with pytest.raises(ValueError, match="has no sound track"):
            packed.audio(0.0, 1.0, 16_000)


def test_which_frames_are_kept() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.5, 0.6])
    assert Packing(8).numbers(times).tolist() == [0, 1, 2, 3, 4]
    assert Packing(8, fps=5).numbers(times).tolist() == [0, 2, 3, 4]
    assert Packing(8, fps=1000).numbers(times).tolist() == [0, 1, 2, 3, 4]
    assert Packing(8, fps=0.5).numbers(times).tolist() == [0]
    assert Packing(8, fps=5).numbers(np.array([0.0])).tolist() == [0]


@pytest.mark.parametrize("setting", [{"quality": 0}, {"fps": 0.0}, {"sound_hz": -1}, {"shard_megabytes": 0.0}])
def test_settings_out_of_bounds(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"pack\.{next(iter(setting))}="):
        Packing(64, **setting)


def test_odd_files_are_packed_as_they_are_read(real_videos: Path, tmp_path: Path) -> None:
    """Turned, of one pixel, of uneven rates and unordered times: all that can be decoded."""
    listing = videos.folder(real_videos / "awkward")
    packed = pack_listing(listing, tmp_path / "index.jsonl", tmp_path / "packed", shard_megabytes=99, processes=2)
    found = shards(str(tmp_path / "packed"))
    index = build_index([video.path for video in listing.videos], cache=tmp_path / "index.jsonl")
    assert found.indexed is not None
    assert len(found.indexed.videos) == len(index.videos) > 10
    assert len(packed.refused) == len(index.refused)
    turns = set()
    for listed, video in zip(listing.videos, found.videos, strict=True):
        if listed.path not in index.videos:
            continue
        raw, info = index.videos[listed.path], found.indexed.videos[video.path]
        for size in (SIDE_PIXELS, 20):
            with raw.open(short_side_pixels=size) as one, info.open(short_side_pixels=size) as other:
                turns.add(one.rotation)
                assert (one.width, one.height) == (other.width, other.height)
                assert np.array_equal(one.times_seconds, other.times_seconds)
                times = one.times_seconds[:: max(1, one.num_frames // 4)].tolist()
                images, jpegs = one.frames(times).float(), other.frames(times).float()
                assert images.shape == jpegs.shape
                differences = (jpegs[:, None] - images[None]).abs().mean(dim=(2, 3, 4))
                # Test cards have colours in every pixel, of which JPEG keeps a quarter; each is about nearest its own.
                assert (differences.diagonal() < 16).all(), listed.path
                assert (differences.diagonal() <= 1.1 * differences.min(dim=1).values + 0.1).all(), listed.path
    assert turns == {0, 90, 270}


def test_common_tools_read_a_shard(packed_synthetic: Path) -> None:
    assert (
        subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=packed_synthetic, check=False).returncode == 0
    )
    with tarfile.open(packed_synthetic / "shard-00000.tar") as shard:
        names = shard.getnames()
        assert names[0] == "selfsup.json"
        key = names[1].partition(".")[0]
        assert {f"{key}.mjpeg", f"{key}.wav", f"{key}.npy", f"{key}.json"} <= set(names)
        parts = {name: shard.extractfile(name) for name in names}
        contents = {name: file.read() for name, file in parts.items() if file is not None}
    table = np.load(io.BytesIO(contents[f"{key}.npy"]), allow_pickle=False)
    first = contents[f"{key}.mjpeg"][: table["stop"][0]]
    assert Image.open(io.BytesIO(first)).size == (SIDE_PIXELS, SIDE_PIXELS)
    with av.open(io.BytesIO(contents[f"{key}.mjpeg"]), format="mjpeg") as film:
        assert sum(1 for _ in film.decode(video=0)) == len(table) == 48
    with wave.open(io.BytesIO(contents[f"{key}.wav"])) as track:
        assert (track.getframerate(), track.getnchannels(), track.getsampwidth()) == (16_000, 1, 2)


def test_training_on_shards_resumes_in_mid_epoch(packed_synthetic: Path) -> None:
    def batches(workers: int) -> list[dict[str, Any]]:
        data = module(packed_synthetic, ORDER, num_workers=workers)
        data.setup()
        return list(data.train_dataloader())

    whole = batches(0)
    for one, other in zip(whole, batches(2), strict=True):
        assert torch.equal(one["clip"], other["clip"])
    stopped = module(packed_synthetic, ORDER)
    stopped.setup()
    loader = iter(stopped.train_dataloader())
    next(loader)
    resumed = module(packed_synthetic, ORDER)
    resumed.load_state_dict(stopped.state_dict())
    resumed.setup()
    rest = list(resumed.train_dataloader())
    assert len(rest) == len(whole) - 1
    assert all(torch.equal(one["clip"], other["clip"]) for one, other in zip(whole[1:], rest, strict=True))


def test_a_training_that_reads_larger_frames_is_refused(packed_synthetic: Path) -> None:
    data = module(packed_synthetic, ORDER, size_pixels=112)
    with pytest.raises(
        ValueError,
        match=r"data\.size_pixels=112: the videos are packed with a short side of 48 pixels, 129 are asked for; "
        r".* pack\.short_side_pixels=129",
    ):
        data.setup()


def test_labels_of_larger_frames_are_refused(packed_synthetic: Path, tmp_path: Path) -> None:
    labels = ForegroundLabels(FlowThreshold(), short_side_pixels=240, folder=str(tmp_path))
    info = next(iter(infos_of(packed_synthetic).values()))
    with pytest.raises(ValueError, match=r"48 pixels, 240 are asked for; .* or keep the labels with it by pack\.task"):
        labels.verdicts(info, labels.chunks(info)[0])


def test_labels_and_flow_are_found_beside_the_frames(
    synthetic_manifest: Path, synthetic_index: Path, tmp_path: Path
) -> None:
    listing = videos.manifest(synthetic_manifest)
    few = listing._replace(videos=listing.videos[:2])
    labels = labels_in(tmp_path / "labels")
    clip = ForegroundClip(labels)
    pack_listing(few, synthetic_index, tmp_path / "masked", sampler=clip, task=True, sound_hz=None)
    elsewhere = labels_in(tmp_path / "nowhere")
    for video in few.videos:
        raw, info = inspect(video.path), infos_of(tmp_path / "masked")[video.path.name]
        assert labels.chunks(raw) == elsewhere.chunks(info)
        for chunk in labels.chunks(raw):
            one, other = labels.store(raw, chunk).read(), elsewhere.store(info, chunk).read()
            assert one is not None
            assert other is not None
            assert torch.equal(one.masks, other.masks)
    assert not (tmp_path / "nowhere").exists()  # nothing was made again
    again = ForegroundClip(labels_in(tmp_path / "again"))
    pack_listing(few, synthetic_index, tmp_path / "the same", sampler=again, task=True, sound_hz=None)
    assert files_of(tmp_path / "the same") == files_of(tmp_path / "masked")
    other = ForegroundClip(replace(labels, fps=4))
    with pytest.raises(ValueError, match="packed with other settings"):
        pack_listing(few, synthetic_index, tmp_path / "masked", sampler=other, task=True, sound_hz=None)

    flow = FlowClip(Segments(2), length=2, algorithm=Dis())
    pack_listing(few, synthetic_index, tmp_path / "flowing", sampler=flow, task=True, sound_hz=None)
    info = infos_of(tmp_path / "flowing")[few.videos[0].path.name]
    with (
        info.open(short_side_pixels=SIDE_PIXELS) as video,
        inspect(few.videos[0].path).open(short_side_pixels=SIDE_PIXELS) as file,
    ):
        raw_info = inspect(few.videos[0].path)
        for seed in range(3):
            one = flow(file, raw_info, torch.Generator().manual_seed(seed))
            other = flow(video, info, torch.Generator().manual_seed(seed))
            assert torch.equal(one["flow"], other["flow"])  # that of the file's frames, not of their JPEG


def test_views_of_a_test(synthetic_manifest: Path, packed_synthetic: Path) -> None:
    path = next(synthetic_manifest.parent.rglob("*.mp4"))
    sampler = DenseViews(num_frames=8, clips=3)
    assert sampler.views(inspect(path)) == sampler.views(infos_of(packed_synthetic)[path.name])


def test_a_flipped_byte_costs_the_frames_that_hold_it(packed_copy: Path) -> None:
    info = next(iter(infos_of(packed_copy).values()))
    shard = Path(info.place.shard)
    whole = bytearray(shard.read_bytes())
    whole[info.place.frames + 10] ^= 1
    shard.write_bytes(whole)
    data = module(packed_copy, ORDER)
    data.setup()
    info = next(iter(infos_of(packed_copy).values()))
    with info.open() as video:
        with pytest.raises(ValueError, match=r"shard-00000\.tar: frame 0 of .*mp4 does not match its checksum; copy"):
            video.frames([0.0, 1.0])
        assert video.frames([1.0, 2.0]).shape[0] == 2
    assert info.place.sound is not None
    whole[info.place.sound.offset + 10] ^= 1
    whole[info.place.table.offset + 10] ^= 1
    shard.write_bytes(whole)
    with pytest.raises(ValueError, match=r"the table of .* does not match"):
        info.open()
    number = next(n for n, one in enumerate(data.videos["train"]) if one.path == info.path)
    failure = data.training_dataset()[0, number]
    assert isinstance(failure, Failure)
    assert "does not match its checksum" in failure.reason
