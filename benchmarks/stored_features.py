"""What stored features save, and what they cost in accuracy, against training from the videos.

    python benchmarks/stored_features.py data=manifest data.manifest=VIDEOS.csv               seconds an epoch
    python benchmarks/stored_features.py --accuracy 3 data=manifest data.manifest=VIDEOS.csv  accuracy, over 3 seeds

A linear classifier is trained on the features that `selfsup extract` wrote, and from the videos through the same
encoder, with every stage trained ("end to end") and with none ("frozen"): eight frames a video, the same batches, and
the trainer, callbacks and logger of a run. An epoch is all that happens from its start to that of the next: reading,
training, validation where there are val videos, metrics and checkpoint. Epochs on stored features are measured before
and after those on videos, so that a busy machine slows both; the ratio is against their median.

For accuracy, whole frames are squeezed into the square and never mirrored, so that training from the videos sees what
was extracted but for the moments, which it draws at random in each eighth of the video. Both heads of a seed start
with the same weights and see the same videos in the same order.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from selfsup import weights
from selfsup.callbacks.quarantine import Quarantine
from selfsup.data.resumable import ResumableDataModule
from selfsup.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from selfsup.encoders.encoder import InputSpecification
from selfsup.encoders.resnet import ResNet
from selfsup.extract import extract
from selfsup.precision import best_precision
from selfsup.tasks.action_recognition import ActionRecognition
from selfsup.train import make_trainer
from selfsup.verb import CONFIGURATION, quiet

NUM_FRAMES = 8
ONE_VIEW = ("data.stretch=true", "data.flip=false", "data.crop_scale=[1.0,1.0]")


class Stopwatch(pl.Callback):
    """Notes when each epoch starts, and when the training ends."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.moments.append(time.perf_counter())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.moments.append(time.perf_counter())

    def epochs_seconds(self) -> list[float]:
        """One number an epoch."""
        return [after - before for before, after in itertools.pairwise(self.moments)]


