"""Learning rates by step. `learning_rate` of a training is the rate that a schedule starts from, or rises to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from modescape.errors import Problem
from modescape.recipes.recipe import Moment, schedule
from modescape.registry import NoOptions, Options

if TYPE_CHECKING:
    from modescape.records import Sizes
    from modescape.spec_parts import BaseSpec, TrainingSpec

_C2 = "science c.2"


@schedule("constant", title="Constant", source=_C2, place=10)
def constant(moment: Moment, options: NoOptions, training: TrainingSpec) -> float:
    """The same rate throughout."""
    return training.learning_rate


@schedule("halve", title="Halved every few epochs", source=f"the authors' code; {_C2}", place=20)
def halve(moment: Moment, options: NoOptions, training: TrainingSpec) -> float:
    """Halved every few epochs, as the training says."""
    rate: float = training.learning_rate * 0.5 ** (moment.epoch // training.halve_every)
    return rate


@schedule("milestones", title="Milestones", source=f"Keras' examples; {_C2}", place=30)
def milestones(moment: Moment, options: NoOptions, training: TrainingSpec) -> float:
    """The rates that the training lists, each from its epoch on."""
    listed = reversed(training.milestones)
    return next((m.learning_rate for m in listed if m.epoch <= moment.epoch), training.learning_rate)


@schedule("cosine", title="Cosine", source="Loshchilov and Hutter 2017, equation 5, without restarts", place=40)
def cosine(moment: Moment, options: NoOptions, training: TrainingSpec) -> float:
    """Down to zero along half a cosine."""
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * moment.step / moment.steps))


class StepOptions(Options):
    every: int = Field(30, ge=1, le=100_000, description="Epochs between two steps.")
    factor: float = Field(0.1, gt=0, le=1, description="What the rate is multiplied with at each.")


@schedule("step", title="Step", source="torch.optim.lr_scheduler.StepLR", options=StepOptions, place=50)
def step(moment: Moment, options: StepOptions, training: TrainingSpec) -> float:
    """Multiplied with a factor every few epochs."""
    rate: float = training.learning_rate * options.factor ** (moment.epoch // options.every)
    return rate


class ExponentialOptions(Options):
    factor: float = Field(0.95, gt=0, le=1, description="What the rate is multiplied with every epoch.")


@schedule(
    "exponential", title="Exponential", source="torch.optim.lr_scheduler.ExponentialLR", options=ExponentialOptions,
    place=60,
)  # fmt: skip
def exponential(moment: Moment, options: ExponentialOptions, training: TrainingSpec) -> float:
    """Multiplied with a factor every epoch."""
    rate: float = training.learning_rate * options.factor**moment.epoch
    return rate


class PolynomialOptions(Options):
    power: float = Field(1.0, gt=0, le=10, description="1: along a straight line.")


@schedule(
    "polynomial", title="Polynomial", source="torch.optim.lr_scheduler.PolynomialLR", options=PolynomialOptions,
    place=70,
)  # fmt: skip
def polynomial(moment: Moment, options: PolynomialOptions, training: TrainingSpec) -> float:
    """Down to zero as a power of the steps that are left."""
    rate: float = training.learning_rate * (1 - moment.step / moment.steps) ** options.power
    return rate


class WarmUpOptions(Options):
    epochs: float = Field(5, ge=0, le=100_000, description="Epochs in which the rate rises along a straight line.")
    start: float = Field(0.01, ge=0, le=1, description="Where it starts, as a share of the learning rate.")
    then: Literal["constant", "cosine", "linear"] = Field(
        "cosine", description="What follows: the rate stays, or falls along half a cosine or a straight line."
    )
    minimum: float = Field(0.0, ge=0, le=1, description="Where it falls to, as a share of the learning rate.")

    def problems(self, spec: BaseSpec, n: Sizes) -> Iterator[Problem]:
        if self.epochs > spec.training.epochs:
            yield Problem(
                f"{self.epochs:g} epochs of warm-up are more than the training's {spec.training.epochs}", "epochs",
                f"0 to {spec.training.epochs}",
            )  # fmt: skip


@schedule(
    "warm-up", title="Warm-up", source="Goyal et al. 2017, section 2.2; Loshchilov and Hutter 2017",
    options=WarmUpOptions, place=80,
)  # fmt: skip
def warm_up(moment: Moment, options: WarmUpOptions, training: TrainingSpec) -> float:
    """Up along a straight line for some epochs, then constant, or down along half a cosine or a straight line."""
    rising = min(moment.steps, round(options.epochs * moment.per_epoch))
    if moment.step < rising:
        return training.learning_rate * (options.start + (1 - options.start) * moment.step / rising)
    done = (moment.step - rising) / max(1, moment.steps - rising)
    left = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done}[options.then]
    return training.learning_rate * (options.minimum + (1 - options.minimum) * left)


class OneCycleOptions(Options):
    rising: float = Field(0.3, gt=0, lt=1.0, description="Share of the steps in which the rate rises.")
    start: float = Field(25.0, ge=1, le=1e6, description="The learning rate, its highest, over the one it starts with.")
    end: float = Field(1e4, ge=1, le=1e12, description="The rate it starts with over the one it ends with.")


@schedule(
    "one-cycle", title="One cycle", source="Smith and Topin 2019; torch.optim.lr_scheduler.OneCycleLR",
    options=OneCycleOptions, place=90,
)  # fmt: skip
def one_cycle(moment: Moment, options: OneCycleOptions, training: TrainingSpec) -> float:
    """Up to the learning rate along half a cosine, and down to almost zero along another; momentum stays as it is."""
    lowest = training.learning_rate / options.start
    top, last = options.rising * moment.steps - 1, moment.steps - 1
    if moment.step < top:
        return _along_a_cosine(lowest, training.learning_rate, moment.step / top)
    return _along_a_cosine(training.learning_rate, lowest / options.end, (moment.step - top) / (last - top))


def _along_a_cosine(first: float, last: float, done: float) -> float:
    return last + (first - last) / 2 * (1 + math.cos(math.pi * done))


class RestartsOptions(Options):
    first: int = Field(10, ge=1, le=100_000, description="Epochs of the first cycle.")
    longer: int = Field(1, ge=1, le=100, description="How many times as long as the one before each cycle is.")


@schedule(
    "cosine-restarts", title="Cosine with restarts", source="Loshchilov and Hutter 2017, equation 5",
    options=RestartsOptions, place=100,
)  # fmt: skip
def cosine_restarts(moment: Moment, options: RestartsOptions, training: TrainingSpec) -> float:
    """Down to zero along half a cosine, and from the top again, in cycles that may grow."""
    length, since = options.first * moment.per_epoch, moment.step
    while since >= length:
        since, length = since - length, length * options.longer
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * since / length))
