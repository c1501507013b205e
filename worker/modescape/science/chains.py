"""What does a network find that goes on training? Methods with a training of their own beside the runs'.

* SWAG trains on from a run's optimum at a constant rate, collects the weights on the way, and samples a Gaussian as
  wide as they moved: a subspace of the run, like the Gaussians of its own snapshots.
* Cyclical SG-MCMC starts afresh: the rate falls and jumps up again, cycle after cycle, and what it keeps at the end
  of each cycle are its samples. They lie around no run's optimum.

Here is what can be chosen, and when which step does what; `sgmcmc` does the steps, the stage `chain` both trainings.
No torch: the plan asks here what a chain costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from modescape.errors import InvalidInput, Problem
from modescape.registry import Options, methods
from modescape.science.subspace import Draw, GaussianOptions, Neighbourhood, draw_at, method

if TYPE_CHECKING:
    from modescape.spec import ExperimentSpec, Sizes, TrainingSpec

MOST_COLLECTED = 200  # weights kept a run


# --- training on from an optimum --------------------------------------------------------------------------------------


class ContinuedOptions(Options):
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
    def collected(self) -> int:
        """Weights collected a run."""
        return self.epochs * self.per_epoch

    @model_validator(mode="after")
    def _few_enough(self) -> ContinuedOptions:
        if not 2 <= self.collected <= MOST_COLLECTED:
            raise InvalidInput(
                f"{self.epochs} epochs with {self.per_epoch} collected in each make {self.collected} weights",
                field="epochs",
                allowed=f"2 to {MOST_COLLECTED} in all",
            )
        return self

    def problems(self, spec: ExperimentSpec, n: Sizes) -> Iterator[Problem]:
        from modescape.spec import steps_per_epoch

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
                "milestones": (),
                "epochs": self.epochs,
                "checkpoint_every": self.epochs,
                "snapshots": self.collected,
                "snapshot_window": 1.0,
            }
        )


class SwagOptions(GaussianOptions, ContinuedOptions):
    columns: int = Field(
        20, ge=2, le=MOST_COLLECTED, description="Deviations kept for the low-rank half, the latest (published: 20)."
    )
    scale: float = Field(
        0.5,
        gt=0,
        le=100,
        description="Factor on the whole covariance: 0.5 gives each half its share (the published formula).",
    )
    covariance: Literal["full", "diagonal"] = Field(
        "full", description="full: diagonal and low-rank halves together; diagonal: the diagonal half alone."
    )

    @model_validator(mode="after")
    def _enough_for_columns(self) -> SwagOptions:
        if self.covariance == "full" and self.columns > self.collected:
            raise InvalidInput(
                f"{self.columns} deviations cannot be kept of {self.collected} collected weights",
                field="columns",
                allowed=f"2 to {self.collected}, or more epochs",
            )
        return self


@method(
    "swag",
    title="SWAG",
    summary="Trains on from the solution at a constant learning rate and samples a Gaussian as wide as the weights "
    "moved: half of it diagonal, half low-rank.",
    source="Maddox et al. 2019, equation 1; wjmaddox/swa_gaussian",
    look="spare-5",
    centre="mean",
    strength="scale",
    options=SwagOptions,
    trained="continued",
)
def swag(around: Neighbourhood, options: SwagOptions, strength: float, rng: np.random.Generator) -> Draw:
    """mu + c sqrt(scale) [sigma z1 + D^T z2 / sqrt(K - 1)], z1 and z2 standard normal (science d.6).

    mu and sigma: mean and deviation (divided by S) of the S collected weights; D: the last K differences between
    collected weights and their mean at that moment, which they are part of: the very first one is zero. c is the
    strength, 1 in the published form.
    """
    assert around.snapshots is not None
    collected = len(around.snapshots)
    noise = np.sqrt(np.maximum(around.squares / collected, 1e-30)) * rng.standard_normal(around.theta.size)
    if options.covariance == "full":
        normal = rng.standard_normal(options.columns)
        noise += around.combine(_running(normal, collected)) / math.sqrt(options.columns - 1)
    return draw_at(around, around.mean + strength * math.sqrt(options.scale) * noise, strength)


def _running(normal: np.ndarray, collected: int) -> np.ndarray:
    """Weights [S] on the collected theta_i that make the sum over the last K differences D_j times `normal` [K].

    D_j = theta_j - (theta_1 + .. + theta_j) / j. Each D_j is a combination whose weights sum to zero, so any common
    centre may be taken off the thetas first.
    """
    weights = np.zeros(collected)
    for j, z in zip(range(collected - len(normal) + 1, collected + 1), normal, strict=True):
        weights[j - 1] += z
        weights[:j] -= z / j
    return weights


def relative_training(spec: ExperimentSpec, name: str) -> float:
    """Epochs behind a method's samples of one run, over those of the run itself: 1 where it trains nothing."""
    entry = methods[name]
    options = entry.options.model_validate(next(m for m in spec.methods if m.method == name).options)
    if not isinstance(options, ContinuedOptions | CyclicalOptions):
        return 1.0
    own = options.training(spec.training).epochs / spec.training.epochs
    return own if entry.trained == "fresh" else 1.0 + own


