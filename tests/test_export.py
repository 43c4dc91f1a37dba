"""`selfsup export`: ONNX Runtime computes with the file what PyTorch does, or there is no file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from selfsup import classifier_weights, weights
from selfsup.classifier_weights import ClipSpecification
from selfsup.classifiers.classifier import Classifier
from selfsup.classifiers.cnn_rnn import CnnRnn
from selfsup.classifiers.depth_parallel import DepthParallelRnn
from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.classifiers.two_stream import TwoStream
from selfsup.encoders.encoder import Encoder, InputSpecification
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.video_resnet import VideoResNet
from selfsup.export import main
from selfsup.onnx_export import check_onnx, export_onnx
from tests.verbs import Ended

for library in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(library, reason=f"{library} is not installed: pip install 'selfsup[onnx]'")

Verb = Callable[..., Ended]
INPUT = InputSpecification(size_pixels=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25), fps=None)


def saved_encoder(encoder: Encoder, path: Path, **data: object) -> Path:
    weights.save(encoder, path, input=INPUT, task="none", data=data)
    return path


def saved_classifier(classifier: Classifier, encoder: Encoder, path: Path, **arguments: object) -> Path:
    classifier_weights.save(
        classifier,
        path,
        encoder=encoder,
        arguments=arguments,
        classes=["<a>", "b", "ç"],
        labels="video",
        input=INPUT,
        clip=ClipSpecification(4, None, True, 36, False),
        task="action_recognition",
        data={},
    )
    return path


def run_onnx(path: Path, clip: Tensor) -> np.ndarray:
    """What ONNX Runtime gives, in a session of its own."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: clip.numpy()})[0]


@pytest.mark.parametrize("kind", ["frames", pytest.param("clips", marks=pytest.mark.slow)])
def test_an_encoder_gives_the_same_features(kind: str, tmp_path: Path, verb: Verb) -> None:
    torch.manual_seed(0)
    path = saved_encoder(ResNet(18) if kind == "frames" else VideoResNet("r3d_10"), tmp_path / "encoder.safetensors")
    done = verb(main, f"encoder.path={path}")
    assert done.code == 0, done.err
    assert "maximum difference to PyTorch" in done.out
    assert "batch free, number of frames free" in done.out
    encoder = weights.load(path)
    for shape in ((1, 3, 16, 32, 32), (5, 3, 21, 32, 32)):
        clip = torch.rand(shape)
        with torch.inference_mode():  # normalised by hand: mean and deviation are inside the file
            expected = encoder(
                (clip - torch.tensor(INPUT.mean).view(3, 1, 1, 1)) / torch.tensor(INPUT.std).view(3, 1, 1, 1)
            )
        found = run_onnx(done.folder / "encoder.onnx", clip)
        assert np.abs(found - expected.numpy()).max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("kind", ["pooled", pytest.param("recurrent", marks=pytest.mark.slow)])
def test_a_classifier_gives_the_same_logits_and_its_classes(kind: str, tmp_path: Path, verb: Verb) -> None:
    import onnx

    torch.manual_seed(0)
    encoder = ResNet(18)
    classifier: Classifier = FramePooling(encoder, 3) if kind == "pooled" else CnnRnn(encoder, 3)
    path = saved_classifier(classifier, encoder, tmp_path / "classifier.safetensors")
    done = verb(main, f"classifier.path={path}")
    assert done.code == 0, done.err
    clip = torch.rand(3, 3, 4, 32, 32)
    with torch.inference_mode():
        expected = classifier.eval()(INPUT.normalize(clip))
    found = run_onnx(done.folder / "classifier.onnx", clip)
    assert np.abs(found - expected.numpy()).max() < 1e-4 * expected.abs().max()
    about = {entry.key: entry.value for entry in onnx.load(done.folder / "classifier.onnx").metadata_props}
    assert json.loads(about["classes"]) == ["<a>", "b", "ç"]


def test_a_difference_above_the_bound_leaves_no_file(tmp_path: Path, verb: Verb) -> None:
    path = saved_encoder(ResNet(18), tmp_path / "encoder.safetensors")
    done = verb(main, f"encoder.path={path}", "num_frames=2", "maximum_difference=1e-12")
    assert done.code == 2
    assert "encoder.onnx: not written, ONNX Runtime differs from PyTorch by" in done.err
    assert "more than maximum_difference=1e-12" in done.err
    assert not list(done.folder.glob("*.onnx*"))


def test_the_check_sees_a_file_of_other_weights(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(factor))

        def forward(self, clip: Tensor) -> Tensor:
            return self.factor * clip.mean(dim=(3, 4))

    clip = torch.rand(2, 3, 4, 8, 8)
    export_onnx(Scaled(2.0), clip, tmp_path / "a.onnx", "features", {})
    assert check_onnx(tmp_path / "a.onnx", Scaled(2.0), [clip]).share < 1e-6
    checked = check_onnx(tmp_path / "a.onnx", Scaled(2.02), [clip])
    assert checked.share == pytest.approx(0.01, rel=0.01)
    assert checked.shapes == ((2, 3, 4, 8, 8),)
    assert not check_onnx(tmp_path / "a.onnx", Scaled(float("nan")), [clip]).share <= 1e-4


def test_what_cannot_be_exported_is_one_sentence(tmp_path: Path, verb: Verb) -> None:
    encoder = ResNet(18)
    sounds = saved_encoder(ResNet(18, in_channels=3), tmp_path / "sounds.safetensors", sound={"rate_hz": 8000})
    short = saved_encoder(VideoResNet("r3d_10"), tmp_path / "short.safetensors")
    two = saved_classifier(TwoStream(encoder, 3, flow_frames=2), encoder, tmp_path / "two.safetensors", flow_frames=2)
    parallel = DepthParallelRnn(encoder, 3, hidden_dim=8)
    deep = saved_classifier(parallel, encoder, tmp_path / "deep.safetensors", hidden_dim=8)
    for words, sentence in (
        ((), "no network: give encoder.path=…/encoder.safetensors or classifier.path=…/classifier.safetensors"),
        ((f"encoder.path={tmp_path}/none.safetensors",), "none.safetensors: no such file"),
        ((f"encoder.path={sounds}",), "encoder: one of sounds, and export writes those of frames"),
        ((f"encoder.path={short}", "num_frames=0"), "num_frames=0: give 1 frame or more"),
        ((f"classifier.path={two}",), "TwoStream: wants clip and flow, and an exported network takes a clip alone"),
        ((f"classifier.path={deep}",), "DepthParallelRnn: cannot be exported ("),
    ):
        done = verb(main, *words)
        assert done.code == 2, (words, done.err)
        assert f"error: {sentence}" in done.err or sentence in done.err, done.err
        assert "Traceback" not in done.err
        assert not list(done.folder.glob("*.onnx*"))
