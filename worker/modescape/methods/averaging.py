"""The mean of the snapshots."""

from __future__ import annotations

import numpy as np

from modescape.methods.method import FORT, Draw, Neighbourhood, draw_at, method
from modescape.registry import Look, NoOptions


@method(
    "averaging",
    title="Weight averaging",
    summary="The mean of the snapshots: one solution a run.",
    source=FORT + "; Izmailov et al. 2018",
    place=70,
    look=Look("cross", "solid", "#238BFD", "#6FDAF3", 8),
    centre="mean",
    strength=None,
    needs_snapshots=True,
    sampled=False,
)
def averaging(around: Neighbourhood, options: NoOptions, strength: float, rng: np.random.Generator) -> Draw:
    """The uniform mean mu of one run's snapshots (of several runs the mean predicts at chance; science d.5)."""
    return draw_at(around, around.mean, 0.0)
