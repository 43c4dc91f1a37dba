"""`selfsup embed`: the features, the videos and what belongs together, as files that other programs open."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn.functional import cosine_similarity

import selfsup.embed
import selfsup.report
from selfsup import weights
from selfsup.data.reader import VideoReader
from selfsup.data.transforms import evaluation_crop
from selfsup.evaluation.embedding import COLUMNS
from tests.verbs import Ended

SMALL = ("data.size_pixels=32", "data.batch_size=4", "data.num_workers=0", "data.index_processes=1", "num_frames=3")


@pytest.fixture
def unlabelled(synthetic_manifest: Path, tmp_path: Path) -> Path:
    """Twelve videos in one folder; the name of one would break a table that is divided by tabs."""
    folder = tmp_path / "footage"
    folder.mkdir()
    for number, path in enumerate(sorted(synthetic_manifest.parent.rglob("*.mp4"))[:12]):
        shutil.copy(path, folder / ("a\tb\nc.mp4" if number == 5 else f"{number:02d}.mp4"))
    return folder


def table(folder: Path) -> list[dict[str, str]]:
    csv.field_size_limit(10**7)
    with open(folder / "videos.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_videos_without_labels_are_mapped(
    unlabelled: Path, encoder_path: Path, verb: Callable[..., Ended], command: Callable[..., Ended]
) -> None:
    words = (f"encoder.path={encoder_path}", "data=folder", f"data.root={unlabelled}", *SMALL)
    done = verb(selfsup.embed.main, *words, run="map")
    assert done.code == 0, done.err
    rows = table(done.folder)
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 12
    assert {row["label"] for row in rows} == {""}
    assert {row["split"] for row in rows} == {"train", "val", "test"}

    encoder = weights.load(encoder_path).eval()
    features = {}
    for row in rows:
        features[row["path"]] = torch.tensor(json.loads(row["features"]))
    row = next(row for row in rows if row["name"] == "07.mp4")
    with VideoReader(row["path"], short_side_pixels=37) as video:
        middles = [(number + 0.5) / 3 * video.duration_seconds for number in range(3)]
        clip = evaluation_crop(32, stretch=False)(video.frames(middles)).transpose(0, 1)[None] / 255
    with torch.no_grad():
        expected = encoder(encoder.input.normalize(clip)).mean(dim=(2, 3, 4))[0]
    assert torch.allclose(features[row["path"]], expected, atol=2e-2), "as an evaluation reads it"

    for row in rows:
        assert Image.open(done.folder / row["thumbnail"]).size == (96, 96)
        with VideoReader(done.folder / row["clip"]) as video:
            assert 0 < video.duration_seconds <= 3.2

    (record,) = json.loads((done.folder / "pictures" / "neighbours" / "neighbours.json").read_text(encoding="utf-8"))
    assert record["title"] == "Nearest training videos of a held-out video", "no class, and nothing green"
    by_name = {row["name"]: row for row in rows}
    query, *found = record["rows"][0]
    train = [row for row in rows if row["split"] == "train"]
    asked = features[by_name[query["caption"]]["path"]]
    likeness = torch.stack([cosine_similarity(asked, features[row["path"]], dim=0) for row in train])
    nearest = [train[place]["name"] for place in likeness.argsort(descending=True)[: len(found)]]
    assert [cell["caption"] for cell in found] == nearest

    reported = command(selfsup.report.main, str(done.folder), "hydra.run.dir=reported")
    assert reported.code == 0, reported.err
    assert "data:video/mp4;base64," in (Path("reported") / "report.html").read_text(encoding="utf-8")


def test_the_projector_has_the_same_rows(unlabelled: Path, encoder_path: Path, verb: Callable[..., Ended]) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    words = (f"encoder.path={encoder_path}", "data=folder", f"data.root={unlabelled}", *SMALL)
    done = verb(selfsup.embed.main, *words, run="map")
    assert done.code == 0, done.err
    rows, (place,) = table(done.folder), (done.folder / "projector").rglob("tensors.tsv")
    tensors = [line.split("\t") for line in place.read_text(encoding="utf-8").splitlines()]
    assert torch.allclose(
        torch.tensor([[float(value) for value in line] for line in tensors]),
        torch.tensor([json.loads(row["features"]) for row in rows]),
        atol=1e-5,
    )
    header, *known = place.with_name("metadata.tsv").read_text(encoding="utf-8").splitlines()
    assert header.split("\t") == ["name", "split", "label", "group"]
    assert [len(line.split("\t")) for line in known] == [4] * 12, "one line a video, whatever it is called"
    assert [line.split("\t")[1] for line in known] == [row["split"] for row in rows]
    sprite = Image.open(place.with_name("sprite.png"))
    assert sprite.size == (4 * 48, 4 * 48), "the least square that holds twelve"


def test_labels_and_groups_are_kept_and_many_videos_thinned_out(
    synthetic_manifest: Path, synthetic_index: Path, encoder_path: Path, verb: Callable[..., Ended]
) -> None:
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
    done = verb(selfsup.embed.main, f"encoder.path={encoder_path}", *data, *SMALL, "most_videos=12", run="map")
    assert done.code == 0, done.err
    rows = table(done.folder)
    assert [sum(row["split"] == split for row in rows) for split in ("train", "val", "test")] == [8, 2, 2]
    with open(synthetic_manifest, newline="", encoding="utf-8") as file:
        listed = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    for row in rows:
        assert row["label"] == listed[row["name"]]["label"]
        assert row["group"] == listed[row["name"]]["group"]


def test_packed_videos_are_mapped(packed_synthetic: Path, encoder_path: Path, verb: Callable[..., Ended]) -> None:
    data = ("data=shards", f"data.root={packed_synthetic}")
    done = verb(selfsup.embed.main, f"encoder.path={encoder_path}", *data, *SMALL[:-2], "num_frames=3", run="map")
    assert done.code == 0, done.err
    rows = table(done.folder)
    assert len(rows) == 24
    with VideoReader(done.folder / rows[0]["clip"]) as video:
        assert video.duration_seconds > 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("most_videos=1",), "most_videos=1: a map needs two videos or more"),
        (("encoder=resnet18",), "embed reads an encoder from a file; give encoder.path="),
    ],
)
def test_what_cannot_be_mapped_is_refused(
    words: tuple[str, ...],
    sentence: str,
    synthetic_manifest: Path,
    synthetic_index: Path,
    encoder_path: Path,
    command: Callable[..., Ended],
) -> None:
    given = () if words == ("encoder=resnet18",) else (f"encoder.path={encoder_path}",)
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
    ended = command(selfsup.embed.main, *given, *data, *SMALL, *words, "hydra.run.dir=map")
    assert ended.code == 2
    assert sentence in ended.err
