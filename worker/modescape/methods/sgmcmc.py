"""Cyclical SG-MCMC: the rate falls and jumps up again, cycle after cycle, with noise at the end of each.

    options = CyclicalOptions(cycles=2, epochs_per_cycle=10)
    recipe = options.recipe(options.training(spec.training), images=len(splits.train), seed=7)
    train(network, splits, training, seeds, recipe=recipe, listener=listener)      # listener.snapshot gets the samples

A chain is a training with another rate and another update, so order of images, augmentation, resuming, progress and
saving are those of `training`. The noise of a step depends on the seed and the step alone, like everything else there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from modescape.errors import InvalidInput, Problem
from modescape.methods.method import Draw, Neighbourhood, method
from modescape.methods.trained import FreshOptions
from modescape.registry import Look, architectures

if TYPE_CHECKING:
    from torch import Tensor

    from modescape.records import Sizes
    from modescape.spec_parts import BaseSpec, TrainingSpec
    from modescape.training import Recipe


class CyclicalOptions(FreshOptions):
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

    def problems(self, spec: BaseSpec, n: Sizes) -> Iterator[Problem]:
        from modescape.spec_parts import batches_of_one

        if self.batch_size > max(n.train, 1):
            yield Problem(
                f"{self.batch_size} is more than the {n.train} training images", "batch_size", f"1 to {n.train}"
            )
        yield from batches_of_one(spec.network, self.training(spec.training), n.train)

    @property
    def epochs(self) -> int:
        return self.cycles * self.epochs_per_cycle

    @property
    def samples(self) -> int:
        return self.cycles * self.samples_per_cycle

    @property
    def last_of_cycles(self) -> list[int]:
        """Index of the last sample of each cycle; sample j of cycle c has index c times samples_per_cycle plus j."""
        return [(cycle + 1) * self.samples_per_cycle - 1 for cycle in range(self.cycles)]

    @property
    def best_first(self) -> list[int]:
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
        """The chain as a training in shuffled epochs; loss, augmentation and precision are those of the runs."""
        return training.model_copy(
            update={
                "protocol": "custom",
                "optimiser": "sgd",
                "optimiser_options": {},
                "learning_rate": self.learning_rate,
                "schedule": "constant",  # in name: `rate` above says otherwise at every step
                "schedule_options": {},
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

    def recipe(self, training: TrainingSpec, *, images: int, seed: int) -> Recipe:
        from modescape.training import Plan, Recipe

        plan = Plan.of(training, images)
        per_epoch = plan.steps_per_epoch

        def deviation(step: int) -> float:
            rate = self.rate(step, per_epoch)
            return self.deviation(rate, images) if self.is_noisy(step, per_epoch) else 0.0

        return Recipe(
            plan=replace(plan, snapshot_steps=self.kept(per_epoch)),
            rate=lambda step: self.rate(step, per_epoch),
            optimiser=lambda weights: Langevin(weights.theta, friction=self.friction, deviation=deviation, seed=seed),
        )

    def warnings(self, spec: BaseSpec) -> Iterator[str]:
        early = self.samples_per_cycle - self.noise_epochs
        if self.temperature > 0 and early > 0:
            yield f"{early} of the {self.samples_per_cycle} samples of each cycle come before its noise"
        normed = architectures[spec.network.architecture].has_batch_norm(spec.network.options)
        if self.learning_rate >= 0.1 and not normed:
            yield (
                f"a learning rate of {self.learning_rate:g} was published for a network with batch norm; without it "
                "the chain is likely to diverge"
            )


@method(
    "sgmcmc",
    title="Cyclical SG-MCMC",
    summary="Trains one network of its own in cycles of the learning rate, with noise at their ends, and keeps several "
    "solutions of each cycle.",
    source="Zhang et al. 2020 (ruqizhang/csgmcmc); Fort, Hu & Lakshminarayanan 2019, Figure S5",
    place=100,
    look=Look("x", "solid", "#36481F", "#BEB690"),
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


@dataclass
class Langevin:
    """Stochastic-gradient Langevin dynamics, with momentum (SGHMC) when the friction alpha is below 1 (science h.1).

        velocity <- (1 - alpha) velocity - lr (gradient + weight decay) + deviation(step) xi,  xi ~ N(0, I)
        theta    <- theta + velocity

    Zhang et al. 2020, algorithm 1, and its code; deviation is sqrt(2 alpha lr T / N) where a cycle samples and 0 where
    it explores. alpha = 1 is SGLD, which remembers nothing; its code adds the noise through the loss, which is the same
    update. The noise comes from numpy's SFC64 (on a GPU from its own generator, seeded by that).
    """

    theta: Tensor
    friction: float
    deviation: Callable[[int], float]
    seed: int
    updates: int = 0
    moments: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        import torch

        self.moments = {"velocity": torch.zeros_like(self.theta)} if self.friction < 1 else {}

    def update(self, theta: Tensor, gradient: Tensor, rate: float) -> None:
        step, self.updates = self.updates, self.updates + 1
        deviation = self.deviation(step)
        if self.friction < 1:
            velocity = self.moments["velocity"]
            velocity.mul_(1 - self.friction).add_(gradient, alpha=-rate)
            if deviation > 0:
                velocity.add_(self.noise(step), alpha=deviation)
            theta.add_(velocity)
            return
        theta.add_(gradient, alpha=-rate)
        if deviation > 0:
            theta.add_(self.noise(step), alpha=deviation)

    def noise(self, step: int) -> Tensor:
        """Standard normal numbers [P] of one step."""
        import torch

        rng = np.random.Generator(np.random.SFC64([self.seed, step]))
        if self.theta.is_cuda:
            generator = torch.Generator(self.theta.device).manual_seed(int(rng.integers(2**63)))
            return torch.randn(self.theta.shape, generator=generator, device=self.theta.device)
        return torch.from_numpy(rng.standard_normal(self.theta.numel(), np.float32))
