"""Langevin dynamics along a cyclical learning rate, on the training loop that can be killed at any step.

    recipe = chain(CyclicalOptions(cycles=2, epochs_per_cycle=10), training, images=len(splits.train), seed=7)
    train(network, splits, training, seeds, recipe=recipe, listener=listener)      # listener.snapshot gets the samples

A chain is a training with another rate and another update, so order of images, augmentation, resuming, progress and
saving are those of `training`. The noise of a step depends on the seed and the step alone, like everything else there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from modescape.science.chains import CyclicalOptions
from modescape.science.training import Plan, Recipe
from modescape.spec import TrainingSpec


def chain(options: CyclicalOptions, training: TrainingSpec, *, images: int, seed: int) -> Recipe:
    """The recipe of one chain over `images` training images; training: `options.training(...)`; seed: of the noise."""
    plan = Plan.of(training, images)
    per_epoch = plan.steps_per_epoch

    def deviation(step: int) -> float:
        rate = options.rate(step, per_epoch)
        return options.deviation(rate, images) if options.is_noisy(step, per_epoch) else 0.0

    return Recipe(
        plan=replace(plan, snapshot_steps=options.kept(per_epoch)),
        rate=lambda step: options.rate(step, per_epoch),
        optimiser=lambda theta: Langevin(theta, friction=options.friction, deviation=deviation, seed=seed),
    )


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
        rng = np.random.Generator(np.random.SFC64([self.seed, step]))
        if self.theta.is_cuda:
            generator = torch.Generator(self.theta.device).manual_seed(int(rng.integers(2**63)))
            return torch.randn(self.theta.shape, generator=generator, device=self.theta.device)
        return torch.from_numpy(rng.standard_normal(self.theta.numel(), np.float32))
