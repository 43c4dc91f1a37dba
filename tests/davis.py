"""A folder laid out as DAVIS is, of squares that move."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision.io import write_jpeg, write_png

from tests.data.moving import moving_square, square_mask


def write_davis(root: Path, sequences: Sequence[str], *, count: int = 12, between: str = "", value: int = 255) -> Path:
    """Writes sequences of `count` frames, 160 x 120; the background of each moves in a way of its own."""
    masks = torch.from_numpy(square_mask(count))[:, None] * value
    for number, name in enumerate(sequences):
        folders = [root / kind / between / name for kind in ("JPEGImages", "Annotations")]
        for folder in folders:
            folder.mkdir(parents=True)
        frames = moving_square(count, pan=(0, number))
        for place in range(count):
            write_jpeg(frames[place], str(folders[0] / f"{place:05d}.jpg"), quality=95)
            write_png(masks[place].byte(), str(folders[1] / f"{place:05d}.png"))
    return root
