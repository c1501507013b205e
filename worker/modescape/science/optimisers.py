"""What changes a network's weights, as one flat vector: Adam, and descent with or without momentum."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn


def flatten_in_place(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Make every parameter, and its gradient, a view of one flat tensor each: (theta [P], gradient [P])."""
    parameters = list(module.parameters())
    theta = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    gradient = torch.zeros_like(theta)
    start = 0
    for parameter in parameters:
        end = start + parameter.numel()
        parameter.data = theta[start:end].view(parameter.shape)
        parameter.grad = gradient[start:end].view(parameter.shape)
        start = end
    return theta, gradient


class Optimiser(Protocol):
    """Changes theta in place; `moments` and `updates` are all it remembers."""

    moments: dict[str, Tensor]
    updates: int

    def update(self, theta: Tensor, gradient: Tensor, rate: float) -> None: ...


@dataclass
class Adam:
    """Kingma and Ba 2015, algorithm 1, with decay rates 0.9 and 0.999."""

    theta: Tensor
    epsilon: float
    updates: int = 0
    moments: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.moments = {"first": torch.zeros_like(self.theta), "second": torch.zeros_like(self.theta)}
        self._scratch = torch.empty_like(self.theta)

    def update(self, theta: Tensor, gradient: Tensor, rate: float) -> None:
        self.updates += 1
        first, second = self.moments["first"], self.moments["second"]
        first.lerp_(gradient, 1 - 0.9)
        second.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
        unbiased = math.sqrt(1 - 0.999**self.updates)
        denominator = torch.sqrt(second, out=self._scratch).div_(unbiased).add_(self.epsilon)
        theta.addcdiv_(first, denominator, value=-rate / (1 - 0.9**self.updates))


@dataclass
class Descent:
    """Stochastic gradient descent, with heavy-ball momentum unless it is 0 (Sutskever 2013, as torch has it)."""

    theta: Tensor
    momentum: float
    updates: int = 0
    moments: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.moments = {"velocity": torch.zeros_like(self.theta)} if self.momentum else {}

    def update(self, theta: Tensor, gradient: Tensor, rate: float) -> None:
        self.updates += 1
        if self.momentum:
            gradient = self.moments["velocity"].mul_(self.momentum).add_(gradient)
        theta.add_(gradient, alpha=-rate)
