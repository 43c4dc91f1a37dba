"""Clockwork on DAVIS: `python benchmarks/clockwork.py --root DAVIS --runs RUN/0 RUN/1 RUN/2 --record FILE.json`.

Each run is a folder of task=motion_segmentation with its last.ckpt. Its network runs over the sequences frame by frame,
behind every kind of clock (Shelhamer et al. 2016, arXiv 1608.03609) and behind frame skipping. A row has the share of
multiply-adds that was done, J of the masks with those of every frame (fidelity), the relative error of the features,
and J with the true masks. J counts all frames; it is averaged over those of a sequence, then over sequences.

The sequences are in two halves. What a stream is fitted or set to on one half, the linear skip and the threshold of an
adaptive clock, it is judged with on the other: the threshold is that whose work there is nearest to an asked share.
"at equal cost" is the fidelity of frame skipping at the same work, between two periods by the straight line, which
turns from one to the other reach.

What the record holds is not run again. Prints Markdown tables. Wall time is of one thread, at batch 1, on one sequence,
with each schedule in turn, the median of three rounds; beside it stands the work on that sequence.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from selfsup.data.davis import davis
from selfsup.evaluation.foreground import read_masked
from selfsup.runs import load_task, read_config
from selfsup.streaming.clockwork import Clockwork
from selfsup.streaming.skip import LinearSkip, fit_skip
from selfsup.streaming.stream import HeldFrames, Stream
from selfsup.tasks.motion_segmentation import MotionSegmentation, mean_iou

PERIODS = (1, 2, 3, 4, 6)  # of frame skipping
SKIP_STAGES = (1, 3)  # after which the skips read
ASKED = (0.75, 0.6, 0.5, 0.4)  # shares of work that thresholds are chosen for
# Adaptive clocks: the number of watched stages, whether they have the skip, and thresholds to choose from.
ADAPTIVE = {
    "adaptive, the frame itself watched": (0, False, (0.3, 0.4, 0.5)),
    "adaptive, layer1 watched": (2, False, (0.2, 0.25, 0.3, 0.4)),
    "adaptive, skip from the stem": (1, True, (0.03, 0.035, 0.04, 0.05, 0.06, 0.07, 0.08)),
}
FIXED: dict[str, tuple[dict[str, Any], bool]] = {  # arguments, and whether they have the skip
    "alternating, layer3 and layer4": ({"periods": (1, 1, 1, 2), "watched_stages": 3}, False),
    "the same, skip from layer2": ({"periods": (1, 1, 1, 2), "watched_stages": 3}, True),
    "exponential: 1, 2, 4, 8, 8": ({"periods": (1, 2, 4, 8)}, False),
    "pipelined, a cut before layer3": ({"periods": (1,), "cuts": (3,), "watched_stages": 3}, False),
    "the same, with the skip from layer2": ({"periods": (1,), "cuts": (3,), "watched_stages": 3}, True),
    "every 2nd frame but the stem, skip from it": ({"periods": (1, 2), "watched_stages": 1}, True),
    "every 3rd frame but the stem, skip from it": ({"periods": (1, 3), "watched_stages": 1}, True),
    "every 4th frame but the stem, skip from it": ({"periods": (1, 4), "watched_stages": 1}, True),
}
Make = Callable[[str], Stream]  # of a sequence


class Network:
    """A trained run: its task, and the frames and true masks of sequences as it sees them."""

    def __init__(self, folder: Path, sequences: dict[str, Path]) -> None:
        config = read_config(folder, MotionSegmentation, "--runs", "tells no foreground")
        config.task.sampler = config.task.picture_sampler = None
        self.task = load_task(config, folder, MotionSegmentation)
        self.encoder = self.task.encoder
        side = int(config.data.size_pixels)
        self.frames, self.truth = {}, {}
        for name, path in sequences.items():
            masked = read_masked(path, 240)
            seen = F.resize(masked.frames, [side, side], antialias=True)
            self.frames[name] = self.task.prepare(seen.unsqueeze(2))[:, :, 0]  # (T, C, side, side)
            truth = torch.from_numpy(masked.truth)[:, None].float()
            self.truth[name] = F.resize(truth, [self.task.mask_pixels] * 2, antialias=True)[:, 0] > 0.5
        self.features = {name: self.run(HeldFrames(self.encoder), name)[0] for name in sequences}
        self.masks = {name: self.decode(features) for name, features in self.features.items()}

    def run(self, stream: Stream, name: str) -> tuple[Tensor, float]:
        """Features (T, D, H', W') of a sequence, none counted as zeros, and the mean work."""
        stream.reset()
        found, work = [], []
        for frame in self.frames[name]:
            found.append(stream.step(frame))
            work.append(stream.work)
        last = found[-1]
        assert last is not None
        return torch.stack([torch.zeros_like(last) if one is None else one for one in found]), statistics.fmean(work)

    @torch.no_grad()
    def decode(self, features: Tensor) -> Tensor:
        """Features (T, D, H', W') to masks, bool (T, mask_pixels, mask_pixels)."""
        return self.task.decoder(features) > 0

    def measure(self, stream: Stream, name: str) -> dict[str, float]:
        """Work, fidelity of masks and of features, and J, of a stream on one sequence."""
        features, work = self.run(stream, name)
        masks, every = self.decode(features), self.features[name]
        error = (features - every).flatten(1).norm(dim=1) / every.flatten(1).norm(dim=1)
        fidelity = float(mean_iou(masks, self.masks[name]))
        truth = float(mean_iou(masks, self.truth[name]))
        return {"work": work, "fidelity": fidelity, "error": float(error.mean()), "J": truth}


def skips(network: Network, halves: Sequence[Sequence[str]]) -> dict[tuple[str, int], LinearSkip]:
    """For each sequence and number of stages, the skip that was fitted to the other half."""
    found: dict[tuple[str, int], LinearSkip] = {}
    for here, there in (halves, halves[::-1]):
        for stages in SKIP_STAGES:
            skip = fit_skip(network.encoder, [network.frames[name] for name in there], stages)
            found |= {(name, stages): skip for name in here}
    return found


def schedules(network: Network, fitted: dict[tuple[str, int], LinearSkip]) -> dict[str, Make]:
    """All that is run, by name; adaptive clocks once a threshold."""

    def clockwork(has_skip: bool, arguments: dict[str, Any]) -> Make:
        def make(name: str) -> Stream:
            skip = fitted[name, arguments["watched_stages"]] if has_skip else None
            return Clockwork(network.encoder, **arguments, skip=skip)

        return make

    def skipping(period: int) -> Make:
        return lambda name: HeldFrames(network.encoder, period)

    made = {f"frame skipping, period {period}": skipping(period) for period in PERIODS}
    made |= {name: clockwork(has_skip, arguments) for name, (arguments, has_skip) in FIXED.items()}
    for name, (stages, has_skip, thresholds) in ADAPTIVE.items():
        for threshold in thresholds:
            arguments = {"periods": (1,), "watched_stages": stages, "threshold": threshold}
            made[f"{name}, {threshold:g}"] = clockwork(has_skip, arguments)
    return made


def measure_run(network: Network, halves: Sequence[Sequence[str]], timed: str) -> dict[str, Any]:
    """All schedules on all sequences, and seconds a frame of each on one sequence."""
    fitted = skips(network, halves)
    names = [*halves[0], *halves[1]]
    rows: dict[str, dict[str, dict[str, float]]] = {}
    made = schedules(network, fitted)
    for schedule, make in made.items():
        rows[schedule] = {name: network.measure(make(name), name) for name in names}
        print(f"  {schedule}: {average(rows[schedule])}", file=sys.stderr, flush=True)
    seconds: dict[str, list[float]] = {schedule: [] for schedule in made}
    for _ in range(3):
        for schedule, make in made.items():
            stream = make(timed)
            stream.step(network.frames[timed][0])  # counts its multiply-adds
            start = time.perf_counter()
            network.run(stream, timed)
            seconds[schedule].append((time.perf_counter() - start) / len(network.frames[timed]))
    return {
        "rows": rows,
        "timed": timed,
        "seconds": {schedule: statistics.median(times) for schedule, times in seconds.items()},
    }


def average(row: dict[str, dict[str, float]]) -> dict[str, float]:
    """Means over sequences."""
    keys = next(iter(row.values()))
    return {key: statistics.fmean(one[key] for one in row.values()) for key in keys}


def chosen(rows: dict[str, Any], name: str, halves: Sequence[Sequence[str]], asked: float) -> dict[str, Any]:
    """The row of an adaptive clock, each half with the threshold whose work on the other is nearest to `asked`."""
    row: dict[str, dict[str, float]] = {}
    thresholds: list[float] = []
    for here, there in (halves, halves[::-1]):
        options = {
            threshold: statistics.fmean(rows[f"{name}, {threshold:g}"][one]["work"] for one in there)
            for threshold in ADAPTIVE[name][2]
        }
        best = min(options, key=lambda threshold: abs(options[threshold] - asked))
        thresholds.append(best)
        row |= {one: rows[f"{name}, {best:g}"][one] for one in here}
    return {**average(row), "thresholds": thresholds}


def at_equal_cost(rows: dict[str, Any], work: float, key: str) -> float:
    """What frame skipping has at this work, on the straight line between two of its periods."""
    points = sorted(
        (mean["work"], mean[key]) for mean in (average(rows[f"frame skipping, period {n}"]) for n in PERIODS)
    )
    works, values = zip(*points, strict=True)
    return float(np.interp(work, np.array(works), np.array(values)))


def listed(runs: Sequence[dict[str, Any]], halves: Sequence[Sequence[str]]) -> dict[str, list[dict[str, Any]]]:
    """By label, the row of each run; with its wall time, of that of every frame, and its work where it was timed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        rows, whole, timed = run["rows"], run["seconds"][f"frame skipping, period {PERIODS[0]}"], run["timed"]
        made: dict[str, dict[str, Any]] = {
            name: {**average(row), "of": [name]} for name, row in rows.items() if not name.startswith(tuple(ADAPTIVE))
        }
        for name in ADAPTIVE:
            for asked in ASKED:
                row = chosen(rows, name, halves, asked)
                made[f"{name}, asked for {asked:g}"] = {**row, "of": [f"{name}, {one:g}" for one in row["thresholds"]]}
        for name, row in made.items():
            members: list[str] = row["of"]
            wall = statistics.fmean(run["seconds"][one] / whole for one in members)
            work = statistics.fmean(rows[one][timed]["work"] for one in members)
            found.setdefault(name, []).append({**row, "wall": wall, "timed": work})
    return found


