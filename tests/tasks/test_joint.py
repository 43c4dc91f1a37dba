"""Several tasks on one encoder: what each is given, how losses are weighted, what is refused, and that all learn."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from selfsup import weights
from selfsup.data.clip_views import ClipViews
from selfsup.data.joint_sampler import apart, together
from selfsup.tasks.clip_order import ClipOrder, ClipsInOrder
from selfsup.tasks.contrastive import Contrastive
from selfsup.tasks.joint import Joint
from selfsup.tasks.playback_speed import PlaybackSpeed, SpeedSampler
from selfsup.train import main
from tests.data import barcodes
from tests.tasks.learning import SmallClips, SmallFrames, examples
from tests.test_resume import steps, stop_at
from tests.verbs import Ended

ADAM = partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.05)
QUICK = (
    "task=joint",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
    "+trainer.enable_progress_bar=false",
    "data.size_pixels=32",
    "data.batch_size=4",
    "data.clips_per_video=1",
    "data.num_workers=0",
    "data.index_processes=1",
    "probe=null",
)
ORDER_AND_SOUND = "task.tasks=[temporal_order,audio_visual]"


def joint_of(**options: Any) -> Joint:
    torch.manual_seed(0)
    encoder = SmallFrames(16)
    tasks = {
        "contrastive": Contrastive(encoder, ClipViews(2, 1, 0.1), ADAM, dim=8, hidden_dim=16),
        "speed": PlaybackSpeed(encoder, SpeedSampler((1, 2), 3), ADAM, speeds=(1, 2), head_dim=8),
    }
    return Joint(encoder, tasks, ADAM, **options)


def batch_of(contrasted: int = 4, timed: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    clips = {
        "contrastive": torch.randint(0, 256, (contrasted, 2, 3, 1, 16, 16), dtype=torch.uint8, generator=generator),
        "speed": torch.randint(0, 256, (timed, 2, 3, 3, 16, 16), dtype=torch.uint8, generator=generator),
    }
    batch = {f"{name}/clip": clip for name, clip in clips.items() if len(clip)}
    return batch | {f"{name}/video": torch.arange(len(clip)) for name, clip in clips.items() if len(clip)}


def alone(task: Joint, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The loss of each task that the batch serves, asked by itself."""
    return {
        name: task.parts[name].step({**part, "clip": task.parts[name].prepare(part["clip"])})["loss"]
        for name, part in apart(batch).items()
    }


@pytest.mark.parametrize("given", [None, {"speed": 3.0}])
def test_the_loss_is_the_weighted_sum_of_those_of_the_tasks(given: dict[str, float] | None) -> None:
    task, batch = joint_of(weights=given).train(), batch_of()
    expected = alone(task, batch)
    total = task.training_step(batch, 0)
    assert total is not None
    torch.testing.assert_close(total, expected["contrastive"] + (given or {}).get("speed", 1.0) * expected["speed"])
    total.backward()
    assert all(parameter.grad is not None for parameter in task.parameter_groups())


def test_uncertainty_weighs_as_in_its_definition_and_is_learned() -> None:
    task = joint_of(weighting="uncertainty")
    with torch.no_grad():
        task.log_variances.copy_(torch.tensor([0.5, -1.0]))
    losses = {"contrastive": torch.tensor(2.0), "speed": torch.tensor(0.3)}
    sigma = task.log_variances.detach().exp().sqrt()
    expected = 2.0 / (2 * sigma[0] ** 2) + sigma[0].log() + 0.3 / (2 * sigma[1] ** 2) + sigma[1].log()
    torch.testing.assert_close(task.weighted(losses), expected)
    only = task.weighted({"speed": losses["speed"]})  # a task without examples keeps its weight
    only.backward()
    assert task.log_variances.grad is not None
    assert task.log_variances.grad[0] == 0 != task.log_variances.grad[1]
    optimizer = task.optimizer(task.parameter_groups())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]
    for _ in range(3000):
        optimizer.zero_grad()
        task.weighted(losses).backward()
        optimizer.step()
    torch.testing.assert_close(task.log_variances.exp(), torch.tensor([2.0, 0.3]), atol=0.02, rtol=0)  # σ² is the loss


def test_one_encoder_is_taught_once_and_kept_with_every_head() -> None:
    task = joint_of()
    assert all(part.encoder is task.encoder for part in task.parts.values())
    taught = task.parameter_groups()
    assert len({id(parameter) for parameter in taught}) == len(taught)
    heads = {name.split(".")[0] for name in task.state_dict()}
    assert {"encoder", "task_contrastive", "task_speed"} <= heads


