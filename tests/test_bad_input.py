"""Bad input through the real command: one clear sentence each, nothing lost, good videos still used."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfsup import weights
from selfsup.encoders.encoder import InputSpecification
from selfsup.encoders.resnet import ResNet
from selfsup.train import main
from tests.data import barcodes
from tests.verbs import Ended

Run = Callable[..., tuple[int, str, Path]]
SMALL = (
    "trainer=debug",
    "+trainer.enable_progress_bar=false",
    "data.size_pixels=32",
    "data.batch_size=4",
    "data.num_workers=0",
    "data.index_processes=1",
)


@pytest.fixture
def run(verb: Callable[..., Ended]) -> Run:
    """Calls the verb in this process: (exit code, standard error, run's folder)."""

    def call(*overrides: str) -> tuple[int, str, Path]:
        code, _, errors, folder = verb(main, *SMALL, *overrides)
        return code, errors, folder

    return call


def one_sentence(result: tuple[int, str, Path], *words: str) -> None:
    code, errors, folder = result
    assert code == 2, errors
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, errors
    for word in words:
        assert word in lines[0]
    assert not (folder / "encoder.safetensors").exists()


def clip(path: Path, frames: int = 30) -> Path:
    return barcodes.write(path, range(0, 40 * frames, 40))  # 25 frames a second


def test_empty_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    one_sentence(run("data=folder", f"data.root={tmp_path / 'videos'}"), str(tmp_path / "videos"), "empty")


def test_missing_folder(run: Run, tmp_path: Path) -> None:
    one_sentence(run("data=folder", f"data.root={tmp_path / 'nowhere'}"), "nowhere")


def test_root_not_given(run: Run) -> None:
    one_sentence(run("data=folder"), "data.root")


def test_folder_without_videos(run: Run, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "notes.txt").write_text("no video")
    one_sentence(run("data=folder", f"data.root={tmp_path / 'videos'}"), "notes.txt")


def test_bad_files_among_good_ones_are_named_and_left_out(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    good = [clip(folder / f"good {number}.mp4") for number in range(8)]
    os.rename(clip(folder / "plain.mp4"), os.fsencode(folder) + b"/caf\xe9 \xff.mp4")
    (folder / "zero.mp4").touch()
    (folder / "truncated.mp4").write_bytes(good[0].read_bytes()[:700])
    (folder / "text.mp4").write_text("this is not a video")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    shutil.copy(folder / "picture.png", folder / "picture.mp4")
    clip(folder / "one_frame.mp4", frames=1)
    clip(folder / "short.mp4", frames=4)
    code, errors, run_folder = run("data=folder", f"data.root={folder}")
    assert code == 0, errors
    rows = {Path(row["path"]).name: row["reason"] for row in json.loads((run_folder / "left_out.json").read_text())}
    assert set(rows) == {"zero.mp4", "truncated.mp4", "text.mp4", "picture.mp4", "one_frame.mp4", "short.mp4"}
    assert all(rows.values())
    assert "at least 5" in rows["short.mp4"]
    summary = json.loads((run_folder / "summary.json").read_text())
    assert summary["data"]["left_out"] == 6
    assert sum(summary["data"][f"{split}_videos"] for split in ("train", "val", "test")) == 9


def test_sound_file_among_the_videos_is_refused(run: Run, tmp_path: Path, real_videos: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(6):
        clip(folder / f"{number}.mp4")
    shutil.copy(next((real_videos / "awkward" / "files").glob("*.mp3")), folder / "sound.mp4")
    code, errors, run_folder = run("data=folder", f"data.root={folder}")
    assert code == 0, errors
    (row,) = json.loads((run_folder / "left_out.json").read_text())
    assert Path(row["path"]).name == "sound.mp4"


def test_question_longer_than_every_clip(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(4):
        clip(folder / f"{number}.mp4")
    result = run("data=folder", f"data.root={folder}", "task.sampler.minimum_seconds=60")
    one_sentence(result, "no training video is left", "task.sampler.minimum_seconds=60")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("clip_order", "too short for the order of clips: lasts 1.20 s, 3 x 16 frames need"),
        ("playback_speed", "too short for playback speed: lasts 1.20 s, 6 frames at speed 8 need"),
        ("arrow_of_time", "too short for the arrow of time: lasts 1.20 s, 16 frames need"),
        ("contrastive task.sampler.num_frames=20", "too short for a view: lasts 1.20 s, 20 frames need"),
        ("invariant_prediction task.sampler.num_frames=20", "too short for a view: lasts 1.20 s, 20 frames need"),
        ("temporal_coherence task.sampler.far_seconds=1.2", "too short for temporal coherence: lasts 1.20 s, frames"),
    ],
)
def test_videos_that_are_too_short_for_a_task(run: Run, tmp_path: Path, task: str, words: str) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(4):
        clip(folder / f"{number}.mp4")  # 1.2 seconds
    result = run("data=folder", f"data.root={folder}", *f"task={task}".split())
    one_sentence(result, "no training video is left", words)


@pytest.mark.parametrize(
    ("overrides", "least"),
    [
        (("task=contrastive", "data.batch_size=1"), 2),
        (("task=invariant_prediction", "data.batch_size=1"), 2),
        (("task=temporal_coherence", "task.form=slow", "data.batch_size=5"), 6),
    ],
)
def test_a_batch_that_is_too_small_for_the_loss(run: Run, overrides: tuple[str, ...], least: int) -> None:
    sentence = f"{overrides[-1]}: this task holds the examples of a batch against one another, and learns nothing from"
    one_sentence(run(*overrides), sentence, f"fewer than {least}; raise it")


def manifest(tmp_path: Path, header: str, *rows: str) -> Path:
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_loss_that_is_no_number_stops_the_run(run: Run, synthetic_manifest: Path) -> None:
    data = ("data=manifest", f"data.manifest={synthetic_manifest}")
    one_sentence(run(*data, "task.optimizer.lr=1e30"), "the loss is nan at step", "task.optimizer.lr")


def test_label_column_missing(run: Run, tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4")
    path = manifest(tmp_path, "path,action", "a.mp4,jump")
    one_sentence(run("data=manifest", f"data.manifest={path}", "data.label=verb"), "verb", "action")


def test_path_missing_in_the_manifest(run: Run, tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4")
    path = manifest(tmp_path, "path,label", "a.mp4,jump", "gone.mp4,jump")
    one_sentence(run("data=manifest", f"data.manifest={path}"), "gone.mp4")


def test_two_splits_share_a_group(run: Run, tmp_path: Path) -> None:
    for name in "abc":
        clip(tmp_path / f"{name}.mp4")
    path = manifest(tmp_path, "path,group,split", "a.mp4,g1,train", "b.mp4,g1,test", "c.mp4,g2,train")
    one_sentence(run("data=manifest", f"data.manifest={path}"), "g1", "train", "test")


@pytest.fixture
def encoder_file(tmp_path: Path) -> Path:
    path = tmp_path / "encoder.safetensors"
    specification = InputSpecification(size_pixels=32, mean=(0.5,) * 3, std=(0.2,) * 3, fps=None)
    weights.save(ResNet(18), path, input=specification, task="test", data={})
    return path


def test_encoder_file_truncated(run: Run, encoder_file: Path) -> None:
    encoder_file.write_bytes(encoder_file.read_bytes()[:100_000])
    one_sentence(run("encoder=pretrained", f"encoder.path={encoder_file}"), str(encoder_file))


def test_encoder_file_of_another_architecture(run: Run, encoder_file: Path) -> None:
    metadata = {weights.KEY: json.dumps({**weights.read_metadata(encoder_file), "arguments": {"depth": 50}})}
    save_file(load_file(encoder_file), encoder_file, metadata)
    one_sentence(run("encoder=pretrained", f"encoder.path={encoder_file}"), str(encoder_file), "tensors")


def test_encoder_file_that_names_other_code(run: Run, encoder_file: Path) -> None:
    metadata = {weights.KEY: json.dumps({**weights.read_metadata(encoder_file), "class": "os.system"})}
    save_file(load_file(encoder_file), encoder_file, metadata)
    one_sentence(run("encoder=pretrained", f"encoder.path={encoder_file}"), "os.system")


def test_encoder_file_that_is_a_pickle(run: Run, encoder_file: Path) -> None:
    torch.save(ResNet(18), encoder_file)
    one_sentence(run("encoder=pretrained", f"encoder.path={encoder_file}"), str(encoder_file))


def test_no_space_for_a_checkpoint_keeps_the_one_before(tmp_path: Path, synthetic_manifest: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "selfsup.train", f"hydra.run.dir={folder}", *SMALL]
    command += ["data=manifest", f"data.manifest={synthetic_manifest}"]

    def limit() -> None:
        # The system answers a write past this size as it does on a full disk: with an OSError.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000))

    folder.mkdir()
    before = b"the checkpoint of an earlier epoch"
    (folder / "last.ckpt").write_bytes(before)
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "last.ckpt" in sentence
    assert "intact" in sentence
    assert (folder / "last.ckpt").read_bytes() == before
    assert [path.name for path in folder.iterdir() if "ckpt" in path.name or "part" in path.name] == ["last.ckpt"]


@pytest.mark.parametrize(
    ("module", "extra", "overrides"),
    [
        ("cv2", "flow", ("task=action_recognition", "classifier=two_stream")),
        ("timm", "timm", ("encoder=timm",)),
        ("lightly", "lightly", ("task=invariant_prediction",)),
    ],
)
def test_an_extra_that_is_not_installed(
    run: Run, monkeypatch: pytest.MonkeyPatch, module: str, extra: str, overrides: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    one_sentence(run("data.videos.videos=16", *overrides), f"pip install 'selfsup[{extra}]'")
