"""The record of a figure: what it holds to, and where the code stood."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import selfsup
from selfsup.evaluation.protocol import FIELDS, Protocol, file_checksum, git_commit

PROTOCOL = Protocol(
    dataset="surv_fight",
    checksum="0123456789abcdef",
    split="test",
    groups_kept=True,
    clips=10,
    crops=3,
    level="video",
    input_size=(16, 112, 112),
    decoder="decord2",
    decoder_version="3.0",
    videos_seen=77,
    videos_refused=1,
    seeds=(0,),
)


def git(folder: Path, *command: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *command], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_record_names_the_package_and_the_first_difference() -> None:
    assert PROTOCOL.version == selfsup.__version__
    assert PROTOCOL.unlike(PROTOCOL, FIELDS) is None
    other = replace(PROTOCOL, crops=1, split="val")
    assert PROTOCOL.unlike(other, FIELDS) == "split"
    assert PROTOCOL.unlike(other, ["seeds", "crops"]) == "crops"
    assert PROTOCOL.unlike(other, ["seeds"]) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "shot"}, "level 'shot': choose one of clip, video, frame"),
        ({"clips": 0}, "clips=0: a protocol has at least 1"),
        ({"videos_seen": 0}, "videos_seen=0"),
        ({"videos_refused": -1}, "videos_refused=-1: a protocol has at least 0"),
        ({"label_fraction": 10}, r"label_fraction=10: a protocol has a share in \[0, 1\]"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PROTOCOL, **changes)


def test_a_checksum_is_of_the_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_bytes(b"path,label\n")
    second.write_bytes(b"path,label\n")
    assert file_checksum(first) == file_checksum(second)
    second.write_bytes(b"path,label\r\n")
    assert file_checksum(first) != file_checksum(second)
    assert len(file_checksum(first)) == 16
    with pytest.raises(FileNotFoundError):
        file_checksum(tmp_path / "c.csv")


def test_the_commit_is_gits_and_says_that_files_changed(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.txt").write_text("a")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "--quiet", "--message=a")
    head = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "tag", "v1")
    assert git_commit(tmp_path) == head
    (tmp_path / "a.txt").write_text("b")
    assert git_commit(tmp_path) == f"{head}-dirty"


def test_a_package_that_git_does_not_track_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment inside another project's checkout must not bear that project's commit."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message=a")
    package = tmp_path / "environment" / "selfsup"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(selfsup, "__file__", str(package / "__init__.py"))
    assert git_commit() is None
    git(tmp_path, "add", "environment")
    git(tmp_path, "commit", "--quiet", "--message=b")
    assert git_commit() == git(tmp_path, "rev-parse", "HEAD")


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() is None
