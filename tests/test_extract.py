"""Extract once, train on the features: the same answers as end to end with a frozen encoder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

import selfsup.extract
import selfsup.train
from selfsup import weights
from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.data.clips import FixedClip, Segments
from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader
from selfsup.data.resumable import ResumableDataModule
from selfsup.data.stored import FeatureDataModule, read_features, read_record
from selfsup.data.transforms import evaluation_crop
from selfsup.encoders.encoder import Encoder
from selfsup.extract import extract, stored_encoder
from selfsup.precision import best_device
from selfsup.tasks.action_recognition import ActionRecognition
from selfsup.verb import CONFIGURATION
from tests.verbs import Ended

SMALL = ("data.size_pixels=32", "data.batch_size=4", "data.num_workers=0")


def test_features_are_those_of_the_frames(
    tmp_path: Path, synthetic_manifest: Path, synthetic_index: Path, encoder_path: Path, verb: Callable[..., Ended]
) -> None:
    done = verb(
        selfsup.extract.main,
        f"encoder.path={encoder_path}",
        "data=manifest",
        f"data.manifest={synthetic_manifest}",
        f"data.index_cache={synthetic_index}",
        "num_frames=3",
        *SMALL,
        run="x",
    )
    assert done.code == 0, done.err
    path = tmp_path / "x" / "features.h5"
    found = read_features(path)
    assert found["train"].features.shape == (16, 3, 512)
    assert read_record(path)["input"]["frames"] == 3
    encoder = weights.load(encoder_path)
    assert encoder.input is not None
    for row in (0, 7):
        with VideoReader(Path(found["train"].paths[row]), short_side_pixels=37) as video:
            times = (np.arange(3) + 0.5) / 3 * video.duration_seconds
            frames = evaluation_crop(32, False)(video.frames(times.tolist()))
        clip = encoder.input.normalize(frames.transpose(0, 1)[None])
        with torch.no_grad():
            expected = encoder(clip)[0].mean(dim=(2, 3)).T
        np.testing.assert_allclose(found["train"].features[row], expected, rtol=2e-2, atol=2e-3)

    folder = tmp_path / "probe"
    trained = verb(
        selfsup.train.main,
        "task=action_recognition",
        "data=features",
        f"data.path={path}",
        f"data.weights={encoder_path}",
        "trainer.max_epochs=2",
        "+trainer.enable_progress_bar=false",
        run="probe",
    )
    assert trained.code == 0, trained.err
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 <= summary["figures"][0]["value"] <= 1
    stored = ("data=features", f"data.path={path}")
    refused = verb(selfsup.train.main, "task=action_recognition", *stored, "classifier=i3d", run="i3d")
    assert refused.code == 2
    assert "error: this classifier reads frames, and stored features are none" in refused.err
    refused = verb(selfsup.train.main, *stored, run="order")
    assert refused.code == 2
    assert "error: stored features cannot be asked a pretext question" in refused.err
    assert not (folder / "encoder.safetensors").exists(), "nothing was taught that another run could start from"


class Middles:
    """The moments at which features are extracted, as the one view of a held-out video."""

    def views(self, info: VideoInfo) -> list[FixedClip]:
        return [FixedClip(tuple((np.arange(3) + 0.5) / 3 * info.duration_seconds))]


def recognition(encoder: Encoder, data: ResumableDataModule) -> ActionRecognition:
    task = ActionRecognition(encoder, Segments(3), Middles(), FramePooling, torch.optim.SGD, freeze="all")
    data.setup()
    task.begin(data.catalogue)
    return task.to(best_device())


def held_out_logits(task: ActionRecognition, data: ResumableDataModule) -> Tensor:
    """(V, K), in the order of the videos."""
    task.eval()
    with torch.no_grad():
        clips = (batch["clip"].to(task.device) for batch in data.held_out("test"))
        return torch.cat([task({"clip": task.prepare(clip)}) for clip in clips]).cpu()


def test_stored_features_answer_as_the_frozen_encoder(
    tmp_path: Path, synthetic_manifest: Path, synthetic_index: Path, encoder_path: Path
) -> None:
    """On the same moments, with the head that a step of training from the videos left, to the rounding of float16."""
    source = ["data=manifest", f"data.manifest={synthetic_manifest}", f"data.index_cache={synthetic_index}"]
    with initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
        config = compose("extract", [*source, *SMALL, f"encoder.path={encoder_path}", "num_frames=3"])
    path = extract(config, tmp_path)
    videos = instantiate(config.data, _partial_=True)(sampler=Segments(3), evaluation_sampler=Middles())
    features = FeatureDataModule(str(path), batch_size=3)
    frozen = recognition(weights.load(encoder_path).train(), videos)
    stored = recognition(stored_encoder(str(path)), features)

    batch = next(iter(videos.train_dataloader()))
    inputs = {name: batch[name].to(frozen.device) for name in ("clip", "label")}
    optimizer = frozen.train().optimizer(frozen.parameter_groups())
    frozen.step({**inputs, "clip": frozen.prepare(inputs["clip"])})["loss"].backward()
    optimizer.step()
    stored.classifier.head.load_state_dict(frozen.classifier.head.state_dict())

    found, expected = held_out_logits(stored, features), held_out_logits(frozen, videos)
    head = frozen.classifier.head[-1].weight.detach().abs().cpu()  # (K, D)
    size = torch.from_numpy(read_features(path)["test"].features).float().abs().mean(dim=1)  # (V, D)
    # Float16 rounds each feature by at most 2^-11 of its size; the rest is the order of sums in float32.
    assert ((found - expected).abs() <= 2**-11 * size @ head.T + 1e-4).all(), found - expected
    assert expected.std(dim=0).min() > 1e-2, "videos that are answered alike would show nothing"