def table(runs: Sequence[dict[str, Any]], halves: Sequence[Sequence[str]]) -> str:
    """A row a schedule, each value the mean over runs; the differences of each run."""
    lines = [
        "| schedule | work | fidelity J | skipping at equal cost | difference (runs) | error of features | skipping at "
        "equal cost | J with the truth | wall time (work there) |",
        "|---|" + "---:|" * 8,
    ]
    for label, rows in listed(runs, halves).items():
        means = {key: statistics.fmean(row[key] for row in rows) for key in rows[0] if key not in ("of", "thresholds")}
        pairs = list(zip(runs, rows, strict=True))
        equal, errors = (
            [at_equal_cost(run["rows"], row["work"], of) for run, row in pairs] for of in ("fidelity", "error")
        )
        gains = [100 * (row["fidelity"] - other) for row, other in zip(rows, equal, strict=True)]
        each = " ".join(f"{gain:+.1f}" for gain in gains)
        lines.append(
            f"| {label} | {means['work']:.2f} | {100 * means['fidelity']:.1f} | {100 * statistics.fmean(equal):.1f} | "
            f"{statistics.fmean(gains):+.1f} ({each}) | {means['error']:.3f} | {statistics.fmean(errors):.3f} | "
            f"{100 * means['J']:.1f} | {means['wall']:.2f} ({means['timed']:.2f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of DAVIS 2016")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders of task=motion_segmentation")
    parser.add_argument("--record", type=Path, required=True, help="JSON; holds every run that has ended")
    parser.add_argument("--sequences", nargs="+", help="all by default; at least two")
    parser.add_argument("--timed", help="the sequence of the wall time; by default the first")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = {video.path.stem: video.path for video in davis(options.root).videos}
    names = options.sequences or sorted(known)
    timed = options.timed or names[0]
    if unknown := [name for name in [*names, timed] if name not in known]:
        parser.error(f"no sequence {unknown[0]!r} in {options.root}; there are {', '.join(known)}")
    if len(names) < 2:
        parser.error(f"--sequences {names[0]}: one half is judged by what the other gives; name two or more")
    halves = [names[0::2], names[1::2]]
    record = json.loads(options.record.read_text(encoding="utf-8")) if options.record.exists() else {}
    for folder in options.runs:
        if str(folder) not in record:
            print(folder, file=sys.stderr, flush=True)
            network = Network(folder, {name: known[name] for name in names})
            record[str(folder)] = {"halves": halves, **measure_run(network, halves, timed)}
            options.record.write_text(json.dumps(record) + "\n", encoding="utf-8")
    runs = [record[str(folder)] for folder in options.runs]
    if wrong := [run["halves"] for run in runs if run["halves"] != halves]:
        parser.error(f"{options.record} holds a run on {wrong[0]}; give another --record")
    print(f"halves: {' '.join(halves[0])} | {' '.join(halves[1])}\n")
    print(table(runs, halves))


if __name__ == "__main__":
    main()
