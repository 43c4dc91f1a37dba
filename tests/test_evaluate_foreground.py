"""`selfsup evaluate foreground`: a table of any labeller, also of a trained network, and what it says to bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.metrics import jaccard_score

import selfsup.evaluate
import selfsup.prepare
import selfsup.train
from selfsup.data.foreground import MaskFilter
from selfsup.evaluation.report import compare_files, read_figures
from selfsup.network_labeller import NetworkLabeller
from tests.data.moving import moving_square, square_mask
from tests.davis import write_davis
from tests.media import write_video
from tests.verbs import Ended, Main
from tests.verbs import call as call_here

Call = Callable[..., tuple[int, str, str]]
NAMES = ["bear", "camel", "dog", "goat", "swan"]
READ = ("data.num_workers=0", "data.index_processes=1")
QUICK = ("foreground=flow_threshold", "short_side_pixels=120", *READ)
TRAIN = ("trainer=debug", "+trainer.enable_progress_bar=false", "data.batch_size=2", "data.size_pixels=32")
TEACH = ("task=motion_segmentation", "task.sampler.labels.short_side_pixels=120", *READ)


@pytest.fixture
def call(verb: Callable[..., Ended]) -> Call:
    """Calls `evaluate foreground`, or another verb: (exit code, standard output, standard error)."""

    def call_(*overrides: str, main: Main = selfsup.evaluate.main) -> tuple[int, str, str]:
        words = ("foreground", *overrides) if main is selfsup.evaluate.main else overrides
        return verb(main, *words)[:3]

    return call_


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five sequences of 12 frames."""
    return write_davis(tmp_path_factory.mktemp("davis") / "DAVIS", NAMES)


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the task on all sequences but two."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    left_out = "data.videos.test_sequences=[dog,goat]"
    words = ("foreground=flow_threshold", *TEACH, *TRAIN, "data=davis", f"data.root={root}", left_out)
    assert call_here(selfsup.train.main, *words, f"hydra.run.dir={folder}") == 0
    return folder


def cells(printed: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]
    return {line[0]: line[1:] for line in lines}


def test_a_labeller_beside_its_baseline_and_constants(call: Call, root: Path, tmp_path: Path) -> None:
    # Another threshold than the baseline's, so that both are measured.
    code, printed, errors = call(*QUICK, "foreground.threshold_pixels=2", "data=davis", f"data.root={root}")
    assert code == 0, errors
    run = tmp_path / "run"
    figures = {figure.name: figure for figure in read_figures(run / "foreground.json")}
    assert list(figures) == [
        "J",
        "J, baseline flow_threshold",
        "J, all foreground",
        "J, centre box, half of each side",
    ]
    found, truth = figures["J"], square_mask(12)
    guess = np.mean([jaccard_score(mask.ravel(), np.ones(mask.size)) for mask in truth[1:-1]])
    assert figures["J, all foreground"].value == pytest.approx(guess)
    assert found.chance == figures["J, centre box, half of each side"].value > guess
    assert found.value > 0.6 > found.chance
    assert found.interval is not None
    assert (found.interval.unit, found.interval.units) == ("group", 5)
    assert found.answers is not None
    assert found.answers.videos == tuple(f"{name}.mov" for name in NAMES)
    protocol = found.protocol
    assert (protocol.dataset, protocol.split, protocol.videos_seen, protocol.label_fraction) == ("davis", "all", 5, 0)
    assert json.loads(protocol.settings)["labeller"]["threshold_pixels"] == 2

    table = cells(printed)
    assert [float(table[name][0]) for name in NAMES] == [round(100 * share, 1) for share in found.answers.correct]
    assert table["mean"][0] == f"{100 * found.value:.1f}"
    assert float(table["CPU seconds a frame"][0]) > 0
    assert table["frames rejected"] == ["0 of 60", "0 of 60", "", ""]
    text = (run / "foreground.md").read_text()
    assert f"| mean | {table['mean'][0]} |" in text
    assert "dataset davis" in text
    labellers = json.loads((run / "foreground.json").read_text())["labellers"]
    assert [(row["name"], row["frames"]) for row in labellers] == [
        ("flow_threshold", 60),
        ("baseline flow_threshold", 60),
    ]
    assert (run / "foreground.png").stat().st_size > 1000
    assert json.loads((run / "left_out.json").read_text()) == []
    assert f"| J | {table['mean'][0]} % | {table['mean'][0]} % | +0.0 |" in compare_files(
        *[[run / "foreground.json"]] * 2
    )


def test_rejected_frames_are_counted(call: Call, tmp_path: Path) -> None:
    short = write_davis(tmp_path / "short", NAMES, count=6)
    code, printed, errors = call(*QUICK, "data=davis", f"data.root={short}")
    assert code == 0, errors
    table = cells(printed)
    assert len(table["mean"]) == 3  # the baseline is the labeller itself
    assert table["frames rejected"][0] == "30 of 30"  # shots of 6 frames are too short
    assert "flow_threshold rejected 30 × its shot is too short" in printed


