"""Weights dropped at random."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from modescape.methods.method import FORT, Draw, Neighbourhood, SampledOptions, draw_at, method
from modescape.registry import Look


class DropoutOptions(SampledOptions):
    spread_max: float | None = Field(
        None, gt=0, le=0.95, description="Highest rate of spread samples (paper: 0.1); empty: measured on the network."
    )
    typical_max: float | None = Field(
        None,
        gt=0,
        le=0.95,
        description="Highest rate of typical samples (paper: 0.1); empty: where accuracy falls by 2 points.",
    )


@method(
    "dropout",
    title="Dropout subspace",
    summary="The solution with a random share of its weights set to zero and the others scaled up.",
    source=FORT + "; authors' code: dropout on the weight vector, biases included",
    place=20,
    look=Look("square", "solid", "#679176", "#128D64"),
    centre="optimum",
    strength="rate",
    options=DropoutOptions,
)
def dropout(around: Neighbourhood, options: DropoutOptions, strength: float, rng: np.random.Generator) -> Draw:
    """theta_0 * mask / (1 - q), each of the P weights kept with probability 1 - q; then deterministic (science d.2)."""
    kept = rng.random(around.theta.size) >= strength
    return draw_at(around, around.theta.astype(np.float64) * kept / (1.0 - strength), strength)
