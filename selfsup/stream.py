"""Runs a network on a file, a camera or a URL, frame by frame: `selfsup stream classifier.path=… source=… …`.

With `report=true data=…` it measures accuracy, computation and latency over a labelled data set: see `stream_report`.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from selfsup.classifier_weights import ClipSpecification, Trained
from selfsup.classifiers.by_name import classifiers
from selfsup.classifiers.sliding_clip import SlidingClip
from selfsup.data.drawing import DrawnVideo
from selfsup.data.frame_queue import FrameQueue
from selfsup.data.live import open_frames
from selfsup.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from selfsup.encoders.encoder import Encoder, InputSpecification
from selfsup.live import LiveNetwork, encoder_of, steps_of
from selfsup.live_run import Asked, LiveRun
from selfsup.precision import best_device
from selfsup.stream_report import report
from selfsup.streaming.stage_change import StageChange
from selfsup.verb import CONFIGURATION, check_complete, in_one_sentence

READ_SCALE = 1.15  # of frames for an encoder alone, as data.read_scale
UNKNOWN_PIXELS = 112  # for an encoder that no file describes
SHOWN_PIXELS = 360  # short side of the video that is written


def stream(config: DictConfig, folder: Path) -> int:
    """Runs until the source ends, or a signal comes; writes stream.json. Returns 0, or 128 + the signal.

    Raises UnreadableVideo, after the summary, where the source has stalled or failed.
    """
    console = Console(markup=False, highlight=False)
    pl.seed_everything(config.seed, verbose=False)
    trained, given = networks(config)
    encoder = encoder_of(trained, given)
    if config.report:
        if trained is None:
            raise ValueError("report=true: accuracy wants a classifier; give classifier.path=…/classifier.safetensors")
        report(config, trained, encoder, folder, console)
        return 0
    if config.source is None:
        raise ValueError("no source: give source=FILE, source=/dev/video0 or source=URL, or report=true and data=…")
    network, queue, asked = prepared(config, trained, encoder)
    tell(config, trained, network, console)
    drawn = None if config.output is None else DrawnVideo(config.output)
    run = LiveRun(network, queue, trained, drawn, console, config.print_every, config.max_frames)
    change = StageChange(encoder) if trained is None else None
    with asked.listening():
        failure = run.to_its_end()
    ended = "at the end of the source, or max_frames" if failure is None else str(failure)
    if asked.signal_number is not None:
        ended = f"by {signal.Signals(asked.signal_number).name}"
    summary = {
        "source": str(config.source),
        "classifier": config.classifier.path,
        "method": HydraConfig.get().runtime.choices["method"],
        "policy": queue.policy,
        "ended": ended,
        "answer": run.said(),
        **run.figures(),
        "stage_change": change.means() if change is not None else {},
    }
    (folder / "stream.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print_summary(summary, folder, console)
    if failure is not None:
        raise failure
    return 0 if asked.signal_number is None else 128 + asked.signal_number


def networks(config: DictConfig) -> tuple[Trained | None, Encoder | None]:
    """The classifier and the encoder that are given, of which one may be None.

    Raises ValueError where a value is missing that is needed.
    """
    unneeded = set() if config.report else {"data"}
    if OmegaConf.is_missing(config.encoder, "path") and config.classifier.path is not None:
        unneeded.add("encoder")
    elif OmegaConf.is_missing(config.encoder, "path"):
        raise ValueError(
            "no network: give encoder.path=…/encoder.safetensors or classifier.path=…/classifier.safetensors"
        )
    check_complete(OmegaConf.masked_copy(config, [str(key) for key in config if key not in unneeded]))
    trained: Trained | None = None if config.classifier.path is None else instantiate(config.classifier)
    return trained, None if "encoder" in unneeded else instantiate(config.encoder).eval()


def prepared(config: DictConfig, trained: Trained | None, encoder: Encoder) -> tuple[LiveNetwork, FrameQueue, Asked]:
    """What answers the frames of the source, what they wait in, and what hears a signal."""
    if trained is not None:
        input, clip = trained.input, trained.clip
    else:
        input = encoder.input or InputSpecification(UNKNOWN_PIXELS, IMAGENET_MEAN, IMAGENET_STD, None)
        clip = ClipSpecification(1, None, False, round(READ_SCALE * input.size_pixels), stretch=False)
    device = best_device()
    (encoder if trained is None else trained.classifier).to(device)
    steps = steps_of(trained, encoder, instantiate(config.method))
    shown = None if config.output is None else SHOWN_PIXELS
    frames = open_frames(str(config.source), clip.short_side_pixels, shown, config.loop, config.timeout_seconds)
    asked = Asked()
    queue = FrameQueue(
        frames,
        size=config.queue_frames,
        policy=config.policy or ("block" if frames.waits and not config.realtime else "drop_oldest"),
        realtime=config.realtime,
        timeout_seconds=config.timeout_seconds,
        interrupted=asked,
    )
    return LiveNetwork(steps, input, clip, device, frames.fps), queue, asked


def tell(config: DictConfig, trained: Trained | None, network: LiveNetwork, console: Console) -> None:
    """Prints what runs, and what is not as in the training."""
    if trained is None:
        console.print("no classifier: the change of features from frame to frame, and the speed")
        return
    name, clip = type(trained.classifier).__name__, trained.clip
    console.print(f"{name}: {trained.classifier.causality}", soft_wrap=True)
    if isinstance(network.steps, SlidingClip):
        console.print(
            f"a sliding clip of {clip.num_frames} frames: the middle of what an answer is about lies "
            f"{network.steps.clip_lag_frames * network.stride:g} frames behind",
            soft_wrap=True,
        )
    if network.stride > 1:
        console.print(f"it was trained on {clip.fps:g} frames a second: one frame in {network.stride} is looked at")
    if clip.spread:
        console.print(
            f"it was trained on {clip.num_frames} frames spread over a video, and sees them one after the other here; "
            "clips=dense or clips=windows trains it on such",
            soft_wrap=True,
        )


def print_summary(summary: dict[str, Any], folder: Path, console: Console) -> None:
    """The table that ends a stream."""
    table = Table(title=f"{summary['source']}, {summary['method']}, {summary['policy']}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    latency, lag = summary["latency_ms"], summary["lag_frames"]
    rows = {f"frames {name}": f"{count:,}" for name, count in summary["frames"].items()}
    rows["frames a second"] = f"{summary['frames_per_second']:.1f}"
    if latency["median"] is not None:
        rows["latency, median and 95 %"] = f"{latency['median']:.1f} ms, {latency['p95']:.1f} ms"
    rows["lag, mean and most"] = f"{lag['mean']:.1f} frames, {lag['most']} frames"
    rows["computation"] = f"{summary['computation']:.1%}"
    rows |= {f"change of {name}": f"{value:.3f}" for name, value in summary["stage_change"].items()}
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print(f"ended {summary['ended']}", soft_wrap=True)
    console.print(f"run folder: {folder}", soft_wrap=True)


@hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name="stream")
def _main(config: DictConfig) -> None:
    with in_one_sentence():
        code = stream(config, Path(HydraConfig.get().runtime.output_dir))
    sys.exit(code)


def main() -> None:
    """Entry point. Exit code 0 at the end of the source, 128 + n after signal n, 2 after what a sentence says."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print("Which classifiers run live:")
        for cls in classifiers():
            print(f"  {cls.__name__}: {cls.causality}")
        print()
    _main()


if __name__ == "__main__":
    main()
