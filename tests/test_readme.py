"""Every command and every Python block of the documentation is run, on small videos in place of the reader's own.

A command that is not known here fails: add it to KNOWN with the overrides that make it short, or say which test or
script runs it.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from selfsup.__main__ import main as selfsup_main
from selfsup.data.index import build_index
from selfsup.data.synthetic import cached_synthetic
from tests.davis import write_davis

PROJECT = Path(__file__).parents[1]
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]

SMALL = (
    "trainer.accelerator=cpu trainer.max_epochs=1 ++trainer.limit_train_batches=1 ++trainer.limit_val_batches=1 "
    "++trainer.limit_test_batches=1 ++trainer.enable_progress_bar=false data.size_pixels=32 data.batch_size=2 "
    "data.evaluation_clips_per_video=1 data.num_workers=0 data.index_processes=1 data.index_cache=index.jsonl "
    "probe.num_frames=1"
)
SYNTHETIC = f"{SMALL} data.videos.videos=48"
READ = "data.size_pixels=32 data.num_workers=0 data.index_processes=1 data.index_cache=index.jsonl"
EVALUATED = (
    f"{READ} clips.training.num_segments=2 trainer.accelerator=cpu trainer.max_epochs=1 "
    "++trainer.limit_train_batches=1 ++trainer.enable_progress_bar=false"
)
STORED = (
    f"{READ} data.batch_size=2 trainer.accelerator=cpu ++trainer.limit_train_batches=1 ++trainer.limit_val_batches=1 "
    "++trainer.enable_progress_bar=false"
)
LABELS = "task.sampler.labels.short_side_pixels=64 task.sampler.labels.fps=5 task.sampler.labels.minimum_confidence=0"
QUICK_LABELS = f"foreground=flow_threshold {LABELS}"
DAVIS = "data=davis data.root=DAVIS"
UNSEEN = "'data.videos.test_sequences=[goat,dog]'"
LISTEN = "python train.py task=audio_visual"
RECOGNISE = "python train.py task=action_recognition"
ORDER = "python train.py task=clip_order"
JOIN = "python train.py task=joint 'task.tasks"
PARALLEL = f"{RECOGNISE} classifier=depth_parallel clips=windows data=changing hydra.run.dir=runs/mine/parallel"
FOLDER = "encoder.path=runs/mine/encoder.safetensors data=folder data.root=VIDEOS"
WORDS = "python train.py -m seed=0,1,2 experiment=short_clips_recognition data=manifest data.manifest=VIDEOS.csv"
HALF = f"{WORDS} data.labels_fraction=0.5 trainer.max_epochs=6"
TRANSFER = "python benchmarks/transfer.py --scratch RUN/0 RUN/1 RUN/2"
STREAM = "selfsup stream classifier.path=runs/mine/recognised/classifier.safetensors"
UCF101 = "data.root=UCF-101 data.annotations=ucfTrainTestlist"


@dataclass(frozen=True)
class Known:
    """How a command is run: with `more` at its end, in a process of its own or in this one, by `elsewhere` or here."""

    more: str = ""
    process: bool = False
    slow: bool = False
    elsewhere: str | None = None


CI = Known(elsewhere=".ci/run")
KNOWN = {
    "pip install -e '.[dev]' && pytest": CI,
    "pip install -e '.[dev]'": CI,
    "ruff check": CI,
    "ruff format --check": CI,
    "mypy selfsup": CI,
    "pytest": CI,
    "pytest -m slow": CI,
    "zensical build -f docs/zensical.toml --strict": Known(elsewhere="tests/test_site.py"),
    "bash .ci/run": Known(elsewhere="test_ci_runs_the_readmes_command"),
    "pre-commit install": Known(elsewhere="test_pre_commit_installs"),
    "python -m selfsup.train --config-dir=conf task=brightness": Known(elsewhere="tests/test_new_task.py"),
    "pip install -e . && python train.py": Known(SYNTHETIC),
    "python train.py data=folder data.root=VIDEOS": Known(SMALL),
    "python train.py data=folder data.root=VIDEOS hydra.run.dir=runs/mine": Known(
        elsewhere="test_a_first_run_takes_the_folder_that_the_page_names"
    ),
    "python train.py data=manifest data.manifest=VIDEOS.csv": Known(SMALL),
    f"python train.py data=ucf101 {UCF101}": Known(SMALL),
    "python train.py data=hmdb51 data.root=hmdb51 data.annotations=hmdb51_splits": Known(SMALL),
    "python train.py data=kinetics data.root=kinetics data.annotations=kinetics.csv": Known(SMALL),
    "python train.py --help": Known(),
    "python train.py encoder=r3d18 data.size_pixels=112 trainer.max_epochs=20": Known(SYNTHETIC, slow=True),
    "python train.py hydra.run.dir=runs/mine resume=last": Known(f"{SYNTHETIC} trainer.max_epochs=2"),
    "python train.py encoder=pretrained encoder.path=runs/mine/encoder.safetensors": Known(SYNTHETIC),
    "python train.py logger=tensorboard": Known(SYNTHETIC),
    "python train.py logger=wandb": Known(SYNTHETIC, process=True, slow=True),
    "python train.py trainer=ddp": Known(SYNTHETIC, process=True, slow=True),
    "python train.py trainer=debug": Known(SYNTHETIC),
    "python train.py -m seed=0,1,2": Known(SYNTHETIC, slow=True),
    "python train.py -m seed=0,1,2 data.videos.videos=240 data.clips_per_video=3 trainer.max_epochs=20": Known(
        SYNTHETIC, slow=True
    ),
    "python train.py -m seed=0,1,2 data.videos.static=true trainer.max_epochs=3": Known(SYNTHETIC, slow=True),
    "python train.py -m seed=0,1,2 experiment=short_clips data=manifest data.manifest=VIDEOS.csv": Known(
        SMALL, slow=True
    ),
    "python train.py experiment=short_clips data=manifest data.manifest=VIDEOS.csv encoder=pretrained "
    "encoder.path=runs/mine/encoder.safetensors trainer.max_epochs=30 data.size_pixels=96 data.stretch=false "
    "'data.crop_scale=[0.5,1.0]' data.clips_per_video=2 'task.augment=[]'": Known(SMALL, slow=True),
    f"{WORDS}": Known(SMALL, slow=True),
    f"{WORDS} data.labels_fraction=0.25 trainer.max_epochs=10": Known(SMALL, slow=True),
    f"{HALF} classifier=frame_pooling": Known(SMALL, slow=True),
    f"{HALF} classifier=r3d encoder=r3d10 clips=segments": Known(SMALL, slow=True),
    f"{HALF} classifier=r2plus1d encoder=r2plus1d10 clips=segments": Known(SMALL, slow=True),
    f"{HALF} classifier=c3d clips=segments clips.training.num_segments=16": Known(SMALL, slow=True),
    f"{HALF} classifier=i3d clips=segments 'classifier.time_strides=[2,1,2,1,1]'": Known(SMALL, slow=True),
    f"{WORDS} data.labels_fraction=0.25 trainer.max_epochs=10 classifier=two_stream classifier.flow_frames=5 "
    "clips.training.cache_folder=flow classifier.streams=both,clip,flow": Known(SMALL, slow=True),
    f"{WORDS.replace(' -m seed=0,1,2', '')} encoder=pretrained encoder.path=runs/mine/encoder.safetensors": Known(
        SMALL, slow=True
    ),
    f"{TRANSFER} --pretrained RUN/3 RUN/4 RUN/5 --picture curve.png": Known(elsewhere="tests/test_tables.py"),
    "python benchmarks/classifiers.py scratch=RUN/0,RUN/1,RUN/2 pretrained=RUN/3,RUN/4,RUN/5": Known(
        elsewhere="tests/test_tables.py"
    ),
    "python benchmarks/seeds.py RUN/0 RUN/1 RUN/2": Known(elsewhere="tests/test_seeds.py"),
    f"selfsup train experiment=shuffle_and_learn {UCF101}": Known(
        f"{SMALL} data.size_pixels=227 trainer.accumulate_grad_batches=1", slow=True
    ),
    "selfsup prepare doctor data=folder data.root=VIDEOS": Known(f"{READ} read_clips=2"),
    (PACK := "selfsup prepare data=folder data.root=VIDEOS output=PACKED"): Known(READ),
    "python train.py data=shards data.root=PACKED": Known(SMALL),
    "python train.py data=shards data.root=s3://BUCKET/PACKED": Known(elsewhere="tests/data/test_object_store.py"),
    "selfsup prepare task=motion_segmentation data=folder data.root=VIDEOS output=LABELLED pack.task=true": Known(
        f"{READ} {QUICK_LABELS}", slow=True
    ),
    "python benchmarks/faults.py --root VIDEOS --files 1000": Known("--files 15", process=True, slow=True),
    "python benchmarks/shards.py --root VIDEOS": Known("--clips 2 --rounds 1 --no-scaling", process=True, slow=True),
    "python benchmarks/shards.py --long-gop": Known("--clips 1 --rounds 1 --no-scaling", process=True, slow=True),
    "python benchmarks/shards.py --root VIDEOS --containers": Known("--clips 2 --rounds 1", process=True, slow=True),
    "python benchmarks/shards.py --root VIDEOS --fps 5": Known("--clips 2 --rounds 1", process=True, slow=True),
    "selfsup prepare task=motion_segmentation data=folder data.root=VIDEOS": Known(f"{READ} {QUICK_LABELS}"),
    "selfsup prepare task=motion_segmentation data=manifest data.manifest=VIDEOS.csv task.sampler.labels.fps=10": Known(
        f"{READ} {QUICK_LABELS}", slow=True
    ),
    "python train.py -m seed=0,1,2 task=motion_segmentation data=manifest data.manifest=VIDEOS.csv "
    "task.sampler.labels.fps=10 'task.sampler.window={_target_: selfsup.data.object_window.ObjectWindow, context: 2.5, "
    "scale_octaves: 0.6}' data.read_scale=2 data.size_pixels=96 data.clips_per_video=8 trainer.max_epochs=20": Known(
        f"{SMALL} {QUICK_LABELS}", slow=True
    ),
    "python train.py task=motion_segmentation data=folder data.root=VIDEOS": Known(f"{SMALL} {QUICK_LABELS}"),
    "python train.py task=motion_segmentation foreground=flow_threshold data.size_pixels=96": Known(
        f"{SYNTHETIC} {LABELS}", slow=True
    ),
    "python train.py task=motion_segmentation data.videos.videos=240 data.videos.texture=fine "
    "data.videos.size_pixels=320 task.sampler.labels.short_side_pixels=320 task.sampler.labels.fps=10 "
    "data.size_pixels=64 data.clips_per_video=6 trainer.max_epochs=12": Known(
        f"{SYNTHETIC} {QUICK_LABELS} data.videos.texture=coarse data.videos.size_pixels=96", slow=True
    ),
    "selfsup train experiment=synthetic_foreground": Known(
        f"{SYNTHETIC} foreground=flow_threshold data.videos.size_pixels=96 {LABELS}", slow=True
    ),
    "selfsup prepare experiment=watching_objects_move data=folder data.root=VIDEOS": Known(
        f"{READ} {LABELS}", slow=True
    ),
    "selfsup train experiment=watching_objects_move data=folder data.root=VIDEOS": Known(
        f"{SMALL} {QUICK_LABELS} data.size_pixels=64", slow=True
    ),
    f"{LISTEN} hydra.run.dir=runs/mine/heard": Known(SYNTHETIC),
    "selfsup evaluate audio encoder.path=runs/mine/heard/audio_encoder.safetensors data.root=ESC-50": Known(
        elsewhere="tests/test_evaluate_audio.py"
    ),
    f"{LISTEN} data=folder data.root=VIDEOS task.negatives=both task.sampler.gap_seconds=0.5": Known(SMALL, slow=True),
    f"{LISTEN} task.fusion=localise encoder=l3_vision encoder.stride=2 task.sampler.truth=true "
    "data.size_pixels=96": Known(SYNTHETIC, slow=True),
    f"{LISTEN} task.fusion=contrastive trainer=ddp data=folder data.root=VIDEOS": Known(SMALL, process=True, slow=True),
    f"{LISTEN} task.sampler.grid=free": Known(SYNTHETIC, slow=True),
    f"{LISTEN} encoder@audio_encoder=pretrained audio_encoder.path=runs/mine/heard/audio_encoder.safetensors": Known(
        SYNTHETIC
    ),
    "selfsup train experiment=look_listen_learn data=folder data.root=VIDEOS": Known(
        f"{SMALL} data.size_pixels=64 task.sampler.rate_hz=16000 paper.spectrogram.rate_hz=16000", slow=True
    ),
    f"{LISTEN.replace(' task', ' -m seed=0,1,2 task')} task.fusion=contrastive data.videos.videos=240 "
    "data.clips_per_video=4 trainer.max_epochs=30 task.spectrogram.hop_seconds=0.02": Known(SYNTHETIC, slow=True),
    f"{LISTEN.replace(' task', ' -m seed=0,1,2 task')} data=manifest data.manifest=VIDEOS.csv task.fusion=contrastive "
    "task.sampler.misalignment_seconds=0.1 task.spectrogram.hop_seconds=0.02 data.size_pixels=64 "
    "data.clips_per_video=3 trainer.max_epochs=30": Known(SMALL, slow=True),
    f"selfsup evaluate foreground foreground=unlc {DAVIS}": Known(f"{READ} short_side_pixels=120"),
    (
        SEGMENT := f"python train.py task=motion_segmentation {DAVIS} {UNSEEN} data.stretch=true "
        "hydra.run.dir=runs/mine/segmenter"
    ): Known(f"{SMALL} foreground=flow_threshold task.sampler.labels.short_side_pixels=120"),
    f"selfsup evaluate foreground foreground=network foreground.run=runs/mine/segmenter {DAVIS} {UNSEEN} "
    "split=test": Known(f"{READ} short_side_pixels=120"),
    f"{ORDER}": Known(f"{SYNTHETIC} task.sampler.num_frames=2"),
    f"{ORDER} task.clips=4 task.reversible=true task.sampler.num_frames=1 task.sampler.gap_seconds=0.6 "
    "encoder=resnet18": Known(SYNTHETIC, slow=True),
    f"{ORDER} 'task.augment=[{{_target_: selfsup.data.transforms.ChannelSplitting, frames: 16}}]'": Known(
        SYNTHETIC, slow=True
    ),
    "python train.py task=playback_speed": Known(SYNTHETIC),
    "python train.py task=masked_video": Known(SYNTHETIC),
    f"{JOIN}=[temporal_order,audio_visual]'": Known(SYNTHETIC),
    f"{JOIN}=[temporal_order,contrastive]' task.weighting=uncertainty +task.options.temporal_order.head_dim=64": Known(
        SYNTHETIC, slow=True
    ),
    f"{JOIN}=[temporal_order,contrastive]' 'task.weights={{temporal_order: 2.0}}'": Known(SYNTHETIC, slow=True),
    f"{JOIN}=[masked_video,playback_speed]' encoder=vit": Known(SYNTHETIC, slow=True),
    "python train.py task=masked_video data=manifest data.manifest=VIDEOS.csv data.size_pixels=64 "
    "task.sampler.stride_seconds=0.0667": Known(SMALL, slow=True),
    "python train.py task=masked_video data=folder data.root=VIDEOS data.size_pixels=224 encoder.patch_pixels=16 "
    "encoder.dim=384 encoder.depth=12 encoder.heads=6 task.sampler.num_frames=16 task.decoder_dim=192 "
    "task.decoder_depth=4": Known(f"{SMALL} data.size_pixels=64", slow=True),
    "python train.py task=playback_speed encoder=resnet18": Known(SYNTHETIC, slow=True),
    "python train.py task=arrow_of_time": Known(f"{SYNTHETIC} task.sampler.num_frames=4"),
    "python train.py task=arrow_of_time encoder=resnet18 task.sampler.num_frames=6 "
    "task.sampler.stride_seconds=0.4": Known(SYNTHETIC, slow=True),
    "python train.py collapse.every_epochs=5 collapse.videos=256": Known(SYNTHETIC),
    "python train.py task=contrastive collapse.lidar_views=10": Known(SYNTHETIC),
    "python train.py collapse=null": Known(SYNTHETIC),
    "python train.py data=folder data.root=VIDEOS data@probe_data=manifest probe_data.manifest=labelled.csv": Known(
        elsewhere="tests/test_probed.py"
    ),
    "python train.py task=contrastive": Known(SYNTHETIC),
    "python train.py task=contrastive task.momentum=0.99 task.queue=512 task.temperature=0.2": Known(SYNTHETIC),
    "python train.py task=contrastive task.sampler.views=4 trainer=ddp data=folder data.root=VIDEOS": Known(
        SMALL, process=True, slow=True
    ),
    "python train.py task=invariant_prediction": Known(SYNTHETIC),
    "python train.py task=invariant_prediction task.sampler.views=8 data.batch_size=128 "
    "task.gaussian_weight=0.02": Known(SYNTHETIC, slow=True),
    "python train.py task=temporal_coherence": Known(SYNTHETIC),
    "python train.py task=temporal_coherence task.form=slow": Known(f"{SYNTHETIC} data.batch_size=6", slow=True),
    "python train.py task=temporal_coherence task.form=margin": Known(SYNTHETIC, slow=True),
    "python train.py 'task.augment=[{_target_: selfsup.data.transforms.SpatialJitter, pixels: 4}]'": Known(SYNTHETIC),
    "python train.py 'task.augment=[{_target_: selfsup.data.transforms.ChannelSplitting, probability: 0.5}]'": Known(
        SYNTHETIC, slow=True
    ),
    "python train.py 'task.augment=[{_target_: selfsup.data.transforms.EachFrame, transform: {_target_: "
    "torchvision.transforms.v2.ColorJitter, brightness: 0.4, contrast: 0.4, saturation: 0.4}}]'": Known(
        SYNTHETIC, slow=True
    ),
    "python train.py probe.stage=3": Known(SYNTHETIC),
    "python train.py probe.time=concat": Known(SYNTHETIC),
    "python train.py data.videos.static=true": Known(SYNTHETIC, slow=True),
    f"{RECOGNISE} encoder=pretrained {FOLDER}": Known(SMALL),
    f"{RECOGNISE} data=folder data.root=VIDEOS data.labels_fraction=0.5": Known(SMALL),
    f"{RECOGNISE} classifier=cnn_rnn classifier.cell=gru": Known(SYNTHETIC),
    f"{RECOGNISE} classifier=i3d encoder=pretrained encoder.path=runs/mine/encoder.safetensors": Known(
        f"{SYNTHETIC} clips.evaluation.clips=1"
    ),
    f"{RECOGNISE} classifier=c3d clips.training.num_frames=16": Known(f"{SYNTHETIC} clips.evaluation.clips=1"),
    f"{RECOGNISE} classifier=two_stream classifier.flow_frames=5 clips.training.cache_folder=flow": Known(SYNTHETIC),
    f"{RECOGNISE} classifier=cnn_rnn clips=windows data=manifest data.manifest=SPANS.csv data.labels=frame": Known(
        SMALL
    ),
    f"{RECOGNISE} classifier=skip_rnn clips.training.num_segments=32 classifier.budget_weight=1e-3": Known(
        f"{SYNTHETIC} clips.training.num_segments=4", slow=True
    ),
    f"{RECOGNISE} classifier=skip_rnn clips=windows data=manifest data.manifest=SPANS.csv data.labels=frame": Known(
        SMALL, slow=True
    ),
    f"{RECOGNISE} classifier=cnn_rnn encoder=pretrained {FOLDER} hydra.run.dir=runs/mine/recognised": Known(SMALL),
    (RECOGNISED := f"{RECOGNISE} classifier=cnn_rnn data=folder data.root=VIDEOS hydra.run.dir=runs/mine/recognised"): (
        Known(SMALL)
    ),
    PARALLEL: Known(f"{SMALL} data.videos.videos=12 clips.training.num_frames=4"),
    "selfsup stream classifier.path=runs/mine/parallel/classifier.safetensors source=VIDEO.mp4 method=depth_parallel": (
        Known("max_frames=6")
    ),
    "python benchmarks/depth_parallel.py --pixels 112": Known(elsewhere="tests/test_depth_parallel_benchmark.py"),
    f"{RECOGNISE} task.freeze=layer2 task.layer_decay=0.7": Known(SYNTHETIC),
    f"{RECOGNISE} task.freeze=all": Known(SYNTHETIC, slow=True),
    (EXTRACT := f"selfsup extract {FOLDER} hydra.run.dir=runs/mine/extracted"): Known(f"{READ} num_frames=2"),
    f"{RECOGNISE} data=features data.path=runs/mine/extracted/features.h5 "
    "data.weights=runs/mine/encoder.safetensors": Known(
        "trainer.accelerator=cpu trainer.max_epochs=1 ++trainer.enable_progress_bar=false"
    ),
    (EVALUATE := f"selfsup evaluate {FOLDER} finetune_fractions=null hydra.run.dir=runs/mine/evaluated"): Known(
        EVALUATED
    ),
    f"selfsup evaluate {FOLDER} finetune_fractions=[0.5,1.0]": Known(EVALUATED, slow=True),
    "selfsup evaluate compare runs/mine/evaluated/evaluation.json runs/mine/evaluated/evaluation.json": Known(),
    "selfsup evaluate audit run=runs/mine": Known(),
    f"selfsup embed {FOLDER} hydra.run.dir=runs/mine/embedded": Known(f"{READ} num_frames=2"),
    "selfsup report runs/mine/embedded": Known(),
    "selfsup report runs/mine": Known(),
    "selfsup report runs/mine runs/mine/evaluated hydra.run.dir=runs/mine/reported": Known(),
    "selfsup export encoder.path=runs/mine/encoder.safetensors": Known("num_frames=2"),
    "selfsup export classifier.path=runs/mine/recognised/classifier.safetensors maximum_difference=1e-3": Known(
        "num_frames=2", slow=True
    ),
    'sbatch --requeue --signal=TERM@120 --gres=gpu:1 --cpus-per-task=16 --time=24:00:00 --wrap "srun selfsup train '
    'hydra.run.dir=runs/mine resume=last"': Known(SYNTHETIC, slow=True, elsewhere="test_slurm_script"),
    "selfsup train -m hydra/launcher=submitit_slurm hydra.launcher.gpus_per_node=1 hydra.launcher.cpus_per_task=16 "
    "hydra.sweep.dir=runs/seeds seed=0,1,2": Known(SYNTHETIC, slow=True, elsewhere="test_submitit_launcher"),
    "python benchmarks/loading.py --root VIDEOS --repetitions 7 --clips 30": Known(
        "--repetitions 1 --clips 2", process=True, slow=True
    ),
    "python benchmarks/loading.py --root VIDEOS --frames 5 --soak 5000": Known(
        "--soak 20 --clips 2", process=True, slow=True
    ),
    "python benchmarks/foreground.py --root DAVIS": Known(elsewhere="tests/test_foreground_benchmark.py"),
    "python benchmarks/foreground.py --root DAVIS --frames 12 --labellers --steps": Known(
        elsewhere="tests/test_foreground_benchmark.py"
    ),
    "python benchmarks/foreground_stages.py --root DAVIS --frames 20": Known(
        elsewhere="tests/test_foreground_benchmark.py"
    ),
    "python benchmarks/noisy_labels.py --folder runs/noisy --settings data.videos.videos=240 data.size_pixels=64 "
    "trainer.max_epochs=10": Known(
        "--seeds 0 --conditions 'true masks' 'half of the videos' --settings data.videos.videos=48 "
        "data.size_pixels=32 trainer.max_epochs=1 ++trainer.limit_train_batches=1",
        process=True,
        slow=True,
    ),
    "python benchmarks/training.py --steps 40 --repeats 5": Known(
        "--steps 5 --repeats 1 data.size_pixels=32 data.batch_size=2", process=True, slow=True
    ),
    "python benchmarks/stored_features.py data=manifest data.manifest=VIDEOS.csv": Known(
        STORED, process=True, slow=True
    ),
    "python benchmarks/stored_features.py --accuracy 3 --encoder runs/mine/encoder.safetensors data=manifest "
    "data.manifest=VIDEOS.csv data.size_pixels=64": Known(STORED, process=True, slow=True),
    "python benchmarks/skip_rnn.py --record adding.json": Known("--steps 1 --seeds 0", process=True, slow=True),
    "python benchmarks/skip_rnn.py --record digits.json --task digits": Known(
        "--steps 1 --seeds 0", process=True, slow=True
    ),
    f"{STREAM} source=VIDEO.mp4": Known("max_frames=6"),
    f"{STREAM} source=VIDEO.mp4 realtime=true method=held_frames output=drawn.mp4": Known("max_frames=6"),
    "selfsup stream encoder.path=runs/mine/encoder.safetensors source=VIDEO.mp4": Known("max_frames=6"),
    "selfsup stream --help": Known(),
    f"{STREAM} report=true data=folder data.root=VIDEOS "
    "\"methods=[every_frame,held_frames,'held_frames period=4']\"": Known(f"{READ}"),
    "python benchmarks/streaming.py": Known("--frames 200", process=True, slow=True),
    f"python train.py task=motion_segmentation {DAVIS} 'data.fractions={{train: 1.0, val: 0.0, test: 0.0}}' "
    "data.stretch=true 'data.crop_scale=[0.6,1.0]' data.size_pixels=128 data.batch_size=16 data.clips_per_video=16 "
    "trainer.max_epochs=16 encoder=pretrained encoder.path=runs/mine/encoder.safetensors": Known(
        f"{SMALL} foreground=flow_threshold task.sampler.labels.short_side_pixels=120", slow=True
    ),
    "python benchmarks/clockwork.py --root DAVIS --runs RUN/0 RUN/1 RUN/2 --record clockwork.json --timed dog": Known(
        elsewhere="tests/test_clockwork_benchmark.py"
    ),
    "python benchmarks/lateness.py --record late.json": Known(
        "--seeds 0 --videos 12 --size-pixels 32 --encoder-steps 1 --head-steps 1 --sub-networks 2",
        process=True,
        slow=True,
    ),
    "python benchmarks/skipping.py --record skipping.json --encoders RUN/0/encoder.safetensors "
    "RUN/1/encoder.safetensors RUN/2/encoder.safetensors --data data.videos.videos=240": Known(
        elsewhere="tests/test_skipping_benchmark.py"
    ),
    "python benchmarks/velocity.py --root DAVIS --encoders runs/mine/encoder.safetensors --picture velocity.png": Known(
        elsewhere="tests/test_clockwork_benchmark.py"
    ),
    "python benchmarks/memory.py": Known(
        "--clips 2 --frames 1 --repeats 1 data.size_pixels=32", process=True, slow=True
    ),
}


# Files that one command leaves for another.
MADE_BY = {
    "PACKED": PACK,
    "runs/mine/extracted/features.h5": EXTRACT,
    "runs/mine/evaluated": EVALUATE,
    "runs/mine/embedded": f"selfsup embed {FOLDER} hydra.run.dir=runs/mine/embedded",
    "runs/mine/segmenter": SEGMENT,
    "runs/mine/recognised/classifier.safetensors": RECOGNISED,
    "runs/mine/parallel/classifier.safetensors": PARALLEL,
    "runs/mine/heard/audio_encoder.safetensors": f"{LISTEN} hydra.run.dir=runs/mine/heard",
}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every line of every bash block, once."""
    lines = [line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.strip() and not line.startswith("#")))


