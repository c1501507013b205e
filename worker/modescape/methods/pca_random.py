"""The low-rank Gaussian of random samples in place of snapshots."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from modescape.methods.low_rank import LowRankOptions, along_modes
from modescape.methods.method import FORT, Draw, Neighbourhood, method
from modescape.registry import Look


class PcaRandomOptions(LowRankOptions):
    rank: int = Field(
        4, ge=1, le=200, description="Principal directions kept (paper: 4); needs one more narrow random sample."
    )


@method(
    "pca-random",
    title="Random-sample PCA",
    summary="Normal noise along the principal directions of the random subspace's narrow samples of the same run.",
    source=FORT + "; authors' code: drawn beside the others in the figures of ensembles and of shift",
    place=60,
    look=Look("pentagon", "longdash", "#896700", "#B89E54", 8, key="spare-2"),
    centre="mean",
    strength="scale",
    options=PcaRandomOptions,
    of="random",
)
def pca_random(around: Neighbourhood, options: PcaRandomOptions, strength: float, rng: np.random.Generator) -> Draw:
    """`low_rank` with the accepted typical samples of `random` in place of snapshots (science d.4).

    Isotropic samples have no directions of their own: it is a compact stand-in for them, not a finding about the run.
    Samples below the accuracy floor are missing, so the rank may have to be smaller than asked: then all directions
    there are.
    """
    return along_modes(around, options, strength, rng)
