"""The verb as a user calls it: from a manifest to the files of a run."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file

from selfsup import classifier_weights, weights
from selfsup.classifier_weights import ClipSpecification
from selfsup.encoders.encoder import Encoder
from selfsup.evaluation.report import read_figures
from selfsup.train import chance_advice, main
from tests.verbs import Ended

Verb = Callable[..., Ended]
SMALL = (
    "trainer=debug",
    "+trainer.enable_progress_bar=false",
    "data.size_pixels=32",
    "data.batch_size=4",
    "data.num_workers=0",
    "probe.num_frames=2",
)


def train(folder: Path, manifest: Path, *overrides: str, arguments: tuple[str, ...] = ("-m", "selfsup.train")) -> str:
    """Runs the command in a folder of its own and returns what it printed."""
    command = [sys.executable, *arguments, "data=manifest", f"data.manifest={manifest}", f"hydra.run.dir={folder}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_API")}
    done = subprocess.run(
        [*command, *SMALL, *overrides],
        cwd=folder.parent,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_leaves_all_that_it_promises(tmp_path: Path, synthetic_manifest: Path) -> None:
    folder = tmp_path / "run"
    printed = train(folder, synthetic_manifest, "logger=wandb", "seed=3", "data.index_processes=1")
    encoder = weights.load(folder / "encoder.safetensors")
    assert isinstance(encoder, Encoder)
    assert encoder.source is not None
    assert encoder.source["task"] == "temporal_order"
    assert encoder.input is not None
    assert encoder.input.size_pixels == 32
    assert encoder(torch.zeros(1, 3, 2, 32, 32)).shape == (1, 512, 2, 1, 1)
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 4
    assert "seed: 3" in (folder / "config" / "config.yaml").read_text()
    with open(folder / "metrics.csv", newline="") as file:
        columns = csv.DictReader(file).fieldnames or []
    assert {"epoch", "step", "train/loss", "val/loss", "val/accuracy", "test/accuracy"} <= set(columns)
    assert {"collapse/rankme", "collapse/std", "collapse/cosine"} <= set(columns)
    assert list((folder / "wandb").glob("offline-run-*")), "wandb without a key writes an offline run"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["figures"][0]["chance"] == 0.5
    assert 0 < summary["throughput"]["waiting"] < 1
    for row in summary["probes"]:
        assert 0 <= row["before"] <= 1
        assert 0 <= row["learned"] <= 1
        assert f"{row['learned']:.1%}" in printed
    assert len(summary["probes"]) == 2
    assert "before" in printed
    assert "chance" in printed
    assert str(folder) in printed


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["caffenet", "c3d", "r3d18"])
def test_every_kind_of_encoder_can_be_taught(tmp_path: Path, synthetic_manifest: Path, encoder: str) -> None:
    train(tmp_path / "run", synthetic_manifest, f"encoder={encoder}", "data.size_pixels=48", "logger=tensorboard")
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))
    assert (tmp_path / "run" / "encoder.safetensors").exists()


@pytest.mark.slow
def test_a_pretrained_encoder_is_taught_on(tmp_path: Path, synthetic_manifest: Path) -> None:
    train(tmp_path / "first", synthetic_manifest)
    first = tmp_path / "first" / "encoder.safetensors"
    train(tmp_path / "second", synthetic_manifest, "encoder=pretrained", f"encoder.path={first}")
    second = weights.load(tmp_path / "second" / "encoder.safetensors")
    assert weights.architecture(second) == weights.architecture(weights.load(first))


@pytest.mark.slow
def test_two_processes_on_a_cpu(tmp_path: Path, synthetic_manifest: Path) -> None:
    """Distributed data parallel, gloo: the same files; held-out figures count every example once."""
    train(tmp_path / "two", synthetic_manifest, "trainer=ddp", "trainer.max_epochs=1")
    assert (tmp_path / "two" / "encoder.safetensors").exists()
    values = []
    for trainer in ("cpu", "ddp"):
        folder = tmp_path / trainer
        train(folder, synthetic_manifest, f"trainer={trainer}", "+trainer.limit_train_batches=0")
        values.append(json.loads((folder / "summary.json").read_text())["figures"][0]["value"])
    assert values[0] == pytest.approx(values[1], abs=1e-6)


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_may_go_on_from_it(tmp_path: Path, synthetic_manifest: Path) -> None:
    """With the joint batch, and nothing that looks at a batch as a whole: the weights agree but for rounding."""
    alike = (
        "encoder=caffenet",
        "encoder.batch_norm=false",
        "task.head_dim=null",
        "task.augment=[]",
        "task.schedule=null",
        "task.optimizer._target_=torch.optim.SGD",  # Adam makes a whole step of a gradient that is all rounding
        "task.optimizer.lr=0.05",
    )
    settings = (*alike, "data.size_pixels=99", "trainer.precision=32-true", "collapse=null", "probe=null")
    one, two = ("trainer=cpu", "data.batch_size=4"), ("trainer=ddp", "data.batch_size=2")
    started = {}
    for name, how in {"one": one, "two": two, "changed": one}.items():
        epochs = 1 if name == "changed" else 2
        train(tmp_path / name, synthetic_manifest, *settings, *how, f"trainer.max_epochs={epochs}")
        started[name] = (tmp_path / name / "encoder.safetensors").read_bytes()
    train(tmp_path / "changed", synthetic_manifest, *settings, *two, "trainer.max_epochs=2", "resume=last")
    assert (tmp_path / "changed" / "encoder.safetensors").read_bytes() != started["changed"]
    one_process = load_file(tmp_path / "one" / "encoder.safetensors")
    first = load(started["changed"])
    assert max((one_process[name] - first[name]).abs().max() for name in first) > 1e-3, "an epoch changes them"
    for other in ("two", "changed"):
        learned = load_file(tmp_path / other / "encoder.safetensors")
        assert max((one_process[name] - learned[name]).abs().max() for name in learned) < 1e-4


def test_a_classifier_is_taught_and_judged_by_whole_videos(
    synthetic_manifest: Path, synthetic_index: Path, verb: Verb
) -> None:
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
    code, printed, errors, folder = verb(
        main, *data, *SMALL, "task=action_recognition", "clips.training.num_segments=2"
    )
    assert code == 0, errors
    summary = json.loads((folder / "summary.json").read_text())
    controls = ["accuracy, shuffled frames", "accuracy, single frame"]
    assert [row["figure"] for row in summary["figures"]] == ["accuracy", "balanced_accuracy", *controls]
    for row in summary["figures"]:
        assert (row["value"] * 4) == pytest.approx(round(row["value"] * 4)), "4 test videos"
        assert f"{row['value']:.1%}" in printed
    assert set(summary["measured"]) == {*[row["figure"] for row in summary["figures"]], "loss", "clip_accuracy", "top5"}
    trained = classifier_weights.load(folder / "classifier.safetensors")
    assert len(trained.classes) == trained.classifier.num_classes == 8
    assert trained.clip == ClipSpecification(2, None, spread=True, short_side_pixels=37, stretch=False)
    encoder = weights.load(folder / "encoder.safetensors")
    inside = trained.classifier.encoders()["clip"].state_dict()
    assert all(torch.equal(tensor, inside[name]) for name, tensor in encoder.state_dict().items())
    assert f"measured besides: loss {summary['measured']['loss']:.3f}, clip_accuracy" in printed
    assert summary["probes"] == []
    assert weights.load(folder / "encoder.safetensors").source["task"] == "action_recognition"
    figures = {figure.name: figure for figure in read_figures(folder / "evaluation.json")}
    assert set(figures) == {"accuracy", "accuracy, shuffled frames", "accuracy, single frame"}
    accuracy = figures["accuracy"]
    assert accuracy.value == pytest.approx(summary["figures"][0]["value"])
    assert accuracy.protocol.input_size == (2, *2 * [accuracy.protocol.input_size[1]])
    assert f"95 % interval of the accuracy: {accuracy.interval.low:.1%}" in printed


def test_what_is_not_wanted_is_left_out(synthetic_manifest: Path, synthetic_index: Path, verb: Verb) -> None:
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
    nothing = ("probe=null", "pictures=null", "checkpoint=null", "collapse=null", "throughput=null")
    code, _, errors, folder = verb(main, *data, *SMALL, "trainer.max_epochs=1", *nothing)
    assert code == 0, errors
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["probes"] == []
    assert summary["figures"]
    assert not [*folder.glob("*.ckpt"), *folder.glob("pictures")]


@pytest.mark.slow
def test_a_classifier_that_skips_says_how_many_frames_it_used(tmp_path: Path, synthetic_manifest: Path) -> None:
    folder = tmp_path / "run"
    # A budget at which no answer is worth a look.
    budget = ("classifier.budget_weight=10", "task.optimizer.lr=0.02", "trainer.max_epochs=4")
    chosen = ("task=action_recognition", "classifier=skip_rnn", "clips.training.num_segments=6")
    printed = train(folder, synthetic_manifest, *chosen, *budget)
    used = json.loads((folder / "summary.json").read_text())["measured"]["used_frames"]
    assert 1 / 6 <= used < 1
    assert f"used_frames {used:.3f}" in printed
    with open(folder / "metrics.csv", newline="") as file:
        shares = [{name: row[f"{name}/used_frames"] for name in ("train", "val")} for row in csv.DictReader(file)]
    assert {name for row in shares for name, share in row.items() if share} == {"train", "val"}


def test_a_class_that_train_lacks_is_refused(synthetic_copy: Path, verb: Verb) -> None:
    rows = synthetic_copy.read_text().splitlines()
    last = next(number for number, row in reversed(list(enumerate(rows))) if ",test," in row or row.endswith(",test"))
    label = next(csv.DictReader([rows[0], rows[last]]))["label"]
    rows[last] = rows[last].replace(f",{label},", ",somersault,", 1)
    synthetic_copy.write_text("\n".join(rows) + "\n")
    ended = verb(
        main,
        "task=action_recognition",
        "data=manifest",
        f"data.manifest={synthetic_copy}",
        f"data.index_cache={synthetic_copy.with_name('index.jsonl')}",
        *SMALL,
    )
    assert ended.code == 2
    assert "error: the test videos have 1 classes that the training videos lack (somersault)" in ended.err


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ("classifier=cnn_rnn",),
            "a classifier wants labels, and this task asks for none; add task=",
        ),
        (("task=action_recognition", "task.label_smoothing=1.5"), r"task.label_smoothing=1.5 must lie in [0, 1)"),
        (
            ("task=action_recognition", "classifier=two_stream", "clips=segments"),
            "TwoStream reads flow, which the",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    synthetic_manifest: Path, synthetic_index: Path, verb: Verb, overrides: tuple[str, ...], sentence: str
) -> None:
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
    ended = verb(main, *data, *SMALL, *overrides)
    assert ended.code == 2
    assert f"error: {sentence}" in ended.err


def test_a_run_without_held_out_videos_says_that_nothing_was_measured(synthetic_manifest: Path, verb: Verb) -> None:
    root = ("data=folder", f"data.root={next((synthetic_manifest.parent / 'videos').iterdir())}")
    alone = ("data.fractions.train=1", "data.fractions.val=0", "data.fractions.test=0", "data.index_processes=1")
    code, printed, errors, folder = verb(main, *root, *alone, *SMALL)
    assert code == 0, errors
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["figures"] == []
    assert "nothing was measured: no test or val video takes part" in printed
    assert any("nothing was measured" in note for note in summary["notes"])


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"accuracy": 0.52}, "accuracy is 52.0%, and chance 50.0%: 40 steps have taught next to nothing"),
        ({"accuracy": 0.2}, "accuracy is 20.0%"),
        ({"accuracy": 0.53}, None),
        ({"accuracy": 0.9, "accuracy, silence": 0.5}, None),
        ({"other": 0.0}, None),
    ],
)
def test_a_question_that_was_not_learned_is_told(figures: dict[str, float], said: str | None) -> None:
    measured = {f"test/{name}": value for name, value in figures.items()}
    advice = chance_advice({"accuracy": 0.5, "accuracy, silence": 0.5}, measured, 40)
    assert advice is None if said is None else str(advice).startswith(said)


def test_a_run_that_learned_nothing_says_so(synthetic_manifest: Path, synthetic_index: Path, verb: Verb) -> None:
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
    ended = verb(main, *data, *SMALL, "task=clip_order", "task.optimizer.lr=0", "task.sampler.num_frames=2")
    accuracy = json.loads((ended.folder / "summary.json").read_text())["figures"][0]["value"]
    assert "this training takes 4 steps: 2 epochs of 1 clip each of 16 videos, 4 at a time; a pretext task" in ended.out
    told = "4 steps have taught next to nothing; train longer" in ended.out
    assert told == (accuracy < 1 / 6 + 0.05 * 5 / 6), "of six orders"


@pytest.mark.slow
def test_weights_and_biases_gets_neighbours_to_see_and_to_hear(tmp_path: Path, synthetic_manifest: Path) -> None:
    train(tmp_path / "run", synthetic_manifest, "task=audio_visual", "trainer.max_epochs=1", "logger=wandb")
    (media,) = (tmp_path / "run" / "wandb").glob("offline-run-*/files/media")
    for direction in ("frame to sound", "sound to frame"):
        assert len(list((media / "images").glob(f"retrieval, {direction}_*.png"))) == 1
        assert len(list((media / "audio").glob(f"retrieval, {direction}, sounds_*.wav"))) == 4  # of 20, each once


def test_both_encoders_of_a_correspondence_are_written(
    synthetic_manifest: Path, synthetic_index: Path, verb: Verb
) -> None:
    data = ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")
    sound = ("task.fusion=localise", "task.sampler.truth=true", "task.sampler.rate_hz=8000", "trainer.max_epochs=1")
    code, printed, errors, folder = verb(main, *data, *SMALL, "task=audio_visual", *sound)
    assert code == 0, errors
    vision, audio = (weights.load(folder / f"{name}encoder.safetensors") for name in ("", "audio_"))
    assert vision(torch.zeros(1, 3, 1, 32, 32)).shape == (1, 512, 1, 1, 1)
    assert audio(torch.zeros(1, 1, 1, 64, 101)).shape == (1, 512, 1, 2, 4)
    assert (len(audio.input.mean), audio.input.size_pixels, audio.in_channels) == (1, 64, 1)
    told = weights.read_metadata(folder / "audio_encoder.safetensors")
    assert told["task"] == "audio_visual"
    assert told["data"]["sound"]["spectrogram"]["rate_hz"] == 8000
    summary = json.loads((folder / "summary.json").read_text())
    figures = {row["figure"]: row for row in summary["figures"]}
    for control in ("noise", "silence", "one sound"):
        assert figures[f"two_choice, {control}"]["chance"] == 0.5
    assert figures["accuracy, silence"]["value"] == figures["accuracy, one sound"]["value"] == 0.5
    assert 0 < figures["pointing"]["chance"] <= 1
    assert figures["pointing, mosaic"]["chance"] < 0.2
    found = json.loads((folder / "retrieval.json").read_text())
    assert list(found) == ["frame to frame", "frame to sound", "sound to frame", "sound to sound"]
    assert "retrieval, 4 test videos (chance)" in printed
    assert (folder / "pictures" / "epoch-0000.png").exists()
    page = (folder / "pictures" / "retrieval" / "index.html").read_text()
    assert page.count("<audio") == page.count("<img") == 2 * 4 * 5  # two directions, four videos, four neighbours each
    assert len(list((folder / "pictures" / "retrieval" / "sounds").glob("*.wav"))) == 4
