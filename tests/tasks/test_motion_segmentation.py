"""Foreground of a still frame: what is unsure teaches nothing, figures are those of torchmetrics, and it learns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_jaccard_index

from selfsup.data.datamodule import VideoDataModule
from selfsup.data.index import VideoInfo
from selfsup.data.reader import VideoReader
from selfsup.data.sampling import UniformSampler
from selfsup.data.synthetic import cached_synthetic
from selfsup.data.true_masks import read_masks
from selfsup.data.videos import manifest
from selfsup.encoders.c3d import C3D
from selfsup.encoders.caffenet import CaffeNet
from selfsup.encoders.encoder import Encoder
from selfsup.encoders.resnet import ResNet
from selfsup.encoders.video_resnet import VideoResNet
from selfsup.tasks.motion_segmentation import MotionSegmentation, mean_iou

SGD = partial(torch.optim.SGD, lr=0.1)


def task(encoder: Callable[[], Encoder] = ResNet, **options: Any) -> MotionSegmentation:
    torch.manual_seed(0)
    return MotionSegmentation(encoder(), UniformSampler(1), SGD, **{"grid": 2, "width": 8, "bottleneck": 16, **options})


def batch(size_pixels: int = 48) -> dict[str, Tensor]:
    """Two frames; of the first label a quarter is foreground, one background, and two are unsure."""
    clip = torch.randn(2, 3, 1, size_pixels, size_pixels, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 1, 1, 56, 56)
    mask[0, ..., :28, :28] = 1.0
    mask[0, ..., 28:, :28] = 0.65
    mask[0, ..., 28:, 28:] = 0.45
    mask[1, ..., 10:30, 20:50] = 0.8
    return {"clip": clip, "mask": mask.half()}


@pytest.mark.parametrize(
    ("encoder", "size_pixels"),
    [
        (ResNet, 48),
        (CaffeNet, 72),
        (partial(CaffeNet, fully_connected=True), 199),
        (C3D, 32),
        (VideoResNet, 32),
    ],
    ids=["resnet18", "caffenet", "fc7", "c3d", "r3d18"],
)
def test_any_encoder_is_decoded_and_taught(encoder: Callable[[], Encoder], size_pixels: int) -> None:
    built = task(encoder, grid=3).train()
    given = batch(size_pixels)
    assert built(given["clip"]).shape == (2, 56, 56)
    built.step(given)["loss"].backward()
    assert all(parameter.grad is not None for parameter in built.encoder.stages[0].parameters())


def test_the_loss_is_the_mean_over_sure_pixels_by_hand() -> None:
    built = task().eval()
    given = batch()
    logits, labels = built(given["clip"]), given["mask"][:, 0, 0].float()
    sure = torch.cat([(logit[(label > 0.7) | (label < 0.4)]) for logit, label in zip(logits, labels, strict=True)])
    answers = torch.cat([label[(label > 0.7) | (label < 0.4)] > 0.7 for label in labels]).float()
    by_hand = F.binary_cross_entropy_with_logits(sure, answers)
    torch.testing.assert_close(built.step(given)["loss"], by_hand)
    assert len(sure) == 2 * 56**2 - 2 * 28**2


def test_unsure_pixels_give_no_gradient() -> None:
    built = task()
    given = {name: value[:1] for name, value in batch().items()}
    built.eval().step(given)["loss"].backward()
    gradient = built.decoder.layers[-2].bias.grad.view(56, 56)  # a pixel each
    assert not gradient[28:].any()
    assert (gradient[:28, :28] < 0).all()
    assert (gradient[:28, 28:] > 0).all()


def test_a_frame_of_which_nothing_is_sure_has_no_loss() -> None:
    built = task().eval()
    outputs = built.step({"clip": torch.zeros(1, 3, 1, 48, 48), "mask": torch.full((1, 1, 1, 48, 48), 0.5)})
    outputs["loss"].backward()
    assert outputs["loss"] == 0
    assert not any(parameter.grad.any() for parameter in built.parameters() if parameter.grad is not None)


def test_overlap_is_that_of_torchmetrics_frame_by_frame() -> None:
    generator = torch.Generator().manual_seed(0)
    answer, target, counted = (torch.rand(5, 20, 30, generator=generator) > level for level in (0.3, 0.5, 0.2))
    plain = [binary_jaccard_index(one.int(), other.int()) for one, other in zip(answer, target, strict=True)]
    torch.testing.assert_close(mean_iou(answer, target), torch.stack(plain).mean())
    ignored = torch.where(counted, target.int(), -1)
    some = [binary_jaccard_index(one.int(), other, ignore_index=-1) for one, other in zip(answer, ignored, strict=True)]
    torch.testing.assert_close(mean_iou(answer, target, counted), torch.stack(some).mean())
    nothing = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert mean_iou(nothing, nothing) == 1
    assert mean_iou(~nothing, nothing) == 0


def test_constant_answers_stand_beside_the_figures() -> None:
    built = task().train()
    given = batch()
    assert set(built.step(given)) == {"loss", "iou"}
    given["truth"] = torch.zeros(2, 1, 1, 56, 56)
    given["truth"][..., :28, :28] = 1
    outputs = built.eval().step(given)
    constants = (", all foreground", ", mean label")
    labels = "iou, truth, the labels themselves"
    figures = {f"{name}{end}" for name in ("iou", "iou, truth") for end in ("", *constants)}
    assert set(outputs) == {"loss", labels} | figures
    square, first_label, second_label = 28 * 28, given["mask"][0, 0, 0] > 0.5, given["mask"][1, 0, 0] > 0.5
    shares = [
        (label[:28, :28].sum() / (square + label.sum() - label[:28, :28].sum())).item()
        for label in (first_label, second_label)
    ]
    assert outputs[labels] == pytest.approx(sum(shares) / 2)
    assert outputs["iou, truth, all foreground"] == pytest.approx(1 / 4)
    # Each label is half of the mean one; unsure pixels of the first do not count.
    union = torch.zeros(2, 56, 56, dtype=torch.bool)
    union[:, :28, :28] = True
    union[:, 10:30, 20:50] = True
    first = 28 * 28 / union[0, :28].sum().item()
    assert outputs["iou, mean label"] == pytest.approx((first + 20 * 30 / union[1].sum().item()) / 2)


@pytest.mark.parametrize(("below", "above"), [(0.7, 0.4), (-0.1, 0.5), (0.5, 1.1)])
def test_bounds_out_of_order_are_refused(below: float, above: float) -> None:
    with pytest.raises(ValueError, match="give 0 <= background_below <= foreground_above <= 1"):
        task(background_below=below, foreground_above=above)


class TrueMasks:
    """Any frame of a synthetic video, and its true mask for a label."""

    def __call__(self, video: VideoReader, info: VideoInfo, generator: torch.Generator) -> dict[str, Tensor]:
        number = int(torch.randint(info.num_frames, (), generator=generator))
        masks = read_masks(info.path)
        assert masks is not None
        frames = video.frames([float(video.times_seconds[number])])
        mask = torch.from_numpy(masks[number]).float()[None, None]
        mask = F.interpolate(mask, list(frames.shape[-2:]), mode="bilinear", antialias=True)
        return {"clip": frames.transpose(0, 1), "mask": mask}

    def refuse(self, info: VideoInfo) -> str | None:
        return None


@pytest.mark.slow
def test_it_learns_to_find_objects_in_still_frames_of_other_videos() -> None:
    torch.manual_seed(0)
    data = VideoDataModule(
        manifest,
        TrueMasks(),
        manifest=str(cached_synthetic(videos=96)),
        size_pixels=64,
        crop_scale=(0.6, 1.0),
        batch_size=16,
        clips_per_video=12,
        num_workers=0,
    )
    data.setup()
    built = MotionSegmentation(ResNet(18), TrueMasks(), partial(torch.optim.AdamW, lr=1e-3)).train()
    optimizer = torch.optim.AdamW(built.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=10 * len(data.train_dataloader()))
    loader = data.train_dataloader()
    for epoch in range(10):
        loader.batches.set_epoch(epoch)
        for given in loader:
            optimizer.zero_grad()
            built.step({**given, "clip": built.prepare(given["clip"])})["loss"].backward()
            optimizer.step()
            schedule.step()
    built.eval()
    with torch.no_grad():
        batches = islice(data.held_out("test"), 5)
        told = [built.step({**given, "clip": built.prepare(given["clip"])}) for given in batches]
    figures = {name: torch.stack([one[name] for one in told]).mean().item() for name in told[0]}
    print(figures)
    constant = max(figures["iou, all foreground"], figures["iou, mean label"])
    assert figures["iou"] > constant + 0.15, figures
