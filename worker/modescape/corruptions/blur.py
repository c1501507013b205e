"""Blur: out of focus, behind glass, moved."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from modescape.corruptions.corruption import BLUR, Batch, Draws, Floats, Pixels, corruption, truncated
from modescape.corruptions.filters import folded, mapped, motion_blurred, smoothed, zooming


@lru_cache(maxsize=32)
def disk(radius: float, alias_sigma: float) -> NDArray[np.float64]:
    """The kernel of `defocus_blur`: a disk on a 17x17 grid (beyond radius 8 just as large as needed), smoothed.

    Smoothing mirrors at the array's border, which a disk of radius 8 or 10 touches, so the ImageNet kernels of
    intensity 4 and 5 sum to 1.01298 and 1.01079; the published images are that much brighter.
    """
    reach = 8 if radius <= 8 else math.ceil(radius)
    axis = np.arange(-reach, reach + 1)
    kernel = (axis[:, None] ** 2 + axis**2 <= radius**2).astype(np.float64)
    kernel /= kernel.sum()
    half = 1 if radius <= 8 else 2
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / alias_sigma) ** 2)
    smoothing = np.zeros((len(axis), len(axis)))
    for offset, weight in zip(range(-half, half + 1), weights / weights.sum(), strict=True):
        rows = np.arange(len(axis))
        np.add.at(smoothing, (rows, folded(rows + offset, len(axis), "mirror")), weight)
    return smoothing @ kernel @ smoothing.T


@corruption("defocus_blur", title="Defocus blur", family=BLUR, place=40, is_random=False,
             cifar=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
             imagenet=((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)))  # fmt: skip
def _defocus_blur(batch: Batch, radius: float, alias_sigma: float) -> Floats:
    """Every point becomes a small disk, as when the lens is out of focus.

    The radius grows with the image but does not shrink: CIFAR's intensity 4 has radius 1, and at 28 pixels 7/8 of that
    would be a single pixel, no blur at all.
    """
    kernel = disk(radius * max(1.0, batch.scale), alias_sigma)
    reach = len(kernel) // 2
    height, width = batch.size
    rows, columns = (folded(np.arange(-reach, size + reach), size, "mirror") for size in (height, width))
    wide = batch.x[:, :, rows][:, :, :, columns]
    out = np.zeros(batch.pixels.shape, np.float32)
    for i, j in zip(*np.nonzero(kernel > 1e-9), strict=True):
        out += wide[:, :, i : i + height, j : j + width] * np.float32(kernel[i, j])
    return out


@corruption("glass_blur", title="Glass blur", family=BLUR, place=50,
             cifar=((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
             imagenet=((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)))  # fmt: skip
def _glass_blur(batch: Batch, sigma: float, most: float, iterations: float) -> Floats:
    """Pixels change places with near ones, as behind frosted glass; blurred before and after.

    Pixels are visited from the last to the first. In the authors' program the exchange of two pixels of a colour image
    works on views and copies the far pixel into both places; the published data have that, and so has mode `copy`.
    """
    n, channels, height, width = batch.pixels.shape
    blurred = truncated(smoothed(batch.x, sigma)).reshape(n, channels, height * width)
    for _ in range(int(iterations)):
        partner = _partners(batch.draws, height, width, int(most))
        blurred = _exchanged(blurred, partner) if batch.glass == "swap" else _copied(blurred, partner)
    x = np.divide(blurred.reshape(batch.pixels.shape), np.float32(255), dtype=np.float32)
    return smoothed(x, sigma)


def _partners(draws: Draws, height: int, width: int, most: int) -> NDArray[np.int64]:
    """The pixel [n, H * W] each pixel is exchanged with, at most `most` away; itself near the borders."""
    place = np.arange(height * width)
    row, column = place // width, place % width
    inside = (row > most) & (row <= height - most) & (column > most) & (column <= width - most)
    shift = draws.integers(-most, most, 2, height * width)
    moved = shift[:, 1]
    moved *= width
    moved += shift[:, 0]
    moved *= inside
    moved += place
    return moved


def _copied(pixels: Pixels, partner: NDArray[np.int64]) -> Pixels:
    """Each pixel, from the last to the first, takes the value its partner has at that moment.

    A partner further on has been visited already and has its new value; so old values are found by following partners
    until one lies before, which doubling does for all pixels at once.
    """
    n, channels, count = pixels.shape
    place = np.arange(count)
    old = count + place  # node count + p: the old value of pixel p; node p: its new value
    nodes = np.concatenate([np.where(partner > place, partner, partner + count), np.broadcast_to(old, (n, count))], 1)
    while (nodes < count).any():
        nodes = np.take_along_axis(nodes, nodes, 1)
    source = nodes[:, None, :count] - count
    return np.take_along_axis(pixels, np.broadcast_to(source, (n, channels, count)), 2)


def _exchanged(pixels: Pixels, partner: NDArray[np.int64]) -> Pixels:
    """Each pixel, from the last to the first, changes places with its partner."""
    n, _, count = pixels.shape
    rows = np.arange(n)
    values = pixels.transpose(0, 2, 1).copy()
    for place in range(count - 1, -1, -1):
        other = partner[:, place]
        here = values[:, place].copy()
        values[:, place] = values[rows, other]
        values[rows, other] = here
    return values.transpose(0, 2, 1)


@corruption("motion_blur", title="Motion blur", family=BLUR, place=60,
             cifar=((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
             imagenet=((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)))  # fmt: skip
def _motion_blur(batch: Batch, radius: float, sigma: float) -> Floats:
    """The camera moved: every point is drawn out along a random direction within 45 degrees of the horizontal."""
    angles = batch.draws.uniform(-45, 45)
    return motion_blurred(batch.x, radius * batch.scale, sigma * batch.scale, angles)


@corruption("zoom_blur", title="Zoom blur", family=BLUR, place=70, is_random=False,
             cifar=tuple((stop, 0.01) for stop in (1.06, 1.11, 1.16, 1.21, 1.26)),
             imagenet=((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)))  # fmt: skip
def _zoom_blur(batch: Batch, stop: float, step: float) -> Floats:
    """The camera moved forwards: the mean of the image and enlargements of its middle."""
    factors = zoom_factors(stop, step)
    x = batch.x
    out = x.copy()
    for factor in factors:
        out += mapped(x, zooming(batch.size[0], factor), zooming(batch.size[1], factor))
    out *= np.float32(1 / (len(factors) + 1))
    return out


def zoom_factors(stop: float, step: float) -> tuple[float, ...]:
    """1 and upwards; whether the last one below `stop` is there is decided by rounding, as in the authors' program."""
    return tuple(float(factor) for factor in np.arange(1, stop, step))
