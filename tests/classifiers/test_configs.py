"""Every conf/classifier/*.yaml builds its classifier; the 3-D ones choose their encoder, which another one replaces."""

import inspect
import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from selfsup.classifiers.classifier import Classifier

CONF = Path(__file__).parents[2] / "conf"
CONFIGS = sorted((CONF / "classifier").glob("*.yaml"))
ENCODER = {"c3d": "C3D", "r3d": "VideoResNet", "r2plus1d": "VideoResNet", "i3d": "Inflated"}
ROOT = """
defaults:
  - encoder: resnet18
  - clips: segments
  - classifier: frame_pooling # after what it may choose
  - _self_
"""


def composed(folder: Path, *overrides: str) -> DictConfig:
    (folder / "root.yaml").write_text(ROOT)
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("root", [f"hydra.searchpath=[file://{CONF}]", *overrides])


def built(config: DictConfig) -> Classifier:
    with torch.device("meta"):
        return instantiate(config.classifier)(instantiate(config.encoder), 7)


def test_every_classifier_is_offered() -> None:
    names = {"frame_pooling", "cnn_rnn", "skip_rnn", "depth_parallel", "c3d", "r3d", "r2plus1d", "i3d", "two_stream"}
    assert {path.stem for path in CONFIGS} == names


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_builds(name: str, tmp_path: Path) -> None:
    config = composed(tmp_path, f"classifier={name}")
    classifier = built(config)
    assert isinstance(classifier, Classifier)
    assert classifier.num_classes == 7
    encoder = classifier.encoders()["clip"]
    assert type(encoder).__name__ == ENCODER.get(name, "ResNet")
    keys = [str(key) for key in config.classifier if not str(key).startswith("_")]
    arguments = list(inspect.signature(get_object(config.classifier._target_)).parameters)
    assert keys == [argument for argument in arguments if argument not in ("encoder", "num_classes")]


@pytest.mark.parametrize("name", ["c3d", "r3d", "r2plus1d"])
def test_another_encoder_replaces_the_chosen_one(name: str, tmp_path: Path) -> None:
    for overrides in ([f"classifier={name}", "encoder=r3d10"], ["encoder=r3d10", f"classifier={name}"]):
        assert composed(tmp_path, *overrides).encoder.name == "r3d_10"
    pretrained = composed(tmp_path, f"classifier={name}", "encoder=pretrained", "encoder.path=encoder.safetensors")
    assert pretrained.encoder._target_ == "selfsup.weights.load"
    assert pretrained.classifier.pooling == "mean"


def test_options_of_the_chosen_ones_can_be_changed(tmp_path: Path) -> None:
    config = composed(tmp_path, "classifier=c3d", "encoder.batch_norm=false", "classifier.hidden_dim=64")
    assert config.classifier.dropout == 0.5
    assert config.classifier.hidden_dim == 64
    assert config.encoder.batch_norm is False


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_its_header_tells_paper_and_cost_and_each_key_what_it_is(path: Path) -> None:
    lines = [line.strip() for line in path.read_text().splitlines()]
    header = " ".join(line for line in lines if line.startswith("# "))
    assert re.search(r"arXiv \d{4}\.\d{4,5}", header)
    assert re.search(r"parameters( besides|;)", header)
    keys = [line for line in lines if re.match(r"\w", line) and not line.startswith(("_", "defaults:", "classifier:"))]
    assert all(re.fullmatch(r"\w+: \S+ +# .+", line) for line in keys), keys


@pytest.mark.parametrize("name", ["c3d", "r3d", "r2plus1d", "i3d", "two_stream"])
def test_its_parameter_count_is_true(name: str, tmp_path: Path) -> None:
    written = re.search(r"([\d.]+) M parameters", (CONF / "classifier" / f"{name}.yaml").read_text())
    assert written is not None
    encoders = built(composed(tmp_path, f"classifier={name}")).encoders().values()
    count = sum(p.numel() for encoder in encoders for p in encoder.parameters())
    assert f"{count / 1e6:.1f}" == written[1]
