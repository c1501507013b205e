"""What a method is: one function `(around, options, strength, rng) -> Draw`, where weights lie at a given strength.

    @method("mine", title=..., summary=..., source=..., centre="optimum", strength="scale", options=SampledOptions)
    def mine(around, options, strength, rng):
        return draw_at(around, around.theta + strength * rng.standard_normal(around.theta.size), strength)

How strong is decided for all methods alike (`sampling`), so that a method added elsewhere gets its sample sets for
nothing. numpy only; arithmetic in float64, weights returned in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from modescape.errors import InvalidInput
from modescape.registry import LAST, Look, Method, NoOptions, Options, methods, one_a_run
from modescape.science.predictions import ActivationMask

FloatArray = NDArray[np.floating[Any]]
Layout = Sequence[tuple[str, tuple[int, ...]]]

FORT = "Fort, Hu & Lakshminarayanan 2019, section 4.1"
FLOOR_DROP = 0.06  # accuracy below the optimum's at which a typical sample is refused
_BLOCK = 1 << 20  # parameters handled at a time in float64 (8 MB a row)


# ---------------------------------------------------------------------------------------------- the neighbourhood


@dataclass(frozen=True)
class Modes:
    """Eigenpairs of the snapshots' Gram matrix X X^T, descending, without null directions.

    eigenvalues [R]; coefficients [S, R]: unit eigenvectors u_j, so that X^T u_j / sqrt(lambda_j) is a unit direction.
    """

    eigenvalues: NDArray[np.float64]
    coefficients: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """One run's optimum and what is known around it. Derived quantities are computed once, when first asked for.

    theta: float32 [P], the final weights theta_0; snapshots: float32 [S, P] of the end of training, or None;
    layout: (name, shape) of each tensor in the order in which theta was flattened.
    """

    theta: FloatArray
    snapshots: FloatArray | None = None
    layout: Layout = ()

    @cached_property
    def norm(self) -> float:
        return float(np.linalg.norm(self.theta.astype(np.float64)))

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean of the snapshots, [P]: the centre mu of both Gaussians, and the weight average."""
        return np.asarray(self._kept().mean(axis=0, dtype=np.float64))

    @cached_property
    def squares(self) -> NDArray[np.float64]:
        """Sum of squared deviations from the mean, [P], in two passes: E[x^2] - E[x]^2 would lose every digit."""
        return np.concatenate([np.square(block).sum(axis=0) for _, block in self._deviations()])

    @cached_property
    def modes(self) -> Modes:
        """Principal modes of the snapshots by their [S, S] Gram matrix; nothing of size P x P is built."""
        count = len(self._kept())
        gram = np.zeros((count, count))
        for _, block in self._deviations():
            gram += block @ block.T
        eigenvalues, vectors = np.linalg.eigh(gram)
        eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
        kept = eigenvalues > max(1e-10 * eigenvalues[0], 0.0)
        kept[count - 1 :] = False  # the deviations sum to zero: at most S - 1 directions
        return Modes(eigenvalues[kept], vectors[:, kept])

    def combine(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the snapshots' deviations from their mean, times `weights` [S]; [P]."""
        return np.concatenate([weights @ block for _, block in self._deviations()])

    def distance(self, theta: FloatArray) -> float:
        """|theta - theta_0| / |theta_0|; NaN when theta_0 is zero."""
        away = float(np.linalg.norm(theta.astype(np.float64) - self.theta))
        return away / self.norm if self.norm else math.nan

    def _kept(self) -> FloatArray:
        if self.snapshots is None or len(self.snapshots) < 2:
            raise InvalidInput("this method needs 2 or more snapshots", field="training.snapshots", allowed="2 or more")
        return self.snapshots

    def _deviations(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        snapshots = self._kept()
        for start in range(0, snapshots.shape[1], _BLOCK):
            part = slice(start, start + _BLOCK)
            yield part, snapshots[:, part].astype(np.float64) - self.mean[part]


# --------------------------------------------------------------------------------------------------- what is drawn


@dataclass(frozen=True, eq=False)
class Draw:
    """Weights around an optimum.

    theta: float32 [P]; strength: in the method's own unit (step length over |theta_0|, rate, or scale);
    relative: |theta - theta_0| / |theta_0|, comparable across methods; mask: for activation dropout only.
    """

    theta: NDArray[np.float32]
    strength: float
    relative: float
    mask: ActivationMask | None = None


def draw_at(around: Neighbourhood, theta: FloatArray, strength: float) -> Draw:
    """Those weights as a draw around that optimum, rounded to float32."""
    rounded = theta.astype(np.float32)
    return Draw(rounded, strength, around.distance(rounded))


# ------------------------------------------------------------------------------------------------------- options


class SampledOptions(Options):
    """What every sampled method lets one choose."""

    strengths: Literal["graded", "uniform"] = Field(
        "graded",
        description="graded: evenly spaced, in the spread set denser near the optimum (six tenths of its samples cost "
        "less than two points of accuracy); uniform: independent uniform draws, as in the paper.",
    )
    floor: Literal["none", "drop", "absolute"] = Field(
        "drop",
        description="Accuracy floor of typical samples on the first 2,000 validation images. none: accept all; drop: "
        "the optimum's accuracy minus the floor value; absolute: the floor value itself.",
    )
    floor_value: float = Field(
        FLOOR_DROP, ge=0, le=1, description="Accuracy given up (drop) or required (absolute), as a fraction."
    )
    tries: int = Field(5, ge=1, le=100, description="Draws for one typical sample before it is skipped.")

    def in_own_unit(self, asked: float, around: Neighbourhood) -> float:
        """A strength that these options name, in the method's own unit."""
        return asked


class GaussianOptions(SampledOptions):
    spread_max: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Largest factor on the standard deviations of spread samples; empty: measured on the network.",
    )
    typical_scale: float = Field(1.0, gt=0, le=1e6, description="Factor on the standard deviations of typical samples.")


# --------------------------------------------------------------------------------------------------- registration

Call = Callable[[Neighbourhood, Any, float, np.random.Generator], Draw]


def method(
    name: str,
    *,
    title: str,
    summary: str,
    source: str,
    centre: Literal["optimum", "mean"],
    strength: Literal["step", "rate", "scale"] | None,
    look: Look | None = None,
    place: int = LAST,
    options: type[Options] = NoOptions,
    needs_snapshots: bool = False,
    sampled: bool = True,
    trained: Literal["fresh", "continued"] | None = None,
    of: str | None = None,
    needs_dropout: bool = False,
    count: Callable[[Any], int] = one_a_run,
) -> Callable[[Call], Call]:
    """Register `(around, options, strength, rng) -> Draw`. The options of a sampled method extend SampledOptions."""
    if sampled != issubclass(options, SampledOptions) or sampled != (strength is not None):
        raise ValueError(f"method {name!r}: sampled methods have a strength and SampledOptions, others have neither")

    def register(call: Call) -> Call:
        methods.add(
            Method(
                name=name, title=title, summary=summary, source=source, options=options, call=call, place=place,
                look=None if look is None else replace(look, key=look.key or name), centre=centre, strength=strength,
                needs_snapshots=needs_snapshots, sampled=sampled, trained=trained, of=of, needs_dropout=needs_dropout,
                count=count,
            )
        )  # fmt: skip
        return call

    return register
