"""The classifier file: what was saved comes back, encoder and all; the rest is one sentence, and no code runs."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import selfsup
from selfsup import classifier_weights, weights
from selfsup.classifier_weights import KIND, ClipSpecification
from selfsup.classifiers.classifier import Classifier
from selfsup.classifiers.cnn_rnn import CnnRnn
from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.classifiers.i3d import I3D
from selfsup.classifiers.skip_rnn import SkipRnn
from selfsup.classifiers.two_stream import TwoStream
from selfsup.encoders.caffenet import CaffeNet
from selfsup.encoders.encoder import Encoder, InputSpecification
from tests.test_weights import Tiny

INPUT = InputSpecification(size_pixels=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), fps=None)
CLIP = ClipSpecification(num_frames=4, fps=12.5, spread=False, short_side_pixels=37, stretch=False)
CLASSES = ("jump", "pour", "wave")


def save(classifier: Classifier, encoder: Encoder, path: Path, **changed: Any) -> Path:
    options: dict[str, Any] = {
        "encoder": encoder,
        "arguments": {},
        "classes": CLASSES,
        "labels": "video",
        "input": INPUT,
        "clip": CLIP,
        "task": "action_recognition",
        "data": {"videos": 3},
    }
    classifier_weights.save(classifier, path, **{**options, **changed})
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    encoder = Tiny()
    return save(FramePooling(encoder, 3), encoder, tmp_path / "classifier.safetensors")


def altered(source: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A file with the description of another after `change`, and no tensors: they are looked at last."""
    with safe_open(source, framework="pt") as file:
        description = json.loads(file.metadata()[KIND.key])
    change(description)
    save_file({}, target, {KIND.key: json.dumps(description)})
    return target


BUILT: dict[str, tuple[Callable[..., Classifier], dict[str, Any]]] = {
    "frame_pooling": (FramePooling, {"pooling": "max", "hidden_dim": 5, "dropout": 0.3}),
    "cnn_rnn": (CnnRnn, {"cell": "gru", "hidden_dim": 5, "join": "last"}),
    "skip_rnn": (SkipRnn, {"hidden_dim": 5, "budget_weight": 0.5}),
    "i3d": (I3D, {"kernel_frames": 5, "time_strides": [1, 2, 1, 1, 1]}),
    "two_stream": (TwoStream, {"flow_frames": 2, "fusion": "learned"}),
}


@pytest.mark.parametrize("name", BUILT)
@torch.no_grad()
def test_what_was_saved_comes_back(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    cls, arguments = BUILT[name]
    encoder = CaffeNet()
    classifier = cls(encoder, 3, **arguments).eval()
    path = save(classifier, encoder, tmp_path / "new" / "classifier.safetensors", arguments=arguments)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    trained = classifier_weights.load(path)
    assert torch.equal(torch.rand(2), expected), "loading leaves the random state alone"
    assert type(trained.classifier) is cls
    assert not any(module.training for module in trained.classifier.modules())
    state = trained.classifier.state_dict()
    assert list(state) == list(classifier.state_dict())
    assert all(torch.equal(tensor, state[key]) for key, tensor in classifier.state_dict().items())
    clips = [torch.randn(1, channels, 4, 48, 48) for channels in (3, 4)][: len(classifier.inputs)]
    assert torch.equal(trained.classifier(*clips), classifier(*clips))
    assert (trained.classes, trained.labels, trained.input, trained.clip) == (CLASSES, "video", INPUT, CLIP)
    assert trained.source["version"] == selfsup.__version__
    assert trained.source["encoder"]["class"] == "selfsup.encoders.caffenet.CaffeNet"
    assert arguments.items() <= trained.source["arguments"].items()
    assert "dropout" in trained.source["arguments"], "defaults are written down: they may change"


def test_one_classifier_gives_one_file(tmp_path: Path) -> None:
    encoder = Tiny()
    classifier = FramePooling(encoder, 3)
    first = save(classifier, encoder, tmp_path / "a", data={"a": 1, "b": 2})
    second = save(classifier, encoder, tmp_path / "b", data={"b": 2, "a": 1})
    assert first.read_bytes() == second.read_bytes()


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    encoder = Tiny()
    classifier = FramePooling(encoder, 3)
    path = tmp_path / "classifier.safetensors"
    with pytest.raises(ValueError, match="takes no depth beside encoder and num_classes"):
        save(classifier, encoder, path, arguments={"depth": 3})
    with pytest.raises(ValueError, match="2 classes for a classifier of 3"):
        save(classifier, encoder, path, classes=("a", "b"))
    with pytest.raises(ValueError, match=r"the description of the classifier cannot be written as JSON"):
        save(classifier, encoder, path, data={"a": object()})
    assert not list(tmp_path.iterdir())


# Files that are not a classifier


def test_files_of_other_kinds_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent: no such file; give the path of a classifier.safetensors"):
        classifier_weights.load(tmp_path / "absent")
    encoder = tmp_path / "encoder.safetensors"
    weights.save(Tiny(), encoder, input=INPUT, task="none", data={})
    with pytest.raises(ValueError, match=r"no description of a classifier; give the classifier.safetensors of a run"):
        classifier_weights.load(encoder)
    with pytest.raises(ValueError, match="holds tensors but no description of an encoder"):
        weights.load(tiny)


@pytest.mark.parametrize("kept", [0, 8, 100, -1])
def test_a_truncated_file_is_refused(tiny: Path, kept: int) -> None:
    tiny.write_bytes(tiny.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"classifier.safetensors: not a safetensors file, or cut short .* again"):
        classifier_weights.load(tiny)


@pytest.mark.parametrize("field", KIND.fields)
@pytest.mark.parametrize("value", [None, True, 1.5])
def test_a_field_of_another_kind_is_named(tiny: Path, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"'{field}' of the description is .*, not a .*; export the classifier again"):
        classifier_weights.load(altered(tiny, tiny, lambda d: d.update({field: value})), [Tiny])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"classes": ["a"]}, "the classes are"),
        ({"classes": ["a", "a", "b"]}, "the classes are"),
        ({"classes": [1, 2, 3]}, "the classes are"),
        ({"labels": "pixel"}, "the labels are of 'pixel', not video or frame"),
        ({"input": {"mean": [0.5]}}, "the input specification"),
        ({"clip": {}}, "the clips {} do not hold"),
        ({"clip": {"num_frames": 0, "fps": None, "spread": 1, "short_side_pixels": 3, "stretch": True}}, "num_frames"),
        ({"encoder": {"class": 3}}, "the encoder is"),
    ],
)
def test_an_impossible_description_is_refused(tiny: Path, changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=rf"classifier.safetensors: .*{re.escape(said)}.*export the classifier again"):
        classifier_weights.load(altered(tiny, tiny, lambda d: d.update(changed)), [Tiny])