def test_synthetic_videos_have_true_masks_too(
    call: Call, synthetic_manifest: Path, synthetic_index: Path, tmp_path: Path
) -> None:
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
    code, printed, errors = call(*QUICK, *data, "split=test", "max_frames=12")
    assert code == 0, errors
    figure = read_figures(tmp_path / "run" / "foreground.json")[0]
    assert (figure.protocol.split, figure.protocol.videos_seen) == ("test", 4)
    assert 0 < float(cells(printed)["mean"][0]) < 100


def test_all_videos_are_measured_whatever_their_splits(call: Call, root: Path, tmp_path: Path) -> None:
    """As of a copy of DAVIS that holds its lists but the val sequences alone, and others."""
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    (copy / "ImageSets" / "2016").mkdir(parents=True)
    (copy / "ImageSets" / "2016" / "train.txt").write_text("bus\n")
    (copy / "ImageSets" / "2016" / "val.txt").write_text("dog\ngoat\n")
    code, printed, errors = call(*QUICK, "data=davis", f"data.root={copy}", "max_frames=10")
    assert code == 0, errors
    assert [name for name in NAMES if name in cells(printed)] == NAMES
    assert "DAVIS: 1 of 3 sequences are not on disk (bus)" in printed
    assert "split by" not in printed  # nothing is


@pytest.mark.parametrize("train", [None, "", "bus\n"], ids=["no list", "an empty list", "none on disk"])
def test_the_val_sequences_of_davis_need_no_training_ones(
    call: Call, root: Path, tmp_path: Path, train: str | None
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    lists = copy / "ImageSets" / "2016"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("dog\ngoat\n")
    if train is not None:
        (lists / "train.txt").write_text(train)
    words = (*QUICK, "data=davis", f"data.root={copy}", "max_frames=10")
    code, printed, errors = call(*words, "split=test")
    assert code == 0, errors
    assert [name for name in NAMES if name in cells(printed)] == ["dog", "goat"]
    assert read_figures(tmp_path / "run" / "foreground.json")[0].protocol.split == "test"
    refused(call(*words, "split=val"), "split=val: the data name test alone; give that, or split=null for all videos")
    result = call(*TEACH, *TRAIN, "data=davis", f"data.root={copy}", main=selfsup.train.main)
    refused(result, "no video is named train, only test (dog.mov, goat.mov)", "data.videos.test_sequences")


def test_few_frames_are_enough_for_a_network_and_refused_where_a_labeller_needs_more(
    call: Call, root: Path, trained: Path
) -> None:
    words = ("foreground=network", f"foreground.run={trained}", "data=davis", f"data.root={root}", *READ)
    few = (*words, "max_frames=4", "short_side_pixels=120")
    refused(call(*few), "max_frames=4: baseline flow_threshold rejects shots of fewer than 10 frames", "give 10")
    code, printed, errors = call(*few, "~foreground@baseline")
    assert code == 0, errors
    assert "its shot is too short" not in printed
    short_shots = ("foreground=flow_threshold", "+foreground.shots.min_frames=4", "~foreground@baseline")
    code, printed, errors = call(*few[2:], *short_shots)
    assert code == 0, errors
    assert float(cells(printed)["mean"][0]) > 50


def test_one_video_has_no_interval(call: Call, tmp_path: Path) -> None:
    one = write_davis(tmp_path / "one", ["bear"])
    code, printed, errors = call(
        *QUICK, "foreground.threshold_pixels=2", "data=davis", f"data.root={one}", "~foreground@baseline"
    )
    assert code == 0, errors
    table = cells(printed)
    assert table["95 % interval"] == ["", "", ""]
    assert float(table["mean"][0]) == float(table["bear"][0]) > 60


def test_training_on_davis_tells_the_iou_with_true_masks(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert {row["figure"] for row in summary["figures"]} == {"iou", "iou, truth"}
    assert summary["data"]["test_videos"] == 2


def test_a_trained_network_on_unseen_sequences(call: Call, root: Path, trained: Path, tmp_path: Path) -> None:
    left_out = ("data=davis", f"data.root={root}", "data.videos.test_sequences=[dog,goat]", "split=test")
    network = ("foreground=network", f"foreground.run={trained}", "short_side_pixels=120", *READ)
    code, printed, errors = call(*network, *left_out)
    assert code == 0, errors
    assert [name for name in NAMES if name in cells(printed)] == ["dog", "goat"]
    figures = {figure.name: figure for figure in read_figures(tmp_path / "run" / "foreground.json")}
    assert figures["J"].answers is not None
    assert figures["J"].answers.groups == ("dog", "goat")
    assert "network " in figures["J"].protocol.settings


def test_the_network_sees_each_frame_alone(trained: Path) -> None:
    labeller = NetworkLabeller(str(trained), MaskFilter())
    state = torch.load(trained / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[name]) for name, value in labeller.task.state_dict().items())
    frames = moving_square(20)
    together = labeller(frames, [n / 24 for n in range(20)])
    assert together.masks.shape == (20, 120, 160)
    assert 0 <= together.masks.min() < together.masks.max() <= 1
    alone = torch.cat([labeller(frame[None], [0.0]).masks for frame in frames])
    assert torch.allclose(alone, together.masks, atol=1e-4)


def test_the_network_can_teach(call: Call, root: Path, trained: Path) -> None:
    words = ("foreground=network", f"foreground.run={trained}", "data=davis", f"data.root={root}", *TEACH)
    strict = ("foreground.mask_filter.minimum_share=0", "foreground.mask_filter.maximum_border_share=1")
    sure = ("foreground.mask_filter.maximum_share=1", "task.sampler.labels.minimum_confidence=0")
    code, printed, errors = call(*words, *strict, *sure, main=selfsup.prepare.main)
    assert code == 0, errors
    assert cells(printed)["frames labelled"] == cells(printed)["fit to learn from"] == ["60"]


def refused(result: tuple[int, str, str], *words: str) -> None:
    code, _, errors = result
    assert code == 2, errors
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error:")]
    for word in words:
        assert word in line


def test_videos_without_true_masks_are_refused(call: Call, tmp_path: Path) -> None:
    for number in range(3):
        write_video(tmp_path / f"videos/{number}.mp4", moving_square(12).permute(0, 2, 3, 1).numpy())
    result = call(*QUICK, "data=folder", f"data.root={tmp_path / 'videos'}")
    refused(result, "3 of 3 videos have no true masks, the first is", "0.mp4; give data=davis or data=synthetic")


def test_a_folder_that_is_no_davis_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    refused(call(*QUICK, "data=davis", f"data.root={tmp_path / 'nothing'}"), "nothing: no folder JPEGImages in it")
    refused(call(*QUICK, "data=davis"), "no value for data.root")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("split=dev", "split=dev: choose one of train, val, test"),
        ("max_frames=2", "max_frames=2: J leaves out the first and the last"),
        ("max_frames=9", "max_frames=9: flow_threshold rejects shots of fewer than 10 frames, and its J would be 0"),
        ("short_side_pixels=16", "short_side_pixels=16: give 32 or more"),
        ("threshold=1.5", "threshold=1.5: give 0 or more, and less than 1"),
        ("data.videos.test_sequences=[gaot]", "no sequence 'gaot'"),
    ],
)
def test_a_value_out_of_bounds_is_refused(call: Call, root: Path, setting: str, words: str) -> None:
    refused(call(*QUICK, "data=davis", f"data.root={root}", setting), words)


