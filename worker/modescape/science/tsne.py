"""t-SNE of a few thousand functions from their distances alone (van der Maaten & Hinton 2008).

    tsne(squares, start, perplexity=30.0)        # [n, n], [n, 2] -> [n, 2]

Exact: every pair repels. Each pair is computed once, in tiles that stay in the processor's cache, and of many functions
in float32. The rate is n / 12 for a gradient of 4 sums (Belkina et al. 2019), with a gain for every coordinate (Jacobs
1988). The first map is as wide as the length at which attraction fades, not 1e-4 of it: points that begin together need
hundreds of steps to come apart, and where nothing tells them apart at first sight they never do.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EARLY, EXAGGERATION = 30, 4.0
MOST, LEAST = 1000, 300  # steps
_STEPS_TIMES_FUNCTIONS = 600_000
_FLAT = 1e-7  # a gradient whose norm is smaller moves nothing that can be seen
_FEW = 300  # functions whose first steps are long beside their distances: float32 would lose these
_EDGE = 400  # functions across a tile: with its attractions 2 MB


def tsne(squares: Floats, start: Floats, *, perplexity: float) -> Floats:
    """A map [n, 2] in which neighbours stay neighbours; squares: squared distances [n, n]; start: the first map, of a
    standard deviation of about 1.

    The same distances and start give the same map, to the bit, on one thread of one machine. Memory: beside what is
    given, of more than 300 functions 16 bytes for every pair at most, and 64 of fewer.
    """
    count = len(start)
    pairs = _Pairs(neighbours(squares, perplexity=perplexity))
    rate = max(count / 12, 2.0)  # few points do not find together again after longer steps
    places = np.array(start, np.float64)
    for number in range(min(MOST, max(LEAST, _STEPS_TIMES_FUNCTIONS // count))):
        early = number < EARLY
        if number in (0, EARLY):  # from here on the steps are others
            step, gains = np.zeros_like(places), np.ones_like(places)
        slope = pairs.gradient(places, exaggeration=EXAGGERATION if early else 1.0)
        if not early and number % 50 == 0 and np.linalg.norm(slope) <= _FLAT:
            break
        gains = np.maximum(np.where(step * slope < 0, gains + 0.2, gains * 0.8), 0.01)
        step = (0.8 if early else 0.9) * step - rate * gains * slope
        places += step
    return places


def neighbours(squares: Floats, *, perplexity: float) -> NDArray[np.floating]:
    """P [n, n]: how near two functions are, symmetric, its sum 1, its diagonal 0 (equations 1 and 10 there); of many
    functions float32.

    Of each row the Gaussian's precision is sought for which 2^entropy is the perplexity, by Newton's steps on its
    logarithm between bounds that close in, from the mean of as many nearest ones. A row that has more equal nearest
    neighbours than that keeps those.
    """
    count = len(squares)
    scale = float(squares.mean())  # which changes no probability either, and keeps precisions within float32
    apart = (squares / scale if scale > 0 else squares).astype(_kind(count))
    np.fill_diagonal(apart, np.inf)
    apart -= apart.min(axis=1, keepdims=True)  # which changes no probability, and one of them is exp(0)
    np.fill_diagonal(apart, 0.0)
    enough = 1e-9 if apart.dtype == np.float64 else 1e-5
    precision = -np.log(_nearest(apart, min(math.ceil(perplexity), count - 1)))
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
        left = np.abs(excess) > enough
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


def _nearest(apart: NDArray[np.floating], number: int) -> NDArray[np.floating]:
    """Of each row the mean of its `number` nearest others, of all where those are 0, 1 where these are too."""
    found = np.partition(apart, number, axis=1)[:, : number + 1].sum(axis=1) / number  # with itself, which is 0
    found = np.where(found > 0, found, apart.sum(axis=1) / max(len(apart) - 1, 1))
    return np.where(found > 0, found, apart.dtype.type(1.0))


def _kind(count: int) -> type[np.floating]:
    return np.float64 if count <= _FEW else np.float32


class _Pairs:
    """Attractions P of all pairs, tile by tile above the diagonal, and the buffers in which their forces are summed."""

    def __init__(self, attraction: NDArray[np.floating]) -> None:
        count = len(attraction)
        kind = _kind(count)
        edge = -(-count // -(-count // _EDGE))  # tiles of one size, as far as that goes
        parts = [slice(first, min(first + edge, count)) for first in range(0, count, edge)]
        self._tiles = [
            (rows, columns, attraction[rows, columns].astype(kind))
            for i, rows in enumerate(parts) for columns in parts[i:]
        ]  # fmt: skip
        # (x, y) dotted with these is 1 + |a - b|^2: one product in place of four passes over the tile
        self._left, self._right = np.ones((count, 4), kind), np.ones((4, count), kind)
        self._points = np.ones((3, count), kind)  # x, y and 1
        self._near, self._pull = np.empty((2, _EDGE * _EDGE), kind)

    def gradient(self, places: Floats, *, exaggeration: float) -> Floats:
        """Of KL(P || Q) by the places [n, 2] (equation 5 there), with P exaggerated."""
        centred = places - places.mean(axis=0)  # the smaller the numbers, the less their differences are rounded
        squares = np.square(centred).sum(axis=1)
        self._left[:, :2], self._left[:, 2] = -2.0 * centred, squares + 1.0
        self._right[:2], self._right[3] = centred.T, squares
        self._points[:2] = centred.T
        points, total = self._points, 0.0
        pulled, pushed = np.zeros((2, 3, len(places)))
        for rows, columns, attraction in self._tiles:
            near, pull = (kept[: attraction.size].reshape(attraction.shape) for kept in (self._near, self._pull))
            np.matmul(self._left[rows], self._right[:, columns], out=near)
            np.reciprocal(near, out=near)
            sums = float((near @ points[2, columns]).sum(dtype=np.float64))
            np.multiply(attraction, near, out=pull)
            np.square(near, out=near)
            for forces, each in ((pulled, pull), (pushed, near)):
                for axis in range(3):  # three products with a vector cost half of one with a matrix
                    forces[axis, rows] += each @ points[axis, columns]
                    if rows != columns:
                        forces[axis, columns] += points[axis, rows] @ each
            total += sums if rows == columns else 2.0 * sums
        total -= len(places)  # every point is as near to itself as can be
        pull_, push_ = ((forces[2] * centred.T - forces[:2]).T for forces in (pulled, pushed))
        return np.asarray(4.0 * (exaggeration * pull_ - push_ / total))
