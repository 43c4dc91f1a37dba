"""Skip RNN on videos: accuracy, frames used, and the time of decoding and all, beside uniform sub-sampling.

    python benchmarks/skipping.py --record FILE.json --encoders RUN/encoder.safetensors --data data=folder data.root=…

Each encoder is a seed; it stays as it is. Of every video it is given --frames frames, spread evenly, and LSTMs learn
from their features: an ordinary one; for each of --budgets a Skip LSTM (Campos et al. 2018, arXiv 1708.06834); and for
each of these an ordinary one of as many frames, spread evenly. Then the held-out videos are read from their files,
frame by frame, each by all networks in turn: what is not used is not encoded, nor decoded unless another needs it.
All rows are of these videos, and nothing is chosen by them.

Prints a Markdown table. A seed that the record holds is not done again. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from seed_record import recorded, spread
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from selfsup import weights
from selfsup.classifier_weights import ClipSpecification
from selfsup.classifiers.classifier import LiveHead
from selfsup.classifiers.cnn_rnn import CnnRnn, Recurrent
from selfsup.classifiers.skip_rnn import SkipRnn
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.live import FileFrames
from selfsup.data.reader import UnreadableVideo
from selfsup.data.sampling import UniformSampler
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.stored import Stored
from selfsup.live import HeadOnStream, LiveNetwork
from selfsup.stream import READ_SCALE
from selfsup.streaming.stream import HeldFrames
from selfsup.verb import CONFIGURATION

ALL, RANDOM = "LSTM, all frames", "random weights, "


class Labelled(NamedTuple):
    """A split: its videos, and the class of each, int64 (V,)."""

    paths: list[Path]
    labels: Tensor


@dataclass
class Way:
    """A network, on so many frames of a video, and what was found of it on the held-out videos."""

    name: str
    classifier: Recurrent
    frames: int
    right: int = 0
    used: int = 0
    seconds: float = 0.0


def places_of(length: int, count: int) -> list[int]:
    """The middle frames of `count` equal parts of a video of `length` frames."""
    return np.floor((np.arange(count) + 0.5) / count * length).astype(int).tolist()


def seen(frames: FileFrames, places: Sequence[int], head: LiveHead | None) -> Iterator[tuple[int, np.ndarray]]:
    """Of the frames at these places, those that the head does not skip: which of the places, and the picture."""
    turn = 0
    frames.wanted_from = places[0]
    for frame in frames:
        yield turn, frame.image
        turn += 1 + (0 if head is None else head.skip(len(places) - turn - 1))
        if turn >= len(places):
            return
        frames.wanted_from = places[turn]


class Pictures:
    """What an encoder is shown of a video: frames of a file, prepared as those of an evaluation are."""

    def __init__(self, encoder: Encoder) -> None:
        if encoder.input is None:
            raise SystemExit("this encoder.safetensors does not say what it was trained to see; take one of a run")
        self.encoder, self.input = encoder.eval(), encoder.input
        self.short_side_pixels = round(READ_SCALE * self.input.size_pixels)

    def network(self, head: LiveHead | None) -> LiveNetwork:
        """The encoder with a head on it."""
        clip = ClipSpecification(1, None, False, self.short_side_pixels, stretch=False)
        steps = HeadOnStream(HeldFrames(self.encoder), head)
        return LiveNetwork(steps, self.input, clip, torch.device("cpu"), fps=1.0)

    @torch.no_grad()
    def features(self, path: Path, count: int) -> Tensor:
        """Features (T, D) of `count` frames, averaged over space."""
        network = self.network(None)
        with closing(FileFrames(path, self.short_side_pixels)) as frames:
            places = places_of(len(frames.table), count)
            clip = torch.stack([network.prepare(image) for _, image in seen(frames, places, None)], dim=1)
        return self.encoder(clip[None]).mean(dim=(3, 4))[0].T


def read_data(overrides: Sequence[str]) -> VideoDataModule:
    """The videos that the settings name."""
    with initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
        config = compose("train", list(overrides))
    data: VideoDataModule = instantiate(config.data, _partial_=True)(sampler=UniformSampler(1))
    data.setup()
    return data


def labelled(data: VideoDataModule, split: str, count: int) -> Labelled:
    """The videos of a split; those of fewer than `count` frames are told and left out."""
    known = data.catalogue.class_numbers(split)
    if known is None:
        raise SystemExit("every video needs one label; give data that has them")
    found = []
    for info, label in zip(data.videos[split], known, strict=True):
        try:
            with closing(FileFrames(info.path, 1)) as frames:
                length = len(frames.table)
            if length < count:
                raise UnreadableVideo(info.path, f"has {length} frames, fewer than --frames {count}")
        except UnreadableVideo as error:
            print(f"  left out: {error}", file=sys.stderr)
        else:
            found.append((info.path, label))
    return Labelled([path for path, _ in found], torch.tensor([label for _, label in found]))


def train(classifier: Recurrent, features: Tensor, labels: Tensor, frames: int, steps: int) -> Recurrent:
    """Teaches a classifier on `frames` of the features (V, T, D) of each video; batches of 32 videos."""
    chosen = features[:, places_of(features.shape[1], frames)]
    clips = chosen.transpose(1, 2)[..., None, None]  # (V, D, T, 1, 1)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(clips), (32,))
        logits, more = classifier.train().answer(clips[rows])
        asked = labels[rows, None].expand(-1, frames)
        loss = F.cross_entropy(logits.flatten(0, 1), asked.flatten()) + more.get("loss", 0.0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return classifier.eval()


@torch.no_grad()
def watch(way: Way, pictures: Pictures, path: Path, label: int, count: int) -> None:
    """Answers one video from its file: the mean of the answers to all its frames, also to those passed over."""
    began = time.perf_counter()
    head = way.classifier.live(way.frames)
    network = pictures.network(head)
    answers: list[Tensor] = []
    with closing(FileFrames(path, pictures.short_side_pixels)) as frames:
        spread = places_of(len(frames.table), count)
        places = [spread[place] for place in places_of(count, way.frames)]
        for turn, image in seen(frames, places, head):
            answers += answers[-1:] * (turn - len(answers))
            logits = network.answer(image)
            assert logits is not None, "a head answers at once"
            answers.append(logits)
            way.used += 1
    answers += answers[-1:] * (way.frames - len(answers))
    joined = way.classifier.join(torch.stack(answers)[None])[0]
    way.seconds += time.perf_counter() - began
    way.right += int(joined.argmax() == label)


def ways_of(features: Tensor, labels: Tensor, classes: int, budgets: Sequence[float], steps: int) -> list[Way]:
    """The ordinary network on features (V, T, D), then each Skip LSTM and the ordinary one of as many frames."""
    count, dim = features.shape[1:]

    def ordinary(name: str, frames: int) -> Way:
        torch.manual_seed(0)
        return Way(name, train(CnnRnn(Stored(dim), classes), features, labels, frames, steps), frames)

    ways = [ordinary(ALL, count)]
    for budget in budgets:
        torch.manual_seed(0)
        skip = train(SkipRnn(Stored(dim), classes, budget_weight=budget), features, labels, count, steps)
        with torch.no_grad():
            share = skip.answer(features.transpose(1, 2)[..., None, None])[1]["used_frames"]
        name = f"Skip LSTM, λ = {budget:g}"
        ways += [Way(name, skip, count), ordinary(f"LSTM, as many as {name}", max(1, round(float(share) * count)))]
        print(f"  {name}: {float(share):.0%} of the training videos' frames", file=sys.stderr, flush=True)
    return ways


def one_seed(encoder: Encoder, data: VideoDataModule, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Accuracy, share of frames used and seconds a video of every way."""
    torch.manual_seed(seed)
    untrained = ResNet()
    untrained.input = encoder.input
    taught, held_out = (labelled(data, split, options.frames) for split in ("train", "test"))
    found: dict[str, Any] = {}
    for prefix, network, budgets in ((RANDOM, untrained, []), ("", encoder, options.budgets)):
        pictures = Pictures(network)
        features = torch.stack([pictures.features(path, options.frames) for path in taught.paths])
        ways = ways_of(features, taught.labels, len(data.catalogue.classes()), budgets, options.steps)
        for path, label in zip(held_out.paths, held_out.labels.tolist(), strict=True):
            for way in ways:
                watch(way, pictures, path, label, options.frames)
        videos = len(held_out.paths)
        for way in ways:
            found[prefix + way.name] = {
                "accuracy": way.right / videos,
                "used": way.used / videos / options.frames,
                "seconds": way.seconds / videos,
            }
    commonest = int(taught.labels.mode().values)
    found["chance"] = float((held_out.labels == commonest).float().mean())
    return found


