"""Shards in a bucket: the same frames by s3:// as from the disk, in forked workers too, and errors in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import torch
from moto.server import ThreadedMotoServer

from selfsup.data.byte_ranges import read_ranges
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.shards import shards
from selfsup.tasks.temporal_order import OrderSampler

SAMPLER = OrderSampler(span_seconds=1.2, gap_seconds=0.2, reach_seconds=0.4)


@pytest.fixture(scope="module")
def bucket(packed_synthetic: Path) -> Iterator[str]:
    """The URL of the shards in a local object store that speaks S3."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="videos")
        for path in packed_synthetic.iterdir():
            client.upload_file(str(path), "videos", f"packed/{path.name}")
        yield "s3://videos/packed"
        server.stop()


def module(root: str, workers: int) -> VideoDataModule:
    data = VideoDataModule(shards, SAMPLER, root=root, size_pixels=40, batch_size=4, num_workers=workers)
    data.setup()
    return data


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("through", ["", "simplecache::"])
def test_batches_from_a_bucket_are_those_from_the_disk(
    workers: int, through: str, bucket: str, packed_synthetic: Path
) -> None:
    near, far = module(str(packed_synthetic), 0), module(f"{through}{bucket}/", workers)
    for one, other in zip(near.train_dataloader(), far.train_dataloader(), strict=True):
        assert one["failures"] == other["failures"] == []
        assert torch.equal(one["clip"], other["clip"])


def test_only_the_bytes_that_are_asked_for_are_fetched(bucket: str, packed_synthetic: Path) -> None:
    content = (packed_synthetic / "shard-00000.tar").read_bytes()
    ranges = [(0, 100), (100_000, 100_010), (len(content) - 100, len(content))]
    url = f"{bucket}/shard-00000.tar"
    assert read_ranges(url, ranges) == [content[start:stop] for start, stop in ranges]
    with pytest.raises((ValueError, OSError), match="shard-00000"):
        read_ranges(url, [(len(content) + 10, len(content) + 20)])


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    with pytest.raises((FileNotFoundError, ValueError), match="s3://nowhere/packed"):
        shards("s3://nowhere/packed")
    with pytest.raises((FileNotFoundError, ValueError), match="s3://videos/other"):
        shards("s3://videos/other")


def test_a_store_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    with pytest.raises(OSError, match=r"s3://unreached/packed: cannot be read .*see that it can be reached"):
        shards("s3://unreached/packed")


def test_an_extra_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ValueError, match=r"s3://unknown/packed: .*pip install 'selfsup\[s3\]'"):
        shards("s3://unknown/packed")
