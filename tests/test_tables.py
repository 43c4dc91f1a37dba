"""The tables of docs/results.md on classifiers: means over seeds, paired differences, and the curve."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from selfsup.evaluation.answers import Answers
from selfsup.evaluation.figure import figure_of
from selfsup.evaluation.protocol import Protocol
from selfsup.evaluation.report import write_figures
from tests.verbs import BENCHMARKS, Ended, script

Command = Callable[..., Ended]
VIDEOS = tuple(f"{number}.mp4" for number in range(20))
GROUPS = tuple(str(number // 5) for number in range(20))


def write(run: Path, seed: int, share: float = 1.0, **right: int) -> str:
    """A run in which the first `right` videos of each figure were answered rightly."""
    protocol = Protocol(
        dataset="made up",
        checksum=None,
        split="test",
        groups_kept=True,
        clips=1,
        crops=1,
        level="video",
        input_size=None,
        decoder="pyav",
        decoder_version="0",
        videos_seen=20,
        videos_refused=0,
        seeds=(seed,),
        label_fraction=share,
    )
    figures = [
        figure_of(
            name.replace("__", ", ").replace("_", " "),
            Answers(VIDEOS, tuple(float(number < count) for number in range(20)), GROUPS),
            0.5,
            protocol,
        )
        for name, count in right.items()
    ]
    run.mkdir(parents=True)
    write_figures(run / "evaluation.json", figures)
    return str(run)


def test_transfer_tells_each_share_of_the_labels_and_draws_the_curve(tmp_path: Path, command: Command) -> None:
    sides = {
        side: [
            write(tmp_path / side / f"{seed}{share}", seed, share, accuracy=count + seed + round(4 * share))
            for seed in (0, 1)
            for share in (0.5, 1.0)
        ]
        for side, count in (("scratch", 8), ("pretrained", 12))
    }
    picture = tmp_path / "curve.png"
    arguments = ["--scratch", *sides["scratch"], "--pretrained", *sides["pretrained"], "--picture", str(picture)]
    done = command(script("transfer.py"), *arguments)
    assert done.code == 0, done.err
    _, _, half, whole = done.out.splitlines()
    assert half.startswith("| 50% | 52.5 (50.0 55.0) % | 72.5 (70.0 75.0) % | +20.0 | +5.0 – +37.5 (20) |")
    assert whole.startswith("| 100% | 62.5 (60.0 65.0) % | 82.5 (80.0 85.0) % | +20.0 |")
    assert "(4) | 50.0% |" in half, "the interval over groups"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_classifiers_tells_what_the_order_of_frames_is_worth(tmp_path: Path, command: Command) -> None:
    runs = [
        write(
            tmp_path / str(seed), seed, accuracy=16, accuracy__shuffled_frames=16 - 4 * seed, accuracy__single_frame=8
        )
        for seed in (0, 1)
    ]
    done = command(script("classifiers.py"), f"lstm={','.join(runs)}")
    assert done.code == 0, done.err
    assert "| lstm | 80.0 (80.0 80.0) % |" in done.out
    assert "| -10.0 (" in done.out
    assert "| -40.0 (" in done.out
    without = command(script("classifiers.py"), f"pooling={write(tmp_path / 'without', 0, accuracy=10)}")
    assert without.out.splitlines()[-1].endswith("% |  |  | 50.0% |"), "task.controls=false"


def test_noisy_labels_are_held_against_true_ones_seed_by_seed() -> None:
    table = runpy.run_path(str(BENCHMARKS / "noisy_labels.py"))["table"]
    overlaps = {"true masks": [(0.8, 0.5), (0.9, 0.4)], "cut": [(0.6, 0.5), (0.7, 0.4)]}
    probes = [
        {"true masks": 0.5, "cut": 0.4, "untrained": 0.3, "chance": 0.125},
        {"true masks": 0.6, "cut": 0.65, "untrained": 0.2, "chance": 0.125},
    ]
    _, _, first, second, untrained, chance = table(overlaps, probes).splitlines()
    assert first == "| true masks | 85.0 (80.0 90.0) % | 55.0 (50.0 60.0) % |  |"
    assert second == "| cut | 65.0 (60.0 70.0) % | 52.5 (40.0 65.0) % | -2.5 (-10.0 +5.0) |"
    assert untrained == "| untrained | | 25.0 (30.0 20.0) % | |"
    assert chance == "| chance | 45.0 (50.0 40.0) % | 12.5 (12.5 12.5) % | |"


@pytest.mark.parametrize("name", ["transfer.py", "classifiers.py"])
def test_one_seed_cannot_be_given_twice(name: str, tmp_path: Path, command: Command) -> None:
    runs = [write(tmp_path / name, 0, accuracy=5) for name in "ab"]
    given = [f"a={','.join(runs)}"] if name == "classifiers.py" else ["--scratch", *runs, "--pretrained", *runs]
    with pytest.raises(ValueError, match=r"one of the seeds \[0, 0\] comes twice"):
        command(script(name), *given)