def test_a_task_with_too_few_examples_has_none_in_this_step() -> None:
    task = joint_of().train()
    for batch in (batch_of(contrasted=1), batch_of(contrasted=0)):
        timed = {name: values for name, values in batch.items() if name.startswith("speed/")}
        torch.testing.assert_close(task.training_step(batch, 0), alone(task, timed)["speed"])
    assert task.training_step({}, 0) is None
    assert task.minimum_batch == 2


def test_clips_of_other_channels_are_refused_with_the_name_of_the_task() -> None:
    task, batch = joint_of(), batch_of()
    task.encoder.in_channels = 2
    with pytest.raises(ValueError, match=r"contrastive, one of task\.tasks, gives clips of 3 channels, and the enc"):
        task.training_step(batch, 0)
    with pytest.raises(ValueError, match=r"gives clips of 3 channels, and the encoder takes 2"):
        task.validation_step(batch, 0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weighting": "equal"}, r"task\.weighting='equal': give fixed or uncertainty"),
        ({"weights": {"order": 1.0}}, r"task\.weights names order, which is not among task\.tasks, contrastive, speed"),
        ({"weights": {"speed": 0.0}}, r"task\.weights\.speed=0 must lie above 0"),
        ({"weights": {"speed": 2.0}, "weighting": "uncertainty"}, r"task\.weights=\{'speed': 2\.0\}: with .* learned"),
    ],
)
def test_values_out_of_bounds_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        joint_of(**options)


# --- as a run


@pytest.fixture
def data(synthetic_manifest: Path, synthetic_index: Path) -> tuple[str, ...]:
    return ("data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}")


@pytest.fixture
def mute(synthetic_manifest: Path, tmp_path: Path) -> Path:
    """A manifest of the synthetic videos and two more, of training and test, without sound."""
    with open(synthetic_manifest, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["path"] = str(synthetic_manifest.parent / row["path"])
    for split in ("train", "test"):
        path = barcodes.write(tmp_path / f"mute_{split}.mp4", range(0, 40 * 50, 40))
        like = next(row for row in rows if row["split"] == split)
        rows.append({**like, "path": str(path)})
    with open(tmp_path / "mute.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "mute.csv"


def test_videos_without_sound_serve_the_tasks_that_they_can(verb: Callable[..., Ended], mute: Path) -> None:
    ended = verb(
        main,
        *QUICK,
        "data=manifest",
        f"data.manifest={mute}",
        ORDER_AND_SOUND,
        "task.weighting=uncertainty",
        "+task.options.temporal_order.head_dim=24",
        "+task.options.audio_visual.sampler.rate_hz=8000",
    )
    assert ended.code == 0, ended.err
    assert "audio_visual: 2 of 26 videos do not serve it: 2 × " in ended.out
    summary = json.loads((ended.folder / "summary.json").read_text())
    assert {Path(path).name for path in summary["details"]["left_out"]["audio_visual"]} == {
        "mute_train.mp4",
        "mute_test.mp4",
    }
    chances = {row["figure"]: row["chance"] for row in summary["figures"]}
    assert chances["temporal_order/accuracy"] == chances["audio_visual/accuracy"] == 0.5
    assert {"temporal_order/loss", "audio_visual/loss"} <= set(summary["measured"])
    with open(ended.folder / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    served = [(float(row["train/temporal_order/examples"]), float(row["train/audio_visual/examples"])) for row in rows]
    assert served.count((4, 4)) == 3
    assert served.count((4, 3)) == 1  # the batch with the video that is mute
    state = torch.load(ended.folder / "last.ckpt", weights_only=True)["state_dict"]
    assert state["task_temporal_order.project.0.weight"].shape[0] == 24
    assert any(name.startswith("task_audio_visual.head") for name in state)
    assert weights.read_metadata(ended.folder / "encoder.safetensors")["task"] == "joint"
    heard = weights.read_metadata(ended.folder / "audio_encoder.safetensors")["data"]["sound"]
    assert heard["spectrogram"]["rate_hz"] == 8000  # by interpolation within the options of its task


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["task.tasks=[temporal_ordr]"], "task.tasks: 'temporal_ordr' is no task that can take part; there are action"),
        (["task.tasks=[joint]"], "task.tasks: 'joint' is no task that can take part"),
        (["task.tasks=[contrastive,contrastive]"], "task.tasks: contrastive comes twice; name each task once"),
        (["task.tasks=[]"], "task.tasks is empty"),
        (["task.tasks=[action_recognition]"], "task.tasks: action_recognition learns from labels"),
        (["task.tasks=[contrastive,masked_video]"], "task=masked_video hides patches from the encoder, and ResNet"),
        (["+task.options.audio_visual.dim=3"], "task.options: audio_visual is not among task.tasks, temporal_order"),
        (["+task.options.contrastive.dimm=3"], "task.options.contrastive: Key 'dimm' is not in struct; the keys of"),
        (["+task.options.contrastive.dim=???"], "no value for task.options.contrastive.dim; give one"),
        (["+task.options.contrastive.temperature=0"], "task.temperature=0 must lie above 0"),
        (
            ["+task.options.contrastive.sampler.num_frames=90"],
            "no training video serves contrastive, one of task.tasks",
        ),
        (["foreground=flow_threshold"], "this task learns from no labels of foreground"),
        (
            ["encoder=c3d", "task.tasks=[temporal_order,playback_speed]"],
            "playback_speed, one of task.tasks: C3D takes 8 or more frames",
        ),
        (["data.batch_size=1"], "data.batch_size=1: this task holds the examples of a batch against one another"),
    ],
)
def test_what_cannot_be_joined_ends_in_one_sentence(
    words: list[str], sentence: str, verb: Callable[..., Ended], data: tuple[str, ...]
) -> None:
    ended = verb(main, *QUICK, *data, *words)
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error:")]
    assert sentence in line
    assert not (ended.folder / "encoder.safetensors").exists()


