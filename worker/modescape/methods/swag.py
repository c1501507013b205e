"""SWAG: a Gaussian as wide as the weights move when training goes on from an optimum."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from modescape.errors import InvalidInput
from modescape.methods.method import Draw, GaussianOptions, Neighbourhood, draw_at, method
from modescape.methods.trained import MOST_COLLECTED, ContinuedOptions
from modescape.registry import Look


class SwagOptions(GaussianOptions, ContinuedOptions):
    columns: int = Field(
        20, ge=2, le=MOST_COLLECTED, description="Deviations kept for the low-rank half, the latest (published: 20)."
    )
    scale: float = Field(
        0.5,
        gt=0,
        le=100,
        description="Factor on the whole covariance: 0.5 gives each half its share (the published formula).",
    )
    covariance: Literal["full", "diagonal"] = Field(
        "full", description="full: diagonal and low-rank halves together; diagonal: the diagonal half alone."
    )

    @model_validator(mode="after")
    def _enough_for_columns(self) -> SwagOptions:
        if self.covariance == "full" and self.columns > self.samples:
            raise InvalidInput(
                f"{self.columns} deviations cannot be kept of {self.samples} collected weights",
                field="columns",
                allowed=f"2 to {self.samples}, or more epochs",
            )
        return self


@method(
    "swag",
    title="SWAG",
    summary="Trains on from the solution at a constant learning rate and samples a Gaussian as wide as the weights "
    "moved: half of it diagonal, half low-rank.",
    source="Maddox et al. 2019, equation 1; wjmaddox/swa_gaussian",
    place=90,
    look=Look("triangle-down", "longdash", "#7D2FFF", "#FCF600", 8, key="spare-5"),
    centre="mean",
    strength="scale",
    options=SwagOptions,
    trained="continued",
)
def swag(around: Neighbourhood, options: SwagOptions, strength: float, rng: np.random.Generator) -> Draw:
    """mu + c sqrt(scale) [sigma z1 + D^T z2 / sqrt(K - 1)], z1 and z2 standard normal (science d.6).

    mu and sigma: mean and deviation (divided by S) of the S collected weights; D: the last K differences between
    collected weights and their mean at that moment, which they are part of: the very first one is zero. c is the
    strength, 1 in the published form.
    """
    assert around.snapshots is not None
    collected = len(around.snapshots)
    noise = np.sqrt(np.maximum(around.squares / collected, 1e-30)) * rng.standard_normal(around.theta.size)
    if options.covariance == "full":
        normal = rng.standard_normal(options.columns)
        noise += around.combine(_running(normal, collected)) / math.sqrt(options.columns - 1)
    return draw_at(around, around.mean + strength * math.sqrt(options.scale) * noise, strength)


def _running(normal: np.ndarray, collected: int) -> np.ndarray:
    """Weights [S] on the collected theta_i that make the sum over the last K differences D_j times `normal` [K].

    D_j = theta_j - (theta_1 + .. + theta_j) / j. Each D_j is a combination whose weights sum to zero, so any common
    centre may be taken off the thetas first.
    """
    weights = np.zeros(collected)
    for j, z in zip(range(collected - len(normal) + 1, collected + 1), normal, strict=True):
        weights[j - 1] += z
        weights[:j] -= z / j
    return weights
