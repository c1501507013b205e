"""Optimisers. Adam and descent as ever are ours, on one flat vector; the others are torch's own.

What `training.weight_decay` adds to the gradient is added before an optimiser sees it, whatever the optimiser. AdamW
shrinks weights itself and by an option of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from modescape.recipes.recipe import optimiser
from modescape.registry import NoOptions, Options
from modescape.versions import Added

if TYPE_CHECKING:
    from modescape.science.optimisers import Optimiser, Weights
    from modescape.spec_parts import TrainingSpec


class AdamOptions(Options):
    beta1: Annotated[float, Added] = Field(0.9, ge=0, lt=1, description="Decay rate of the gradient's mean.")
    beta2: Annotated[float, Added] = Field(0.999, ge=0, lt=1, description="Decay rate of its square's mean.")


@optimiser("adam", title="Adam", source="Kingma and Ba 2015, algorithm 1", options=AdamOptions, place=10)
def adam(weights: Weights, options: AdamOptions, training: TrainingSpec) -> Optimiser:
    """Steps by the mean of recent gradients over the root of the mean of their squares."""
    from modescape.science.optimisers import Adam

    return Adam(weights.theta, training.adam_epsilon, beta1=options.beta1, beta2=options.beta2)


@optimiser("sgd", title="SGD", source="Robbins and Monro 1951", place=20)
def sgd(weights: Weights, options: NoOptions, training: TrainingSpec) -> Optimiser:
    """Stochastic gradient descent without momentum."""
    from modescape.science.optimisers import Descent

    return Descent(weights.theta, momentum=0.0)


class MomentumOptions(Options):
    nesterov: Annotated[bool, Added] = Field(False, description="Nesterov's form: the step looks ahead along itself.")


@optimiser(
    "momentum", title="SGD with momentum", source="Polyak 1964; Sutskever et al. 2013", options=MomentumOptions,
    place=30,
)  # fmt: skip
def momentum(weights: Weights, options: MomentumOptions, training: TrainingSpec) -> Optimiser:
    """Stochastic gradient descent with heavy-ball or Nesterov momentum of the strength that the training has."""
    from modescape.science.optimisers import Descent

    return Descent(weights.theta, momentum=training.momentum, nesterov=options.nesterov)


class AdamWOptions(Options):
    weight_decay: float = Field(
        0.01, ge=0, le=10, description="Share by which a step of rate 1 shrinks the weights that `decay_on` names."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay rate of the gradient's mean.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay rate of its square's mean.")


@optimiser(
    "adamw", title="AdamW", source="Loshchilov and Hutter 2019, algorithm 2", options=AdamWOptions, decouples=True,
    place=40,
)  # fmt: skip
def adamw(weights: Weights, options: AdamWOptions, training: TrainingSpec) -> Optimiser:
    """Adam whose weight decay shrinks weights directly instead of going through the gradient's moments."""
    import torch

    from modescape.science.optimisers import Torch

    return Torch(
        weights, torch.optim.AdamW, decay=options.weight_decay, betas=(options.beta1, options.beta2),
        eps=training.adam_epsilon,
    )  # fmt: skip


class RmsPropOptions(Options):
    alpha: float = Field(0.99, ge=0, lt=1, description="Decay rate of the squared gradient's mean.")
    epsilon: float = Field(1e-8, gt=0, le=1, description="Added to its root.")
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum of the scaled gradient.")
    centred: bool = Field(False, description="Whether the gradient's variance is taken instead of its square's mean.")


@optimiser("rmsprop", title="RMSprop", source="Tieleman and Hinton 2012; Graves 2013", options=RmsPropOptions, place=50)
def rmsprop(weights: Weights, options: RmsPropOptions, training: TrainingSpec) -> Optimiser:
    """Gradients over the root of the mean of their recent squares."""
    import torch

    from modescape.science.optimisers import Torch

    return Torch(
        weights, torch.optim.RMSprop, alpha=options.alpha, eps=options.epsilon, momentum=options.momentum,
        centered=options.centred,
    )  # fmt: skip


@optimiser("nadam", title="NAdam", source="Dozat 2016", options=AdamOptions, place=60)
def nadam(weights: Weights, options: AdamOptions, training: TrainingSpec) -> Optimiser:
    """Adam with Nesterov momentum, with the epsilon of the training."""
    import torch

    from modescape.science.optimisers import Torch

    return Torch(weights, torch.optim.NAdam, betas=(options.beta1, options.beta2), eps=training.adam_epsilon)


@optimiser("radam", title="RAdam", source="Liu et al. 2020, algorithm 2", options=AdamOptions, place=70)
def radam(weights: Weights, options: AdamOptions, training: TrainingSpec) -> Optimiser:
    """Adam that trusts its second moments only once enough gradients were seen, with the epsilon of the training."""
    import torch

    from modescape.science.optimisers import Torch

    return Torch(weights, torch.optim.RAdam, betas=(options.beta1, options.beta2), eps=training.adam_epsilon)


class AdagradOptions(Options):
    epsilon: float = Field(1e-10, gt=0, le=1, description="Added to the root of the sum of squares.")


@optimiser("adagrad", title="Adagrad", source="Duchi, Hazan and Singer 2011", options=AdagradOptions, place=80)
def adagrad(weights: Weights, options: AdagradOptions, training: TrainingSpec) -> Optimiser:
    """Gradients over the root of the sum of all their squares so far."""
    import torch

    from modescape.science.optimisers import Torch

    return Torch(weights, torch.optim.Adagrad, eps=options.epsilon)