def marked() -> list[object]:
    slow = {command for command, known in KNOWN.items() if known.slow}
    return [pytest.param(command, marks=pytest.mark.slow if command in slow else ()) for command in commands()]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, synthetic_manifest: Path) -> Path:
    """A folder in which every name that the documentation uses exists, filled with links to 24 small videos."""
    root = tmp_path_factory.mktemp("workplace")
    shutil.copy(PROJECT / "train.py", root)
    for name in ("benchmarks", "docs"):
        (root / name).symlink_to(PROJECT / name)
    videos = sorted((synthetic_manifest.parent / "videos").rglob("*.mp4"))

    def link(number: int, name: str) -> str:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(videos[number], path)
        return Path(name).name

    places = list(product(("Jump", "Pour"), range(1, 7), (1, 2)))  # 2 labels x 6 groups x 2 clips
    spans = ["path,start,stop,label,group"]
    manifest, kinetics = [["path", "label", "group", "split"]], [["youtube_id,time_start,time_end,split,label"]]
    lists: dict[str, list[str]] = {"train": [], "test": []}
    hmdb51: dict[str, list[str]] = {"jump": [], "pour": []}
    link(0, "VIDEO.mp4")
    for number, (label, group, clip) in enumerate(places):
        split = "test" if group == 6 else "train"
        link(number, f"VIDEOS/{label}/{number}.mp4")
        spans.append(f"VIDEOS/{label}/{number}.mp4,0.5,{clip},{label},{label}{group}")
        manifest.append([f"VIDEOS/{label}/{number}.mp4", label, f"{label}{group}", ""])
        name = link(number, f"UCF-101/{label}/v_{label}_g{group:02d}_c{clip:02d}.avi")
        lists[split].append(f"{label}/{name}" + (" 1" if split == "train" else ""))
        low = label.lower()
        name = link(number, f"hmdb51/{low}/film{group}_{low}_f_cm_np1_ba_goo_{clip}.avi")
        hmdb51[low].append(f"{name} {2 if split == 'test' else 1}")
        link(number, f"kinetics/video{number}_000001_000011.mp4")
        kinetics.append([f"video{number},1,11,{'validate' if group == 5 else split},{label}"])
    with open(root / "VIDEOS.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(manifest)
    (root / "SPANS.csv").write_text("\n".join(spans) + "\n", encoding="utf-8")
    (root / "kinetics.csv").write_text("\n".join(row[0] for row in kinetics) + "\n", encoding="utf-8")
    (root / "ucfTrainTestlist").mkdir()
    for split, names in lists.items():
        (root / "ucfTrainTestlist" / f"{split}list01.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (root / "hmdb51_splits").mkdir()
    for label, rows in hmdb51.items():
        (root / "hmdb51_splits" / f"{label}_test_split1.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    write_davis(root / "DAVIS", ["bear", "bus", "camel", "cows", "dog", "goat"])  # BatchNorm needs two to train on
    # Written and indexed here in one go, so that no command has to start processes for it.
    folders = [*(root / name for name in ("VIDEOS", "UCF-101", "hmdb51", "kinetics")), synthetic_48()]
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.suffix in (".mp4", ".avi")]
    build_index(files, cache=root / "index.jsonl", processes=1)
    return root


def synthetic_48() -> Path:
    """The folder of the videos that SYNTHETIC asks for, in the tests' cache."""
    return cached_synthetic(videos=48, processes=1).parent


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def in_process(words: list[str], cwd: Path, path: str = "") -> str:
    """Standard output of a command that must succeed, in a process of its own."""
    words = [sys.executable if word == "python" else word for word in words]
    search = os.pathsep.join(filter(None, [path, str(Path(sys.executable).parent), os.environ["PATH"]]))
    done = subprocess.run(
        words, cwd=cwd, env=environment(PATH=search), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def here(words: list[str], patch: pytest.MonkeyPatch) -> None:
    """A training command in this process, which has imported what a new one would spend most of its time on."""
    patch.setattr(sys, "argv", words[1:] if words[0] == "python" else words)
    assert words[0] == "selfsup" or words[:2] == ["python", "train.py"], words
    try:
        selfsup_main() if words[0] == "selfsup" else runpy.run_path("train.py", run_name="__main__")
    except SystemExit as end:  # --help ends so
        if end.code:
            raise


@pytest.fixture(scope="module")
def mine(workplace: Path) -> Path:
    """The run that the documentation calls runs/mine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        here(shlex.split(f"python train.py hydra.run.dir=runs/mine resume=last {SYNTHETIC}"), patch)
    return workplace / "runs" / "mine"


@pytest.mark.parametrize("command", marked())
def test_command(
    command: str, workplace: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command in KNOWN, f"{command!r} is in the documentation, and no test runs it: add it to KNOWN"
    known = KNOWN[command]
    if known.elsewhere:
        return  # the tests below see to it
    if "runs/mine" in command:
        request.getfixturevalue("mine")
    monkeypatch.chdir(workplace)
    for file, maker in MADE_BY.items():
        if file in command and command != maker and not Path(file).exists():
            here(shlex.split(f"{maker} {KNOWN[maker].more}"), monkeypatch)
    before = set(Path("runs").rglob("encoder.safetensors"))
    words = shlex.split(f"{command.removeprefix('pip install -e . && ')} {known.more}")
    if known.process:
        in_process(words, workplace)
    else:
        here(words, monkeypatch)
    trains = "train.py" in words[1] or words[:2] == ["selfsup", "train"]
    if trains and "--help" not in words and "runs/mine" not in command:
        assert set(Path("runs").rglob("encoder.safetensors")) > before
    for checkpoint in set(Path("runs").rglob("*.ckpt")) - set(Path("runs/mine").rglob("last.ckpt")):
        checkpoint.unlink()  # no other command asks for it, and together they are 10 GB


def test_a_first_run_takes_the_folder_that_the_page_names(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VIDEOS", "train.py", "index.jsonl"):
        (tmp_path / name).symlink_to(workplace / name)
    monkeypatch.chdir(tmp_path)
    here(shlex.split(f"python train.py data=folder data.root=VIDEOS hydra.run.dir=runs/mine {SMALL}"), monkeypatch)
    assert (tmp_path / "runs" / "mine" / "encoder.safetensors").is_file()


def test_no_known_command_has_gone_from_the_documentation() -> None:
    assert sorted(KNOWN) == sorted(commands())


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_blocks_run(
    page: Path, mine: Path, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    for block in blocks(page, "python"):
        (tmp_path / "block.py").write_text(block, encoding="utf-8")
        runpy.run_path(str(tmp_path / "block.py"), run_name="block")


def test_links_lead_to_files() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readmes_tree_and_picture_exist() -> None:
    (tree,) = blocks(PROJECT / "README.md", "text")
    parents = [PROJECT]  # the folder that each depth of indentation lies in
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = [name for name in re.split(r" {2,}", line.strip())[0].split() if name.endswith(("/", ".py", ".yaml"))]
        assert names, line
        for name in names:
            assert (parents[depth] / name).exists(), line
        parents[depth + 1 :] = [parents[depth] / names[0]]
    assert (PROJECT / "docs" / "temporal_order.png").stat().st_size < 300_000


def test_ci_runs_the_readmes_command() -> None:
    script = (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", PROJECT / ".ci" / "run"], check=True)
    (program,) = re.findall(r"readme=\$\((awk '.*?' README\.md)\)", script, re.DOTALL)
    found = subprocess.run(["bash", "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "pip install -e '.[dev]' && pytest"
    steps = set(re.findall(r'^step \w+ "(.*)"$', script, re.MULTILINE))
    assert steps == {"$readme", "pytest -m slow", "ruff check", "ruff format --check", "mypy selfsup"}


@pytest.mark.skipif(importlib.util.find_spec("pre_commit") is None, reason="pre-commit is not installed")
def test_pre_commit_installs(tmp_path: Path) -> None:
    shutil.copy(PROJECT / ".pre-commit-config.yaml", tmp_path)
    in_process(["git", "init", "--quiet"], tmp_path)
    in_process(["pre-commit", "install"], tmp_path)
    in_process(["pre-commit", "validate-config"], tmp_path)
    assert (tmp_path / ".git" / "hooks" / "pre-commit").exists()


@pytest.mark.slow
def test_slurm_script(workplace: Path, mine: Path, tmp_path: Path) -> None:
    """The job script runs as it is; sbatch and srun, which need a cluster, are stood in for by a shell."""
    (tmp_path / "sbatch").write_text('#!/bin/bash\nexec bash -c "${@: -1}"\n', encoding="utf-8")
    (tmp_path / "srun").write_text('#!/bin/bash\nexec "$@"\n', encoding="utf-8")
    for name in ("sbatch", "srun"):
        (tmp_path / name).chmod(0o755)
    (command,) = [command for command in KNOWN if command.startswith("sbatch")]
    words = shlex.split(command)
    words[-1] += f" {SYNTHETIC} trainer.max_epochs=3"
    assert "resuming from" in in_process(words, workplace, path=str(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None
    if importlib.util.find_spec("hydra_plugins")
    else True,
    reason="hydra-submitit-launcher is not installed: pip install 'selfsup[slurm]'",
)
def test_submitit_launcher(workplace: Path) -> None:
    """On this machine by submitit's local executor, without the GPU that the command asks for."""
    (command,) = [command for command in KNOWN if "submitit_slurm" in command]
    command = command.replace("submitit_slurm", "submitit_local").replace("gpus_per_node=1", "gpus_per_node=0")
    before = set((workplace / "runs").rglob("encoder.safetensors"))
    in_process(shlex.split(command.replace("seed=0,1,2", f"seed=0,1 {SYNTHETIC}")), workplace)
    assert len(set((workplace / "runs").rglob("encoder.safetensors")) - before) == 2


@pytest.mark.slow
def test_pictures_are_drawn_by_the_code(workplace: Path, tmp_path: Path) -> None:
    in_process(["python", "docs/picture.py", "--folder", str(tmp_path)], workplace)
    for name in ("temporal_order.png", "motion_segmentation.png"):
        assert 20_000 < (tmp_path / name).stat().st_size < 300_000
