"""What every task shares: a batch is scaled, augmented in training alone, and normalised."""

from functools import partial

import torch
from torch import Tensor, nn

from selfsup.data.clip_views import ClipViews
from selfsup.data.transforms import EachClip
from selfsup.tasks.task import Task
from tests.tasks.learning import SmallFrames


class AddChance(nn.Module):
    """Adds one random number."""

    def forward(self, clip: Tensor) -> Tensor:
        return clip + torch.rand(())


def task_of(training: bool) -> Task:
    torch.manual_seed(0)
    sgd = partial(torch.optim.SGD, lr=0.1)
    return Task(SmallFrames(), ClipViews(), sgd, augment=[EachClip(AddChance())]).train(training)


def test_views_are_prepared_as_the_clips_that_they_are() -> None:
    views = torch.randint(0, 256, (2, 3, 3, 4, 8, 8), dtype=torch.uint8)  # (B, V, C, T, H, W)
    alone = torch.stack([task_of(False).prepare(views[:, number]) for number in range(3)], dim=1)
    assert torch.equal(task_of(False).prepare(views), alone)
    torch.testing.assert_close(alone.flatten(0, 1).mean((0, 2, 3, 4)), torch.zeros(3), atol=0.5, rtol=0)


def test_each_view_is_augmented_by_its_own_draw() -> None:
    views = torch.zeros(2, 3, 3, 4, 8, 8, dtype=torch.uint8)
    prepared = task_of(True).prepare(views)
    assert len(prepared[:, :, 0, 0, 0, 0].unique()) == 6
    assert torch.equal(prepared, prepared[..., :1, :1, :1].expand_as(prepared))
    features = torch.randn(2, 3, 3, 4, 8, 8)
    assert torch.equal(task_of(True).prepare(features), features)  # stored features stay as they are
