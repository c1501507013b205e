"""Methods with a training of their own beside the runs': what their options promise the stage `chain`.

* One that is trained "continued" trains on from a run's optimum at a constant rate and collects weights on the way: a
  subspace of the run, like those of its own snapshots.
* One that is trained "fresh" trains networks of its own, and what it keeps of them are its samples. They lie around no
  run's optimum.

No torch: the plan asks here what such a training costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from modescape.errors import InvalidInput, Problem
from modescape.registry import Options, methods

if TYPE_CHECKING:
    from modescape.records import Sizes
    from modescape.spec_parts import BaseSpec, TrainingSpec
    from modescape.training import Recipe

MOST_COLLECTED = 200  # weights kept a run


class TrainedOptions(Options):
    """Base of the options of every method that trains."""

    @property
    def samples(self) -> int:
        """Sets of weights kept a run."""
        raise NotImplementedError

    def training(self, training: TrainingSpec) -> TrainingSpec:
        """Its own training, beside one of a run."""
        raise NotImplementedError

    def warnings(self, spec: BaseSpec) -> Iterator[str]:
        """What the plan should warn of, each without the method's title."""
        yield from ()


class FreshOptions(TrainedOptions):
    """Base of the options of methods that train networks of their own."""

    @property
    def best_first(self) -> list[int]:
        """Indices of all samples in the order in which a few of them stand for it; the latest first."""
        return list(reversed(range(self.samples)))

    def recipe(self, training: TrainingSpec, *, images: int, seed: int) -> Recipe:
        """How it is trained; training: `self.training(...)`; images: to train on; seed: of noise. Loads torch."""
        raise NotImplementedError


class ContinuedOptions(TrainedOptions):
    """How a method trains on from a run's optimum, with the run's own optimiser begun anew."""

    epochs: int = Field(20, ge=1, le=10_000, description="Epochs trained on from the optimum at a constant rate.")
    per_epoch: int = Field(
        1, ge=1, le=100, description="Weights collected in each of these epochs, evenly; the last at its end."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Constant learning rate; empty: half the initial rate of the training, as in the published code.",
    )

    @property
    def samples(self) -> int:
        return self.epochs * self.per_epoch

    @model_validator(mode="after")
    def _few_enough(self) -> ContinuedOptions:
        if not 2 <= self.samples <= MOST_COLLECTED:
            raise InvalidInput(
                f"{self.epochs} epochs with {self.per_epoch} collected in each make {self.samples} weights",
                field="epochs",
                allowed=f"2 to {MOST_COLLECTED} in all",
            )
        return self

    def problems(self, spec: BaseSpec, n: Sizes) -> Iterator[Problem]:
        from modescape.spec_parts import steps_per_epoch

        steps = steps_per_epoch(spec.training, n.train)
        if self.per_epoch > steps:
            yield Problem(f"an epoch has {steps} steps", "per_epoch", f"1 to {steps}")

    def training(self, training: TrainingSpec) -> TrainingSpec:
        """The continuation as a training of its own; its snapshots are what is collected."""
        return training.model_copy(
            update={
                "protocol": "custom",
                "learning_rate": self.learning_rate or training.learning_rate / 2,
                "schedule": "constant",
                "schedule_options": {},
                "milestones": (),
                "epochs": self.epochs,
                "checkpoint_every": self.epochs,
                "snapshots": self.samples,
                "snapshot_window": 1.0,
            }
        )


def relative_training(spec: BaseSpec, name: str) -> float:
    """Epochs behind a method's samples of one run, over those of the run itself: 1 where it trains nothing, NaN of
    imported samples, of which nobody has said."""
    if spec.imported is not None:
        return math.nan
    entry = methods[name]
    if spec.weights is not None:  # what would train on takes snapshots that were given
        return 1.0
    options = entry.options.model_validate(next(m for m in spec.methods if m.method == name).options)
    if not isinstance(options, TrainedOptions):
        return 1.0
    own = options.training(spec.training).epochs / spec.training.epochs
    return own if entry.trained == "fresh" else 1.0 + own
