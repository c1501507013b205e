"""The exponential moving average of the snapshots."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from modescape.methods.method import Draw, Neighbourhood, draw_at, method
from modescape.registry import Look, Options


class EmaOptions(Options):
    decay: float = Field(
        0.8, ge=0, lt=1, description="What the average keeps of itself at each snapshot; 0: the last snapshot alone."
    )


@method(
    "ema",
    title="Exponential moving average",
    summary="The mean of the snapshots, recent ones counting more: one solution a run. It moves at each snapshot, not "
    "at each training step.",
    source="Kingma & Ba 2015, section 7.2 (temporal averaging, bias-corrected)",
    place=80,
    look=Look("hexagon", "longdash", "#000096", "#1CA7EE", 8, key="spare-1"),
    centre="mean",
    strength=None,
    options=EmaOptions,
    needs_snapshots=True,
    sampled=False,
)
def ema(around: Neighbourhood, options: EmaOptions, strength: float, rng: np.random.Generator) -> Draw:
    """theta <- b theta + (1 - b) snapshot from zero, over 1 - b^S at the end, so that the start leaves no trace.

    In closed form snapshot s of S weighs (1 - b) b^(S - s) / (1 - b^S). With the snapshots D steps apart this is the
    average that is updated at every step with decay b^(1/D), read off at the snapshots only: it costs no further
    training, and stands beside the uniform average of the same snapshots.
    """
    assert around.snapshots is not None
    weights = options.decay ** np.arange(len(around.snapshots) - 1, -1, -1, dtype=np.float64)
    return draw_at(around, around.mean + around.combine(weights / weights.sum()), 0.0)
