"""Random changes of training images: flips, shifts, crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modescape.science.data.raw import Augmentation, Box

if TYPE_CHECKING:
    from torch import Tensor


def augment(images: Tensor, kind: Augmentation, rng: np.random.Generator) -> Tensor:
    """Random changes of a batch of uint8 images [n, C, H, W], each image its own, in channels-last memory.

    shift-flip: shifts of up to a tenth of each side (continuous, linear interpolation, border pixels repeated), as
    Keras does; crop-flip: edge-padded by an eighth (4 of 32 pixels) and cut back; resized-crop-flip: 8 to 100 % of the
    area at an aspect ratio of 3/4 to 4/3. All flip every second image from left to right.
    """
    if kind == "none":
        return images
    n, _, height, width = images.shape
    if kind == "shift-flip":
        moved = _shift(images, rng.uniform(-0.1, 0.1, (2, n)) * np.array([[height], [width]]))
    elif kind == "crop-flip":
        reach = np.array([[max(1, height // 8)], [max(1, width // 8)]])
        moved = _shift(images, rng.integers(-reach, reach + 1, (2, n)).astype(float))
    else:
        moved = _resized(images, random_boxes(n, rng))
    return flip(moved, rng)


def random_boxes(n: int, rng: np.random.Generator) -> list[Box]:
    area, ratio = rng.uniform(0.08, 1, n), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), n))
    across, down = rng.uniform(size=n), rng.uniform(size=n)
    return [Box(*map(float, values)) for values in zip(area, ratio, across, down, strict=True)]


def flip(images: Tensor, rng: np.random.Generator) -> Tensor:
    import torch

    flipped = torch.from_numpy(rng.random(len(images)) < 0.5).to(images.device)
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


def _shift(images: Tensor, offsets: NDArray[np.float64]) -> Tensor:
    """Move each image by offsets [2, n] pixels (down, right), repeating border pixels."""
    height, width = images.shape[2:]
    rows = np.arange(height)[None] - offsets[0][:, None]
    columns = np.arange(width)[None] - offsets[1][:, None]
    return _sample(images, rows, columns)


def _resized(images: Tensor, boxes: Sequence[Box]) -> Tensor:
    _, _, height, width = images.shape
    corners = np.array([box.of(width, height) for box in boxes])
    left, top, right, bottom = corners.T[:, :, None]
    rows = top + (np.arange(height)[None] + 0.5) * (bottom - top) / height - 0.5
    columns = left + (np.arange(width)[None] + 0.5) * (right - left) / width - 0.5
    return _sample(images, rows, columns)


def _sample(images: Tensor, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Tensor:
    """Each image at its own rows [n, H] and columns [n, W], bilinear; coordinates outside are clamped to the border."""
    import torch

    n, _, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1)
    image = torch.arange(n, device=images.device)[:, None, None]

    def corner(r: NDArray[np.float64], c: NDArray[np.float64]) -> Tensor:
        row = torch.from_numpy(r.clip(0, height - 1).astype(np.int64)).to(images.device)
        column = torch.from_numpy(c.clip(0, width - 1).astype(np.int64)).to(images.device)
        return pixels[image, row[:, :, None], column[:, None, :]]

    top, left = np.floor(rows), np.floor(columns)
    if (top == rows).all() and (left == columns).all():  # whole pixels: nothing to interpolate
        return corner(top, left).permute(0, 3, 1, 2)
    down = torch.from_numpy((rows - top).astype(np.float32)).to(images.device)[:, :, None, None]
    right = torch.from_numpy((columns - left).astype(np.float32)).to(images.device)[:, None, :, None]
    upper = corner(top, left) * (1 - right) + corner(top, left + 1) * right
    lower = corner(top + 1, left) * (1 - right) + corner(top + 1, left + 1) * right
    return (upper * (1 - down) + lower * down).round_().to(torch.uint8).permute(0, 3, 1, 2)
