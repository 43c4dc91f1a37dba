"""Lists of videos from folders, manifests and published sets; the files are empty, as nothing is decoded."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from selfsup.data import videos
from selfsup.data.videos import Video


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding=encoding)
    return path


def summary(listing: videos.Listing) -> dict[str, tuple[str | None, str | None, str | None]]:
    return {video.path.name: (video.label, video.group, video.split) for video in listing.videos}


# --- folder


def test_folder_takes_labels_from_the_first_level_and_searches_any_depth(tmp_path: Path) -> None:
    touch(tmp_path, "jump/b.MP4", "jump/2024/camera 1/a.mkv", "run/c.avi", "run/.hidden.mp4", ".cache/d.mp4")
    listing = videos.folder(tmp_path)
    assert [video.path.relative_to(tmp_path).as_posix() for video in listing.videos] == [
        "jump/2024/camera 1/a.mkv",
        "jump/b.MP4",
        "run/c.avi",
    ]
    assert [video.label for video in listing.videos] == ["jump", "jump", "run"]
    assert {video.split for video in listing.videos} == {None}
    assert listing.notes == []


def test_folder_without_sub_folders_has_no_labels(tmp_path: Path) -> None:
    assert summary(videos.folder(touch(tmp_path, "a.mp4"))) == {"a.mp4": (None, None, None)}


def test_folder_reads_split_folders_of_any_spelling_and_labels_below_them(tmp_path: Path) -> None:
    touch(tmp_path, "Training/jump/a.mp4", "validation/jump/b.mp4", "test/c.mp4")
    assert summary(videos.folder(tmp_path)) == {
        "a.mp4": ("jump", None, "train"),
        "b.mp4": ("jump", None, "val"),
        "c.mp4": (None, None, "test"),
    }


def test_folder_reads_train_among_classes_as_a_label_and_says_so(tmp_path: Path) -> None:
    listing = videos.folder(touch(tmp_path, "train/a.mp4", "bus/b.mp4", "c.mp4"))
    assert summary(listing)["a.mp4"] == ("train", None, None)
    assert len(listing.notes) == 1
    assert "train read as a label" in listing.notes[0]
    assert "bus/, the folder itself" in listing.notes[0]


def test_folder_counts_and_names_what_is_no_video(tmp_path: Path) -> None:
    listing = videos.folder(touch(tmp_path, "a.mp4", "a.png", "b.txt", "c.wav", "d"))
    assert len(listing.videos) == 1
    assert "ignored 4 files" in listing.notes[0]
    assert "(a.png, b.txt, c.wav, …)" in listing.notes[0]


def test_folder_follows_links_but_not_round_in_circles(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "a.mp4")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "root")
    assert summary(videos.folder(tmp_path / "root")) == {"a.mp4": ("linked", None, None)}


def test_names_that_are_not_utf8_are_listed_and_can_be_written_down(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9 au lait"
    os.mkdir(folder)
    with open(folder + b"/a \xff b.mp4", "wb"):
        pass
    (video,) = videos.folder(tmp_path).videos
    assert video.path.exists()
    assert video.label == "caf\\xe9 au lait"
    assert videos.printable(video.path).endswith("/a \\xff b.mp4")
    json.dumps([videos.printable(video.path), video.label], ensure_ascii=False).encode("utf-8")
    split = videos.split_videos([video], {"train": 1.0})
    assert "\udcff" not in "".join(split.notes)
    with pytest.raises(ValueError, match="cannot fill") as error:
        videos.split_videos([video])
    str(error.value).encode("utf-8")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], ["the folder is empty", "*.mp4"]),
        (["a.png", "deep/b.wav"], ["only 2 other files (a.png, b.wav)", "*.mp4"]),
        ([".hidden.mp4"], ["the folder is empty"]),
    ],
)
def test_folder_without_videos_is_refused(tmp_path: Path, files: list[str], words: list[str]) -> None:
    with pytest.raises(ValueError, match="no video here") as error:
        videos.folder(touch(tmp_path, *files))
    assert all(word in str(error.value) for word in [str(tmp_path), *words])


def test_folder_that_is_missing_or_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder; correct the path"):
        videos.folder(tmp_path / "nowhere")
    touch(tmp_path, "a.mp4")
    with pytest.raises(ValueError, match=r"a\.mp4: a file, not a folder"):
        videos.folder(tmp_path / "a.mp4")


def test_folder_that_may_not_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.mp4", "closed/b.mp4")
    scan = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:  # tests that run as root may read every folder
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="closed"):
        videos.folder(tmp_path)


# --- manifest


def test_manifest_reads_columns_blanks_quotes_and_bom(tmp_path: Path) -> None:
    touch(tmp_path, "clips/a b, c.mp4", "clips/d.mp4", "é.mp4")
    path = write(
        tmp_path / "list.csv",
        "split, label ,path,group,object",
        'training, jump ,"clips/a b, c.mp4",g1,ball',
        ",,clips/d.mp4,,",
        f"TEST,run,{tmp_path}/é.mp4,g2,dog",
        encoding="utf-8-sig",
    )
    listing = videos.manifest(path)
    assert summary(listing) == {
        "a b, c.mp4": ("jump", "g1", "train"),
        "d.mp4": (None, None, None),
        "é.mp4": ("run", "g2", "test"),
    }
    assert [dict(video.labels) for video in listing.videos] == [{"object": "ball"}, {}, {"object": "dog"}]
    assert all(video.path.exists() for video in listing.videos)
    by_object = videos.manifest(path, label="object")
    assert [video.label for video in by_object.videos] == ["ball", None, "dog"]
    assert by_object.videos[0].labels == {"label": "jump"}
    unread = videos.manifest(path, label=None)
    assert [(video.label, video.group) for video in unread.videos] == [(None, "g1"), (None, None), (None, "g2")]
    with pytest.raises(ValueError, match=r"data\.label=null with data\.labels=frame: .* give data\.label=COLUMN$"):
        videos.manifest(path, label=None, labels="frame")


def test_manifest_paths_may_be_relative_to_another_root(tmp_path: Path) -> None:
    touch(tmp_path / "data", "a.mp4")
    path = write(tmp_path / "lists" / "list.csv", "path", "a.mp4")
    (video,) = videos.manifest(path, root=tmp_path / "data").videos
    assert video == Video(tmp_path / "data" / "a.mp4")


def test_manifest_reads_a_repeated_row_once_and_refuses_a_contradiction(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    path = write(tmp_path / "list.csv", "path,label", "a.mp4,run", "./a.mp4,run")
    listing = videos.manifest(path)
    assert len(listing.videos) == 1
    assert "1 row repeated" in listing.notes[0]
    write(path, "path,label", "a.mp4,run", "a.mp4,jump")
    with pytest.raises(ValueError, match=r"list\.csv, line 3: a\.mp4 is listed twice"):
        videos.manifest(path)


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ([], {}, r"list\.csv: no column 'path'; its first line names, separated by commas, nothing"),
        (["path,label"], {}, r"list\.csv: no row below the header"),
        (["file;label", "a.mp4;run"], {}, r"no column 'path'; .* 'file;label'"),
        (
            ["path,label,word", "a.mp4,run,x"],
            {"label": "verb"},
            r"no column 'verb'; .* 'path', 'label', 'word'",
        ),
        (["path,label", "a.mp4,run", ",jump"], {}, r"list\.csv, line 3: no path in this row"),
        (["path,split", "a.mp4,trian"], {}, r"line 2: unknown split 'trian'; write one of .*train"),
        (["path,label", "a,b.mp4,run"], {}, r"line 2: more cells than the 2 columns"),
        (["path,label", '"a"b.mp4,run'], {}, r"below line 1: not CSV"),
    ],
)
def test_manifest_that_cannot_be_read_is_refused(
    tmp_path: Path, lines: list[str], options: dict[str, str], message: str
) -> None:
    touch(tmp_path, "a.mp4")
    with pytest.raises(ValueError, match=message):
        videos.manifest(write(tmp_path / "list.csv", *lines), **options)


def test_manifest_names_the_first_missing_files_and_their_count(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    path = write(tmp_path / "list.csv", "path", "a.mp4", *(f"gone{index}.mp4" for index in range(5)))
    with pytest.raises(FileNotFoundError) as error:
        videos.manifest(path)
    assert "list.csv: 5 of 6 listed files are not in" in str(error.value)
    assert "gone0.mp4 (line 3), gone1.mp4 (line 4), gone2.mp4 (line 5), …" in str(error.value)
    assert "correct the paths or the root" in str(error.value)


def test_manifest_that_is_missing_a_folder_or_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"list\.csv: no such file"):
        videos.manifest(tmp_path / "list.csv")
    with pytest.raises(ValueError, match="a folder, not a text file"):
        videos.manifest(tmp_path)
    (tmp_path / "list.csv").write_bytes("path\na.mp4\né.mp4\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"list\.csv, line 3: byte 0xe9 is not UTF-8; save the file as UTF-8"):
        videos.manifest(tmp_path / "list.csv")


# --- published sets


@pytest.fixture
def ucf(tmp_path: Path) -> Path:
    clips = ["HandstandPushups/v_HandStandPushups_g08_c01.avi", "Biking/v_Biking_g01_c02.avi"]
    touch(tmp_path / "videos", *clips)
    write(tmp_path / "lists" / "trainlist02.txt", f"{clips[0]} 37")
    write(tmp_path / "lists" / "testlist02.txt", clips[1])
    return tmp_path


def test_ucf101_keeps_official_splits_and_groups_by_class(ucf: Path) -> None:
    expected = {
        "v_HandStandPushups_g08_c01.avi": ("HandstandPushups", "HandstandPushups_g08", "train"),
        "v_Biking_g01_c02.avi": ("Biking", "Biking_g01", "test"),
    }
    assert summary(videos.ucf101(ucf / "videos", ucf / "lists", 2)) == expected
    flat = ucf / "flat"
    flat.mkdir()
    for clip in (ucf / "videos").rglob("*.avi"):
        clip.rename(flat / clip.name)
    assert summary(videos.ucf101(flat, ucf / "lists", 2)) == expected


@pytest.mark.parametrize("published", [videos.ucf101, videos.hmdb51])
def test_published_sets_refuse_another_split_number(
    tmp_path: Path, published: Callable[[Path, Path, int], videos.Listing]
) -> None:
    with pytest.raises(ValueError, match=r"split_number 4: .* has the splits 1, 2 and 3"):
        published(tmp_path, tmp_path, 4)


def test_ucf101_refuses_missing_clips_and_other_lists(ucf: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"trainlist01\.txt: no such file"):
        videos.ucf101(ucf / "videos", ucf / "lists", 1)
    next((ucf / "videos").rglob("v_Biking*")).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 listed files .*v_Biking_g01_c02\.avi"):
        videos.ucf101(ucf / "videos", ucf / "lists", 2)
    write(ucf / "lists" / "testlist02.txt", "biking.avi")
    with pytest.raises(ValueError, match=r"testlist02\.txt, line 1: 'biking\.avi' is not CLASS"):
        videos.ucf101(ucf / "videos", ucf / "lists", 2)


def test_hmdb51_groups_by_source_and_counts_unused_clips(tmp_path: Path) -> None:
    rows = {  # real names and uses, of three official lists
        "brush_hair": [
            "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 ",
            "April_09_brush_hair_u_nm_np1_ba_goo_1.avi 1 ",
            "Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!_brush_hair_h_cm_np1_fr_goo_0.avi 2 ",
            "red_head_brush_hair_u_cm_np1_ba_goo_0.avi 0 ",
        ],
        "draw_sword": ["Albion_Mercenary_Draw_Cutting_(From_the_Scabbard)_draw_sword_u_cm_np1_fr_med_0.avi 1 "],
        "walk": ["21_walk_h_cm_np1_fr_med_10.avi 1 ", "IamLegend_walk_f_nm_np1_fr_med_17.avi 2 "],
    }
    for label, lines in rows.items():
        write(tmp_path / "lists" / f"{label}_test_split1.txt", *lines)
        touch(tmp_path / "videos" / label, *(line.rsplit(" ", 2)[0] for line in lines))
    listing = videos.hmdb51(tmp_path / "videos", tmp_path / "lists")
    groups = {video.group: video.split for video in listing.videos}
    assert groups == {
        "brush_hair/April_09": "train",
        "brush_hair/Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!": "test",
        "draw_sword/Albion_Mercenary_Draw_Cutting_(From_the_Scabbard)": "train",
        "walk/21": "train",
        "walk/IamLegend": "test",
    }
    assert len(listing.videos) == 6
    assert listing.notes == ["HMDB51 split 1: left out 1 clip of neither train nor test"]
    write(tmp_path / "lists" / "walk_test_split1.txt", "21_walk_h_cm_np1_fr_med_10.avi 3")
    with pytest.raises(ValueError, match=r"walk_test_split1\.txt, line 1: .* is not NAME\.avi and 0, 1 or 2"):
        videos.hmdb51(tmp_path / "videos", tmp_path / "lists")
    with pytest.raises(FileNotFoundError, match=r"no file CLASS_test_split3\.txt"):
        videos.hmdb51(tmp_path / "videos", tmp_path / "lists", 3)


def test_kinetics_finds_clips_in_any_layout_and_counts_missing_ones(tmp_path: Path) -> None:
    root = touch(
        tmp_path / "videos",
        "train/air drumming/-id1_000010_000020.mp4",
        "train/air_drumming/_id2_000000_000010.mkv",
        "replacement/id3_000004_000014.mp4",
        "val/id3_000004_000014.mp4",
        "test/id4.webm",
    )
    header = "label,youtube_id,time_start,time_end,split"
    lists = tmp_path / "lists"
    write(lists / "train.csv", header, "air drumming,-id1,10,20,train", "air drumming,_id2,0,10,train")
    write(lists / "validate.csv", header, '"yoga, hot",id3,4,14,validate', "yoga,gone,0,10,validate")
    write(lists / "test.csv", "youtube_id,time_start,time_end,split", "id4,3.0,13.0,test")
    listing = videos.kinetics(root, lists)
    found = {
        video.path.relative_to(root).as_posix(): (video.label, video.group, video.split) for video in listing.videos
    }
    assert found == {
        "train/air drumming/-id1_000010_000020.mp4": ("air drumming", "-id1", "train"),
        "train/air_drumming/_id2_000000_000010.mkv": ("air drumming", "_id2", "train"),
        "val/id3_000004_000014.mp4": ("yoga, hot", "id3", "val"),
        "test/id4.webm": (None, "id4", "test"),
    }
    assert listing.notes == ["Kinetics: 1 of 5 clips are not on disk (gone_000000_000010)"]
    assert len(videos.kinetics(root, lists / "train.csv").videos) == 2


def test_kinetics_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    root = touch(tmp_path / "videos", "id1_000010_000020.mp4")
    table = tmp_path / "list.csv"
    header = "label,youtube_id,time_start,time_end,split"
    with pytest.raises(FileNotFoundError, match="2 of 2 listed files are not in"):
        videos.kinetics(root, write(table, header, "a,x,0,10,train", "a,y,0,10,train"))
    with pytest.raises(ValueError, match=r"line 2: time_start and time_end must be seconds: .*ten"):
        videos.kinetics(root, write(table, header, "a,id1,ten,20,train"))
    with pytest.raises(ValueError, match=r"line 3: .* is listed twice"):
        videos.kinetics(root, write(table, header, "a,id1,10,20,train", "b,id1,10,20,test"))
    with pytest.raises(ValueError, match="no column 'youtube_id'"):
        videos.kinetics(root, write(table, "path", "a.mp4"))
    with pytest.raises(FileNotFoundError, match="no CSV file in it"):
        videos.kinetics(root, root)


# --- real manifests


def test_real_manifests_are_listed(real_videos: Path) -> None:
    speakers = videos.manifest(real_videos / "miracl_vc1" / "manifest.csv")
    split = videos.split_videos(speakers.videos)
    assert split.notes == []  # every split is named
    assert split.videos == speakers.videos
    sizes = {name: {v.group for v in split.videos if v.split == name} for name in ("train", "val", "test")}
    assert [len(groups) for groups in sizes.values()] == [10, 2, 3]
    assert len({video.label for video in split.videos}) == 20

    fights = videos.split_videos(videos.manifest(real_videos / "surv_fight" / "manifest.csv").videos)
    assert fights.notes[0].startswith("no val is named: carved out of train by group")
    assert sum(video.split == "test" for video in fights.videos) == 77

    odd = videos.folder(real_videos / "awkward")
    assert len(odd.videos) == 21
    assert "ignored 9 files of other kinds" in odd.notes[0]  # eight of sound, and the manifest
