"""Drops of water or mud on the lens, with as much of OpenCV as they are drawn with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from modescape.corruptions.corruption import EXTRA, Batch, Floats, Pixels, corruption, truncated
from modescape.corruptions.filters import Border, folded, smoothed


@corruption("spatter", title="Spatter", family=EXTRA, place=180,
             cifar=((0.62, 0.1, 0.7, 0.7, 0.5, 0), (0.65, 0.1, 0.8, 0.7, 0.5, 0), (0.65, 0.3, 1, 0.69, 0.5, 0),
                    (0.65, 0.1, 0.7, 0.69, 0.6, 1), (0.65, 0.1, 0.5, 0.68, 0.6, 1)),
             imagenet=((0.65, 0.3, 4, 0.69, 0.6, 0), (0.65, 0.3, 3, 0.68, 0.6, 0), (0.65, 0.3, 2, 0.68, 0.5, 0),
                       (0.65, 0.3, 1, 0.65, 1.5, 1), (0.67, 0.4, 1, 0.65, 1.5, 1)))  # fmt: skip
def _spatter(
    batch: Batch, mean: float, std: float, sigma: float, threshold: float, strength: float, mud: float
) -> Floats:
    """Drops of water (1 to 3) or mud (4 and 5) on the lens."""
    height, width = batch.size
    liquid = smoothed(batch.draws.normal(height, width) * np.float32(std) + np.float32(mean), sigma)
    liquid[liquid < threshold] = 0
    x = batch.x
    if mud:
        cover = smoothed((liquid > threshold).astype(np.float32), strength)
        cover[cover < 0.8] = 0
        cover = cover[:, None]
        return x * (1 - cover) + batch.colour(63, 42, 20) * cover
    drops = water(truncated(liquid))
    most = drops.max(axis=(1, 2), keepdims=True)
    most[most == 0] = 1  # no drop at all: the image stays as it is
    cover = drops * (np.float32(strength) / most)
    return cast(Floats, x + batch.colour(175, 238, 238) * cover[:, None])


def water(liquid: Pixels) -> Floats:
    """How much light drops of liquid [n, H, W] throw towards the camera, up to a factor per image.

    Distance from the drops' edges (at most 20), box-blurred, its histogram equalised, embossed, box-blurred, times the
    liquid; 8 bits after every step, as OpenCV has it.
    """
    distance = np.minimum(chamfer_distance(canny(liquid, 50, 150)), 20)
    depth = _equalised(np.floor(_boxed(distance) + np.float32(1e-4)).astype(np.uint8))
    raised = _neighbours(depth.astype(np.float32), "mirror")
    embossed = sum(
        (raised(i - 1, j - 1) * weight for i, row in enumerate(_EMBOSS) for j, weight in enumerate(row) if weight),
        np.float32(0),
    )
    smooth = np.floor(_boxed(np.clip(embossed, 0, 255)) + np.float32(0.5))
    return cast(Floats, liquid * smooth)


Number = TypeVar("Number", np.float32, np.int32)
_EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))


def _neighbours(x: NDArray[Number], border: Border) -> Callable[[int, int], NDArray[Number]]:
    """A function giving the images [n, H, W] shifted: (down, across) is the value of that neighbour, of -1 to 1."""
    height, width = x.shape[-2:]
    rows, columns = (folded(np.arange(-1, size + 1), size, border) for size in (height, width))
    wide = x[:, rows][:, :, columns]
    return lambda down, across: wide[:, 1 + down : 1 + down + height, 1 + across : 1 + across + width]


def _boxed(x: Floats) -> Floats:
    """Mean of the 3x3 pixels around each, mirrored at the border."""
    near = _neighbours(x, "mirror")
    tall = near(-1, 0) + near(0, 0) + near(1, 0)
    near = _neighbours(tall, "mirror")
    return (near(0, -1) + near(0, 0) + near(0, 1)) * np.float32(1 / 9)


def canny(images: Pixels, low: int, high: int) -> NDArray[np.bool_]:
    """Edges of images [n, H, W] (Canny 1986) in OpenCV's form: 3x3 Sobel, |dx| + |dy|, border repeated.

    A pixel is an edge where the slope exceeds its two neighbours across the edge and `high`, or `low` if other edge
    pixels lead to it.
    """
    near = _neighbours(images.astype(np.int32), "nearest")
    dx = near(-1, 1) + 2 * near(0, 1) + near(1, 1) - near(-1, -1) - 2 * near(0, -1) - near(1, -1)
    dy = near(1, -1) + 2 * near(1, 0) + near(1, 1) - near(-1, -1) - 2 * near(-1, 0) - near(-1, 1)
    across, down = np.abs(dx), np.abs(dy)
    slope = across + down
    wide = np.pad(slope, ((0, 0), (1, 1), (1, 1)))
    height, width = images.shape[1:]

    def at(i: int, j: int) -> NDArray[np.int32]:
        return wide[:, 1 + i : 1 + i + height, 1 + j : 1 + j + width]

    flat = down * 32768 < across * 13573  # 13573 / 32768 = tan(22.5 degrees)
    steep = down * 32768 > across * (13573 + 65536)  # tan(67.5) = 2 + tan(22.5)
    falling = (dx ^ dy) < 0
    horizontal = (slope > at(0, -1)) & (slope >= at(0, 1))
    vertical = (slope > at(-1, 0)) & (slope >= at(1, 0))
    diagonal = np.where(falling, (slope > at(-1, 1)) & (slope > at(1, -1)), (slope > at(-1, -1)) & (slope > at(1, 1)))
    crest = (slope > low) & np.where(flat, horizontal, np.where(steep, vertical, diagonal))
    edges = crest & (slope > high)
    count = -1
    while (found := int(edges.sum())) != count:
        count = found
        wide_edges = np.pad(edges, ((0, 0), (1, 1), (1, 1)))
        tall = wide_edges[:, :-2] | wide_edges[:, 1:-1] | wide_edges[:, 2:]
        edges = crest & (tall[:, :, :-2] | tall[:, :, 1:-1] | tall[:, :, 2:])
    return cast(NDArray[np.bool_], edges)


def chamfer_distance(zeros: NDArray[np.bool_]) -> Floats:
    """Distance [n, H, W] to the nearest true pixel in steps of 1, 1.4 and 2.1969 (Borgefors 1986, 5x5), as OpenCV's.

    Infinite where an image has none. Two scans; along a row a running minimum takes the place of the inner loop.
    """
    n, height, width = zeros.shape
    distance = np.where(zeros, np.float32(0), np.float32(np.inf))
    place = np.arange(width, dtype=np.float32)
    for scan in (distance, distance[:, ::-1, ::-1]):
        wide = np.full((n, height + 2, width + 4), np.inf, np.float32)
        wide[:, 2:, 2:-2] = scan
        for row in range(2, height + 2):
            here = wide[:, row, 2:-2]
            for up, side, length in _STEPS:
                np.minimum(here, wide[:, row - up, 2 + side : 2 + side + width] + np.float32(length), out=here)
            here[:] = np.minimum.accumulate(here - place, axis=1) + place
        scan[:] = wide[:, 2:, 2:-2]
    return distance


_STEPS = (
    (1, 0, 1.0), (1, -1, 1.4), (1, 1, 1.4), (1, -2, 2.1969), (1, 2, 2.1969), (2, -1, 2.1969), (2, 1, 2.1969),
)  # fmt: skip


def _equalised(images: Pixels) -> Pixels:
    """Histogram equalisation of images [n, H, W]: the lowest level becomes 0, the highest 255, a flat image stays."""
    n = len(images)
    flat = images.reshape(n, -1).astype(np.int64)
    levels = int(flat.max(initial=0)) + 1
    counts = np.bincount((flat + np.arange(n)[:, None] * levels).reshape(-1), minlength=n * levels).reshape(n, levels)
    lowest = (counts > 0).argmax(axis=1)
    least = np.take_along_axis(counts, lowest[:, None], 1)
    rest = flat.shape[1] - least
    new = np.rint((np.cumsum(counts, axis=1) - least) * (255 / np.maximum(rest, 1)))
    new = np.where(rest > 0, np.maximum(new, 0), np.arange(levels))
    return np.take_along_axis(new.astype(np.uint8), flat, 1).reshape(images.shape)
