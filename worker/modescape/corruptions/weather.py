"""Weather: snow, fog and light. (`frost` has a file of its own.)"""

from __future__ import annotations

from typing import cast

import numpy as np

from modescape.corruptions.corruption import LUMA, WEATHER, Batch, Draws, Floats, corruption, truncated
from modescape.corruptions.filters import mapped, motion_blurred, zooming


@corruption("snow", title="Snow", family=WEATHER, place=80,
             cifar=((0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
                    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9), (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
                    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)),
             imagenet=((0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
                       (0.55, 0.3, 4, 0.9, 12, 8, 0.7), (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
                       (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55)))  # fmt: skip
def _snow(
    batch: Batch, mean: float, std: float, zoom: float, threshold: float, radius: float, sigma: float, blend: float
) -> Floats:
    """Flakes fall past the camera and the scene is paler."""
    height, width = batch.size
    layer = batch.draws.normal(1, height, width) * np.float32(std) + np.float32(mean)
    layer = mapped(layer, zooming(height, zoom), zooming(width, zoom))
    layer[layer < threshold] = 0
    flakes = np.divide(truncated(layer), np.float32(255), dtype=np.float32)
    angles = batch.draws.uniform(-135, -45)
    flakes = motion_blurred(flakes, radius * batch.scale, sigma * batch.scale, angles)
    x = batch.x
    grey = np.tensordot(LUMA, x, (0, 1))[:, None] if batch.in_colour else x
    pale = np.maximum(x, grey * np.float32(1.5) + np.float32(0.5))
    x = x * np.float32(blend) + pale * np.float32(1 - blend)
    return cast(Floats, x + flakes + flakes[:, :, ::-1, ::-1])


@corruption("fog", title="Fog", family=WEATHER, place=100,
             cifar=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
             imagenet=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)))  # fmt: skip
def _fog(batch: Batch, strength: float, decay: float) -> Floats:
    """Fog of uneven thickness lies before the scene."""
    x = batch.x
    height, width = batch.size
    side = 1 << (max(height, width) - 1).bit_length()
    fog = plasma(batch.draws, len(x), side, decay)[:, None, :height, :width]
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    x += fog * np.float32(strength)
    x *= brightest / (brightest + np.float32(strength))
    return x


def plasma(draws: Draws, n: int, side: int, decay: float) -> Floats:
    """Clouds [n, side, side] from 0 to 1: diamond-square on a torus, `side` a power of two.

    Every midpoint is the mean of its four neighbours plus wibble * U(-wibble, wibble); wibble starts at 100 and is
    divided by `decay` at every level.
    """
    heights = np.zeros((n, side, side), np.float32)
    step, wibble = side, 100.0
    while step >= 2:
        half = step // 2
        points = side // step

        def wobbly(total: Floats, wibble: float = wibble, points: int = points) -> Floats:
            return total * np.float32(0.25) + draws.uniform(-(wibble**2), wibble**2, points, points)

        corners = heights[:, ::step, ::step].copy()
        below, right = np.roll(corners, -1, 1), np.roll(corners, -1, 2)
        centres = wobbly(corners + below + right + np.roll(below, -1, 2))
        heights[:, half::step, half::step] = centres
        heights[:, ::step, half::step] = wobbly(centres + np.roll(centres, 1, 1) + corners + right)
        heights[:, half::step, ::step] = wobbly(centres + np.roll(centres, 1, 2) + corners + below)
        step, wibble = half, wibble / decay
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights


@corruption("brightness", title="Brightness", family=WEATHER, place=110, small=True, is_random=False,
             cifar=(0.05, 0.1, 0.15, 0.2, 0.3), imagenet=(0.1, 0.2, 0.3, 0.4, 0.5))  # fmt: skip
def _brightness(batch: Batch, more: float) -> Floats:
    """Brighter: a constant is added to the value of the HSV colour.

    With hue and saturation kept, a colour is multiplied by its new value over its old; black becomes grey.
    """
    x = batch.x
    if not batch.in_colour:
        return x + np.float32(more)
    value = x.max(axis=1, keepdims=True)
    brighter = np.minimum(value + np.float32(more), 1)
    return cast(Floats, np.where(value > 0, x * (brighter / np.maximum(value, np.float32(1e-6))), brighter))
