"""Three of the four types that CIFAR-10-C has beyond ImageNet-C's fifteen. (`spatter` has a file of its own.)"""

from __future__ import annotations

import numpy as np

from modescape.corruptions.corruption import EXTRA, Batch, Floats, corruption
from modescape.corruptions.filters import smoothed


@corruption("speckle_noise", title="Speckle noise", family=EXTRA, place=160, small=True,
             cifar=(0.06, 0.10, 0.12, 0.16, 0.20), imagenet=(0.15, 0.20, 0.35, 0.45, 0.60))  # fmt: skip
def _speckle_noise(batch: Batch, std: float) -> Floats:
    """Normal noise in proportion to the light."""
    noise = batch.draws.normal(*batch.pixels.shape[1:])
    noise *= np.float32(std)
    noise += 1
    noise *= batch.x
    return noise


@corruption("gaussian_blur", title="Gaussian blur", family=EXTRA, place=170, small=True, is_random=False,
             cifar=(0.4, 0.6, 0.7, 0.8, 1), imagenet=(1, 2, 3, 4, 6))  # fmt: skip
def _gaussian_blur(batch: Batch, sigma: float) -> Floats:
    """Every point becomes a small Gaussian spot."""
    return smoothed(batch.x, sigma)


@corruption("saturate", title="Saturate", family=EXTRA, place=190, needs_colour=True, is_random=False,
             cifar=((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
             imagenet=((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)))  # fmt: skip
def _saturate(batch: Batch, factor: float, more: float) -> Floats:
    """Colours become paler (1 and 2) or stronger (3 to 5): the saturation of the HSV colour changes.

    With hue and value kept, the distance of every channel from the value grows in proportion; grey has no hue and
    turns red where saturation is added, as in the authors' program.
    """
    x = batch.x
    value = x.max(axis=1, keepdims=True)
    low = x.min(axis=1, keepdims=True)
    spread = value - low
    before = spread / np.maximum(value, np.float32(1e-6))
    after = np.clip(before * np.float32(factor) + np.float32(more), 0, 1)
    coloured = value - (value - x) * (after / np.maximum(before, np.float32(1e-6)))
    red = np.concatenate([value, value * (1 - after), value * (1 - after)], axis=1)
    return np.where(spread > 0, coloured, red)
