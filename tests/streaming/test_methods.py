"""Every conf/method/NAME.yaml builds a stream on an encoder, and its keys are arguments."""

import inspect

import pytest
import torch
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from selfsup.encoders.caffenet import CaffeNet
from selfsup.encoders.resnet import ResNet
from selfsup.streaming.stream import Stream
from selfsup.verb import CONFIGURATION

METHODS = sorted((CONFIGURATION / "method").glob("*.yaml"))


@pytest.mark.parametrize("path", METHODS, ids=[path.stem for path in METHODS])
@pytest.mark.parametrize("build", [ResNet, CaffeNet])
def test_a_method_streams(path: object, build: type[ResNet | CaffeNet]) -> None:
    config = OmegaConf.load(str(path))
    known = inspect.signature(get_object(config["_target_"])).parameters
    assert {str(key) for key in config if not str(key).startswith("_")} <= set(known)
    stream: Stream = instantiate(config)(build())
    work, found = [], None
    for frame in torch.randn(4, 3, 80, 80):
        found = stream.step(frame)
        work.append(stream.work)
    assert found is not None
    assert found.ndim == 3
    assert max(work) == pytest.approx(1)  # the first frame, or that which fills the pipeline
    assert all(0 <= share <= 1 + 1e-9 for share in work)
