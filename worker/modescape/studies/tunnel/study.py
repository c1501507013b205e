"""Low-loss paths between the optima of two runs, and the triangles that they span with the origin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from modescape.errors import Problem
from modescape.spec_parts import MAX_SEED, Digest
from modescape.study import Run, ThroughRuns, known_run, study
from modescape.versions import Added

if TYPE_CHECKING:
    from modescape.records import DataInfo, Sizes
    from modescape.spec_parts import BaseSpec


@study(
    "tunnels",
    title="Tunnel",
    summary="Low-loss paths between two runs.",
    source="Fort, Hu & Lakshminarayanan 2019, Figs S2 and S3; Garipov et al. 2018",
    absent="No tunnel was asked for.",
    stages=("tunnel", "triangles"),
    most=8,
    runs=2,
    place=50,
)
class TunnelSpec(ThroughRuns):
    """A low-loss path between the optima of two runs (science f.2, f.3)."""

    runs: tuple[Run, Run] = Field((0, 1), description="The two ends; empty means the first two healthy runs.")
    method: Literal["perpendicular", "bezier", "chain"] = Field(
        "perpendicular",
        description="perpendicular: knots on the straight line, each moved to low loss at right angles to it; bezier, "
        "chain: one trained bend (Garipov et al. 2018).",
    )
    knots: int = Field(9, ge=1, le=100, description="Inner knots of the perpendicular method.")
    epochs: int = Field(
        3, ge=1, le=10_000, description="Most epochs each knot, or the bend, is trained for; a bend needs about 30."
    )
    learning_rate: float = Field(1e-3, gt=0, le=100, description="Adam's learning rate.")
    batch_size: int = Field(128, ge=1, le=65_536, description="Images a step.")
    images: int = Field(2000, ge=10, le=1_000_000, description="Images of each split the path is evaluated on.")
    triangles: bool = Field(True, description="Also the stitched triangles from the origin along the path.")
    triangle_images: int = Field(500, ge=10, le=1_000_000, description="Test images the triangles are evaluated on.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the batches.")
    bend: Annotated[Digest | None, Added] = Field(
        None,
        description="SHA-256 of a file of weights (.safetensors): the bend of a curve that was trained elsewhere. "
        "Nothing is trained then. Empty: it is trained here.",
    )
    averaged: Annotated[int, Added] = Field(
        0,
        ge=0,
        le=1000,
        description="Points, evenly along the path, whose mean probability on all test images is scored; 0: none.",
    )

    def problems(self, spec: BaseSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        if self.runs[0] == self.runs[1]:
            yield Problem("a tunnel needs two different ends", "runs", "two different runs")
        for run in self.runs:
            yield from known_run("runs", run, spec)
        if self.bend is not None and self.method == "perpendicular":
            yield Problem("a curve has it, and knots have none", "bend", "nothing, or the method bezier or chain")

    def deviations(self) -> Iterator[str]:
        yield "knots and bends are optimised by Adam with settings of our own: the publication's are not known"
