"""What all tests share: folders of their own for caches, the real videos, and a small synthetic set."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from selfsup import weights
from selfsup.data.index import build_index
from selfsup.data.synthetic import write_synthetic
from selfsup.encoders.encoder import InputSpecification
from selfsup.encoders.resnet import ResNet
from tests.packs import pack_manifest
from tests.verbs import Ended, Main, call

PROJECT = Path(__file__).parents[1]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process a core, of four at most, for a whole suite, the slow one too; none for tests that are named."""
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        return 0
    os.environ["OMP_NUM_THREADS"] = "1"  # the processes inherit it: threads beyond the cores would wait for one another
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4)  # each takes up to 5 GB


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps tests away from the user's cache and from the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELFSUP_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("WANDB_MODE", "offline")
        yield


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """The folder of real recordings: $SELFSUP_REAL_VIDEOS, else shared/videos beside the project."""
    named = os.environ.get("SELFSUP_REAL_VIDEOS")
    folder = Path(named) if named else PROJECT.parent / "shared" / "videos"
    if not folder.is_dir():
        pytest.skip(f"no real videos: {folder} is no folder; set SELFSUP_REAL_VIDEOS to where they lie")
    return folder


@pytest.fixture(scope="session")
def synthetic_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """manifest.csv of 24 labelled synthetic videos of 2.4 s, 48 frames of 64 x 64 pixels: 16 train, 4 val, 4 test."""
    return write_synthetic(tmp_path_factory.mktemp("synthetic") / "set", videos=24, size_pixels=64, processes=1)


@pytest.fixture(scope="session")
def synthetic_index(synthetic_manifest: Path) -> Path:
    """The cache of the index of the synthetic videos: `data.index_cache` for tests that are not about indexing."""
    cache = synthetic_manifest.with_name("index.jsonl")
    build_index(sorted(synthetic_manifest.parent.rglob("*.mp4")), cache=cache)
    return cache


@pytest.fixture(scope="session")
def encoder_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """encoder.safetensors of a ResNet-18 with random weights, for frames of 32 x 32 pixels."""
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    specification = InputSpecification(size_pixels=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25), fps=None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights.save(ResNet(18), path, input=specification, task="none", data={})
    return path


@pytest.fixture(scope="session")
def packed_synthetic(synthetic_manifest: Path, synthetic_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic videos as several shards of frames of 48 pixels, with sound, beside nothing else."""
    folder = tmp_path_factory.mktemp("packs") / "synthetic"
    pack_manifest(synthetic_manifest, synthetic_index, folder)
    return folder


@pytest.fixture
def packed_copy(packed_synthetic: Path, tmp_path: Path) -> Path:
    """A copy of the shards that a test may spoil."""
    return Path(shutil.copytree(packed_synthetic, tmp_path / "packed"))


@pytest.fixture
def synthetic_copy(synthetic_manifest: Path, synthetic_index: Path, tmp_path: Path) -> Path:
    """manifest.csv of a copy of the synthetic videos that a test may spoil, with index.jsonl beside it."""
    folder = tmp_path / "copy"
    shutil.copytree(synthetic_manifest.parent, folder)  # keeps the modification times, which the index goes by
    index = folder / synthetic_index.name
    index.write_text(index.read_text().replace(str(synthetic_manifest.parent), str(folder)))
    return folder / synthetic_manifest.name


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Calls a command in the test's folder, with what it wrote: `command(main, word, …)`; its run is called run."""

    def call_(main: Main, *words: str) -> Ended:
        monkeypatch.chdir(tmp_path)
        capfd.readouterr()
        code = call(main, *words)
        said = capfd.readouterr()
        return Ended(code, said.out, said.err, tmp_path / "run")

    return call_


@pytest.fixture
def verb(command: Callable[..., Ended]) -> Callable[..., Ended]:
    """Calls a verb: `verb(selfsup.train.main, "key=value", …)`. Its run is called run, or as `run=` says."""

    def call_(main: Main, *overrides: str, run: str = "run") -> Ended:
        ended = command(main, *overrides, f"hydra.run.dir={run}")
        return ended._replace(folder=ended.folder.with_name(run))

    return call_
