"""A subspace method that needs numpy only, so that every process can load it."""

from typing import Annotated

from pydantic import Field

from modescape.methods.method import SampledOptions, draw_at, method
from modescape.registry import Look
from modescape.versions import Renamed


class JitterOptions(SampledOptions):
    grip: Annotated[float, Renamed("hold")] = Field(1.0, gt=0, le=10, description="Factor on the noise.")


@method(
    "their-jitter", title="Their jitter", summary="White noise on every weight.", source="their lab", centre="optimum",
    strength="scale", options=JitterOptions, look=Look("cross", "dash", "#0B5D3B", "#63D2A1"),
)  # fmt: skip
def jitter(around, options, strength, rng):
    noise = options.grip * rng.standard_normal(around.theta.size)
    return draw_at(around, around.theta + strength * 0.1 * noise, strength)
