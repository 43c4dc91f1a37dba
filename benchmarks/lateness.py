"""What answers that come late cost, and what foreseeing brings: `python benchmarks/lateness.py --record FILE.json`.

ResNet-18 cut into n sub-networks (Carreira et al. 2018, arXiv 1806.03863) and a GRU name the action of each frame of
`data=changing`, at 10 frames a second, beside the label of the newest frame. A seed trains one encoder on single
frames; it is frozen, and every head is taught alike on what its sub-networks make of the frames. (b) is the sequential
head, n = 1, run late; (c) is taught the label of the newest frame; (d) is besides given the newest output of every
sub-network. "perfect, late" is the true label of n - 1 frames ago, which no (b) can beat. The first frames of a video,
as many as the deepest pipeline needs, are judged for no n. Nothing is chosen by the test videos.

Prints a Markdown table, a row a number of sub-networks. A seed that the record holds is not done again. One thread.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from seed_record import recorded, spread
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from selfsup.classifiers.depth_parallel import DepthParallelRnn
from selfsup.data.labels import multi_hot
from selfsup.data.reader import VideoReader
from selfsup.data.spans import read_spans
from selfsup.data.synthetic_changes import cached_changing
from selfsup.data.synthetic_scenes import ACTIONS
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.sub_networks import units

VIDEO: dict[str, Any] = {"size_pixels": 64, "actions": 5, "fps": 10}
ROOM_PIXELS = 4  # by which a training crop is moved
MEAN, DEVIATION = 0.45, 0.25  # of pixels
KINDS: dict[str, dict[str, Any]] = {
    "(b) depth-parallel": {"predictive": False},
    "(c) predictive": {"predictive": True},
    "(d) with skip connections": {"predictive": True, "skip_connections": True},
}


class Videos(NamedTuple):
    """Frames uint8 (V, T, 3, H, W) of a split, and the class of each, int64 (V, T)."""

    frames: Tensor
    labels: Tensor


def read(options: argparse.Namespace) -> dict[str, Videos]:
    """The videos of train and test, cut to the length of the shortest."""
    manifest = cached_changing(videos=options.videos, **VIDEO)
    found: dict[str, list[tuple[Tensor, Tensor]]] = {"train": [], "test": []}
    for video in read_spans(manifest, manifest.parent).videos:
        if video.split in found:
            with VideoReader(video.path, short_side_pixels=options.size_pixels + ROOM_PIXELS) as reader:
                times = torch.as_tensor(reader.times_seconds)
                labels = multi_hot(video.spans or (), ACTIONS, times).argmax(dim=1)
                found[video.split].append((reader.frames(times.tolist()), labels))
    shortest = min(len(labels) for videos in found.values() for _, labels in videos)
    return {
        split: Videos(*(torch.stack([part[:shortest] for part in parts]) for parts in zip(*videos, strict=True)))
        for split, videos in found.items()
    }


def cropped(frames: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    """Frames uint8 (N, 3, H, W) to normalised floats (N, 3, size, size): a random crop, or the middle."""
    top, left = (ROOM_PIXELS // 2,) * 2
    if generator is not None:
        top, left = torch.randint(ROOM_PIXELS + 1, (2,), generator=generator).tolist()
    return (frames[..., top : top + size, left : left + size].float() / 255 - MEAN) / DEVIATION


def train_encoder(videos: Videos, options: argparse.Namespace, generator: torch.Generator) -> ResNet:
    """ResNet-18 that names the action of single frames."""
    encoder, head = ResNet(), nn.Linear(512, len(ACTIONS))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-3, weight_decay=0.05)
    schedule = OneCycleLR(optimizer, 1e-3, total_steps=options.encoder_steps)
    frames, labels = videos.frames.flatten(0, 1), videos.labels.flatten()
    for step in range(1, options.encoder_steps + 1):
        rows = torch.randint(len(frames), (64,), generator=generator)
        maps = encoder.stages(cropped(frames[rows], options.size_pixels, generator))
        loss = F.cross_entropy(head(maps.mean(dim=(2, 3))), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"  encoder, step {step}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    return encoder.eval()


@torch.no_grad()
def described(encoder: ResNet, videos: Videos, size: int) -> list[Tensor]:
    """What each of the smallest parts of the encoder makes of each frame, averaged over space, float (V, T, D)."""
    parts, found = units(encoder), []
    for frames in videos.frames:
        maps, means = cropped(frames, size, None), []
        for part in parts:
            maps = part.network(maps)
            means.append(maps.mean(dim=(2, 3)))
        found.append(means)
    return [torch.stack(of_part) for of_part in zip(*found, strict=True)]


def known(classifier: DepthParallelRnn, parts: Sequence[Tensor]) -> Tensor:
    """What the classifier knows at each tick, (V, T, D), from the outputs of the smallest parts."""
    ends = torch.tensor(classifier.cut).cumsum(0) - 1
    layers = torch.tensor([len(part.network) for part in units(classifier.encoder)]).cumsum(0) - 1
    outputs = [parts[int(torch.nonzero(layers == end))] for end in ends]
    return classifier.known(outputs if classifier.skip_connections else outputs[-1:])


def train_head(
    classifier: DepthParallelRnn, parts: Sequence[Tensor], labels: Tensor, options: argparse.Namespace
) -> None:
    """Teaches the recurrent network and the last layer; batches of 32 videos."""
    optimizer = torch.optim.Adam([*classifier.rnn.parameters(), *classifier.head.parameters()], lr=2e-3)
    schedule = OneCycleLR(optimizer, 2e-3, total_steps=options.head_steps)
    features = known(classifier.train(), parts)
    for _ in range(options.head_steps):
        rows = torch.randint(len(labels), (32,))
        logits = classifier.head(classifier.dropout(classifier.states_of(features[rows])))
        late = classifier.warm_up
        loss = F.cross_entropy(logits[:, late:].flatten(0, 1), labels[rows, late:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def accuracy(classifier: DepthParallelRnn, parts: Sequence[Tensor], labels: Tensor, judged: int) -> float:
    """The share of the last `judged` frames of each video whose action is named when they come in."""
    features = known(classifier.eval(), parts)
    answers = classifier.head(classifier.states_of(features)).argmax(dim=2)
    return float((answers[:, -judged:] == labels[:, -judged:]).float().mean())


def heads(
    encoder: ResNet, videos: dict[str, Videos], counts: Sequence[int], judged: int, options: argparse.Namespace
) -> dict[str, float]:
    """The accuracy of each kind of head on this encoder, by kind and number of sub-networks."""
    taught, held_out = (described(encoder, videos[split], options.size_pixels) for split in ("train", "test"))
    found: dict[str, float] = {}
    sequential: dict[str, Tensor] = {}
    for kind, settings in KINDS.items():
        for count in counts:
            if count == 1 and sequential:
                continue
            torch.manual_seed(0)
            classifier = DepthParallelRnn(encoder, len(ACTIONS), count, hidden_dim=128, **settings)
            if count > 1 and not classifier.predictive:
                classifier.load_state_dict(sequential)
            else:
                train_head(classifier, taught, videos["train"].labels, options)
            if count == 1:
                sequential = classifier.state_dict()
            found[f"{kind} {count}"] = accuracy(classifier, held_out, videos["test"].labels, judged)
            print(f"  {kind} {count}: {found[f'{kind} {count}']:.3f}", file=sys.stderr, flush=True)
    return found


def one_seed(seed: int, options: argparse.Namespace) -> dict[str, float]:
    """The accuracies of a seed, those on an encoder of random weights, and of guesses."""
    torch.manual_seed(seed)
    videos, counts = read(options), sorted({1, *options.sub_networks})
    labels = videos["test"].labels
    judged = labels.shape[1] - (counts[-1] - 1)
    random = heads(ResNet().eval(), videos, [1], judged, options)
    found = {f"random {name}": value for name, value in random.items()}
    encoder = train_encoder(videos["train"], options, torch.Generator().manual_seed(seed))
    found |= heads(encoder, videos, counts, judged, options)
    shown = labels[:, -judged:]
    commonest = int(videos["train"].labels.flatten().mode().values)
    found["chance"] = float((shown == commonest).float().mean())
    for count in counts:
        late = labels[:, counts[-1] - count : labels.shape[1] - (count - 1)]
        found[f"perfect {count}"] = float((late == shown).float().mean())
    return found


def table(done: Sequence[dict[str, float]], counts: Sequence[int]) -> str:
    """A row a number of sub-networks."""
    sequential = next(iter(KINDS))
    lines = [f"| n | perfect, late | {' | '.join(KINDS)} |", "|---:|" + "---:|" * (len(KINDS) + 1)]
    for count in sorted({1, *counts}):
        names = [f"{kind if count > 1 else sequential} {count}" for kind in KINDS]
        cells = [spread([seed[name] for seed in done]) for name in names]
        lines.append(f"| {count} | {100 * done[0][f'perfect {count}']:.1f} | {' | '.join(cells)} |")
    random = spread([seed[f"random {sequential} 1"] for seed in done])
    return "\n".join([*lines, "", f"n = 1 on random weights: {random}; chance: {100 * done[0]['chance']:.1f}"])


def main() -> None:
    """Runs the seeds that the record lacks, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, required=True, help="JSON; holds every seed that has ended")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sub-networks", type=int, nargs="+", default=[2, 3, 5, 9])
    parser.add_argument("--videos", type=int, default=240)
    parser.add_argument("--size-pixels", type=int, default=40)
    parser.add_argument("--encoder-steps", type=int, default=400)
    parser.add_argument("--head-steps", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = ("sub_networks", "videos", "size_pixels", "encoder_steps", "head_steps")
    done = recorded(parser, options, names, options.seeds, lambda seed: one_seed(seed, options))
    print(table(done, options.sub_networks))


if __name__ == "__main__":
    main()
