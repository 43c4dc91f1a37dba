"""Pictures of a task: a row an example, in files and to the loggers that take them, of tasks that show something."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.io import read_image

from selfsup.callbacks import pictures
from selfsup.callbacks.pictures import Pictures, log_sounds
from selfsup.data.dataset import collate
from selfsup.data.sampling import ClipSampler, UniformSampler
from selfsup.encoders.resnet import ResNet
from selfsup.tasks.motion_segmentation import MotionSegmentation

SHOWN = UniformSampler(1)


class Kept(Logger):
    """A logger that takes pictures as Weights & Biases does, or else as TensorBoard."""

    def __init__(self, files: bool) -> None:
        super().__init__()
        self.images: list[Any] = []
        self.name, self.version, self.experiment = "", "", self  # type: ignore[misc]
        if files:
            self.log_image = lambda key, images, step: self.images.append((key, images, step))

    name = version = experiment = None  # type: ignore[assignment]

    def add_image(self, key: str, picture: Tensor, step: int) -> None:
        self.images.append((key, picture, step))

    def log_metrics(self, *_: Any, **__: Any) -> None: ...

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...


class Data(pl.LightningDataModule):
    """Noise, all of it foreground by its label, on request with flow to the right and with nothing in truth."""

    def __init__(self, flow: bool, truth: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.example = {
            "clip": torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8, generator=generator),
            "mask": torch.ones(1, 1, 32, 32).half(),
        }
        if flow:
            self.example["flow"] = torch.tensor([0.5, 0.0]).half().view(2, 1, 1, 1).expand(2, 1, 32, 32)
        if truth:
            self.example["truth"] = torch.zeros(1, 1, 32, 32).half()
        self.asked: list[tuple[str, ClipSampler, int]] = []

    def train_dataloader(self) -> DataLoader:
        return DataLoader([self.example] * 4, batch_size=4, collate_fn=collate)

    val_dataloader = train_dataloader

    def clips(self, split: str, sampler: ClipSampler, max_videos: int) -> DataLoader:
        self.asked.append((split, sampler, max_videos))
        return DataLoader([self.example] * max_videos, batch_size=4, collate_fn=collate)


def run(folder: Path, task: pl.LightningModule, data: Data, loggers: Sequence[Logger] = (), epochs: int = 3) -> None:
    torch.manual_seed(0)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[Pictures(str(folder), every_epochs=2, examples=3)],
        logger=loggers,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
    )
    trainer.fit(task, data)


def built(shown: ClipSampler | None = SHOWN) -> MotionSegmentation:
    optimizer = partial(torch.optim.SGD, lr=0.01)
    return MotionSegmentation(
        ResNet(18), UniformSampler(1), optimizer, grid=1, width=4, bottleneck=4, picture_sampler=shown
    )


def test_frame_flow_label_answer_and_truth_stand_side_by_side(tmp_path: Path) -> None:
    loggers, data = [Kept(files=True), Kept(files=False)], Data(flow=True, truth=True)
    run(tmp_path, built(), data, loggers)
    assert data.asked == [("val", SHOWN, 3)], "the same examples every time"
    paths = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in paths] == ["epoch-0000.png", "epoch-0002.png"]
    picture = read_image(str(paths[1]))
    assert picture.shape == (3, 2 + 3 * 34, 2 + 5 * 34)  # 3 rows of 5 columns, 2 pixels apart
    frame, flow, label, answer, truth = (picture[:, 36:68, 2 + 34 * n : 34 + 34 * n] for n in range(5))
    assert torch.equal(frame, data.example["clip"][:, 0])
    red, green, blue = flow.float().mean(dim=(1, 2))
    assert red > 250, "to the right is red on the wheel"
    assert max(green, blue) < 50
    assert (label == 255).all()
    assert 0 < answer.float().mean() < 255
    assert not truth.any()
    assert [image[0] for image in loggers[0].images] == ["pictures"] * 2
    assert loggers[0].images[1][1] == [str(paths[1])]
    assert torch.equal(loggers[1].images[1][1], picture)


def test_without_flow_and_truth_there_are_three_columns(tmp_path: Path) -> None:
    run(tmp_path, built(), Data(flow=False, truth=False), epochs=1)
    assert read_image(str(tmp_path / "pictures" / "epoch-0000.png")).shape == (3, 2 + 3 * 34, 2 + 3 * 34)


def test_a_task_with_nothing_to_show_leaves_no_folder(tmp_path: Path) -> None:
    data = Data(flow=False, truth=False)
    run(tmp_path, built(shown=None), data, epochs=1)
    assert not list(tmp_path.iterdir())
    assert not data.asked


@pytest.mark.parametrize("bad", [{"every_epochs": 0}, {"examples": 0}])
def test_bad_values_are_refused(bad: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"pictures\.{next(iter(bad))}=0: give at least 1"):
        Pictures(str(tmp_path), **bad)


@pytest.mark.parametrize("installed", [True, False])
def test_sounds_go_to_loggers_that_play_them(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    class Playing(Kept):
        def log_audio(self, key: str, audios: list[str], step: int, caption: list[str]) -> None:
            self.images.append((key, audios, step, caption))

    monkeypatch.setattr(pictures, "find_spec", lambda name: object() if installed else None)
    loggers = [Playing(files=True), Kept(files=True), Kept(files=False)]
    log_sounds(loggers, "heard", [tmp_path / "a.wav", tmp_path / "b.wav"], ("a", "b"), 3)
    paths = [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    heard = [("heard", paths, 3, ["a", "b"])] if installed else []
    assert [logger.images for logger in loggers] == [heard, [], []]
    assert any("pip install 'selfsup[sound]'" in str(warning.message) for warning in recwarn) != installed
