"""An example depends on (seed, epoch, index) and on nothing else; a loader goes on where another stopped."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from selfsup.data.dataset import ClipDataset, EpochBatches, Failure, ResumableLoader, collate, derive_seed
from selfsup.data.index import VideoInfo, inspect
from selfsup.data.reader import VideoReader
from selfsup.data.transforms import evaluation_crop, train_crop
from tests.data import barcodes

VIDEOS = 9


class TwoFrames:
    """Two frames drawn at random, and the times."""

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        times = torch.rand(2, generator=generator, dtype=torch.float64) * info.duration_seconds
        return {"clip": video.frames(times.tolist()).transpose(0, 1), "times": times}

    def refuse(self, info: VideoInfo) -> str | None:
        return None


@pytest.fixture(scope="module")
def infos(tmp_path_factory: pytest.TempPathFactory) -> list[VideoInfo]:
    root = tmp_path_factory.mktemp("videos")
    return [
        inspect(barcodes.write(root / f"{number}.mp4", range(0, 40 * (10 + number), 40))) for number in range(VIDEOS)
    ]


def dataset_of(infos: list[VideoInfo], seed: int = 0, crop: Any = None) -> ClipDataset:
    crop = crop or train_crop(24, (0.3, 1.0), flip=True, stretch=False)
    return ClipDataset(infos, TwoFrames(), crop, seed=seed, short_side_pixels=32, backend="pyav")


def loader_of(dataset: ClipDataset, workers: int = 0, seed: int = 0, **place: int) -> ResumableLoader:
    batches = EpochBatches(2 * VIDEOS, 4, seed=seed, **place)
    return ResumableLoader(dataset, batches, num_workers=workers, persistent_workers=workers > 0)


def same(first: Any, second: Any) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) if isinstance(first[key], Tensor) else first[key] == second[key]
        for key in first
    )


# --- examples


def test_an_example_is_a_function_of_seed_epoch_and_index(infos: list[VideoInfo]) -> None:
    dataset = dataset_of(infos)
    first = dataset[3, 11]
    torch.manual_seed(99)
    torch.rand(5)
    assert same(dataset[3, 11], first)
    assert same(dataset_of(infos)[3, 11], first)
    for other in (dataset[4, 11], dataset[3, 11 + VIDEOS], dataset_of(infos, seed=1)[3, 11]):
        assert not torch.equal(other["times"], first["times"])
        assert not torch.equal(other["clip"], first["clip"])


def test_the_crop_takes_its_chance_from_the_example_too(infos: list[VideoInfo]) -> None:
    whole = dataset_of(infos, crop=evaluation_crop(32, stretch=True))
    cropped = dataset_of(infos)
    assert torch.equal(whole[0, 2]["times"], cropped[0, 2]["times"])
    crops = {cropped[epoch, 2]["clip"].numpy().tobytes() for epoch in range(5)}
    assert len(crops) == 5


class TwoViews(TwoFrames):
    """The first frame twice, as two views."""

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        frame = video.frames([0.0]).transpose(0, 1)
        return {"clip": torch.stack([frame, frame])}


def test_each_view_of_a_video_has_a_crop_of_its_own(infos: list[VideoInfo]) -> None:
    dataset = dataset_of(infos)
    dataset.sampler = TwoViews()
    example = dataset[0, 1]
    assert isinstance(example, dict)
    assert example["clip"].shape == (2, 3, 1, 24, 24)
    assert example["clip"].dtype == torch.uint8
    assert not torch.equal(example["clip"][0], example["clip"][1])
    assert same(example, dataset[0, 1])
    dataset.crop = evaluation_crop(24, stretch=False)
    still = dataset[0, 1]
    assert isinstance(still, dict)
    assert torch.equal(still["clip"][0], still["clip"][1])


def test_an_example_leaves_the_callers_chance_alone(infos: list[VideoInfo]) -> None:
    before = torch.get_rng_state()
    dataset_of(infos)[0, 0]
    assert torch.equal(torch.get_rng_state(), before)


def test_an_example_holds_uint8_and_the_number_of_its_video(infos: list[VideoInfo]) -> None:
    dataset = dataset_of(infos)
    assert len(dataset) == VIDEOS
    for index in (0, 5, VIDEOS + 5, 3 * VIDEOS + 8):
        example = dataset[0, index]
        assert example["video"] == index % VIDEOS
        assert example["clip"].shape == (3, 2, 24, 24)
        assert example["clip"].dtype == torch.uint8
        assert example["clip"].is_contiguous()
        assert example["times"].max() <= infos[index % VIDEOS].duration_seconds


def test_neighbouring_seeds_share_nothing() -> None:
    seeds = {derive_seed(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, 12) != derive_seed(11, 2)
    assert derive_seed(0, 1, 2) == derive_seed(0, 1, 2)


# --- failures


@pytest.fixture
def broken(tmp_path: Path) -> list[VideoInfo]:
    """Four videos, of which after indexing one was deleted and one overwritten."""
    paths = [barcodes.write(tmp_path / f"{number}.mp4", range(0, 800, 40)) for number in range(4)]
    infos = [inspect(path) for path in paths]
    paths[1].unlink()
    paths[3].write_bytes(b"\0" * 5000)
    return infos


def test_a_video_that_cannot_be_read_is_a_failure_with_its_reason(broken: list[VideoInfo]) -> None:
    deleted, overwritten = dataset_of(broken)[0, 1], dataset_of(broken)[0, 3]
    assert deleted == Failure(1, f"{broken[1].path}: no such file")
    assert isinstance(overwritten, Failure)
    assert overwritten.video == 3
    assert overwritten.reason.startswith(f"{broken[3].path}: cannot be opened as a video")


def test_a_failure_is_listed_and_never_replaced(broken: list[VideoInfo]) -> None:
    dataset = dataset_of(broken)
    batch = collate([dataset[0, index] for index in range(4)])
    assert batch["video"].tolist() == [0, 2]
    assert batch["clip"].shape == (2, 3, 2, 24, 24)
    assert same({"clip": batch["clip"][1]}, {"clip": dataset[0, 2]["clip"]})
    assert [failure.video for failure in batch["failures"]] == [1, 3]


def test_a_batch_of_failures_alone_has_no_clip(broken: list[VideoInfo]) -> None:
    dataset = dataset_of(broken)
    batch = collate([dataset[0, 1], dataset[0, 3]])
    assert list(batch) == ["failures"]
    assert len(batch["failures"]) == 2


# --- the order of an epoch


def test_every_epoch_is_its_own_permutation_and_can_be_computed_again() -> None:
    batches, again = EpochBatches(24, 4, seed=5), EpochBatches(24, 4, seed=5)
    epochs = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        keys = [key for batch in batches for key in batch]
        assert {e for e, _ in keys} == {epoch}
        assert sorted(index for _, index in keys) == list(range(24))
        epochs.append([index for _, index in keys])
    assert epochs[0] != epochs[1] != epochs[2]
    again.set_epoch(2)
    assert [index for batch in again for _, index in batch] == epochs[2]
    assert [index for batch in EpochBatches(24, 4, seed=6) for _, index in batch] != epochs[0]


@pytest.mark.parametrize(("length", "batch_size", "world_size"), [(24, 4, 2), (25, 4, 3), (31, 5, 2), (3, 8, 2)])
def test_processes_see_disjoint_examples_in_equally_many_batches(length: int, batch_size: int, world_size: int) -> None:
    parts = [
        list(EpochBatches(length, batch_size, seed=0, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    assert len({len(part) for part in parts}) == 1
    assert len(parts[0]) == len(EpochBatches(length, batch_size, seed=0, world_size=world_size))
    keys = [key for part in parts for batch in part for key in batch]
    assert len(set(keys)) == len(keys)
    assert length - len(keys) < batch_size * world_size  # of the incomplete last batch at most
    if length >= batch_size * world_size:
        assert {len(batch) for part in parts for batch in part} == {batch_size}


@pytest.mark.parametrize("start", [0, 2])
def test_any_number_of_processes_share_the_examples_of_a_step(start: int) -> None:
    """So a run may go on with another number of them, and sees each example once."""
    steps = []
    for world_size in (1, 2, 4):
        parts = [
            EpochBatches(50, 8 // world_size, seed=0, rank=rank, world_size=world_size) for rank in range(world_size)
        ]
        for part in parts:
            part.set_epoch(1)
            part.resumed_at = (1, start)
        steps.append([{key for batch in step for key in batch} for step in zip(*parts, strict=True)])
    assert len(steps[0]) == 50 // 8 - start
    assert all(len(step) == 8 for step in steps[0])
    assert steps[0] == steps[1] == steps[2]


def test_what_is_left_out_leaves_its_batch_smaller() -> None:
    batches = EpochBatches(12, 4, seed=0)
    whole = list(batches)
    batches.left_out = {index for _, index in whole[0]} | {whole[1][2][1]}
    first, second, third = list(batches)
    assert len(first) == 1  # one key stays: an empty batch would end the epoch
    assert first[0] in whole[0]
    assert second == [key for key in whole[1] if key[1] not in batches.left_out]
    assert third == whole[2]
    assert len(second) == 3


# --- resuming


def batches_of(loader: ResumableLoader, count: int | None = None) -> list[dict[str, Any]]:
    batches: Iterator[dict[str, Any]] = iter(loader)
    return list(batches) if count is None else [next(batches) for _ in range(count)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_after_the_last_batch_that_was_taken(infos: list[VideoInfo], workers: int) -> None:
    dataset = dataset_of(infos)
    whole = loader_of(dataset)
    whole.batches.set_epoch(3)
    expected = batches_of(whole)
    assert len(expected) == len(whole) == 4

    stopped = loader_of(dataset, workers)
    stopped.batches.set_epoch(3)
    taken = batches_of(stopped, 3)
    assert all(same(one, other) for one, other in zip(taken, expected, strict=False))
    state = json.loads(json.dumps(stopped.state_dict()))

    resumed = loader_of(dataset, workers)
    resumed.load_state_dict(state)
    resumed.batches.set_epoch(3)  # as Lightning does
    rest = batches_of(resumed)
    assert len(rest) == 1
    assert same(rest[0], expected[3])
    resumed.batches.set_epoch(4)
    whole.batches.set_epoch(4)
    following = batches_of(resumed)
    assert len(following) == 4
    assert all(same(one, other) for one, other in zip(following, batches_of(whole), strict=True))


def test_a_finished_epoch_is_the_start_of_the_next(infos: list[VideoInfo]) -> None:
    loader = loader_of(dataset_of(infos))
    assert loader.state_dict() == {"epoch": 0, "start": 0}
    batches_of(loader)
    assert loader.state_dict() == {"epoch": 1, "start": 0}
    loader.batches.set_epoch(1)
    iterator = iter(loader)
    assert loader.state_dict() == {"epoch": 1, "start": 0}  # before its first batch
    next(iterator)
    assert loader.state_dict() == {"epoch": 1, "start": 1}


def test_a_resumed_loader_can_be_stopped_again(infos: list[VideoInfo]) -> None:
    loader = loader_of(dataset_of(infos))
    loader.load_state_dict({"epoch": 2, "start": 1})
    batches_of(loader, 2)
    assert loader.state_dict() == {"epoch": 2, "start": 3}
