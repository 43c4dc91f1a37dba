"""Pictures of a task: a row an example, in files and to the loggers that take them, of tasks that show something."""

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

from selfsup.callbacks.pictures import Pictures
from selfsup.data.sampling import UniformSampler
from selfsup.encoders.resnet import ResNet
from selfsup.tasks.motion_segmentation import MotionSegmentation


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


def loader(truth: bool) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    example = {
        "clip": torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8, generator=generator),
        "mask": torch.ones(1, 1, 32, 32).half(),
    }
    if truth:
        example["truth"] = torch.zeros(1, 1, 32, 32).half()
    return DataLoader([example] * 4, batch_size=4)


def run(folder: Path, task: pl.LightningModule, loggers: list[Logger], epochs: int = 3, truth: bool = True) -> None:
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
    trainer.fit(task, loader(truth), loader(truth))


def built() -> MotionSegmentation:
    return MotionSegmentation(
        ResNet(18), UniformSampler(1), partial(torch.optim.SGD, lr=0.01), grid=1, width=4, bottleneck=4
    )


def test_frame_label_answer_and_truth_stand_side_by_side(tmp_path: Path) -> None:
    loggers = [Kept(files=True), Kept(files=False)]
    run(tmp_path, built(), list(loggers))
    paths = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in paths] == ["epoch-0000.png", "epoch-0002.png"]
    picture = read_image(str(paths[1]))
    assert picture.shape == (3, 2 + 3 * 34, 2 + 4 * 34)  # 3 rows of 4 columns, 2 pixels apart
    frame = next(iter(loader(True)))["clip"][0, :, 0]
    assert torch.equal(picture[:, 36:68, 2:34], frame)
    assert (picture[:, 2:34, 36:68] == 255).all()
    assert not picture[:, 2:34, 104:136].any()
    assert 0 < picture[:, 2:34, 70:102].float().mean() < 255
    assert [image[0] for image in loggers[0].images] == ["pictures"] * 2
    assert loggers[0].images[1][1] == [str(paths[1])]
    assert torch.equal(loggers[1].images[1][1], picture)


def test_without_truth_there_are_three_columns(tmp_path: Path) -> None:
    run(tmp_path, built(), [], epochs=1, truth=False)
    assert read_image(str(tmp_path / "pictures" / "epoch-0000.png")).shape == (3, 2 + 3 * 34, 2 + 3 * 34)


class Silent(MotionSegmentation):
    def pictures(self, batch: dict[str, Tensor]) -> list[Tensor]:
        return []


def test_a_task_with_nothing_to_show_leaves_no_folder(tmp_path: Path) -> None:
    task = Silent(ResNet(18), UniformSampler(1), partial(torch.optim.SGD, lr=0.01), grid=1, width=4, bottleneck=4)
    run(tmp_path, task, [], epochs=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [{"every_epochs": 0}, {"examples": 0}])
def test_bad_values_are_refused(bad: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"pictures\.{next(iter(bad))}=0: give at least 1"):
        Pictures(str(tmp_path), **bad)
