"""A Gaussian along the snapshots' principal directions."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field

from modescape.errors import InvalidInput
from modescape.methods.method import FORT, Draw, GaussianOptions, Neighbourhood, draw_at, method
from modescape.registry import Look


class LowRankOptions(GaussianOptions):
    rank: int = Field(5, ge=1, le=200, description="Principal directions kept; needs at least one snapshot more.")
    scaling: Literal["covariance", "unit"] = Field(
        "covariance",
        description="covariance: as wide as the snapshots in each direction; unit: standard normal factors "
        "(authors' code).",
    )


@method(
    "low-rank",
    title="Low-rank Gaussian",
    summary="Normal noise along the principal directions of the snapshots.",
    source=FORT + "; scaled as the snapshots' covariance unless unit scaling is asked for",
    place=50,
    look=Look("triangle-up", "solid", "#5E2959", "#7A5F96", 8),
    centre="mean",
    strength="scale",
    options=LowRankOptions,
    needs_snapshots=True,
)
def low_rank(around: Neighbourhood, options: LowRankOptions, strength: float, rng: np.random.Generator) -> Draw:
    """mu + c X^T b, with z standard normal and (lambda, U) the first k eigenpairs of X X^T (science d.4).

    b = U z / sqrt(S - 1) gives the rank-k part of the snapshots' covariance, b = U lambda^(-1/2) z unit scaling.
    Directions in which the snapshots do not vary (below 1e-10 of the first eigenvalue) are left out.
    Raises InvalidInput for a rank above S - 1.
    """
    assert around.snapshots is not None
    count = len(around.snapshots)
    if options.rank > count - 1:
        raise InvalidInput(
            f"rank {options.rank} needs at least {options.rank + 1} snapshots, there are {count}",
            field="options.rank",
            allowed=f"1 to {count - 1}",
        )
    return along_modes(around, options, strength, rng)


def along_modes(around: Neighbourhood, options: LowRankOptions, strength: float, rng: np.random.Generator) -> Draw:
    """mu + c X^T b of these snapshots, whatever they are."""
    assert around.snapshots is not None
    count = len(around.snapshots)
    vectors = around.modes.coefficients[:, : options.rank]
    normal = rng.standard_normal(options.rank)[: vectors.shape[1]]
    if options.scaling == "covariance":
        weights = vectors @ normal / math.sqrt(count - 1)
    else:
        weights = vectors @ (normal / np.sqrt(around.modes.eigenvalues[: vectors.shape[1]]))
    return draw_at(around, around.mean + strength * around.combine(weights), strength)
