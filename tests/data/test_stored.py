"""Stored features: written whole, read back as they were, and refused where they cannot be trusted."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from selfsup.data.stored import (
    FeatureDataModule,
    StoredSplit,
    read_features,
    read_record,
    weights_checksum,
    write_features,
)

RECORD = {
    "dim": 8,
    "input": {"size_pixels": 32, "stretch": False, "frames": 4, "level": "frame", "reader": "pyav"},
    "data": {"manifest": "videos.csv"},
}


def splits(videos: int = 6) -> dict[str, StoredSplit]:
    generator = np.random.default_rng(0)
    made = {}
    for name, count in (("train", videos), ("val", 2), ("test", 0)):
        made[name] = StoredSplit(
            features=generator.normal(size=(count, 4, 8)).astype(np.float32),
            paths=[f"{name}/ü {row}.mp4" for row in range(count)],
            labels=["jump" if row % 2 else "run" for row in range(count)],
            groups=[f"{name}{row // 2}" for row in range(count)],
        )
    return made


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    weights = tmp_path / "encoder.safetensors"
    weights.write_bytes(b"weights")
    path = tmp_path / "deeper" / "features.h5"
    write_features(path, splits(), {"weights": weights_checksum(weights), **RECORD})
    return path


def test_what_was_written_is_read(stored: Path) -> None:
    found = read_features(stored)
    for name, split in splits().items():
        assert found[name].features.dtype == np.float16
        np.testing.assert_allclose(found[name].features, split.features, atol=2e-3)
        assert (found[name].paths, found[name].labels, found[name].groups) == (split.paths, split.labels, split.groups)
    assert read_record(stored)["dim"] == 8
    assert [file.name for file in stored.parent.iterdir()] == ["features.h5"]


def test_a_missing_label_stays_missing(tmp_path: Path) -> None:
    made = splits()
    made["train"].labels[1] = None
    write_features(tmp_path / "features.h5", made, {"weights": "", "dim": 8})
    assert read_features(tmp_path / "features.h5")["train"].labels[:3] == ["run", None, "run"]


def test_batches_are_features_as_clips(stored: Path) -> None:
    data = FeatureDataModule(str(stored), batch_size=3, seed=1)
    data.setup()
    batches = list(data.train_dataloader())
    assert [tuple(batch["clip"].shape) for batch in batches] == [(3, 8, 4, 1, 1)] * 2
    assert sorted(torch.cat([batch["video"] for batch in batches]).tolist()) == list(range(6))
    (batch,) = list(data.val_dataloader())
    expected = splits()["val"].features.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(batch["clip"][..., 0, 0].transpose(1, 2).numpy(), expected)
    assert batch["label"].tolist() == [1, 0]  # of jump, run
    assert data.test_dataloader() == []


def test_fewer_labels_keep_features_and_labels_together(stored: Path) -> None:
    data = FeatureDataModule(str(stored), batch_size=1, labels_fraction=0.5)
    data.setup()
    assert 2 <= len(data.videos["train"]) < 6
    whole = splits()["train"]
    for batch in data.train_dataloader():
        video = data.videos["train"][int(batch["video"])]
        row = whole.paths.index(str(video.path))
        expected = whole.features[row].astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(batch["clip"][0, :, :, 0, 0].T.numpy(), expected)
        assert ["jump", "run"][int(batch["label"])] == whole.labels[row]


def test_other_weights_are_refused(stored: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other weights")
    data = FeatureDataModule(str(stored), weights=str(other))
    with pytest.raises(ValueError, match=r"features.h5: the features were made by other weights \(.*\) than those of"):
        data.setup()
    FeatureDataModule(str(stored), weights=str(tmp_path / "encoder.safetensors")).setup()


def test_a_file_that_is_cut_short_is_refused(stored: Path) -> None:
    content = stored.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 100):
        stored.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"features.h5: .*cut short .*; extract the features again"):
            read_features(stored)


def test_a_flipped_bit_is_noticed(stored: Path) -> None:
    with h5py.File(stored, "r") as file:
        place = file["train/features"].id.get_chunk_info(0).byte_offset
    content = bytearray(stored.read_bytes())
    content[place + 3] ^= 0x40
    stored.write_bytes(content)
    with pytest.raises(ValueError, match=r"features.h5: damaged or cut short"):
        read_features(stored)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no.h5: no such file; make one with selfsup extract"):
        read_record(tmp_path / "no.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match=r"other.h5: holds no record of selfsup extract"):
        read_record(tmp_path / "other.h5")


def test_diverged_features_are_not_written(tmp_path: Path) -> None:
    made = splits()
    made["val"].features[0, 0, 0] = 1e6
    with pytest.raises(ValueError, match=r"features of the val videos exceed the range of float16"):
        write_features(tmp_path / "features.h5", made, {"weights": "", "dim": 8})
    assert list(tmp_path.iterdir()) == []
