"""The encoder file: what was saved comes back; everything else is one sentence, and no code runs."""

import errno
import json
import os
import re
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import selfsup
from selfsup import weights
from selfsup.encoders.caffenet import CaffeNet
from selfsup.encoders.encoder import Encoder, FrameEncoder, InputSpecification
from selfsup.encoders.resnet import ResNet

INPUT = InputSpecification(size_pixels=112, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), fps=12.5)


class Tiny(FrameEncoder):
    """An encoder outside the package."""

    def __init__(self, in_channels: int = 3, width: int = 4) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.width = width
        self.dim = width
        self.stages = nn.Sequential(nn.Conv2d(in_channels, width, 3), nn.BatchNorm2d(width))


class Forgetful(Tiny):
    def __init__(self, depth: int = 1) -> None:
        super().__init__()


class Loose(Tiny):
    def __init__(self, **options: int) -> None:
        super().__init__(**options)


def save(encoder: Encoder, path: Path, **changed: Any) -> Path:
    weights.save(encoder, path, **{"input": INPUT, "task": "temporal_order", "data": {"videos": 3}, **changed})
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save(Tiny(), tmp_path / "encoder.safetensors")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(ResNet(18, in_channels=1), tmp_path_factory.mktemp("resnet") / "encoder.safetensors")


