"""Branches of one training: how early it is settled where it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from modescape.errors import Problem
from modescape.study import StudySpec, recipe_unknown, study, twice

if TYPE_CHECKING:
    from modescape.records import DataInfo, Sizes
    from modescape.spec_parts import BaseSpec


@study(
    "instability",
    title="Instability",
    summary="Runs branched from one training at several epochs.",
    source="Frankle, Dziugaite, Roy & Carbin 2020",
    absent="No study of instability was asked for.",
    stages=("branch", "instability"),
    place=70,
)
class InstabilitySpec(StudySpec):
    """Two trainings that share their first k epochs: are they connected? (Frankle et al. 2020; science l.1)."""

    epochs: tuple[Annotated[int, Field(ge=0, le=100_000)], ...] = Field(
        (0, 1, 2), min_length=1, max_length=32, description="Epochs k at which run 0 branches; 0 is the start."
    )
    points: int = Field(25, ge=3, le=201, description="Points along each straight line, ends included.")
    images: int = Field(2000, ge=10, le=1_000_000, description="Images of each split evaluated.")
    repetitions: int = Field(3, ge=1, le=100, description="Pairs of branches from each epoch.")

    def problems(self, spec: BaseSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        yield from recipe_unknown(spec)
        last, every = spec.training.epochs, spec.training.checkpoint_every
        yield from twice("epochs", self.epochs)
        for k in self.epochs:
            if k >= last:
                yield Problem(f"there is nothing to train from epoch {k} on, training ends after epoch {last}",
                              "epochs", f"0 to {last - 1}")  # fmt: skip
            elif k % every:
                yield Problem(
                    f"no checkpoint of epoch {k} is kept: training.checkpoint_every is {every}",
                    "epochs",
                    f"multiples of {every} below {last}, or training.checkpoint_every of 1",
                )
