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
    if kind == "resized-crop-flip":
        return flip(_resized(images, random_boxes(n, rng)), rng)
    offsets = _offsets(n, kind, height, width, rng)
    return flip(_shift(images, offsets), rng)


def drawn_moves(n: int, kind: Augmentation, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """What `augment` draws of n images for shift-flip and crop-flip, for `moved`: pixels down and right, 1 where
    flipped, [3, n]."""
    offsets = _offsets(n, kind, height, width, rng)
    return np.concatenate([offsets, (rng.random(n) < 0.5).astype(float)[None]])


def moved(images: Tensor, moves: Tensor) -> Tensor:
    """uint8 images [n, C, H, W] moved by `drawn_moves`, float64 [3, n] on their device: what `augment` makes of them,
    without a look at any value."""
    import torch

    height, width = images.shape[2:]
    down, right, flipped = moves
    rows = torch.arange(height, device=images.device)[None] - down[:, None]
    columns = torch.arange(width, device=images.device)[None] - right[:, None]
    found = _interpolated(images, rows, columns)
    return torch.where(flipped[:, None, None, None] > 0, found.flip(3), found)


def _offsets(n: int, kind: Augmentation, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Pixels down and right, [2, n]."""
    if kind == "shift-flip":
        shifts: NDArray[np.float64] = rng.uniform(-0.1, 0.1, (2, n)) * np.array([[height], [width]])
        return shifts
    reach = np.array([[max(1, height // 8)], [max(1, width // 8)]])
    return rng.integers(-reach, reach + 1, (2, n)).astype(float)


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

    where = [torch.from_numpy(values).to(images.device) for values in (rows, columns)]
    if (np.floor(rows) == rows).all() and (np.floor(columns) == columns).all():  # whole pixels: nothing to interpolate
        return _corner(images, *where).permute(0, 3, 1, 2)
    return _interpolated(images, *where)


def _interpolated(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The same of coordinates on the device, float64, without a look at them."""
    import torch

    top, left = rows.floor(), columns.floor()
    down, right = (rows - top).float()[:, :, None, None], (columns - left).float()[:, None, :, None]
    upper = _corner(images, top, left) * (1 - right) + _corner(images, top, left + 1) * right
    lower = _corner(images, top + 1, left) * (1 - right) + _corner(images, top + 1, left + 1) * right
    return (upper * (1 - down) + lower * down).round_().to(torch.uint8).permute(0, 3, 1, 2)


def _corner(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels at whole rows [n, H] and columns [n, W], [n, H, W, C]; outside: those of the border."""
    import torch

    n, _, height, width = images.shape
    image = torch.arange(n, device=images.device)[:, None, None]
    row, column = rows.clamp(0, height - 1).long(), columns.clamp(0, width - 1).long()
    return images.permute(0, 2, 3, 1)[image, row[:, :, None], column[:, None, :]]
