"""A textured square that moves before a textured background; which pixels it covers is known."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HEIGHT, WIDTH, SIDE = 120, 160, 36
TOP, LEFT, STEP = 40, 40, 4  # where the square starts, and its pixels a frame to the right


def texture(height: int, width: int, seed: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(size=(height, width))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    pattern = 1 + 0.35 * smooth / smooth.std()
    return (pattern[..., None] * np.array(colour)).clip(0, 255).astype(np.uint8)


def moving_square(count: int, pan: tuple[int, int] = (0, 0), square: bool = True) -> Tensor:
    """Uint8 (count, 3, 120, 160); the background moves by `pan` (u, v), the square, if there is one, to the right."""
    reach = 4 * max(HEIGHT, WIDTH)
    background = texture(HEIGHT + reach, WIDTH + reach, 0, (90, 120, 100))
    pattern = texture(SIDE, SIDE, 1, (190, 90, 60))
    frames = []
    for number in range(count):
        row, column = reach // 2 - pan[1] * number, reach // 2 - pan[0] * number
        frame = background[row : row + HEIGHT, column : column + WIDTH].copy()
        start = LEFT + STEP * number
        if square:
            frame[TOP : TOP + SIDE, start : start + SIDE] = pattern
        frames.append(frame)
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()


def square_mask(count: int) -> NDArray[np.bool_]:
    """Bool (count, 120, 160)."""
    mask = np.zeros((count, HEIGHT, WIDTH), bool)
    for number in range(count):
        start = LEFT + STEP * number
        mask[number, TOP : TOP + SIDE, start : start + SIDE] = True
    return mask
