"""Folders of DAVIS: what is packed reads as the pictures do, splits, and what is refused."""

import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import decode_image, write_jpeg, write_png

from selfsup.data.davis import davis
from selfsup.data.index import inspect
from selfsup.data.listing import Listing
from selfsup.data.reader import VideoReader
from selfsup.data.true_masks import read_masks
from tests.data.moving import square_mask
from tests.davis import write_davis

NAMES = ["bear", "camel", "dog", "goat"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFSUP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_davis(tmp_path / "DAVIS", NAMES, count=3)


def splits(listing: Listing) -> dict[str, str | None]:
    return {video.path.stem: video.split for video in listing.videos}


@pytest.mark.parametrize(("between", "value"), [("", 255), ("480p", 1)])
def test_both_years_read_as_their_pictures_do(tmp_path: Path, between: str, value: int) -> None:
    root = write_davis(tmp_path / "DAVIS %03d", ["bear"], between=between, value=value)
    (video,) = davis(root).videos
    assert (video.label, video.group, video.split) == (None, "bear", None)
    with VideoReader(video.path) as reader:
        assert reader.times_seconds.tolist() == pytest.approx([n / 24 for n in range(12)])
        frames = reader.frames(reader.times_seconds)
    files = sorted((root / "JPEGImages" / between / "bear").iterdir())
    for frame, file in zip(frames, files, strict=True):
        with av.open(str(file)) as picture:
            (alone,) = picture.decode(video=0)
        assert np.array_equal(frame.permute(1, 2, 0).numpy(), alone.to_ndarray(format="rgb24"))
        # libjpeg interpolates chroma otherwise; a range that is taken for the limited one is 8 levels off on average.
        assert (frame.float() - decode_image(str(file)).float()).abs().mean() < 2
    assert np.array_equal(read_masks(video.path), square_mask(12))


def test_colour_has_its_full_range_and_sides_may_be_odd(tmp_path: Path) -> None:
    root = tmp_path / "DAVIS"
    grey = torch.linspace(0, 255, 51).round().byte().expand(3, 33, 51).contiguous()
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "ramp").mkdir(parents=True)
    for number in range(3):
        write_jpeg(grey, str(root / f"JPEGImages/ramp/{number:05d}.jpg"), quality=100)
        write_png(grey[:1] // 128, str(root / f"Annotations/ramp/{number:05d}.png"))
    (video,) = davis(root).videos
    info = inspect(video.path)
    assert (info.width, info.height, info.num_frames, info.codec) == (51, 33, 3, "mjpeg")
    with VideoReader(video.path) as reader:
        frame = reader.frames([0.0])[0]
    assert (frame.int() - grey.int()).abs().max() <= 2
    masks = read_masks(video.path)
    assert masks is not None
    assert np.array_equal(masks[0], grey[0].numpy() >= 128)


def test_a_palette_is_read_as_objects(root: Path) -> None:
    numbers = np.zeros((120, 160), np.uint8)
    numbers[:40], numbers[40:80] = 1, 4
    picture = Image.fromarray(numbers, mode="P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 1])  # the fourth is nearly black
    picture.save(root / "Annotations/goat/00001.png")
    masks = read_masks(davis(root).videos[-1].path)
    assert masks is not None
    assert np.array_equal(masks[1], numbers > 0)


def test_it_is_packed_once_and_the_same_bytes_each_time(root: Path, cache: Path) -> None:
    first = [video.path for video in davis(root).videos]
    known = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in first}
    assert [video.path for video in davis(root).videos] == first
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in first} == known
    shutil.rmtree(cache)
    assert [video.path.read_bytes() for video in davis(root).videos] == [data for _, data in known.values()]
    shutil.copy(root / "JPEGImages/bear/00000.jpg", root / "JPEGImages/goat/00000.jpg")
    assert davis(root).videos[0].path.parent != first[0].parent
    assert not list((cache / "davis").glob(".*"))