def test_a_newer_format_asks_to_upgrade(tiny: Path) -> None:
    path = altered(tiny, tiny, lambda d: d.update({"format": 2, "version": "9.1", "class": None}))
    sentence = f"written by selfsup 9.1 in format 2, but selfsup {selfsup.__version__} reads up to format 1; upgrade"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        classifier_weights.load(path)


# Hostile files


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "torch.nn.modules.linear.Linear",
        "selfsup.classifiers.classifier.Classifier",
        "selfsup.classifiers.cnn_rnn.Recurrent",
        "selfsup.classifiers.cnn_rnn.RecurrentHead",
        "selfsup.classifiers.cnn_rnn.check_recurrent",
        "selfsup.classifiers.i3d.FramePooling",
        "selfsup.classifiers.absent.CnnRnn",
        "selfsup.encoders.caffenet.CaffeNet",
        "CnnRnn",
        "",
    ],
)
def test_only_classifiers_of_the_package_may_be_named(tiny: Path, name: str) -> None:
    path = altered(tiny, tiny, lambda d: d.update({"class": name}))
    with pytest.raises(ValueError, match=re.escape(f"names the class {name!r}, which is no classifier of selfsup")):
        classifier_weights.load(path, [Tiny])


@pytest.mark.parametrize("name", ["os.system", "selfsup.classifiers.cnn_rnn.CnnRnn", "tests.test_weights.Tiny"])
def test_only_encoders_of_the_package_may_be_named(tiny: Path, name: str) -> None:
    path = altered(tiny, tiny, lambda d: d["encoder"].update({"class": name}))
    with pytest.raises(ValueError, match=re.escape(f"names the class {name!r}, which is no encoder of selfsup")):
        classifier_weights.load(path)


def test_no_module_is_imported_because_a_file_names_it(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tiny.parent / "hostile_classifier.py").write_text("from pathlib import Path\nPath('it_ran').touch()\n")
    monkeypatch.chdir(tiny.parent)
    monkeypatch.syspath_prepend(str(tiny.parent))
    for name in ("hostile_classifier.CnnRnn", "selfsup.classifiers.hostile_classifier.CnnRnn"):
        with pytest.raises(ValueError, match="names the class"):
            classifier_weights.load(altered(tiny, tiny, lambda d, n=name: d.update({"class": n})), [Tiny])
    assert not (tiny.parent / "it_ran").exists()
    assert "hostile_classifier" not in sys.modules


@pytest.mark.parametrize("argument", ["encoder", "num_classes", "device", "self"])
def test_arguments_outside_the_signature_are_refused(tiny: Path, argument: str) -> None:
    path = altered(tiny, tiny, lambda d: d["arguments"].update({argument: 1}))
    with pytest.raises(ValueError, match=rf"gives .*FramePooling the argument {argument}=1, which a file may not give"):
        classifier_weights.load(path, [Tiny])


def test_a_file_may_not_name_another_file(tmp_path: Path) -> None:
    encoder = CaffeNet()
    path = save(FramePooling(encoder, 3), encoder, tmp_path / "a.safetensors")
    altered(path, path, lambda d: d["encoder"]["arguments"].update(weights_path="secret.pth"))
    with pytest.raises(ValueError, match=r"the argument weights_path='secret.pth', which a file may not give"):
        classifier_weights.load(path)


def test_arguments_that_build_nothing_are_refused(tiny: Path) -> None:
    path = altered(tiny, tiny, lambda d: d["arguments"].update({"pooling": "median"}))
    with pytest.raises(ValueError, match=r"FramePooling cannot be built with .*; export the classifier again"):
        classifier_weights.load(path, [Tiny])


# Tensors that do not fit


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda t: t.pop("head.1.bias"), r"missing: head.1.bias"),
        (lambda t: t.update({"fc.weight": torch.zeros(2)}), r"unexpected: fc.weight"),
        (lambda t: t.update({"head.1.bias": torch.zeros(5)}), r"head.1.bias is \(5,\), not \(3,\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tiny: Path, change: Callable[..., object], difference: str) -> None:
    with safe_open(tiny, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(tiny)
    change(tensors)
    save_file(tensors, tiny, metadata)
    with pytest.raises(ValueError, match=rf"the tensors are not those of .*FramePooling with .*Tiny .*{difference}"):
        classifier_weights.load(tiny, [Tiny])
