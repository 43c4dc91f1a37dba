"""Several questions to one video: each by its own chance, and batches of those that could be asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from selfsup.data.audio_policy import AudioPolicy
from selfsup.data.dataset import ClipDataset, Failure, collate
from selfsup.data.index import VideoInfo, build_index
from selfsup.data.joint_sampler import JointSampler, PreparedJointSampler, apart, joint_sampler, together
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import Prepared, PreparedSampler
from selfsup.data.transforms import train_crop
from tests.data import barcodes


@dataclass(frozen=True)
class Long:
    """Two frames from anywhere in a video that is long enough."""

    seconds: float

    def refuse(self, info: VideoInfo) -> str | None:
        return None if info.duration_seconds >= self.seconds else f"shorter than {self.seconds:g} s"

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = torch.rand(2, generator=generator)
        return {"clip": video.frames((drawn * info.duration_seconds).tolist()).transpose(0, 1), "drawn": drawn}


@dataclass(frozen=True)
class Hearing(Long):
    sound_seconds: float = 0.5


@dataclass(frozen=True)
class Prepares(Long):
    refused: frozenset[Path] = frozenset()

    def prepare(self, infos, *, processes, progress=None, executor=None) -> Prepared:  # type: ignore[no-untyped-def]
        return Prepared({path: "empty" for path in self.refused}, len(infos), {"empty": 2}, 1, Path("here"))


def infos(tmp_path: Path) -> list[VideoInfo]:
    """Videos without sound, of 0.4 s and 1.2 s."""
    paths = [barcodes.write(tmp_path / f"{frames}.mp4", range(0, 40 * frames, 40)) for frames in (10, 30)]
    return list(build_index(paths, cache=tmp_path / "index.jsonl", processes=1).videos.values())


def test_a_video_that_one_question_refuses_is_asked_the_others(tmp_path: Path) -> None:
    short, long = infos(tmp_path)
    sampler = JointSampler({"any": Long(0.1), "long": Long(1.0)})
    assert sampler.refuse(short) is None
    assert sampler.refusals(short) == {"long": "shorter than 1 s"}
    assert JointSampler({"a": Long(1.0), "b": Long(5.0)}).refuse(short) == "a: shorter than 1 s; b: shorter than 5 s"
    dataset = ClipDataset(
        [short, long], sampler, train_crop(16, (0.5, 1.0), True, False), seed=0, short_side_pixels=24, backend="pyav"
    )
    batch = apart(collate([dataset[0, 0], dataset[0, 1], dataset[1, 0], Failure(0, "gone")]))
    assert batch["any"]["clip"].shape == (3, 3, 2, 16, 16)
    assert batch["any"]["video"].tolist() == [0, 1, 0]
    assert batch["long"]["clip"].shape == (1, 3, 2, 16, 16)
    assert batch["long"]["video"].tolist() == [1]
    assert batch[""]["failures"] == [Failure(0, "gone")]


def test_each_question_has_chance_of_its_own(tmp_path: Path) -> None:
    (_, long) = infos(tmp_path)
    two, three = (JointSampler({name: Long(0.1) for name in names}) for names in ("ab", "abc"))
    with long.open("pyav", 24) as video:
        first, more = (sampler(video, long, torch.Generator().manual_seed(3)) for sampler in (two, three))
        again = two(video, long, torch.Generator().manual_seed(3))
    assert not torch.equal(first["a/drawn"], first["b/drawn"])
    assert torch.equal(first["b/drawn"], again["b/drawn"])
    assert torch.equal(first["b/drawn"], more["b/drawn"])  # one more question leaves those before it as they are


def test_what_hears_is_held_against_the_policy_and_what_does_not_is_not(tmp_path: Path) -> None:
    (_, long) = infos(tmp_path)
    sampler = joint_sampler({"sees": Long(0.1), "hears": Hearing(0.1)}, AudioPolicy())
    assert list(sampler.refusals(long)) == ["hears"]
    assert joint_sampler({"hears": Hearing(0.1)}, None).refuse(long) is None


def test_what_is_prepared_is_no_reason_to_leave_a_video_out(tmp_path: Path) -> None:
    found = infos(tmp_path)
    parts = {"labels": Prepares(0.1, frozenset([found[0].path])), "more": Prepares(0.2), "plain": Long(0.1)}
    sampler = joint_sampler(parts, None)
    assert isinstance(sampler, PreparedJointSampler)
    assert not isinstance(joint_sampler({"plain": Long(0.1)}, None), PreparedSampler)
    assert sampler.prepare(found, processes=1) == Prepared({}, 4, {"empty": 4}, 2, Path("here"))


def test_apart_and_together_are_inverse() -> None:
    flat = {"a/clip": 1, "a/video": 2, "b/clip": 3, "failures": 4}
    assert apart(flat) == {"a": {"clip": 1, "video": 2}, "b": {"clip": 3}, "": {"failures": 4}}
    assert together(apart(flat)) == flat