class Experiment:
    """One encoder, its stored features and the videos that they were extracted from, under one seed.

    Args:
        folder: for features, checkpoints and metrics.
        encoder: an encoder.safetensors; None for a ResNet-18 with random weights, at 112 pixels.
        overrides: key=value as for train.py; those of `data` hold for extraction too.
        seed: of splits, order, moments and the classifier's weights.
        own: settings of this measurement, which `overrides` may replace.
    """

    def __init__(
        self, folder: Path, encoder: Path | None, overrides: list[str], seed: int = 0, own: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.encoder = encoder or random_encoder(folder)
        self.overrides = overrides
        self.seed = seed
        self.of_videos = [*own, *(override for override in overrides if override.lstrip("+~").startswith("data"))]
        begin = time.perf_counter()
        own_keys = [f"encoder.path={self.encoder}", f"num_frames={NUM_FRAMES}", f"seed={seed}"]
        config = self._compose("extract", [*self.of_videos, *own_keys])
        self.features = extract(config, folder)
        self.extraction_seconds = time.perf_counter() - begin
        self.batch_size = config.data.batch_size

    def run(self, kind: str, epochs: int) -> tuple[list[float], pl.Trainer, ResumableDataModule]:
        """Trains on "stored" features, or from videos, "end to end" or "frozen". Returns seconds an epoch."""
        config = self._config(kind, epochs)
        pl.seed_everything(self.seed, verbose=False)
        task: ActionRecognition = instantiate(config.task, _partial_=True)(encoder=instantiate(config.encoder).train())
        data = instantiate(config.data, _partial_=True)(
            sampler=task.sampler, evaluation_sampler=task.evaluation_sampler
        )
        data.setup()
        pl.seed_everything(self.seed, verbose=False)  # building an encoder draws numbers; all heads start alike
        task.begin(data.catalogue)
        stopwatch = Stopwatch()
        quarantine = Quarantine(data, data.max_failed_fraction)
        callbacks = [quarantine, instantiate(config.checkpoint), stopwatch]
        trainer = make_trainer(config, self.folder, callbacks, checkpoint=None)
        trainer.fit(task, data)
        return stopwatch.epochs_seconds(), trainer, data

    def accuracy(self, kind: str, epochs: int) -> float:
        """Of the held-out videos, in percent, after the training."""
        _, trainer, data = self.run(kind, epochs)
        held_out = data.held_out(data.catalogue.reported)
        return 100 * trainer.test(trainer.lightning_module, held_out, verbose=False)[0]["test/accuracy"]

    def _config(self, kind: str, epochs: int) -> DictConfig:
        others = [override for override in self.overrides if override not in self.of_videos]
        frozen = f"task.freeze={'all' if kind == 'frozen' else 'none'}"
        if kind == "stored":
            data = ["data=features", f"data.path={self.features}", f"data.batch_size={self.batch_size}"]
        else:
            data = [*self.of_videos, "encoder=pretrained", f"encoder.path={self.encoder}", frozen]
        own = [f"seed={self.seed}", f"trainer.max_epochs={epochs}", f"clips.training.num_segments={NUM_FRAMES}"]
        folders = [f"checkpoint.folder={self.folder}", "pictures=null", f"logger.csv.save_dir={self.folder}"]
        return self._compose("train", ["task=action_recognition", *folders, *own, *data, *others])

    def _compose(self, verb: str, overrides: list[str]) -> DictConfig:
        with initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
            config = compose(verb, overrides)
        OmegaConf.resolve(config)
        return config


def random_encoder(folder: Path) -> Path:
    """The file of an untrained ResNet-18."""
    path = folder / "encoder.safetensors"
    torch.manual_seed(0)
    specification = InputSpecification(size_pixels=112, mean=IMAGENET_MEAN, std=IMAGENET_STD, fps=None)
    weights.save(ResNet(18), path, input=specification, task="none", data={})
    return path


def compare_seconds(experiment: Experiment, epochs: int, repeats: int) -> dict[str, Any]:
    """Prints a table of seconds an epoch, and the ratio to the median of those on stored features."""
    seconds: dict[str, list[float]] = {"stored": [], "end to end": [], "frozen": []}
    for _ in range(repeats):
        seconds["stored"] += experiment.run("stored", epochs)[0]
        for kind in ("end to end", "frozen"):
            seconds[kind] += experiment.run(kind, 1)[0]
        seconds["stored"] += experiment.run("stored", epochs)[0]
    medians = {kind: statistics.median(of) for kind, of in seconds.items()}
    print("| one epoch | seconds | of stored features |")
    print("|---|---|---|")
    for kind, name in (("stored", "stored features"), ("frozen", "frozen encoder"), ("end to end", "end to end")):
        print(f"| {name} | {medians[kind]:.3f} | {medians[kind] / medians['stored']:.0f} |")
    print(f"\nextraction, once: {experiment.extraction_seconds:.1f} s")
    return {"seconds": {kind: [round(one, 4) for one in of] for kind, of in seconds.items()}}


def compare_accuracy(experiments: list[Experiment], epochs: int) -> dict[str, Any]:
    """Prints the accuracy of stored features and of the frozen encoder, and their difference, paired by seed."""
    found = {kind: [one.accuracy(kind, epochs) for one in experiments] for kind in ("stored", "frozen")}
    found["difference"] = [one - other for one, other in zip(found["stored"], found["frozen"], strict=True)]
    print("| accuracy, held-out videos | mean ± deviation | by seed |")
    print("|---|---|---|")
    for name, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"| {name} | {statistics.fmean(values):.1f} ± {spread:.1f} % | {', '.join(f'{v:.1f}' for v in values)} |")
    return {"accuracy": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, help="an encoder.safetensors (default: an untrained ResNet-18)")
    parser.add_argument("--epochs", type=int, default=10, help="on stored features, each time; with --accuracy of both")
    parser.add_argument("--repeats", type=int, default=1, help="of the epochs on videos (default: 1)")
    parser.add_argument("--accuracy", type=int, default=0, metavar="SEEDS", help="compare accuracy over so many seeds")
    parser.add_argument("overrides", nargs="*", help="key=value, as for train.py")
    options = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        if options.accuracy:
            experiments = [
                Experiment(Path(tempfile.mkdtemp(dir=folder)), options.encoder, options.overrides, seed, ONE_VIEW)
                for seed in range(options.accuracy)
            ]
            result = compare_accuracy(experiments, options.epochs)
        else:
            experiment = Experiment(Path(folder), options.encoder, options.overrides)
            result = compare_seconds(experiment, options.epochs, options.repeats)
    settings = {"threads": torch.get_num_threads(), "precision": best_precision("auto"), "epochs": options.epochs}
    print(json.dumps({**result, **settings}))


if __name__ == "__main__":
    main()
