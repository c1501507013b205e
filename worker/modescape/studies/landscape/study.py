"""Cuts through the loss landscape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from modescape.errors import Problem
from modescape.spec_parts import MAX_SEED
from modescape.study import Run, ThroughRuns, known_run, study

if TYPE_CHECKING:
    from modescape.records import DataInfo, Sizes
    from modescape.spec_parts import BaseSpec


@study(
    "planes",
    title="Landscape",
    summary="Cuts through the loss landscape.",
    source="Fort, Hu & Lakshminarayanan 2019, Figs 5 and S1",
    absent="No cut was asked for. Select two or three solutions here to have one made.",
    stages=("plane",),
    most=16,
    rows=2,
    runs=2,
    place=40,
)
class PlaneSpec(ThroughRuns):
    """A cut through the loss landscape (science f.1)."""

    kind: Literal["radial", "affine", "random", "line"] = Field(
        "radial",
        description="radial: through the origin and two optima; affine: through three optima; random: around one "
        "optimum along two filter-normalised random directions; line: straight between two optima and beyond.",
    )
    runs: tuple[Run, ...] = Field(
        (0, 1), min_length=1, max_length=3,
        description="The runs whose optima it contains; empty means the first healthy ones.",
    )  # fmt: skip
    resolution: Literal[33, 65] = Field(33, description="Points along each axis: 33 for a look, 65 for print.")
    split: Literal["test", "validation"] = Field("test", description="Images evaluated beside the training images.")
    train_images: int = Field(1000, ge=10, le=1_000_000, description="Training images evaluated (the first n).")
    test_images: int = Field(
        1000, ge=10, le=1_000_000, description="Test or validation images evaluated (the first n)."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of random directions.")

    @classmethod
    def taken(cls, data: Mapping[str, Any]) -> int:
        return {"affine": 3, "random": 1}.get(str(data.get("kind")), 2)

    def problems(self, spec: BaseSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        wanted = self.taken({"kind": self.kind})
        if len(self.runs) != wanted or len(set(self.runs)) != wanted:
            words = "1 run" if wanted == 1 else f"{wanted} different runs"
            article = "an" if self.kind == "affine" else "a"
            yield Problem(f"{article} {self.kind} cut goes through {words}, got {len(self.runs)}", "runs", words)
        for run in self.runs:
            yield from known_run("runs", run, spec)
        if self.split == "validation" and n.validation < 10:
            yield Problem(f"validation has {n.validation} images", "split", "test, or at least 10 validation images")
