"""One vector a video: the encoder's feature map, averaged over space, time and the clips of the video.

The mean over time knows nothing of order. Where the classes are movements of which it matters what comes first, the
features of each moment can be laid side by side instead.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from selfsup.encoders.encoder import Encoder, FrameEncoder

Time = Literal["mean", "concat"]


class Features(NamedTuple):
    """`values`, float32 (V, D) on the CPU; row i is of the video of number `videos[i]`, int64, sorted."""

    values: Tensor
    videos: Tensor


@dataclass(frozen=True)
class Reading:
    """How an encoder's features are taken.

    Args:
        encoder: run in evaluation mode; its training mode, also of each frozen part, is restored afterwards.
        transform: from the clip, on the encoder's device, to the normalised float that the encoder takes.
        stage: read the features after this many of `encoder.stages`; None for all.
        time: "mean" over the map's T' moments, or "concat", their features side by side: D is then T' times larger,
            and every clip must have the same T'.
        vector: from the map (B, D, T', H', W') to (B, N), in place of the mean and of `time`.

    Raises:
        ValueError: no such stage, or no such way to read time.
    """

    encoder: Encoder
    transform: Callable[[Tensor], Tensor] | None = None
    stage: int | None = None
    time: Time = "mean"
    vector: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        _check_stage(self.encoder, self.stage)
        if self.time not in get_args(Time):
            raise ValueError(f"time={self.time!r}: choose one of {', '.join(get_args(Time))}")

    def __call__(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to features (B, D), float32 on the CPU."""
        return self.read(self.map(clip))

    def map(self, clip: Tensor) -> Tensor:
        """Clip (B, C, T, H, W) to the map (B, D, T', H', W') that is read, on the encoder's device."""
        device = next((parameter.device for parameter in self.encoder.parameters()), torch.device("cpu"))
        clip = clip.to(device, non_blocking=True)
        clip = clip if self.transform is None else self.transform(clip)
        return feature_map(self.encoder, clip, self.stage)

    def read(self, maps: Tensor) -> Tensor:
        """The map (B, D, T', H', W') to features (B, D), float32 on the CPU."""
        vectors = pooled(maps, self.time) if self.vector is None else self.vector(maps)
        return vectors.float().cpu()


def usual_frames(encoder: Encoder) -> int:
    """How many evenly spaced frames of a video are read where no number is given: 8, and 16 for a 3-D encoder."""
    return 8 if isinstance(encoder, FrameEncoder) else 16


def extract_features(readings: Mapping[str, Reading], batches: Iterable[Mapping[str, Any]]) -> dict[str, Features]:
    """Runs encoders, in evaluation mode and without gradients, over the same clips, which are decoded once.

    Args:
        readings: what is read, by name.
        batches: dicts of "clip" (B, C, T, H, W) and "video" int64 (B,), the number of each clip's video. A
            batch without "clip", in which no video could be read, is passed over; its videos get no row.

    Raises:
        ValueError: no clip at all, or features that are not finite.
    """
    modes = {module: module.training for reading in readings.values() for module in reading.encoder.modules()}
    rows: dict[str, list[Tensor]] = {name: [] for name in readings}
    numbers = []
    for reading in readings.values():
        reading.encoder.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                if "clip" not in batch:
                    continue
                maps: dict[Any, Tensor] = {}  # one pass through a network, however many ways its map is read
                for name, reading in readings.items():
                    passed = (reading.encoder, reading.transform, reading.stage)
                    if passed not in maps:
                        maps[passed] = reading.map(batch["clip"])
                    rows[name].append(reading.read(maps[passed]))  # (B, D)
                numbers.append(batch["video"].cpu())
    finally:
        for module, training in modes.items():
            module.training = training
    if not numbers:
        raise ValueError("no clip to extract features from; check that the split has videos that can be read")
    return {name: _of_videos(torch.cat(rows[name]), torch.cat(numbers)) for name in readings}


def _of_videos(clips: Tensor, numbers: Tensor) -> Features:
    """The mean of the clips (N, D) of each video."""
    videos, row = numbers.unique(return_inverse=True)
    sums = clips.new_zeros(len(videos), clips.shape[1], dtype=torch.float64).index_add_(0, row, clips.double())
    values = (sums / row.bincount()[:, None]).float()
    if not values.isfinite().all():
        broken = videos[~values.isfinite().all(dim=1)].tolist()
        raise ValueError(
            f"the features of {len(broken)} of {len(videos)} videos are not finite (numbers {broken[:3]}); "
            f"the encoder has diverged: lower the learning rate or load an earlier checkpoint"
        )
    return Features(values, videos)


def pooled(maps: Tensor, time: Time = "mean") -> Tensor:
    """Map (B, D, T', H', W') to (B, D), the mean over H', W' and T'; with time="concat" to (B, T' D), in order."""
    moments = maps.mean(dim=(3, 4)).transpose(1, 2)  # (B, T', D)
    return moments.mean(dim=1) if time == "mean" else moments.flatten(1)


def feature_map(encoder: Encoder, clip: Tensor, stage: int | None = None) -> Tensor:
    """Clip (B, C, T, H, W) to the map (B, D, T', H', W') after `stage` stages, None for all."""
    _check_stage(encoder, stage)
    if stage is None:
        return encoder(clip)
    encoder.check(clip)
    stages = encoder.stages[:stage]
    if not isinstance(encoder, FrameEncoder):
        return stages(clip)
    maps = stages(clip.transpose(1, 2).flatten(0, 1))  # (B*T, D, H', W')
    return maps.unflatten(0, (clip.shape[0], clip.shape[2])).transpose(1, 2)


def _check_stage(encoder: Encoder, stage: int | None) -> None:
    if stage is not None and not 1 <= stage <= len(encoder.stages):
        names = ", ".join(encoder.stage_names)
        raise ValueError(
            f"stage {stage}: {type(encoder).__name__} has the stages 1 to {len(encoder.stages)} ({names}); "
            f"choose one of them, or None for all"
        )


def labelled(
    values: ArrayLike, labels: Sequence[str | int | None] | NDArray[Any], name: str
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Features (V, D) and their V labels as arrays; ValueError, naming the set, where they cannot be used."""
    matrix, classes = np.asarray(values, dtype=np.float64), np.asarray(labels)
    if matrix.ndim != 2 or len(matrix) == 0:
        raise ValueError(f"the {name} features have shape {matrix.shape}; give (videos, features), at least one video")
    if classes.shape != (len(matrix),):
        raise ValueError(f"{len(matrix)} {name} features but labels of shape {classes.shape}; give one label a video")
    if any(label is None for label in classes.tolist()):
        raise ValueError(f"some {name} videos have no label; label them all, or leave them out")
    if not np.isfinite(matrix).all():
        raise ValueError(f"some {name} features are not finite; the encoder has diverged")
    return matrix, classes


def check_known(known: NDArray[Any], labels: NDArray[Any], known_name: str, name: str) -> None:
    """ValueError where `labels`, those of the set `name`, hold a class that `known` lacks."""
    if new := sorted(set(labels.tolist()) - set(known.tolist()), key=str):
        classes = "class" if len(new) == 1 else "classes"
        raise ValueError(
            f"the {name} videos have {len(new)} {classes} that the {known_name} videos lack "
            f"({', '.join(map(str, new[:3]))}); move a group of each into {known_name}, or leave them out"
        )
