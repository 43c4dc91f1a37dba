"""The three layouts in which ESC comes, and what is said of a folder that is none."""

from pathlib import Path

import pytest

from selfsup.data.videos import esc


def touched(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_esc50_as_published(tmp_path: Path) -> None:
    touched(tmp_path, "audio/1-100032-A-0.wav", "audio/2-5-B-36.wav", "meta/esc50.csv")
    (tmp_path / "meta" / "esc50.csv").write_text(
        "filename,fold,target,category,esc10,src_file,take\n"
        "1-100032-A-0.wav,1,0,dog,True,100032,A\n2-5-B-36.wav,2,36,vacuum_cleaner,False,5,B\n"
    )
    videos = esc(tmp_path).videos
    assert [(v.path.name, v.label, v.group, v.split, v.labels["fold"]) for v in videos] == [
        ("1-100032-A-0.wav", "dog", "100032", None, "1"),
        ("2-5-B-36.wav", "vacuum_cleaner", "5", None, "2"),
    ]
    assert [video.label for video in esc(tmp_path, only_esc10=True).videos] == ["dog"]


def test_esc10_as_published(tmp_path: Path) -> None:
    touched(tmp_path, "001 - Dog bark/1-30226-A.ogg", "002 - Rain/5-181766-A.ogg", "README.md", "001 - Dog bark/x.txt")
    assert [(v.label, v.group, v.labels["fold"]) for v in esc(tmp_path).videos] == [
        ("Dog bark", "30226", "1"),
        ("Rain", "181766", "5"),
    ]


def test_a_manifest_with_folds(real_videos: Path) -> None:
    videos = esc(real_videos / "esc10").videos
    assert len(videos) == 400
    assert sorted({video.labels["fold"] for video in videos}) == ["1", "2", "3", "4", "5"]
    assert len({video.label for video in videos}) == 10
    folds: dict[str | None, set[str]] = {}
    for video in videos:
        folds.setdefault(video.group, set()).add(video.labels["fold"])
    assert all(len(of) == 1 for of in folds.values())  # no recording lies in two folds


def test_what_is_no_esc_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        esc(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no sound of ESC in it; give the folder with meta/esc50\.csv"):
        esc(tmp_path)
    (tmp_path / "manifest.csv").write_text("path,label,group,fold\na.ogg,rain,1,one\n")
    with pytest.raises(ValueError, match=r"manifest\.csv, line 2: fold 'one' is no whole number"):
        esc(tmp_path)
    (tmp_path / "manifest.csv").write_text("path,label,group,fold\na.ogg,rain,1,1\n")
    with pytest.raises(FileNotFoundError, match=r"manifest\.csv: 1 of 1 listed files are not in"):
        esc(tmp_path)
