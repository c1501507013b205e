"""What figures ask of an experiment, and why there may be nothing to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modescape.errors import Conflict
from modescape.spec import ExperimentSpec

if TYPE_CHECKING:
    from modescape.claims.record import ClaimRecord

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


class Solution(Protocol):
    """The columns of a solution that figures use (tables.Solution)."""

    @property
    def number(self) -> int: ...
    @property
    def run(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def method(self) -> str | None: ...
    @property
    def sample_set(self) -> str | None: ...
    @property
    def index(self) -> int: ...
    @property
    def epoch(self) -> float | None: ...
    @property
    def strength(self) -> float | None: ...
    @property
    def relative(self) -> float | None: ...
    @property
    def predictions(self) -> Mapping[str, Any]: ...


class Measurement(Protocol):
    """The columns of a group's number that figures use (tables.Measurement)."""

    @property
    def subject(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def split(self) -> str | None: ...
    @property
    def corruption(self) -> str | None: ...
    @property
    def intensity(self) -> int | None: ...
    @property
    def value(self) -> float | None: ...
    @property
    def n(self) -> int | None: ...
    @property
    def details(self) -> Mapping[str, Any]: ...


class Matrix(Protocol):
    """values [rows, columns]; rows are solution numbers, columns too or names of coordinates."""

    @property
    def values(self) -> Floats: ...
    @property
    def rows(self) -> Sequence[int]: ...
    @property
    def columns(self) -> Sequence[Any]: ...
    @property
    def details(self) -> Mapping[str, Any]: ...


class StageRow(Protocol):
    """The columns of a stage that figures use (tables.Stage)."""

    @property
    def kind(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def result(self) -> Mapping[str, Any]: ...
    @property
    def partial(self) -> Mapping[str, Any]: ...


class Results(Protocol):
    """Everything figures ask of an experiment; modescape.results.Results answers from store and artifacts."""

    @property
    def spec(self) -> ExperimentSpec: ...

    @property
    def stages(self) -> Sequence[StageRow]:
        """In the order of the plan."""

    @property
    def failed(self) -> Mapping[int, str]:
        """Run -> why it has failed; no solution of it is among `solutions`."""

    @property
    def healthy(self) -> Sequence[int]:
        """The other runs, also while they train."""

    @property
    def failed_chains(self) -> Mapping[str, Mapping[int, str]]:
        """Method -> the number of its chain -> why that one has failed."""

    def chains(self, method: str) -> int:
        """How many chains of a method there are in all."""

    def skipped(self, kind: str, key: str) -> str:
        """Why a stage has ended and left nothing to use; "" when it did, or has not ended."""

    @property
    def class_names(self) -> Sequence[str]:
        """Raises NotFound before the first prediction."""

    @property
    def steps_per_epoch(self) -> float | None:
        """Optimiser steps an epoch; None before the first training has reported."""

    def solutions(
        self,
        *,
        run: int | None = None,
        role: str | None = None,
        method: str | None = None,
        sample_set: str | None = None,
    ) -> Sequence[Solution]:
        """By number."""

    def logits(self, solution: Solution, split: str) -> NDArray[np.float32]:
        """[N, K] of one solution."""

    def true_labels(self, split: str) -> Ints:
        """[N]"""

    def scores(self, metric: str, split: str) -> Mapping[int, float]:
        """Solution number -> accuracy, nll, ... on that split, of every solution that has it."""

    def matrix(self, name: str, split: str = ...) -> Matrix | None:
        """None while it is not computed; weight space has split ""."""

    def points(self, run: int, name: str) -> tuple[Ints, Floats]:
        """Steps and values of a curve; empty when there is none."""

    def measurements(self, *, metric: str | None = None, subject: str | None = None) -> Sequence[Measurement]:
        """Of groups, narrowed by metric and subject; not those under shift."""

    def shifted(self, metric: str, *, by_type: bool = False) -> Sequence[Measurement]:
        """Of groups on clean images (intensity 0) and under shift: means over types, or each type."""

    def extra(self, kind: str, key: str) -> dict[str, Any] | None:
        """What a finished stage left for others; None while it is not finished, or not planned."""

    def so_far(self, kind: str, key: str) -> dict[str, Any]:
        """What a stage left, or has saved on the way; empty before that."""

    def array(self, digest: str) -> NDArray[Any]:
        """An array that a stage kept."""

    def claim(self, letter: str) -> ClaimRecord | None:
        """What the verdict says of one claim; None while it is not judged, or never asked."""


def square(matrix: Matrix, numbers: Sequence[int]) -> Floats:
    """Those rows and columns of a square matrix, NaN where it does not have them."""
    where = {number: i for i, number in enumerate(matrix.rows)}
    index = np.array([where.get(number, -1) for number in numbers], dtype=np.int64)
    values = np.asarray(matrix.values, dtype=np.float64)[np.ix_(index, index)]
    values[index < 0, :] = np.nan
    values[:, index < 0] = np.nan
    return values


def labels_of(results: Results, solutions: Sequence[Solution], split: str) -> Ints:
    """Predicted labels [S, N], ties to the lowest index."""
    return np.stack([results.logits(solution, split).argmax(-1) for solution in solutions])


def trajectories(results: Results) -> dict[int, list[Solution]]:
    """Run -> its checkpoints in order, the optimum last; only runs that have their optimum."""
    kept: dict[int, list[Solution]] = {}
    for solution in results.solutions():
        if solution.role in ("checkpoint", "optimum"):
            kept.setdefault(solution.run, []).append(solution)
    return {
        run: sorted(points, key=lambda point: (point.role == "optimum", point.index))
        for run, points in sorted(kept.items())
        if any(point.role == "optimum" for point in points)
    }
