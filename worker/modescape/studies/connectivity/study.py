"""Straight lines between runs, as they are and once aligned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from modescape.errors import Problem
from modescape.registry import architectures
from modescape.spec_parts import MAX_SEED
from modescape.study import StudySpec, study

if TYPE_CHECKING:
    from modescape.records import DataInfo, Sizes
    from modescape.spec_parts import BaseSpec


@study(
    "connectivity",
    title="Straight lines and alignment",
    summary="Straight lines between all pairs of runs.",
    source="Frankle et al. 2020; Ainsworth, Hayase & Srinivasa 2022; Jordan et al. 2022",
    absent="No straight lines between runs were asked for.",
    stages=("connectivity", "connectivity-compare"),
    runs=2,
    place=60,
)
class ConnectivitySpec(StudySpec):
    """Linear mode connectivity before and after permutation alignment (science l.1, l.2)."""

    points: int = Field(25, ge=3, le=201, description="Points along each straight line, ends included.")
    images: int = Field(2000, ge=10, le=1_000_000, description="Images of each split evaluated.")
    align: bool = Field(True, description="Also after weight matching (Ainsworth et al. 2022).")
    repair: bool = Field(
        True,
        description="Also with REPAIR (Jordan et al. 2022); for networks without batch norm, others always get new "
        "statistics.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the order in which layers are matched.")

    def problems(self, spec: BaseSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        if spec.ensemble.runs < 2:
            yield Problem("one run has no pair", "", "at least 2 runs")
        why = architectures[spec.network.architecture].why_not_aligned
        if self.align and why:
            can_be = [name for name, entry in architectures.items() if not entry.why_not_aligned]
            yield Problem(
                f"{why}, so they cannot be aligned", "align", "false, or one of the networks " + ", ".join(can_be)
            )
