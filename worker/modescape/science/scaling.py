"""Metric scaling of a few thousand functions by majorisation (SMACOF; de Leeuw 1977).

    points, stress = metric_scaling(squares, start)      # [n, n], [n, 2] -> [n, 2]

What grows with n^2 is computed tile by tile, so that a tile stays in the processor's cache. The same map as that of
scikit-learn's `smacof` in less time, and a process need not import all of that for it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEPS = 300
ENOUGH = 1e-7  # of the points' own squared distances: a step that takes less off the stress is the last
_TILE = 1 << 15  # pairs at a time: 256 kB
_SAME = 1e-5  # a distance of points that coincide, which divides


def metric_scaling(squares: Floats, start: Floats) -> tuple[Floats, float]:
    """Points [n, 2] whose distances are nearest to the square roots of `squares` [n, n], reached from `start`, and
    sqrt(sum (d - D)^2 / sum D^2) over pairs.

    Each step goes to the points that minimise a bound of the stress which touches it at the present ones, the Guttman
    transform; points closer than 1e-5 pull at each other as if they were that far apart.
    """
    targets, whole = np.sqrt(squares), float(squares.sum())
    if whole == 0:
        return start, 0.0
    points, before = np.array(start, np.float64), math.inf
    moved, _, _ = _step(targets, points)
    for _ in range(STEPS):
        points = moved
        moved, part, size = _step(targets, points)
        stress = max(part + whole, 0.0)
        if (before - stress) / size < ENOUGH:
            break
        before = stress
    return points, math.sqrt(stress / whole)


def _step(targets: Floats, points: Floats) -> tuple[Floats, float, float]:
    """The next points, and of the present ones the sums of d^2 - 2 d D and of d^2 over all pairs, both ways."""
    count = len(points)
    centred = points - points.mean(axis=0)  # the smaller the numbers, the less their differences are rounded
    squares, ones = np.square(centred).sum(axis=1), np.ones(count)
    left, right = np.column_stack([-2.0 * centred, squares, ones]), np.column_stack([centred, ones, squares]).T
    point = np.column_stack([centred, ones])
    moved, size, both = np.empty_like(points), 0.0, 0.0
    rows = max(1, _TILE // count)
    for first in range(0, count, rows):
        part = slice(first, first + rows)
        apart = left[part] @ right
        np.maximum(apart, 0.0, out=apart)
        own = np.arange(len(apart))
        apart[own, first + own] = 0.0
        size += float(apart.sum())
        np.sqrt(apart, out=apart)
        both += float(np.vdot(apart, targets[part]))
        np.divide(targets[part], np.maximum(apart, _SAME, out=apart), out=apart)
        pulled = apart @ point
        moved[part] = (pulled[:, 2:] * centred[part] - pulled[:, :2]) / count
    return moved, size - 2.0 * both, size
