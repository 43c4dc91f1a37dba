"""Grad-CAM against its closed form on a linear head, and where it must not look."""

import pytest
import torch
from torch import Tensor, nn

from selfsup.classifiers.cnn_rnn import CnnRnn
from selfsup.classifiers.frame_pooling import FramePooling
from selfsup.encoders.encoder import FrameEncoder
from selfsup.encoders.video_resnet import VideoResNet
from selfsup.evaluation.grad_cam import grad_cam


class Colours(FrameEncoder):
    """The features of a place are its colours."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 3
        self.stages = nn.Sequential(nn.AvgPool2d(4))


def clips(batch: int = 2, frames: int = 5) -> Tensor:
    return torch.rand(batch, 3, frames, 16, 16, generator=torch.Generator().manual_seed(0))


def test_of_a_linear_head_it_is_the_weighed_map() -> None:
    classifier = FramePooling(Colours(), num_classes=4)
    clip, classes = clips(), torch.tensor([3, 1])
    found = grad_cam(classifier, classifier.encoder, clip, classes)
    maps = classifier.encoder(clip)  # (B, 3, T, 4, 4)
    weight = classifier.head[-1].weight[classes] / (5 * 16)  # of one of 5 moments and 16 places
    expected = torch.einsum("bd,bdthw->bthw", weight, maps).relu()
    assert torch.allclose(found, expected, atol=1e-7)
    assert found.shape == (2, 5, 4, 4)


def test_only_the_moment_that_is_read_is_seen() -> None:
    class Third(nn.Module):
        """Looks at the third frame alone."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = Colours()

        def forward(self, clip: Tensor) -> Tensor:
            return self.encoder(clip)[:, :2, 2].mean(dim=(2, 3))

    network = Third()
    found = grad_cam(network, network.encoder, clips(), torch.tensor([0, 1]))
    assert found[:, 2].min() > 0
    assert found[:, [0, 1, 3, 4]].abs().max() == 0


@pytest.mark.parametrize("kind", ["cnn_rnn", "r3d"])
def test_what_was_set_is_left_as_it_was(kind: str) -> None:
    if kind == "cnn_rnn":
        classifier: nn.Module = CnnRnn(Colours(), num_classes=3)
    else:
        classifier = FramePooling(VideoResNet("r3d_10"), num_classes=3)
    classifier.train()
    classifier.encoder.eval()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    with torch.inference_mode(False), torch.no_grad():
        found = grad_cam(classifier, classifier.encoder, clips(), torch.tensor([0, 2]))
    assert found.min() >= 0
    assert found.isfinite().all()
    assert classifier.training
    assert not classifier.encoder.training
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_an_encoder_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="FramePooling does not ask this encoder"):
        grad_cam(FramePooling(Colours(), num_classes=2), Colours(), clips(), torch.tensor([0, 0]))