def test_lists_name_the_splits(root: Path) -> None:
    assert splits(davis(root)) == dict.fromkeys(NAMES)
    newest = root / "ImageSets" / "2017"
    newest.mkdir(parents=True)
    (newest / "train.txt").write_text("bear\ngoat\n")
    (newest / "val.txt").write_text("dog\n")
    assert splits(davis(root)) == {"bear": "train", "camel": None, "dog": "test", "goat": "train"}
    lists = root / "ImageSets" / "480p"
    lists.mkdir(parents=True)
    row = "/JPEGImages/480p/{0}/{1:05d}.jpg /Annotations/480p/{0}/{1:05d}.png\n"
    (lists / "train.txt").write_text("".join(row.format(name, n) for name in NAMES[:2] for n in range(3)))
    (lists / "val.txt").write_text(row.format("goat", 0) + row.format("zebra", 0))
    listing = davis(root)
    assert splits(listing) == {"bear": "train", "camel": "train", "dog": None, "goat": "test"}
    assert listing.notes == ["DAVIS: 1 of 4 sequences are not on disk (zebra)"]
    (root / "ImageSets" / "2016").mkdir()
    for name, text in (("train", "dog\n"), ("val", "bear\ncamel\n")):
        (root / "ImageSets" / "2016" / f"{name}.txt").write_text(text)
    assert splits(davis(root)) == {"bear": "test", "camel": "test", "dog": "train", "goat": None}
    left_out = davis(root, test_sequences=["goat", "dog"])
    assert splits(left_out) == {"bear": "train", "camel": "train", "dog": "test", "goat": "test"}
    assert left_out.notes == []


def no_pictures(root: Path) -> None:
    (root / "JPEGImages").rename(root / "frames")


def no_sequence(root: Path) -> None:
    shutil.rmtree(root / "JPEGImages")
    (root / "JPEGImages").mkdir()


def empty_sequence(root: Path) -> None:
    (root / "JPEGImages" / "ant").mkdir()


def no_masks(root: Path) -> None:
    shutil.rmtree(root / "Annotations" / "dog")


def one_mask_less(root: Path) -> None:
    (root / "Annotations/dog/00001.png").unlink()


def small_mask(root: Path) -> None:
    write_png(torch.zeros(1, 60, 80, dtype=torch.uint8), str(root / "Annotations/dog/00002.png"))


def small_picture(root: Path) -> None:
    small_mask(root)
    write_jpeg(torch.zeros(3, 60, 80, dtype=torch.uint8), str(root / "JPEGImages/dog/00002.jpg"))


def no_png(root: Path) -> None:
    (root / "Annotations/dog/00000.png").write_text("mask")


def no_jpeg(root: Path) -> None:
    (root / "JPEGImages/dog/00000.jpg").write_text("picture")


def png_by_another_name(root: Path) -> None:
    shutil.copy(root / "Annotations/dog/00000.png", root / "JPEGImages/dog/00000.jpg")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_pictures, "no folder JPEGImages in it"),
        (no_sequence, "no folder of a sequence in it"),
        (empty_sequence, "ant: no .jpg file in it"),
        (no_masks, "dog: 3 frames but 0 masks in .*Annotations/dog, 00000, 00001, 00002 in one alone"),
        (one_mask_less, "dog: 3 frames but 2 masks in .*, 00001 in one alone"),
        (small_mask, "dog/00002.jpg: 160 x 120 pixels, its mask 80 x 60"),
        (small_picture, "dog/00002.jpg: 80 x 60 pixels, its mask 80 x 60, the first mask of the sequence 160 x 120"),
        (no_png, "dog/00000.png: no PNG file"),
        (no_jpeg, "dog/00000.jpg: no JPEG file"),
        (png_by_another_name, "dog/00000.jpg: no JPEG file, whatever its name says"),
    ],
)
def test_what_is_no_davis_is_refused(root: Path, cache: Path, spoil: Callable[[Path], None], words: str) -> None:
    spoil(root)
    with pytest.raises(ValueError, match=words):
        davis(root)
    assert not list(cache.glob("davis/*"))


def test_an_unknown_test_sequence_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"test_sequences: no sequence 'gaot' in .*; there are bear, camel, dog, goat"):
        davis(root, test_sequences=["gaot"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        davis(root / "nowhere")


def test_davis_itself(real_videos: Path, tmp_path: Path) -> None:
    """Two real sequences, by links."""
    root, linked = real_videos / "davis2016_val_240p", tmp_path / "linked"
    for kind, name in product(("JPEGImages", "Annotations"), ("cows", "dog")):
        (linked / kind).mkdir(parents=True, exist_ok=True)
        (linked / kind / name).symlink_to(root / kind / name)
    for video in davis(linked).videos:
        files = sorted((root / "Annotations" / str(video.group)).iterdir())
        masks = read_masks(video.path)
        assert masks is not None
        assert np.array_equal(masks, np.stack([decode_image(str(file))[0].numpy() > 127 for file in files]))
        first = sorted((root / "JPEGImages" / str(video.group)).iterdir())[0]
        with VideoReader(video.path) as reader:
            assert reader.num_frames == len(files)
            assert (reader.frames([0.0])[0].float() - decode_image(str(first)).float()).abs().mean() < 2
