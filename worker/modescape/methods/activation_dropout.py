"""Monte-Carlo dropout: units dropped while the solution predicts."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from modescape.methods.dropout import DropoutOptions
from modescape.methods.method import FORT, Draw, Neighbourhood, method
from modescape.registry import Look
from modescape.science.predictions import ActivationMask


class ActivationDropoutOptions(DropoutOptions):
    masks: Literal["function", "example"] = Field(
        "function",
        description="function: one mask for all images, so a sample is a function; example: a fresh mask per image.",
    )


@method(
    "activation-dropout",
    title="Activation dropout",
    summary="The solution with units dropped while it predicts (Monte-Carlo dropout).",
    source="Gal & Ghahramani 2016; another reading of " + FORT,
    place=30,
    look=Look("hourglass", "longdash", "#00290C", "#B6FFD0", 8, key="spare-4"),
    centre="optimum",
    strength="rate",
    options=ActivationDropoutOptions,
    needs_dropout=True,
)
def activation_dropout(
    around: Neighbourhood, options: ActivationDropoutOptions, strength: float, rng: np.random.Generator
) -> Draw:
    """The solution's own weights with a dropout mask over activations; batch norm stays in evaluation mode."""
    mask = ActivationMask(strength, int(rng.integers(2**53)), options.masks == "example")
    return Draw(np.asarray(around.theta, np.float32), strength, 0.0, mask)