def altered(source: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A file with the description of another after `change`, and no tensors: they are looked at last."""
    description = weights.read_metadata(source)
    change(description)
    save_file({}, target, {weights.KEY: json.dumps(description)})
    return target


@torch.no_grad()
def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    encoder = CaffeNet(in_channels=2)
    encoder(torch.randn(2, 2, 2, 48, 48))  # moves the statistics of BatchNorm
    path = save(encoder, tmp_path / "encoder.safetensors")
    loaded = weights.load(path)
    assert type(loaded) is CaffeNet
    assert (loaded.in_channels, loaded.batch_norm, loaded.weights_path) == (2, True, None)
    state = loaded.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())
    assert loaded.input == INPUT
    assert loaded.source is not None
    assert loaded.source == {
        "format": 1,
        "class": "selfsup.encoders.caffenet.CaffeNet",
        "arguments": {"in_channels": 2, "batch_norm": True, "fully_connected": False, "weights_path": None},
        "input": {"size_pixels": 112, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "fps": 12.5},
        "task": "temporal_order",
        "data": {"videos": 3},
        "version": selfsup.__version__,
    }
    assert loaded.source == weights.read_metadata(path)
    clip = torch.randn(1, 2, 1, 48, 48)
    assert torch.equal(loaded(clip), encoder.eval()(clip))


def test_a_loaded_encoder_is_in_eval_mode_and_can_train(tiny: Path) -> None:
    encoder = weights.load(tiny, [Tiny])
    assert not any(module.training for module in encoder.modules())
    assert all(p.requires_grad for p in encoder.parameters())
    assert weights.load(str(tiny), [Tiny]).train().training


def test_the_untrained_encoder_has_the_architecture_and_not_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = ResNet(18, in_channels=2)
    encoder.input = INPUT
    fresh = weights.untrained(encoder)
    assert weights.architecture(fresh) == weights.architecture(encoder)
    assert fresh.input == INPUT
    assert not fresh.training
    first, second = fresh.stages[0][0].weight, encoder.stages[0][0].weight  # type: ignore[index]
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(weights.untrained(encoder).stages[0][0].weight, second), "its weights come from torch's seed"  # type: ignore[index]


def test_loading_leaves_the_random_state_alone(tiny: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    weights.load(tiny, [Tiny])
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_tiny_patch16_224", None),
        # keeps tables that are not in the file
        pytest.param("swin_tiny_patch4_window7_224", 64, marks=pytest.mark.slow),
    ],
)
def test_timms_networks_cross_too(tmp_path: Path, name: str, size: int | None) -> None:
    pytest.importorskip("timm")
    from selfsup.encoders.timm import Timm

    encoder = Timm(name, in_channels=1, img_size=size).eval()
    loaded = weights.load(save(encoder, tmp_path / "encoder.safetensors"))
    clip = torch.randn(1, 1, 1, 64, 64)
    assert torch.equal(loaded(clip), encoder(clip))


def test_the_path_of_the_first_weights_does_not_travel(tmp_path: Path) -> None:
    first = tmp_path / "first.pth"
    torch.save(CaffeNet().state_dict(), first)
    encoder = CaffeNet(weights_path=str(first))
    path = save(encoder, tmp_path / "encoder.safetensors")
    assert b"first.pth" not in path.read_bytes()
    first.unlink()
    assert torch.equal(weights.load(path).stages.conv1[0].weight, encoder.stages.conv1[0].weight)


def test_channels_last_half_precision_and_tied_tensors_are_saved(tmp_path: Path) -> None:
    encoder = Tiny(width=4).to(memory_format=torch.channels_last).to(torch.bfloat16)
    encoder.stages[1].bias = encoder.stages[1].weight
    path = save(encoder, tmp_path / "encoder.safetensors")
    assert load_file(path)["stages.0.weight"].dtype == torch.bfloat16
    loaded = weights.load(path, [Tiny])
    assert loaded.stages[0].weight.dtype == torch.float32  # what its constructor builds
    assert torch.equal(loaded.stages[0].weight, encoder.stages[0].weight.float())


def test_one_encoder_gives_one_file(tmp_path: Path) -> None:
    encoder = Tiny()
    data = {name: index for index, name in enumerate("abcdefgh")}
    first = save(encoder, tmp_path / "a", data=data)
    second = save(encoder, tmp_path / "b", data=dict(reversed(data.items())))
    assert first.read_bytes() == second.read_bytes()


def test_the_folder_is_made(tmp_path: Path) -> None:
    assert weights.load(save(Tiny(), tmp_path / "new" / "folder" / "é b.safetensors"), [Tiny]).dim == 4


# What cannot be saved


def test_an_argument_that_is_not_kept_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Forgetful: takes 'depth' but .* write `self.depth = depth`"):
        save(Forgetful(), tmp_path / "encoder.safetensors")
    with pytest.raises(ValueError, match=r"Loose: takes \*options, .* name every argument"):
        save(Loose(), tmp_path / "encoder.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [{"a": object()}, {"a": float("nan")}])
def test_data_that_json_cannot_hold_is_refused(tiny: Path, data: dict[str, object]) -> None:
    before = tiny.read_bytes()
    with pytest.raises(ValueError, match=r"encoder.safetensors: the description .* cannot be written as JSON"):
        save(Tiny(), tiny, data=data)
    assert tiny.read_bytes() == before


@contextmanager
def disk_of(size_bytes: int) -> Iterator[None]:
    """The system refuses to let any file of this process grow beyond the size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_space_left_loses_nothing(tiny: Path) -> None:
    before = tiny.read_bytes()
    with disk_of(10_000), pytest.raises(OSError, match="could not write") as caught:
        save(Tiny(width=1000), tiny)
    assert caught.value.errno == errno.EFBIG
    assert str(tiny) in str(caught.value)
    assert "what was there before is unchanged; free some space" in str(caught.value)
    assert tiny.read_bytes() == before
    assert list(tiny.parent.iterdir()) == [tiny]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file.encoder.safetensors: could not write"):
        save(Tiny(), tmp_path / "file" / "encoder.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"folder: could not write"):
        save(Tiny(), tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_an_interrupted_write_leaves_the_old_file(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tiny.read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(Tiny(), tiny)
    assert tiny.read_bytes() == before
    assert list(tiny.parent.iterdir()) == [tiny]


# Files that are not an encoder


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(ValueError, match=f"{path}: no such file; give the path of an encoder.safetensors"):
            weights.load(path)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_a_truncated_file_is_refused(tiny: Path, kept: int) -> None:
    tiny.write_bytes(tiny.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"encoder.safetensors: not a safetensors file, or cut short .* again"):
        weights.load(tiny)


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip archive, as torch.save writes", bytes(64), b"\x80\x02}q\x00."])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.pth: not a safetensors file"):
        weights.load(tmp_path / "a.pth")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_tensors_without_a_description_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file(Tiny().state_dict(), tmp_path / "a.safetensors", metadata)
    with pytest.raises(ValueError, match=r"a.safetensors: holds tensors but no description .*`weights_path`"):
        weights.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "null", '"x"', "{}", "1" * 10_000])
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    save_file({}, tmp_path / "a.safetensors", {weights.KEY: text})
    with pytest.raises(ValueError, match=r"a.safetensors: .*export the encoder again"):
        weights.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("field", weights.FIELDS)
