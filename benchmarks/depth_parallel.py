"""Sub-networks that work at the same time against the encoder frame by frame, at batch 1, in one run.

    python benchmarks/depth_parallel.py --pixels 112 --encoder /path/to/encoder.safetensors

Every way takes the same frames, in turns, several times; what is told is the median over the turns. Run it on a machine
that does nothing else: a ratio of two ways on two cores is no ratio where others take one of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from selfsup import weights
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.resnet import ResNet
from selfsup.streaming.pipeline import DepthParallel
from selfsup.streaming.stream import HeldFrames, Stream


@dataclass
class Way:
    """One way to run the encoder, and the seconds that each frame of each turn took."""

    name: str
    threads: int
    make: Callable[[], Stream]
    lag_frames: int = 0
    turns: list[list[float]] = field(default_factory=list)

    @property
    def frames_per_second(self) -> float:
        return statistics.median(len(turn) / sum(turn) for turn in self.turns)

    @property
    def latency_ms(self) -> float:
        """From a frame's arrival to the answer about it."""
        ticks = [second for turn in self.turns for second in turn]
        return 1000 * (self.lag_frames + 1) * statistics.median(ticks)


def ways(encoder: Encoder, most: int) -> list[Way]:
    """The baseline first."""
    found = [
        Way("sequential, one thread", 1, lambda: HeldFrames(encoder)),
        Way("sequential, two intra-op threads", 2, lambda: HeldFrames(encoder)),
    ]
    for number in range(2, most + 1):
        found.append(
            Way(
                f"{number} sub-networks, a thread each",
                1,
                lambda number=number: DepthParallel(encoder, number),
                number - 1,
            )
        )
    return found


def take_turn(way: Way, frames: Sequence[Tensor]) -> None:
    """Runs the frames, after as many of them as fill the pipeline."""
    torch.set_num_threads(way.threads)
    stream = way.make()
    for frame in frames[: way.lag_frames + 3]:
        stream.step(frame)
    seconds = []
    for frame in frames:
        began = time.perf_counter()
        stream.step(frame)
        seconds.append(time.perf_counter() - began)
    way.turns.append(seconds)


def table(measured: Sequence[Way]) -> str:
    """Markdown: frames a second, over the baseline, latency."""
    baseline = measured[0].frames_per_second
    lines = ["| | frames a second | over the first | latency, ms | lag, frames |", "|---|---:|---:|---:|---:|"]
    for way in measured:
        speed = way.frames_per_second
        lines.append(f"| {way.name} | {speed:.1f} | {speed / baseline:.2f} | {way.latency_ms:.1f} | {way.lag_frames} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", help="an encoder.safetensors; ResNet-18 with random weights without")
    parser.add_argument("--pixels", type=int, default=112)
    parser.add_argument("--frames", type=int, default=100, help="of a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--sub-networks", type=int, default=2, help="up to how many")
    options = parser.parse_args()
    torch.manual_seed(0)
    encoder = weights.load(options.encoder) if options.encoder else ResNet()
    frames = list(torch.randn(options.frames, 3, options.pixels, options.pixels))
    measured = ways(encoder.eval(), options.sub_networks)
    for _ in range(options.turns):
        for way in measured:
            take_turn(way, frames)
    busy, cores = os.getloadavg()[0], os.cpu_count() or 1
    print(table(measured))
    print(f"{options.pixels} pixels, {options.turns} turns of {options.frames} frames, {cores} cores, load {busy:.1f}")


if __name__ == "__main__":
    main()