# --- cyclical SG-MCMC -------------------------------------------------------------------------------------------------


class CyclicalOptions(Options):
    """The published script's settings, for CIFAR-10 and a residual network with batch norm."""

    variant: Literal["sgld", "sghmc"] = Field(
        "sgld", description="sgld: gradient steps and noise; sghmc: with momentum as well."
    )
    cycles: int = Field(3, ge=1, le=100, description="Cycles of the learning rate (the paper: 3; published code: 4).")
    epochs_per_cycle: int = Field(50, ge=1, le=10_000, description="Epochs of one cycle.")
    noise_epochs: int = Field(
        5, ge=0, le=10_000, description="Last epochs of each cycle in which noise is added (CIFAR-100, sgld: 3)."
    )
    samples_per_cycle: int = Field(3, ge=1, le=1000, description="Samples: the weights after the last epochs of each.")
    learning_rate: float = Field(
        0.5, gt=0, le=100, description="Rate at the start of a cycle; it falls to almost zero along a cosine."
    )
    temperature: float = Field(
        1 / 50_000,
        ge=0,
        le=1000,
        description="Of the posterior sampled: 1 is the untempered one; the published 1/50000 is very cold: in "
        "practice descent with restarts; 0 adds no noise.",
    )
    alpha: float | None = Field(
        None, gt=0, le=1, description="Friction of sghmc, whose momentum is 1 - alpha; empty means 0.9. sgld has none."
    )
    weight_decay: float = Field(5e-4, ge=0, le=10, description="L2 coefficient added to the gradient, of all weights.")
    batch_size: int = Field(64, ge=1, le=65_536, description="Images a step.")

    @model_validator(mode="after")
    def _fits_a_cycle(self) -> CyclicalOptions:
        problems = []
        for name, what in (("samples_per_cycle", "samples"), ("noise_epochs", "epochs with noise")):
            value = getattr(self, name)
            if value > self.epochs_per_cycle:
                message = f"{value} {what} do not fit into a cycle of {self.epochs_per_cycle} epochs"
                problems.append(Problem(message, name, f"at most {self.epochs_per_cycle}, or longer cycles"))
        if self.variant == "sgld" and self.alpha not in (None, 1.0):
            problems.append(Problem("sgld has no momentum", "alpha", "empty, or the variant sghmc"))
        if problems:
            raise InvalidInput("; ".join(str(problem) for problem in problems), problems=problems)
        return self

    def problems(self, spec: ExperimentSpec, n: Sizes) -> Iterator[Problem]:
        from modescape.spec import batches_of_one

        if self.batch_size > max(n.train, 1):
            yield Problem(
                f"{self.batch_size} is more than the {n.train} training images", "batch_size", f"1 to {n.train}"
            )
        yield from batches_of_one(spec, self.training(spec.training), n.train)

    @property
    def epochs(self) -> int:
        return self.cycles * self.epochs_per_cycle

    @property
    def samples(self) -> int:
        """Samples a chain."""
        return self.cycles * self.samples_per_cycle

    @property
    def last_of_cycles(self) -> list[int]:
        """Index of the last sample of each cycle; sample j of cycle c has index c times samples_per_cycle plus j."""
        return [(cycle + 1) * self.samples_per_cycle - 1 for cycle in range(self.cycles)]

    @property
    def latest_first(self) -> list[int]:
        """Indices of all samples: the last of each cycle, latest cycle first, then the second last of each, and on."""
        return [last - j for j in range(self.samples_per_cycle) for last in reversed(self.last_of_cycles)]

    @property
    def friction(self) -> float:
        """alpha: the share of its momentum that the chain loses at every step; all of it in SGLD."""
        return 1.0 if self.variant == "sgld" else 0.9 if self.alpha is None else self.alpha

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """lr_k = lr_0 / 2 (cos(pi (k mod L) / L) + 1), L steps a cycle (Zhang et al. 2020, equation 1)."""
        cycle = self.epochs_per_cycle * steps_per_epoch
        return self.learning_rate / 2 * (math.cos(math.pi * (step % cycle) / cycle) + 1)

    def is_noisy(self, step: int, steps_per_epoch: int) -> bool:
        """Whether the update that makes step + 1 out of `step` adds noise: in the last epochs of each cycle."""
        return (step // steps_per_epoch) % self.epochs_per_cycle >= self.epochs_per_cycle - self.noise_epochs

    def deviation(self, rate: float, images: int) -> float:
        """Standard deviation of the noise of one update: sqrt(2 alpha lr T / N)."""
        return math.sqrt(2 * self.friction * rate * self.temperature / images)

    def kept(self, steps_per_epoch: int) -> dict[int, int]:
        """Step -> index of the sample kept after it: the ends of the last epochs of every cycle."""
        ends = [
            (cycle + 1) * self.epochs_per_cycle - self.samples_per_cycle + 1 + j
            for cycle in range(self.cycles)
            for j in range(self.samples_per_cycle)
        ]
        return {epoch * steps_per_epoch: index for index, epoch in enumerate(ends)}

    def training(self, training: TrainingSpec) -> TrainingSpec:
        """The chain as a training in shuffled epochs; augmentation and precision are those of the runs."""
        return training.model_copy(
            update={
                "protocol": "custom",
                "optimiser": "sgd",
                "learning_rate": self.learning_rate,
                "schedule": "constant",  # in name: `rate` above says otherwise at every step
                "milestones": (),
                "weight_decay": self.weight_decay,
                "decay_on": "all",
                "batch_size": self.batch_size,
                "epochs": self.epochs,
                "checkpoint_every": self.epochs,
                "sampling": "epoch",
                "snapshots": 0,
            }
        )


@method(
    "sgmcmc",
    title="Cyclical SG-MCMC",
    summary="Trains one network of its own in cycles of the learning rate, with noise at their ends, and keeps several "
    "solutions of each cycle.",
    source="Zhang et al. 2020 (ruqizhang/csgmcmc); Fort, Hu & Lakshminarayanan 2019, Figure S5",
    look="sgmcmc",
    centre="optimum",
    strength=None,
    options=CyclicalOptions,
    sampled=False,
    trained="fresh",
    count=lambda options: options.samples,
)
def sgmcmc(around: Neighbourhood, options: CyclicalOptions, strength: float, rng: np.random.Generator) -> Draw:
    """Its samples are weights that its chain kept; around an optimum there is nothing to draw. Raises InvalidInput."""
    raise InvalidInput("the samples of cyclical SG-MCMC are kept by its chain; they are not drawn around an optimum")
