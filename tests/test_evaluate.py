"""One command, one table: every row there, every figure with its record, and differences between two encoders."""

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from selfsup import weights
from selfsup.encoders.encoder import InputSpecification
from selfsup.encoders.resnet import ResNet
from selfsup.evaluate import main
from selfsup.evaluation.features import Features
from selfsup.evaluation.frozen import Labelled, frozen_figures, shuffled, single_frame
from selfsup.evaluation.knn import knn
from selfsup.evaluation.linear_probe import linear_probe
from selfsup.evaluation.protocol import Protocol
from selfsup.evaluation.report import read_figures
from tests.verbs import Ended

Verb = Callable[..., Ended]
SMALL = (
    "data.size_pixels=32",
    "data.batch_size=4",
    "data.num_workers=0",
    "data.index_processes=1",
    "clips.training.num_segments=2",
)


def saved(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    specification = InputSpecification(size_pixels=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25), fps=None)
    weights.save(ResNet(18), path, input=specification, task="none", data={})
    return path


def test_an_evaluation_has_every_row_and_can_be_compared(
    tmp_path: Path, synthetic_manifest: Path, synthetic_index: Path, verb: Verb, command: Verb
) -> None:
    for seed in (0, 1):
        done = verb(
            main,
            f"encoder.path={saved(tmp_path / f'{seed}.safetensors', seed)}",
            "data=manifest",
            f"data.manifest={synthetic_manifest}",
            f"seed={seed}",
            f"data.index_cache={synthetic_index}",
            "finetune_fractions=null" if seed else "finetune_fractions=[0.01,1.0]",
            "trainer=debug",
            "+trainer.enable_progress_bar=false",
            *SMALL,
            run=str(seed),
        )
        assert done.code == 0, done.err
        assert seed or "no fine-tuning on 1 % of the labels: labels_fraction=0.01 of 16 training videos" in done.out
    figures = {figure.name: figure for figure in read_figures(tmp_path / "0" / "evaluation.json")}
    for kind in ("linear probe", "k-NN", "R@1 (coclr)", "R@10 (coclr)"):
        for end in ("", ", untrained encoder", ", shuffled frames", ", single frame"):
            figure = figures[kind + end]
            assert figure.chance is not None
            assert figure.interval is not None
            assert figure.answers is not None
            assert len(figure.answers.videos) == figure.protocol.videos_seen == 4
            assert figure.protocol.input_size == (2, 32, 32)
    assert {"R@5 (vcop)", "effective rank", "effective rank, untrained encoder"} <= set(figures)
    assert figures["fine-tuning on 100 % of the labels"].protocol.label_fraction == 1.0
    tuned = "fine-tuning on 100 % of the labels"
    assert {f"{tuned}, untrained encoder", f"{tuned}, single frame, untrained encoder"} <= set(figures)
    assert figures[f"{tuned}, shuffled frames"].value == figures[tuned].value
    for file in ("evaluation.md", "evaluation.png", "left_out.json"):
        assert (tmp_path / "0" / file).stat().st_size > 0
    (table,) = json.loads((tmp_path / "0" / "pictures" / "neighbours" / "neighbours.json").read_text())
    assert [len(row) for row in table["rows"]] == [5] * 4, "four held-out videos, with four of training each"
    environment = json.loads((tmp_path / "0" / "environment.json").read_text())
    assert environment["torch"] == importlib.metadata.version("torch")
    # The mean over frames knows nothing of their order.
    assert figures["linear probe, shuffled frames"].value == figures["linear probe"].value

    done = command(main, "compare", "0/evaluation.json", "1/evaluation.json")
    assert done.code == 0, done.err
    row = next(line for line in done.out.splitlines() if line.startswith("| linear probe |"))
    one, other = (
        {figure.name: figure for figure in read_figures(tmp_path / seed / "evaluation.json")}["linear probe"].value
        for seed in "01"
    )
    assert f"{100 * (one - other):+.1f}" in row

    done = command(main, "compare", "0/evaluation.json,1/evaluation.json", "1/evaluation.json,0/evaluation.json")
    assert done.code == 0, done.err
    row = next(line for line in done.out.splitlines() if line.startswith("| linear probe |"))
    assert f"| {50 * (one + other):.1f} % | {50 * (one + other):.1f} % | +0.0 |" in row

    spoiled = tmp_path / "1" / "evaluation.json"
    content = json.loads(spoiled.read_text())
    for figure in content["figures"]:
        figure["protocol"]["split"] = "val"
    spoiled.write_text(json.dumps(content))
    done = command(main, "compare", "0/evaluation.json", "1/evaluation.json")
    assert done.code == 2
    assert "split is 'test' in one and 'val' in the other; evaluate both alike" in done.err


@pytest.mark.parametrize("column", ["path", "path,label"])
def test_videos_without_labels_are_refused(tmp_path: Path, synthetic_manifest: Path, verb: Verb, column: str) -> None:
    """Where the manifest has none, and where data.label=null leaves them unread."""
    path = saved(tmp_path / "0.safetensors", 0)
    videos = sorted(synthetic_manifest.parent.rglob("*.mp4"))[:12]
    manifest = tmp_path / "unlabelled.csv"
    label = ",a" if "label" in column else ""
    manifest.write_text(f"{column}\n" + "".join(f"{video}{label}\n" for video in videos))
    data = ("data=manifest", f"data.manifest={manifest}", "data.label=null")
    done = verb(main, f"encoder.path={path}", *data, *SMALL)
    assert done.code == 2
    assert "error: " in done.err
    assert "train videos have no label, the first is" in done.err


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_what_the_other_rows_see(frames: int) -> None:
    clip = torch.arange(2.0 * frames).view(2, 1, frames, 1, 1)
    mixed = shuffled(clip)
    assert mixed.flatten(1).sort().values.equal(clip.flatten(1))
    if frames > 1:
        assert (mixed != clip).all(), "no frame is in its place"
    one = single_frame(clip)
    assert one.shape == clip.shape
    assert (one == clip[:, :, frames // 2 : frames // 2 + 1]).all()


def test_nothing_is_chosen_on_what_is_reported() -> None:
    """Without a test split val is reported, and the probe's C must come from folds of train."""
    generator = torch.Generator().manual_seed(0)
    values = {split: torch.randn(size, 40, generator=generator) for split, size in (("train", 60), ("val", 40))}
    labels = {split: tuple("ab"[row % 2] for row in range(len(of))) for split, of in values.items()}
    features = {split: {"": Features(of, torch.arange(len(of)))} for split, of in values.items()}
    videos = {
        split: Labelled(tuple(f"{split}{row}" for row in range(len(of))), of, None) for split, of in labels.items()
    }
    protocol = Protocol("noise", None, "val", False, 1, 1, "video", None, "pyav", "1", 40, 0, (0,))
    figures = {figure.name: figure for figure in frozen_figures(features, videos, protocol, 0, "val")}
    folds = linear_probe(values["train"], labels["train"], None, None, values["val"], labels["val"])
    assert figures["linear probe"].value == folds.accuracy
    assert figures["k-NN"].value == knn(values["train"], labels["train"], values["val"], labels["val"], 1).accuracy
