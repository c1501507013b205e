"""Random steps from the solution."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from modescape.methods.method import FORT, Draw, Neighbourhood, SampledOptions, draw_at, method
from modescape.registry import Look
from modescape.science.landscape import filter_normalised


class RandomOptions(SampledOptions):
    unit: Literal["relative", "absolute"] = Field(
        "relative",
        description="Unit of the two lengths below: relative to the norm of the solution, or absolute as in the paper.",
    )
    spread_max: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Longest step of spread samples (paper: 70 absolute); empty: measured on the network.",
    )
    typical_max: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Longest step of typical samples (paper: 10 absolute); empty: where accuracy falls by 2 points.",
    )
    filter_normalised: bool = Field(
        False,
        description="Rescale each filter of the direction to the norm of the solution's; biases stay (Li et al. 2018).",
    )

    def in_own_unit(self, asked: float, around: Neighbourhood) -> float:
        """Relative lengths, of absolute ones too."""
        return asked / around.norm if self.unit == "absolute" else asked


@method(
    "random",
    title="Random subspace",
    summary="A step from the solution in a uniformly random direction of all weights.",
    source=FORT,
    place=10,
    look=Look("circle", "solid", "#9E8834", "#EAB41A"),
    centre="optimum",
    strength="step",
    options=RandomOptions,
)
def random(around: Neighbourhood, options: RandomOptions, strength: float, rng: np.random.Generator) -> Draw:
    """theta_0 + s |theta_0| v, v of unit length over the whole network (science d.1).

    With `filter_normalised` the direction has the norms of the solution's own filters instead (Li et al. 2018,
    "Visualizing the Loss Landscape of Neural Nets"), and s = 1 doubles or cancels a filter that it is parallel to.
    """
    direction = rng.standard_normal(around.theta.size)
    if options.filter_normalised:
        step = filter_normalised(direction, around.theta, around.layout)
    else:
        step = direction * (around.norm / np.linalg.norm(direction))
    return draw_at(around, around.theta + strength * step, strength)
