"""Every conf/encoder/*.yaml builds its encoder; its keys are constructor arguments, each with a comment."""

import inspect
import re
from pathlib import Path

import pytest
import torch
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from selfsup import weights
from selfsup.encoders.encoder import Encoder, InputSpecification
from selfsup.encoders.resnet import ResNet

# stored.yaml stands for an encoder whose features were stored; it has neither weights nor a cost.
FOLDER = Path(__file__).parents[2] / "conf" / "encoder"
CONFIGS = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != "stored")
DIMS = {
    "c3d": 512,
    "c3d_plain": 512,
    "caffenet": 256,
    "inflated18": 512,
    "l3_audio": 512,
    "l3_vision": 512,
    "mc3_18": 512,
    "pretrained": 512,
    "r2plus1d10": 512,
    "r2plus1d18": 512,
    "r3d10": 512,
    "r3d18": 512,
    "resnet18": 512,
    "resnet50": 2048,
    "s3d": 1024,
    "timm": 320,
    "vit": 192,
}


def test_every_encoder_is_offered() -> None:
    assert {path.stem for path in CONFIGS} == set(DIMS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_builds(path: Path, tmp_path) -> None:
    config = OmegaConf.load(path)
    if path.stem == "timm":
        pytest.importorskip("timm")
    if path.stem == "pretrained":
        specification = InputSpecification(112, (0.5,) * 3, (0.2,) * 3, None)
        weights.save(ResNet(18), tmp_path / "encoder.safetensors", input=specification, task="none", data={})
        config.path = str(tmp_path / "encoder.safetensors")
        encoder = instantiate(config)
    else:
        with torch.device("meta"):
            encoder = instantiate(config)
    assert isinstance(encoder, Encoder)
    assert encoder.dim == DIMS[path.stem]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_its_keys_are_the_constructors(path: Path) -> None:
    config = OmegaConf.load(path)
    target = get_object(config._target_)
    keys = [str(key) for key in config if not str(key).startswith("_")]
    arguments = list(inspect.signature(target).parameters)
    assert keys == [name for name in arguments if name != "encoder_classes"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_its_header_tells_paper_and_cost_and_each_key_what_it_is(path: Path) -> None:
    lines = path.read_text().splitlines()
    header = [line for line in lines if line.startswith("# ")]
    keys = [line for line in lines if not line.startswith(("#", "_target_", " "))]
    assert lines[: len(header)] == header
    if path.stem != "pretrained":
        assert re.search(r"arXiv \d{4}\.\d{4,5}", " ".join(header))
        assert re.search(r"[\d.]+ M parameters; [\d.]+ G multiply-adds", " ".join(header))
    assert keys
    assert all(re.fullmatch(r"\w+:( \S+)? +# .+", line) for line in keys), keys


def test_pretrained_without_a_path_says_what_is_missing() -> None:
    config = OmegaConf.load(CONFIGS[0].with_name("pretrained.yaml"))
    with pytest.raises(MissingMandatoryValue, match="path"):
        instantiate(config)


@pytest.mark.parametrize("stem", sorted(set(DIMS) - {"pretrained", "timm"}))
def test_its_parameter_count_is_true(stem: str) -> None:
    path = CONFIGS[0].with_name(f"{stem}.yaml")
    with torch.device("meta"):
        encoder = instantiate(OmegaConf.load(path))
    written = re.search(r"([\d.]+) M parameters", path.read_text())
    assert written is not None
    assert f"{sum(p.numel() for p in encoder.parameters()) / 1e6:.1f}" == written[1]