def no_folder(run: Path) -> None:
    shutil.rmtree(run)


def no_checkpoint(run: Path) -> None:
    (run / "last.ckpt").unlink()


def cut_short(run: Path) -> None:
    with open(run / "last.ckpt", "r+b") as file:
        file.truncate(1000)


def other_checkpoint(run: Path) -> None:
    torch.save({"weights": 1}, run / "last.ckpt")


def other_network(run: Path) -> None:
    edit(run, {"task": {"width": 64}})


def other_task(run: Path) -> None:
    edit(run, {"task": {"_target_": "selfsup.tasks.temporal_order.TemporalOrder"}})


def no_task(run: Path) -> None:
    (run / "config" / "config.yaml").write_text("seed: 0\n")


def no_yaml(run: Path) -> None:
    (run / "config" / "config.yaml").write_text("seed: [0\n")


def edit(run: Path, change: dict[str, object]) -> None:
    path = run / "config" / "config.yaml"
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(path), change), path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_folder, r"config.yaml: no such file; give foreground.run the folder of a run of task=motion_segmentation"),
        (no_checkpoint, r"last.ckpt: no such file; the run has not ended its first epoch"),
        (cut_short, r"last.ckpt: not a readable checkpoint"),
        (other_checkpoint, r"last.ckpt: not a readable checkpoint"),
        (other_network, r"last.ckpt: its tensors are not those of .*config.yaml \(of another shape: decoder"),
        (other_task, r"a run of selfsup.tasks.temporal_order.TemporalOrder, which tells no foreground"),
        (
            no_task,
            r"config.yaml: the configuration of no training; give foreground.run the folder of a run of task=motion_",
        ),
        (no_yaml, r"config.yaml: not the configuration of a run"),
    ],
)
def test_a_run_that_cannot_label_is_refused(
    trained: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    spoil(run)
    with pytest.raises(ValueError, match=words):
        NetworkLabeller(str(run), MaskFilter())


def test_a_run_of_nothing_ends_in_one_sentence(call: Call, tmp_path: Path) -> None:
    result = call("foreground=network", f"foreground.run={tmp_path / 'nowhere'}", *READ)
    refused(result, "nowhere", "no such file; give foreground.run")
