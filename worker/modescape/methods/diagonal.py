"""A Gaussian with a deviation of its own for every weight."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from modescape.methods.method import FORT, Draw, GaussianOptions, Neighbourhood, draw_at, method
from modescape.registry import Look


class DiagonalOptions(GaussianOptions):
    ddof: Literal[0, 1] = Field(0, description="0: divide the squares by S snapshots (authors' code); 1: by S - 1.")


@method(
    "diagonal",
    title="Diagonal Gaussian",
    summary="Independent normal noise per weight, as wide as the weight moved over the snapshots.",
    source=FORT + "; N(mu, sigma) with sigma a standard deviation",
    place=40,
    look=Look("diamond", "solid", "#D95CAF", "#EA6092", 8),
    centre="mean",
    strength="scale",
    options=DiagonalOptions,
    needs_snapshots=True,
)
def diagonal(around: Neighbourhood, options: DiagonalOptions, strength: float, rng: np.random.Generator) -> Draw:
    """mu + c sigma z, z standard normal, sigma_i the standard deviation of weight i over S snapshots (science d.3)."""
    assert around.snapshots is not None
    sigma = np.sqrt(around.squares / (len(around.snapshots) - options.ddof))
    return draw_at(around, around.mean + strength * sigma * rng.standard_normal(sigma.size), strength)
