"""A quick look at what encoders know: 1-nearest-neighbour and linear probe on labelled videos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from selfsup.data.catalogue import SPLITS, SpanCatalogue
from selfsup.data.datamodule import VideoDataModule
from selfsup.data.sampling import UniformSampler
from selfsup.encoders.encoder import Encoder
from selfsup.evaluation.features import Reading, Time, extract_features, usual_frames
from selfsup.evaluation.knn import knn
from selfsup.evaluation.linear_probe import linear_probe


@dataclass(frozen=True)
class Probe:
    """Fits on train, chooses the probe's regularisation on val, reports on test.

    Args:
        num_frames: frames a video, evenly spaced; None for 8, and 16 where the encoder is 3-D.
        max_videos: videos a split, drawn at random where there are more.
        stage: read the features after this many of the encoder's stages; None for all.
        time: "mean" of the features over time, or "concat", which keeps the order of the frames.
        seed: of the draw.
    """

    num_frames: int | None = None
    max_videos: int = 2000
    stage: int | None = None
    time: Time = "mean"
    seed: int = 0

    def __call__(
        self, encoders: Mapping[str, Encoder], data: VideoDataModule, normalize: Callable[[Tensor], Tensor]
    ) -> list[dict[str, str | float]]:
        """A row a figure: its name, the value of each encoder, and chance, the share of the largest class.

        Empty where a split is missing, or where there are fewer than two classes to tell apart. Raises ValueError
        where frames have labels, and no video as a whole.
        """
        if isinstance(data.catalogue, SpanCatalogue):
            raise ValueError("frames have labels here (data.labels=frame), and a probe wants one a video")
        if len(data.catalogue.classes()) < 2 or not all(data.videos[split] for split in SPLITS):
            return []
        frames = self.num_frames or max(map(usual_frames, encoders.values()))
        readings = {
            name: Reading(encoder, lambda clip: normalize(clip.float() / 255.0), self.stage, self.time)
            for name, encoder in encoders.items()
        }
        features, labels = {}, {}
        for split in SPLITS:
            batches = data.clips(split, UniformSampler(frames), self.max_videos, self.seed)
            features[split] = extract_features(readings, batches)
            numbers = next(iter(features[split].values())).videos.tolist()
            labels[split] = [data.catalogue.labels[split][number] for number in numbers]
        figures: dict[str, dict[str, float]] = {"1-NN": {}, "linear probe": {}}
        chance = 0.0
        for name in encoders:
            values = {split: features[split][name].values.numpy() for split in SPLITS}
            fitted = linear_probe(
                values["train"],
                labels["train"],
                values["val"],
                labels["val"],
                values["test"],
                labels["test"],
                self.seed,
            )
            figures["linear probe"][name] = fitted.accuracy
            chance = fitted.majority
            nearest = knn(values["train"], labels["train"], values["test"], labels["test"])
            figures["1-NN"][name] = nearest.accuracy
        what = f"{len(data.catalogue.classes())} classes, test videos"
        return [{"figure": f"{figure} ({what})", **values, "chance": chance} for figure, values in figures.items()]