@pytest.mark.parametrize("value", [None, True, []])
def test_a_field_of_another_kind_is_named(tiny: Path, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"'{field}' of the description is .*, not a"):
        weights.load(altered(tiny, tiny, lambda d: d.update({field: value})), [Tiny])


@pytest.mark.parametrize(
    "changed",
    [{"mean": 0.5}, {"mean": ["a"] * 3}, {"mean": [0.5]}, {"std": [0.0] * 3}, {"size_pixels": "x"}, {"depth": 1}],
)
def test_an_impossible_input_is_refused(tiny: Path, changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"encoder.safetensors: the input specification .* export"):
        weights.load(altered(tiny, tiny, lambda d: d["input"].update(changed)), [Tiny])


def test_a_newer_format_asks_to_upgrade(tiny: Path) -> None:
    path = altered(tiny, tiny, lambda d: d.update({"format": 2, "version": "9.1", "class": None, "more": 1}))
    sentence = f"written by selfsup 9.1 in format 2, but selfsup {selfsup.__version__} reads up to format 1; upgrade"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        weights.load(path)


# Hostile files


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "os.path.join",
        "builtins.exec",
        "subprocess.Popen",
        "torch.nn.modules.linear.Linear",
        "selfsup.train.main",
        "selfsup.weights.load",
        "selfsup.encoders.resnet.nn.Linear",
        "selfsup.encoders.resnet.FrameEncoder",
        "selfsup.encoders.encoder.FrameEncoder",
        "selfsup.encoders.encoder.Encoder",
        "selfsup.encoders.resnet.resnet18",
        "selfsup.encoders.resnet.NETWORKS",
        "selfsup.encoders.resnet.",
        "selfsup.encoders.resnet",
        "selfsup.encoders.tokens.Embed",
        "selfsup.encoders.absent.ResNet",
        "selfsup.encoders..resnet.ResNet",
        "selfsup.encoders.resnet.ResNet.__init__",
        "../../hostile.ResNet",
        "ResNet",
        "",
        "tests.test_weights.Tiny",
    ],
)
def test_only_encoders_of_the_package_may_be_named(resnet: Path, tmp_path: Path, name: str) -> None:
    path = altered(resnet, tmp_path / "hostile.safetensors", lambda d: d.update({"class": name}))
    sentence = f"{path}: names the class {name!r}, which is no encoder of selfsup.encoders; "
    with pytest.raises(ValueError, match=re.escape(sentence) + ".*pass it in `encoder_classes`"):
        weights.load(path)


