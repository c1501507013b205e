"""Noise: grain of film and sensor."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from modescape.corruptions.corruption import NOISE, Batch, Floats, Pixels, corruption, truncated


@corruption("gaussian_noise", title="Gaussian noise", family=NOISE, place=10, small=True,
             cifar=(0.04, 0.06, 0.08, 0.09, 0.10), imagenet=(0.08, 0.12, 0.18, 0.26, 0.38))  # fmt: skip
def _gaussian_noise(batch: Batch, std: float) -> Floats:
    """Normal noise is added, as in low light."""
    noise = batch.draws.normal(*batch.pixels.shape[1:])
    noise *= np.float32(std)
    noise += batch.x
    return noise


@corruption("shot_noise", title="Shot noise", family=NOISE, place=20, small=True,
             cifar=(500, 250, 100, 75, 50), imagenet=(60, 25, 12, 5, 3))  # fmt: skip
def _shot_noise(batch: Batch, photons: float) -> Pixels:
    """Light is counted in few photons: a Poisson number for every value."""
    limits, levels = _poisson(photons)
    wanted = (batch.draws.bits(*batch.pixels.shape[1:]).astype(np.float64) + 0.5) * 2.0**-32
    wanted += batch.pixels
    counts = np.searchsorted(limits, wanted.reshape(-1)).reshape(wanted.shape)
    counts -= batch.pixels.astype(np.int64) * len(levels)
    return levels[counts]


@lru_cache(maxsize=16)
def _poisson(photons: float) -> tuple[NDArray[np.float64], Pixels]:
    """Distribution functions of the counts of all 256 pixel values, one above the other, and the byte of each count.

    Entry v * K + k is v + P(count <= k) of pixel value v, so one sorted search inverts every distribution.
    """
    most = int(photons + 12 * math.sqrt(photons) + 20)
    counts = np.arange(most + 1)
    mean = (np.arange(256) / 255 * photons)[:, None]
    factorials = np.cumsum(np.log(np.maximum(counts, 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.exp(counts * np.log(mean) - mean - factorials)
    density[0] = counts == 0
    below = np.minimum(np.cumsum(density, axis=1), 1)
    below[:, -1] = 1
    return (below + np.arange(256)[:, None]).reshape(-1), truncated(counts / photons)


@corruption("impulse_noise", title="Impulse noise", family=NOISE, place=30, small=True,
             cifar=(0.01, 0.02, 0.03, 0.05, 0.07), imagenet=(0.03, 0.06, 0.09, 0.17, 0.27))  # fmt: skip
def _impulse_noise(batch: Batch, share: float) -> Pixels:
    """Salt and pepper: single values become 0 or 255, equally likely, each channel for itself."""
    luck = batch.draws.bits(*batch.pixels.shape[1:])
    hit, salt = np.uint32(round(share * 2**32)), np.uint32(round(share * 2**31))
    return np.where(luck < hit, np.where(luck < salt, np.uint8(255), np.uint8(0)), batch.pixels)
