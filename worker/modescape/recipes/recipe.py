"""How a part of a training is declared: one decorated function, whose docstring is its summary.

    @schedule("triangle", title="Triangle", source="an example")
    def triangle(moment: Moment, options: NoOptions, training: TrainingSpec) -> float:
        '''Up along a straight line for half of the steps, and down again.'''
        return training.learning_rate * (1 - abs(2 * moment.step / moment.steps - 1))

A run that was killed goes on with the same bits, so nothing here may remember anything but the tensors that an
optimiser shows (`moments`): a rate is a function of the step, an augmentation one of the batch and of the random
numbers it is given, which are those of the run and the step. Declaring loads no torch, and raises
ValueError where a function does not take what it would be called with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from modescape.registry import (
    LAST,
    AugmentationEntry,
    Loss,
    NoOptions,
    OptimiserEntry,
    Options,
    PixelAugmentation,
    Schedule,
    Trainer,
    augmentations,
    losses,
    optimisers,
    reads_plainly,
    schedules,
    trainers,
)
from modescape.science.steps import Examples, Moment

__all__ = ["Examples", "Moment", "augmentation", "loss", "optimiser", "schedule", "trainer"]

F = TypeVar("F", bound=Callable[..., Any])


def _summary(function: Callable[..., Any]) -> str:
    """The first paragraph of its docstring."""
    return " ".join((function.__doc__ or "").partition("\n\n")[0].split())


def _checked(function: Callable[..., Any], what: str, *called: str) -> None:
    """That it can be called so; else every training would end at its first step. Raises ValueError."""
    takes = inspect.signature(function)
    try:
        takes.bind(*called)
    except TypeError:
        raise ValueError(
            f"{function.__name__}{takes} is to be {what}, which is called as {function.__name__}({', '.join(called)})"
        ) from None


def optimiser(
    name: str, *, title: str, source: str, options: type[Options] = NoOptions, decouples: bool = False,
    place: int = LAST,
) -> Callable[[F], F]:  # fmt: skip
    """Register `(weights: Weights, options, training: TrainingSpec) -> Optimiser`, both of `science.optimisers`."""

    def register(function: F) -> F:
        _checked(function, "an optimiser", "weights", "options", "training")
        optimisers.add(
            OptimiserEntry(
                name=name, title=title, summary=_summary(function), source=source, options=options, call=function,
                decouples=decouples, place=place,
            )
        )  # fmt: skip
        return function

    return register


def schedule(
    name: str, *, title: str, source: str, options: type[Options] = NoOptions, place: int = LAST
) -> Callable[[F], F]:
    """Register `(moment: Moment, options, training: TrainingSpec) -> float`: the learning rate of one update."""

    def register(function: F) -> F:
        _checked(function, "a schedule", "moment", "options", "training")
        schedules.add(
            Schedule(
                name=name, title=title, summary=_summary(function), source=source, options=options, call=function,
                place=place,
            )
        )  # fmt: skip
        return function

    return register


def loss(
    name: str, *, title: str, source: str, options: type[Options] = NoOptions, place: int = LAST
) -> Callable[[F], F]:
    """Register `(logits [n, K], targets [n] or [n, K], options) -> Tensor`: the mean over a batch."""

    def register(function: F) -> F:
        _checked(function, "a loss", "logits", "targets", "options")
        losses.add(
            Loss(
                name=name, title=title, summary=_summary(function), source=source, options=options, call=function,
                place=place,
            )
        )  # fmt: skip
        return function

    return register


def augmentation(
    name: str, *, title: str, source: str, options: type[Options] = NoOptions,
    reading: Callable[[Any], PixelAugmentation] = reads_plainly, draws: Literal["numpy", "torch"] = "numpy",
    package: str = "", place: int = LAST,
) -> Callable[[F], F]:  # fmt: skip
    """Register `(examples: Examples, options, rng: numpy.random.Generator) -> Examples`.

    reading, draws, package: see `registry.AugmentationEntry`.
    """

    def register(function: F) -> F:
        _checked(function, "an augmentation", "examples", "options", "rng")
        augmentations.add(
            AugmentationEntry(
                name=name, title=title, summary=_summary(function), source=source, options=options, call=function,
                reading=reading, draws=draws, package=package, place=place,
            )
        )  # fmt: skip
        return function

    return register


def trainer(
    name: str, *, title: str, source: str, options: type[Options] = NoOptions, place: int = LAST
) -> Callable[[F], F]:
    """Register `(member: modescape.training.Member, options) -> None`, which hands over weights after every epoch."""

    def register(function: F) -> F:
        _checked(function, "a trainer", "member", "options")
        trainers.add(
            Trainer(
                name=name, title=title, summary=_summary(function), source=source, options=options, call=function,
                place=place,
            )
        )  # fmt: skip
        return function

    return register