def test_no_module_is_imported_because_a_file_names_it(
    resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile_module.py").write_text("from pathlib import Path\nPath('it_ran').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("hostile_module.Encoder", "selfsup.encoders.hostile_module.Encoder"):
        with pytest.raises(ValueError, match="names the class"):
            weights.load(altered(resnet, tmp_path / "a.safetensors", lambda d, n=name: d.update({"class": n})))
    assert not (tmp_path / "it_ran").exists()
    assert "hostile_module" not in sys.modules


def test_a_class_outside_must_be_passed(tiny: Path) -> None:
    with pytest.raises(ValueError, match=r"names the class '.*Tiny', which is no encoder .*encoder_classes"):
        weights.load(tiny)
    with pytest.raises(ValueError, match="names the class"):
        weights.load(tiny, [Forgetful])
    assert type(weights.load(tiny, [Forgetful, Tiny])) is Tiny


@pytest.mark.parametrize("argument", ["device", "self", "__class__", "kwargs"])
def test_arguments_outside_the_signature_are_refused(resnet: Path, tmp_path: Path, argument: str) -> None:
    path = altered(resnet, tmp_path / "a.safetensors", lambda d: d["arguments"].update({argument: 1}))
    with pytest.raises(ValueError, match=rf"a.safetensors: gives .*ResNet the argument {argument}=1, which a file"):
        weights.load(path)


def test_a_file_may_not_name_another_file(resnet: Path, tmp_path: Path) -> None:
    secret = str(tmp_path / "secret.pth")
    path = altered(resnet, tmp_path / "a.safetensors", lambda d: d["arguments"].update(weights_path=secret))
    with pytest.raises(ValueError, match=r"the argument weights_path='.*secret.pth', which a file may not give"):
        weights.load(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"depth": 19},
        {"depth": [18]},
        {"depth": "18"},
        {"in_channels": -1},
        {"in_channels": "1"},
        {"in_channels": 10**30},
    ],
)
def test_arguments_that_build_nothing_are_refused(resnet: Path, tmp_path: Path, changed: dict[str, object]) -> None:
    path = altered(resnet, tmp_path / "a.safetensors", lambda d: d["arguments"].update(changed))
    with pytest.raises(ValueError, match=r"a.safetensors: .*ResNet cannot be built with .*; export the encoder again"):
        weights.load(path)


@pytest.mark.parametrize("changed", [{"in_channels": 10**9}, {"depth": 152}])
def test_nothing_is_allocated_for_an_architecture_that_the_file_does_not_hold(
    resnet: Path, tmp_path: Path, changed: dict[str, object]
) -> None:
    path = altered(resnet, tmp_path / "a.safetensors", lambda d: d["arguments"].update(changed))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"the tensors are not those of selfsup.encoders.resnet.ResNet with"):
        weights.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize("name", ["hf-hub:someone/network", "local-dir:/etc", "../x"])
def test_timm_fetches_nothing_that_a_file_names(resnet: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("timm")
    path = altered(
        resnet,
        tmp_path / "a.safetensors",
        lambda d: d.update({"class": "selfsup.encoders.timm.Timm", "arguments": {"name": name}}),
    )
    with pytest.raises(ValueError, match=r"a.safetensors: .*Timm cannot be built .* is no network of timm"):
        weights.load(path)


# Tensors that do not fit


def rewritten(source: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """The file with the same description and other tensors."""
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(source)
    change(tensors)
    save_file(tensors, source, metadata)
    return source


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda t: t.pop("stages.0.bias"), r"missing: stages.0.bias"),
        (lambda t: t.pop("stages.1.num_batches_tracked"), r"missing: stages.1.num_batches_tracked"),
        (lambda t: t.update({"fc.weight": torch.zeros(2)}), r"unexpected: fc.weight"),
        (lambda t: t.update({"stages.0.bias": torch.zeros(5)}), r"stages.0.bias is \(5,\), not \(4,\)"),
        (lambda t: t.clear(), r"missing: stages.0.weight, stages.0.bias, .* and \d more"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tiny: Path, change: Callable[..., object], difference: str) -> None:
    sentence = (
        rf"encoder.safetensors: the tensors are not those of .*Tiny with .*{difference}.*export the encoder again"
    )
    with pytest.raises(ValueError, match=sentence):
        weights.load(rewritten(tiny, change), [Tiny])


def test_numbers_of_another_kind_are_refused(tiny: Path) -> None:
    whole = {"stages.0.bias": torch.zeros(4, dtype=torch.int8)}
    with pytest.raises(ValueError, match=r"stages.0.bias holds torch.int8, not torch.float32; export"):
        weights.load(rewritten(tiny, lambda t: t.update(whole)), [Tiny])


def test_a_header_that_claims_more_than_the_file_is_refused(tiny: Path) -> None:
    content = tiny.read_bytes()
    tiny.write_bytes(struct.pack("<Q", 2**60) + content[8:])
    with pytest.raises(ValueError, match="not a safetensors file, or cut short"):
        weights.load(tiny)
