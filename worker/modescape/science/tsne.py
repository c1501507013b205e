"""t-SNE of a few thousand functions from their distances alone (van der Maaten & Hinton 2008).

    tsne(squares, start, perplexity=30.0)        # [n, n], [n, 2] -> [n, 2]

Exact: every pair repels. What grows with n^2 is computed tile by tile, so that a tile stays in the processor's cache,
and of many functions in float32. The schedule, 250 steps of early exaggeration by 12 and 750 without it, the rate
n / 48 (Belkina et al. 2019) and the gains of every coordinate (Jacobs 1988) are those of scikit-learn's TSNE; but the
rate is at least 5, not 50, which throws a dozen points so far apart that they do not find together again.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEPS, EARLY = 1000, 250
EXAGGERATION = 12.0
_FLAT = 1e-7  # a gradient whose norm is smaller moves nothing that can be seen
_FEW = 300  # functions whose first steps are long beside their distances: float32 would lose these
_TILE = 1 << 16  # pairs at a time: with their attractions half a megabyte


def tsne(squares: Floats, start: Floats, *, perplexity: float) -> Floats:
    """A map [n, 2] in which neighbours stay neighbours; squares: squared distances [n, n]; start: the first map.

    The same distances and start give the same map, to the bit, on one thread of one machine.
    """
    count = len(start)
    pairs = _Pairs(neighbours(squares, perplexity=perplexity))
    rate = max(count / EXAGGERATION / 4, 5.0)
    places = np.array(start, np.float64)
    step, gains = np.zeros_like(places), np.ones_like(places)
    for number in range(STEPS):
        early = number < EARLY
        if number == EARLY:  # from here on the steps are others
            step, gains = np.zeros_like(places), np.ones_like(places)
        slope = pairs.gradient(places, exaggeration=EXAGGERATION if early else 1.0)
        if not early and number % 50 == 0 and np.linalg.norm(slope) <= _FLAT:
            break
        gains = np.maximum(np.where(step * slope < 0, gains + 0.2, gains * 0.8), 0.01)
        step = (0.5 if early else 0.8) * step - rate * gains * slope
        places += step
    return places


def neighbours(squares: Floats, *, perplexity: float) -> Floats:
    """P [n, n]: how near two functions are, symmetric, its sum 1, its diagonal 0 (equations 1 and 10 there).

    Of each row the Gaussian's precision is sought for which 2^entropy is the perplexity, by Newton's steps on its
    logarithm between bounds that close in. A row that has more equal nearest neighbours than that keeps those.
    """
    count = len(squares)
    apart = squares.astype(np.float64)
    np.fill_diagonal(apart, np.inf)
    apart -= apart.min(axis=1, keepdims=True)  # which changes no probability, and one of them is exp(0)
    np.fill_diagonal(apart, 0.0)
    mean = apart.sum(axis=1) / max(count - 1, 1)
    precision = np.log(1.0 / np.where(mean > 0, mean, 1.0))
    low, high = precision - 50.0, precision + 50.0
    near, open_rows = np.empty_like(apart), np.arange(count)
    for _ in range(60):
        scaled = apart[open_rows] * np.exp(precision[open_rows])[:, None]
        found = np.exp(-scaled)
        found[np.arange(len(open_rows)), open_rows] = 0.0
        total = found.sum(axis=1)
        found /= total[:, None]
        near[open_rows] = found
        first = np.einsum("ij,ij->i", found, scaled)
        excess = np.log(total) + first - math.log(perplexity)
        left = np.abs(excess) > 1e-9
        if not left.any():
            break
        found *= scaled
        spread = np.einsum("ij,ij->i", found, scaled) - first**2  # minus the slope of the entropy
        now = precision[open_rows]
        low[open_rows] = np.where(excess > 0, now, low[open_rows])
        high[open_rows] = np.where(excess > 0, high[open_rows], now)
        with np.errstate(all="ignore"):  # where all others are equally near
            ahead = now + excess / spread
        inside = (ahead > low[open_rows]) & (ahead < high[open_rows])
        precision[open_rows] = np.where(inside, ahead, (low[open_rows] + high[open_rows]) / 2)
        open_rows = open_rows[left]
    return np.asarray((near + near.T) / (2 * count))


class _Pairs:
    """Attractions P of all pairs, and the buffers in which their forces are summed."""

    def __init__(self, attraction: Floats) -> None:
        count = len(attraction)
        kind = np.float64 if count <= _FEW else np.float32
        self._attraction = attraction.astype(kind)
        self._rows = max(1, min(count, _TILE // count))
        # (x, y) dotted with these is 1 + |a - b|^2: one product in place of four passes over the tile
        self._left, self._right = np.ones((count, 4), kind), np.ones((4, count), kind)
        self._point = np.ones((count, 3), kind)
        self._pulled, self._pushed = np.empty((count, 3)), np.empty((count, 3))
        self._near, self._pull = np.empty((2, self._rows, count), kind)

    def gradient(self, places: Floats, *, exaggeration: float) -> Floats:
        """Of KL(P || Q) by the places [n, 2] (equation 5 there), with P exaggerated."""
        centred = places - places.mean(axis=0)  # the smaller the numbers, the less their differences are rounded
        squares = np.square(centred).sum(axis=1)
        self._left[:, :2], self._left[:, 2] = -2.0 * centred, squares + 1.0
        self._right[:2], self._right[3] = centred.T, squares
        self._point[:, :2] = centred
        total = 0.0
        for first in range(0, len(places), self._rows):
            rows = slice(first, first + self._rows)
            here = self._left[rows]
            near, pull = self._near[: len(here)], self._pull[: len(here)]
            np.matmul(here, self._right, out=near)
            np.reciprocal(near, out=near)
            total += float(near.sum(dtype=np.float64))
            np.multiply(self._attraction[rows], near, out=pull)
            self._pulled[rows] = pull @ self._point
            np.square(near, out=near)
            self._pushed[rows] = near @ self._point
        total -= len(places)  # every point is as near to itself as can be
        pulled = self._pulled[:, 2:] * centred - self._pulled[:, :2]
        pushed = self._pushed[:, 2:] * centred - self._pushed[:, :2]
        return np.asarray(4.0 * (exaggeration * pulled - pushed / total))