@pytest.mark.slow
def test_labels_of_motion_teach_beside_others(verb: Callable[..., Ended], data: tuple[str, ...]) -> None:
    labels = "+task.options.motion_segmentation.sampler.labels"
    data = (*data, "data.evaluation_clips_per_video=1")
    ended = verb(
        main,
        *QUICK,
        *data,
        "task.tasks=[motion_segmentation,contrastive]",
        f"{labels}.short_side_pixels=64",
        f"{labels}.fps=5",
        f"{labels}.minimum_confidence=0",
    )
    assert ended.code == 0, ended.err
    assert "frames labelled" in ended.out
    summary = json.loads((ended.folder / "summary.json").read_text())
    chances = {row["figure"]: row["chance"] for row in summary["figures"]}
    assert chances["motion_segmentation/iou"] > 0  # the better of two answers that do not look, known after the test
    assert chances["contrastive/two_choice"] == 0.5


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    verb: Callable[..., Ended], data: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch, with a queue of keys, a learned weighting, and an optimizer's moments."""
    words = (
        *QUICK,
        *data,
        "task.tasks=[audio_visual,contrastive]",
        "task.weighting=uncertainty",
        "+task.options.contrastive.momentum=0.9",
        "+task.options.contrastive.queue=16",
        "+task.options.audio_visual.sampler.rate_hz=8000",
        "trainer.max_epochs=2",
    )
    whole = verb(main, *words, run="whole")
    assert whole.code == 0, whole.err
    with monkeypatch.context() as patch:
        stop_at(6, patch)
        assert verb(main, *words).code == 128 + signal.SIGTERM
    resumed = verb(main, *words, "resume=last")
    assert resumed.code == 0, resumed.err
    assert steps(resumed.folder) == steps(whole.folder)
    for name in ("encoder.safetensors", "audio_encoder.safetensors", "retrieval.json"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    both = [torch.load(run.folder / "last.ckpt", weights_only=True)["state_dict"] for run in (whole, resumed)]
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_two_tasks_are_learned_by_one_encoder(weighting: str, seed: int) -> None:
    """On videos that were not trained on; chance is 1/4 and 1/6."""
    torch.manual_seed(seed)
    encoder = SmallClips(32)
    speed, order = SpeedSampler((1, 2, 4, 8), 6, 0.05), ClipsInOrder(3, 4, 0.1, 0.5)
    tasks = {
        "speed": PlaybackSpeed(encoder, speed, ADAM, head_dim=32),
        "order": ClipOrder(encoder, order, ADAM, head_dim=64),
    }
    task = Joint(encoder, tasks, ADAM, weighting=weighting).train()
    train, test = (
        together({"speed": examples(speed, split, draws), "order": examples(order, split, draws)})
        for split, draws in (("train", 3), ("test", 4))
    )
    optimizer = task.optimizer(task.parameter_groups())
    for number in range(120):
        drawn = torch.randperm(len(train["speed/clip"]))[:16]
        optimizer.zero_grad()
        total = task.training_step({name: values[drawn] for name, values in train.items()}, number)
        assert total is not None
        total.backward()
        optimizer.step()
    task.eval()
    accuracies = {}
    with torch.no_grad():
        for name, part in apart(test).items():
            asked = task.parts[name]
            told = [
                asked.step({**one, "clip": asked.prepare(one["clip"])})["accuracy"]
                for one in (
                    {key: value[start : start + 24] for key, value in part.items()} for start in range(0, 96, 24)
                )
            ]
            accuracies[name] = torch.stack(told).mean().item()
    print(f"{weighting}: speed {accuracies['speed']:.3f}, chance 0.25; order {accuracies['order']:.3f}, chance 0.167")
    assert accuracies["speed"] > 0.45
    assert accuracies["order"] > 0.28
