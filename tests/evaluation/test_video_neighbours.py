"""Neighbours that play: the nearest by an independent sort, as videos of what was compared."""

import json
from pathlib import Path

import pytest
import torch

from selfsup.data.index import VideoInfo, build_index
from selfsup.data.reader import VideoReader
from selfsup.data.short_video import write_short_video
from selfsup.evaluation.video_neighbours import FPS, SIDE_PIXELS, Featured, write_video_neighbours


@pytest.fixture(scope="module")
def infos(synthetic_manifest: Path, synthetic_index: Path) -> list[VideoInfo]:
    return list(
        build_index(sorted(synthetic_manifest.parent.rglob("*.mp4"))[:8], cache=synthetic_index).videos.values()
    )


def test_a_short_video_holds_its_frames(tmp_path: Path) -> None:
    frames = torch.stack([torch.full((3, 32, 48), 20 * number, dtype=torch.uint8) for number in range(1, 12)])
    write_short_video(tmp_path / "short.mp4", frames, 8.0)
    with VideoReader(tmp_path / "short.mp4") as video:
        assert video.duration_seconds == pytest.approx(11 / 8, abs=0.01)
        read = video.frames([number / 8 + 0.01 for number in range(11)])
    assert read.shape == frames.shape
    assert (read.float() - frames.float()).abs().mean() < 4, "compressed, but of the same brightness"
    with pytest.raises(ValueError, match=r"odd\.mp4: frames of shape \(2, 3, 31, 48\); give"):
        write_short_video(tmp_path / "odd.mp4", frames[:2, :, :31], 8.0)


def test_the_nearest_videos_play(infos: list[VideoInfo], tmp_path: Path) -> None:
    torch.manual_seed(0)
    queries = Featured(infos[:3], ["a", None, "b"], torch.randn(3, 5))
    gallery = Featured(infos[3:], ["a", "a", "b", "b", "<b>"], torch.randn(5, 5))
    record = write_video_neighbours(tmp_path, queries, gallery, asked=2, count=3)
    (table,) = json.loads(record.read_text())
    assert [len(row) for row in table["rows"]] == [4, 4], "a query and three neighbours, the first and the last"
    for place, row in zip((0, 2), table["rows"], strict=True):
        likeness = torch.nn.functional.cosine_similarity(queries.values[place][None], gallery.values)
        nearest = likeness.argsort(descending=True)[:3].tolist()
        assert [cell["video"] for cell in row[1:]] == [f"videos/gallery-{number:04d}.mp4" for number in nearest]
        same = [gallery.labels[number] == queries.labels[place] for number in nearest]
        assert [cell["kind"] for cell in row] == ["query", *("own" if is_same else "other" for is_same in same)]
        assert row[0]["caption"] == f"{queries.labels[place]}, {infos[place].path.name}"
    info = infos[0]
    with VideoReader(tmp_path / table["rows"][0][0]["video"]) as video:
        assert video.duration_seconds <= 3 + 1 / FPS
        shown = video.frames([0.01])[0].float()
    last = info.duration_seconds - 1 / info.fps
    with VideoReader(info.path, short_side_pixels=SIDE_PIXELS) as video:
        expected = video.frames([(last - min(3.0, last)) / 2])[0].float()
    assert shown.shape == (3, SIDE_PIXELS, SIDE_PIXELS)
    assert (shown - expected).abs().mean() < 8