def table(seeds: Sequence[dict[str, Any]]) -> str:
    """A row a network."""
    names = [name for name in seeds[0] if name != "chance"]
    names.sort(key=lambda name: name.startswith(RANDOM))
    lines = ["| | accuracy, % | frames used, % | times as fast as all frames |", "|---|---:|---:|---:|"]
    for name in names:
        rows = [seed[name] for seed in seeds]
        faster = statistics.fmean(seed[ALL]["seconds"] / seed[name]["seconds"] for seed in seeds)
        told = "" if name.startswith(RANDOM) else f"{faster:.2f}"  # it ran by itself
        used = 100 * statistics.fmean(row["used"] for row in rows)
        lines.append(f"| {name} | {spread([row['accuracy'] for row in rows])} | {used:.0f} | {told} |")
    return "\n".join([*lines, f"| the commonest class | {spread([seed['chance'] for seed in seeds])} | | |"])


def main() -> None:
    """Runs the seeds that the record lacks, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, required=True, help="JSON; holds every seed that has ended")
    parser.add_argument("--encoders", type=Path, nargs="+", required=True, help="one a seed")
    parser.add_argument("--frames", type=int, default=24, help="of a video")
    parser.add_argument("--budgets", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2, 3e-2], help="λ")
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--data", nargs="*", default=[], help="KEY=VALUE, as of train.py")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = read_data(options.data)

    def run(seed: int) -> dict[str, Any]:
        return one_seed(weights.load(options.encoders[seed]), data, seed, options)

    print(table(recorded(parser, options, ("frames", "budgets", "steps", "data"), range(len(options.encoders)), run)))


if __name__ == "__main__":
    main()
