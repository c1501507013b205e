"""Initial weights or batch order: which of them makes functions differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from modescape.errors import Problem
from modescape.study import StudySpec, recipe_unknown, study, twice

if TYPE_CHECKING:
    from modescape.records import DataInfo, Sizes
    from modescape.spec_parts import BaseSpec

LearningRate = Annotated[float, Field(gt=0, le=100)]


@study(
    "seeds",
    title="Seeds",
    summary="Initial weights against batch order, by learning rate.",
    source="Fort, Hu & Lakshminarayanan 2019, Fig S4",
    absent="No study of seeds was asked for.",
    stages=("arm", "seeds"),
    place=30,
)
class SeedsSpec(StudySpec):
    """What makes functions differ: initial weights or batch order? (science g.2)."""

    learning_rates: tuple[LearningRate, ...] = Field(
        (1e-4, 3e-4, 1e-3, 1.6e-3, 3e-3), min_length=1, max_length=20, description="Constant learning rates compared."
    )
    repetitions: int = Field(3, ge=1, le=100, description="Independent repetitions of every pair: the units.")
    epochs: int | None = Field(None, ge=1, le=100_000, description="Epochs; empty means those of the training.")

    def judged(self, spec: BaseSpec) -> float:
        """The learning rate that claim (g) is read at: the training's own, else the one whose ratio to it is nearest
        to 1."""
        return min(self.learning_rates, key=lambda rate: abs(math.log(rate / spec.training.learning_rate)))

    def problems(self, spec: BaseSpec, info: DataInfo, n: Sizes) -> Iterator[Problem]:
        yield from recipe_unknown(spec)
        yield from twice("learning_rates", self.learning_rates)

    def deviations(self) -> Iterator[str]:
        yield "five constant learning rates and three repetitions of each pair: the paper names neither"
