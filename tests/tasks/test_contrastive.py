"""Contrast of views: what is a negative, what the slow network keeps, and that the loss falls."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from selfsup.data.clip_views import ClipViews
from selfsup.tasks.contrastive import Contrastive
from selfsup.tasks.info_nce import Queue, info_nce_of_views
from tests.tasks.learning import SmallFrames, examples, figure, taught

SAMPLER = ClipViews(2, 1, 0.1)


def task_of(**options: Any) -> Contrastive:
    torch.manual_seed(0)
    adam = partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.05)
    return Contrastive(SmallFrames(16), SAMPLER, adam, dim=8, hidden_dim=16, **options)


def batch_of(videos: int = 6, seed: int = 0, views: int = 2) -> dict[str, Tensor]:
    """Each video has a colour, which its views share but for noise."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.randn(videos, 1, 3, 1, 1, 1, generator=generator)
    noise = torch.randn(videos, views, 3, 1, 16, 16, generator=generator)
    return {"clip": colour + 0.5 * noise, "video": torch.arange(videos)}


def test_the_loss_is_that_of_the_embeddings_and_collapse_is_told() -> None:
    task, batch = task_of(temperature=0.2).eval(), batch_of(views=3)
    embedded = task.embed(batch["clip"])
    torch.testing.assert_close(embedded.norm(dim=2), torch.ones(6, 3))
    told = task.step(batch)
    torch.testing.assert_close(told["loss"], info_nce_of_views(embedded, embedded, batch["video"], 5.0)[0])
    assert set(told) == {"loss", "spread", "two_choice"}
    with torch.no_grad():
        for parameter in task.project.parameters():
            parameter.zero_()
        task.project[-2].bias.fill_(1.0)  # every embedding is the same
    collapsed = task.step(batch)
    assert collapsed["spread"] < 1e-6
    assert collapsed["two_choice"] == task.chance["two_choice"] == 0.5
    torch.testing.assert_close(collapsed["loss"], torch.tensor(16.0).log())  # one of its own, 15 of others


def test_examples_of_one_video_are_no_negatives() -> None:
    task, batch = task_of().eval(), batch_of(3)
    alone = {"clip": batch["clip"][:1], "video": torch.tensor([2])}
    assert "two_choice" not in task.step(alone)
    assert task.step({"clip": batch["clip"], "video": torch.tensor([2, 2, 2])})["loss"] == 0
    assert task.step(batch)["loss"] > 0


def test_the_slow_network_follows_and_is_not_taught() -> None:
    task, batch = task_of(momentum=0.9).train(), batch_of()
    fast = copy.deepcopy(task.encoder.state_dict())
    assert all(not name.startswith("slow") or not value.requires_grad for name, value in task.named_parameters())
    assert len(task.parameter_groups()) == len(list(task.encoder.parameters()) + list(task.project.parameters()))
    with torch.no_grad():
        for parameter in task.encoder.parameters():
            parameter.add_(1.0)
    task.step(batch)["loss"].backward()
    for name, slow in task.slow_encoder.named_parameters():
        torch.testing.assert_close(slow, 0.9 * fast[name] + 0.1 * (fast[name] + 1.0))
        assert slow.grad is None
    assert all(parameter.grad is not None for parameter in task.encoder.parameters())


def test_the_queue_holds_the_last_keys_first_and_is_kept_in_a_checkpoint() -> None:
    task, batch = task_of(momentum=0.9, queue=20).train(), batch_of()
    assert task.queue_videos.tolist() == [-1] * 20
    task.step(batch)
    first = task.queue_keys[:12].clone()
    assert task.queue_videos.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] + [-1] * 8
    torch.testing.assert_close(first.norm(dim=1), torch.ones(12))
    task.step({**batch_of(2, seed=1), "video": torch.tensor([7, 8])})
    assert task.queue_videos[:4].tolist() == [7, 7, 8, 8]
    assert torch.equal(task.queue_keys[4:16], first)
    assert torch.equal(task.state_dict()["queue_keys"], task.queue_keys)
    before = task.queue_keys.clone()
    task.eval().step(batch)
    assert torch.equal(task.queue_keys, before)  # held-out videos do not enter


def test_the_queue_as_it_was_before_the_batch_counts() -> None:
    task = task_of(momentum=0.0, queue=16).train()  # the slow network is the network itself
    task.step(batch_of(4, seed=1))
    queue = Queue(task.queue_keys.clone(), task.queue_videos.clone())
    batch = {**batch_of(3), "video": torch.tensor([9, 2, 11])}
    loss = task.step(batch)["loss"]
    task.momentum = None
    embedded = task.embed(batch["clip"])
    torch.testing.assert_close(loss, info_nce_of_views(embedded, embedded, batch["video"], 10.0, queue)[0])
    assert (queue.videos == 2).sum() == 2  # of which two are of a video in the batch


def test_buffers_of_a_projector_are_its_own() -> None:
    """BatchNorm of the slow network sees the keys alone."""
    task = task_of(momentum=0.9).train()
    task.step(batch_of())
    norms = [module for module in task.slow_project.modules() if isinstance(module, nn.BatchNorm1d)]
    assert [int(norm.num_batches_tracked) for norm in norms if norm.num_batches_tracked is not None] == [1]


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "queue": 32}])
def test_the_loss_falls_on_a_tiny_set(options: dict[str, Any]) -> None:
    task = task_of(**options)
    batch = {**batch_of(8), "clip": (batch_of(8)["clip"] * 40 + 128).clamp(0, 255).byte()}
    before = figure(task.eval(), batch, "loss")
    taught(task, batch, steps=60, size=8)
    assert figure(task, batch, "loss") < 0.5 * before
    assert figure(task, batch, "two_choice") > 0.9


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": 0.0}, r"task\.temperature=0 must lie above 0"),
        ({"momentum": 1.0}, r"task\.momentum=1 must lie in \[0, 1\)"),
        ({"queue": 8}, r"task\.queue=8 keeps keys of a slow network, and there is none; give task\.momentum"),
    ],
)
def test_values_out_of_bounds_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        task_of(**options)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "queue": 256, "temperature": 0.2}], ids=["simclr", "moco"])
def test_videos_are_told_apart_after_learning_from_others(options: dict[str, Any], seed: int) -> None:
    torch.manual_seed(seed)
    task = Contrastive(
        SmallFrames(), SAMPLER, partial(torch.optim.AdamW, lr=3e-3), dim=32, hidden_dim=64, **options
    ).eval()
    test = examples(SAMPLER, "test", 4)
    before = figure(task, test, "two_choice")
    taught(task, examples(SAMPLER, "train", 4), 120)
    after = figure(task, test, "two_choice")
    print(f"{options}: {before:.3f} before, {after:.3f} after, chance 0.5")
    assert after > 0.88
    assert 1 - after < 0.8 * (1 - before)
