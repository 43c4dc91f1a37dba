"""An hour of a looped file through `selfsup stream`'s own loop: is memory flat, and is every frame accounted for?

    python benchmarks/streaming.py

108,000 frames are an hour at 30 a second; they are decoded as fast as the policy lets them. A small network with an
LSTM answers. Under `block` none may be lost; under `drop_oldest`, where nothing slows the source, taken + dropped +
waiting must be what was produced. Resident memory (Linux: VmRSS) is read again and again; what counts is how it grows
after the first tenth of the readings.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from selfsup.classifier_weights import ClipSpecification, Trained
from selfsup.classifiers.cnn_rnn import CnnRnn
from selfsup.data.frame_queue import POLICIES, FrameQueue
from selfsup.data.live import FileFrames
from selfsup.data.synthetic import write_synthetic
from selfsup.encoders.encoder import FrameEncoder, InputSpecification
from selfsup.live import HeadOnStream, LiveNetwork
from selfsup.live_run import LiveRun
from selfsup.streaming.stream import HeldFrames

SIZE_PIXELS = 32
EVERY = 100  # frames between two readings of the memory
FLAT_MIB = 8.0  # what allocators of threads, decoder and torch may still take after the first tenth


class Small(FrameEncoder):
    """Two convolutions: what is measured is all that lies around the network."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 16
        layers = [nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()]
        self.stages = nn.Sequential(nn.Sequential(*layers))


class Watched(LiveNetwork):
    """Reads the resident memory every so many frames that it looks at."""

    count = 0
    memory_mib: list[float]

    def answer(self, image: np.ndarray) -> Tensor | None:
        if self.count % EVERY == 0:
            self.memory_mib.append(resident_mib())
        self.count += 1
        return super().answer(image)


def resident_mib() -> float:
    """Of this process."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(rows["VmRSS"].split()[0]) / 1024


def streamed(video: Path, policy: str, frames: int) -> dict[str, float]:
    """One run over so many frames of the looped video."""
    torch.manual_seed(0)
    input = InputSpecification(SIZE_PIXELS, (0.5,) * 3, (0.25,) * 3, None)
    clip = ClipSpecification(8, None, False, 37, stretch=False)
    classifier = CnnRnn(Small(), 3, hidden_dim=16)
    trained = Trained(classifier.eval(), ("a", "b", "c"), "video", input, clip, {})
    source = FileFrames(video, clip.short_side_pixels, loop=True)
    steps = HeadOnStream(HeldFrames(classifier.encoder), classifier.live(8))
    network = Watched(steps, input, clip, torch.device("cpu"), source.fps)
    network.memory_mib = []
    queue = FrameQueue(source, size=4, policy=policy)
    start = time.perf_counter()
    run = LiveRun(network, queue, trained, None, Console(file=io.StringIO()), frames, frames)
    failure = run.to_its_end()
    assert failure is None, failure
    tenth = network.memory_mib[len(network.memory_mib) // 10]
    counts: dict[str, float] = run.figures()["frames"]
    return {**counts, "seconds": time.perf_counter() - start, "tenth": tenth, "end": resident_mib()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--frames", type=int, default=108_000, help="of the source, for each policy (default: an hour's)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| policy | produced | taken | dropped | waiting | seconds | memory after a tenth, MiB | at the end |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(Path(folder) / "set", videos=3, size_pixels=64, processes=1)
        video = min((Path(folder) / "set").rglob("*.mp4"))
        for policy in sorted(POLICIES):
            row = streamed(video, policy, options.frames)
            print(
                f"| {policy} | {row['produced']:,} | {row['taken']:,} | {row['dropped']:,} | {row['waiting']} "
                f"| {row['seconds']:.0f} | {row['tenth']:.1f} | {row['end']:.1f} |"
            )
            if row["produced"] != row["taken"] + row["dropped"] + row["waiting"] or row["produced"] < options.frames:
                wrong.append(f"{policy}: the counts do not add up")
            if policy == "block" and row["dropped"]:
                wrong.append("block: frames are lost")
            if row["end"] - row["tenth"] > FLAT_MIB:
                wrong.append(f"{policy}: memory grew by {row['end'] - row['tenth']:.1f} MiB")
    print(f"\n{'; '.join(wrong) or 'every frame is accounted for, and memory is flat'}")


if __name__ == "__main__":
    main()
