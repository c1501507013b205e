"""What several corruptions do with pixels: linear maps along an axis, bilinear values, motion blur."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from modescape.corruptions.corruption import Floats

Border = Literal["nearest", "reflect", "mirror"]


# --- linear maps along an axis ----------------------------------------------------------------------------------------


def folded(index: NDArray[np.int64], size: int, border: Border) -> NDArray[np.int64]:
    """Where an index beyond the border reads: its nearest, or mirrored with (reflect) or without (mirror) the edge
    repeated; scipy.ndimage's names."""
    if border == "nearest" or size == 1:
        return np.clip(index, 0, size - 1)
    period = 2 * size if border == "reflect" else 2 * size - 2
    index = index % period
    return np.minimum(index, period - int(border == "reflect") - index)


@lru_cache(maxsize=64)
def smoothing(size: int, sigma: float, border: Border = "nearest", truncate: float = 4.0) -> Floats:
    """The matrix [size, size] of a Gaussian blur along one axis: kernel cut at `truncate` sigma, made to sum to 1."""
    matrix = np.zeros((size, size))
    reach = int(truncate * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma > 0 else np.ones(1)
    rows = np.arange(size)
    for offset, weight in zip(offsets, weights / weights.sum(), strict=True):
        np.add.at(matrix, (rows, folded(rows + offset, size, border)), weight)
    return matrix.astype(np.float32)


def mapped(x: Floats, down: Floats, across: Floats) -> Floats:
    """down @ image @ across^T of every image [..., H, W].

    One product an image, so that rounding cannot depend on which images are corrupted together.
    """
    return cast(Floats, np.matmul(np.matmul(down, x), across.T))


def smoothed(x: Floats, sigma: float, border: Border = "nearest", truncate: float = 4.0) -> Floats:
    height, width = x.shape[-2:]
    return mapped(x, smoothing(height, sigma, border, truncate), smoothing(width, sigma, border, truncate))


@lru_cache(maxsize=256)
def zooming(size: int, factor: float) -> Floats:
    """The matrix [size, size] that enlarges the middle of an axis.

    The ceil(size / factor) middle pixels, linearly interpolated on round(side * factor) points whose ends are the end
    pixels (scipy.ndimage.zoom of order 1), of which the middle `size` are kept.
    """
    side = math.ceil(size / factor)
    enlarged = round(side * factor)
    trimmed = (enlarged - size) // 2
    place = (np.arange(size) + trimmed) * ((side - 1) / (enlarged - 1))
    left = np.minimum(place.astype(np.int64), side - 1)
    right = np.minimum(left + 1, side - 1)
    matrix = np.zeros((size, size))
    rows, start = np.arange(size), (size - side) // 2
    np.add.at(matrix, (rows, start + left), 1 - (place - left))
    np.add.at(matrix, (rows, start + right), place - left)
    return matrix.astype(np.float32)


def sampled(x: Floats, rows: Floats, columns: Floats, border: Border) -> Floats:
    """Bilinear values of images [n, C, H, W] at places [n, H, W]."""
    n, channels, height, width = x.shape
    top, left = np.floor(rows), np.floor(columns)
    down, across = (rows - top)[:, None], (columns - left)[:, None]
    top_index, left_index = top.astype(np.int64), left.astype(np.int64)
    first = (np.arange(n) * (height * width))[:, None, None]
    upper, lower = (first + folded(top_index + i, height, border) * width for i in (0, 1))
    near, far = (folded(left_index + i, width, border) for i in (0, 1))
    planes = np.ascontiguousarray(x.transpose(1, 0, 2, 3)).reshape(channels, -1)

    def read(index: NDArray[np.int64]) -> Floats:
        return planes[:, index.reshape(-1)].reshape(channels, n, height, width).transpose(1, 0, 2, 3)

    above = read(upper + near)
    above += across * (read(upper + far) - above)
    below = read(lower + near)
    below += across * (read(lower + far) - below)
    below -= above
    below *= down
    below += above
    return np.ascontiguousarray(below)


def motion_weights(radius: float, sigma: float) -> NDArray[np.float64]:
    """ImageMagick's one-sided kernel: weights of the pixels 0, 1, ..., 2 ceil(radius) along the motion."""
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum())


def motion_blurred(x: Floats, radius: float, sigma: float, angles: Floats) -> Floats:
    """Motion blur of images [n, C, H, W] at angles [n] in degrees, edges repeated, rounded to 8 bits.

    Images are sorted by angle, so that those with equal steps lie together and every step is a plain slice.
    """
    n, _, height, width = x.shape
    weights = motion_weights(radius, sigma)
    order = np.argsort(angles, kind="stable")
    turn = np.radians(angles[order].astype(np.float64))
    reach = len(weights) - 1
    wide = np.pad(x[order], ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    out = np.zeros_like(x)
    for step, weight in enumerate(weights):
        if weight < 1e-8:  # of no consequence even for a white image
            break
        right = np.ceil(step * np.cos(turn) - 0.5).astype(np.int64)
        down = np.ceil(step * np.sin(turn) - 0.5).astype(np.int64)
        turns = np.flatnonzero((np.diff(right) != 0) | (np.diff(down) != 0)) + 1
        for start, stop in zip([0, *turns], [*turns, n], strict=True):
            top, left = reach + down[start], reach + right[start]
            out[start:stop] += wide[start:stop, :, top : top + height, left : left + width] * np.float32(weight)
    rounded = np.empty_like(out)
    rounded[order] = np.floor(out * np.float32(255) + np.float32(0.5))
    return np.divide(np.minimum(rounded, 255), np.float32(255))
