"""What figures ask of an experiment, and why there may be nothing to show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modescape.errors import Conflict
from modescape.records import Role
from modescape.results import MatrixData, Results
from modescape.tables import Solution

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class FigureNotReady(Conflict):
    """The figure has nothing to show. `waits_for` names the stages that will give it; empty: not in this spec, or
    `closed` because of what has failed."""

    def __init__(self, reason: str, *, waits_for: Sequence[str] = (), closed: bool = False) -> None:
        self.reason = reason
        self.waits_for = tuple(waits_for)
        self.closed = closed
        super().__init__(reason)

    @property
    def planned(self) -> bool:
        return bool(self.waits_for)


def square(matrix: MatrixData, numbers: Sequence[int]) -> Floats:
    """Those rows and columns of a square matrix, NaN where it does not have them."""
    where = {number: i for i, number in enumerate(matrix.rows)}
    index = np.array([where.get(number, -1) for number in numbers], dtype=np.int64)
    values = np.asarray(matrix.values, dtype=np.float64)[np.ix_(index, index)]
    values[index < 0, :] = np.nan
    values[:, index < 0] = np.nan
    return values


def trajectories(results: Results) -> dict[int, list[Solution]]:
    """Run -> its checkpoints in order, the optimum last; only runs that have their optimum."""
    kept: dict[int, list[Solution]] = {}
    for solution in results.solutions():
        if solution.role in (Role.CHECKPOINT, Role.OPTIMUM):
            kept.setdefault(solution.run, []).append(solution)
    return {
        run: sorted(points, key=lambda point: (point.role == Role.OPTIMUM, point.index))
        for run, points in sorted(kept.items())
        if any(point.role == Role.OPTIMUM for point in points)
    }
