"""What changes a network's weights: Adam and descent, ours, on one flat vector, and every optimiser of torch's kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from modescape.errors import InvalidInput


def flatten_in_place(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Make every parameter, and its gradient, a view of one flat tensor each: (theta [P], gradient [P])."""
    parameters = list(module.parameters())
    theta = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    gradient = torch.zeros_like(theta)
    live_in(module, theta, gradient)
    return theta, gradient


def live_in(module: nn.Module, theta: Tensor, gradient: Tensor) -> None:
    """Make every parameter, and its gradient, a view of these, [P] each; theta holds the weights already."""
    start = 0
    for parameter in module.parameters():
        end = start + parameter.numel()
        parameter.data = theta[start:end].view(parameter.shape)
        parameter.grad = gradient[start:end].view(parameter.shape)
        start = end


@dataclass(frozen=True, eq=False)
class Weights:
    """What an optimiser moves.

    theta: all of it, flat [P]; parameters: its pieces, views of theta, whose gradients are views of one flat vector;
    decays: of each piece, whether weight decay acts on it.
    """

    theta: Tensor
    parameters: tuple[nn.Parameter, ...]
    decays: tuple[bool, ...]


class Optimiser(Protocol):
    """Changes theta in place; `moments` and `updates` are all it remembers.

    A run that goes on gets its moments back by name. Of what makes them as it goes they are asked for by a method
    `restore(moments)`.
    """

    updates: int

    @property
    def moments(self) -> Mapping[str, Tensor]: ...

    def update(self, theta: Tensor, gradient: Tensor, rate: float) -> None: ...


def restore(optimiser: Optimiser, moments: Mapping[str, Tensor], updates: int) -> None:
    """Let it go on from what it remembered after so many updates."""
    optimiser.updates = updates
    if isinstance(optimiser, Torch):
        optimiser.restore(moments)
        return
    with torch.no_grad():
        for name, moment in optimiser.moments.items():
            moment.copy_(moments[name])


def rows_of(whole: Adam | Descent, own: Optimiser, row: int) -> None:
    """Let what one optimiser remembers, [P] each, be rows of what another does for all of a group, [M, P]."""
    assert isinstance(own, Adam | Descent)
    own.moments = {name: moment[row] for name, moment in whole.moments.items()}


@dataclass
class Adam:
    """Kingma and Ba 2015, algorithm 1."""

    theta: Tensor
    epsilon: float
    updates: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    moments: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.moments = {"first": torch.zeros_like(self.theta), "second": torch.zeros_like(self.theta)}
        self._scratch = torch.empty_like(self.theta)

    def update(self, theta: Tensor, gradient: Tensor, rate: float) -> None:
        self.updates += 1
        first, second = self.moments["first"], self.moments["second"]
        first.lerp_(gradient, 1 - self.beta1)
        second.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        unbiased = math.sqrt(1 - self.beta2**self.updates)
        denominator = torch.sqrt(second, out=self._scratch).div_(unbiased).add_(self.epsilon)
        theta.addcdiv_(first, denominator, value=-rate / (1 - self.beta1**self.updates))

    def update_on(self, theta: Tensor, gradient: Tensor, rate: Tensor, updates: Tensor) -> None:
        """The same on rows [M, P], with rate and number of updates (float64 [1], this one counted) read from the
        device; `updates` of its own is left to whoever repeats it."""
        first, second = self.moments["first"], self.moments["second"]
        first.lerp_(gradient, 1 - self.beta1)
        second.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        unbiased = (1 - self.beta2**updates).sqrt().to(theta.dtype)
        size = (rate / (1 - self.beta1**updates)).to(theta.dtype)
        denominator = torch.sqrt(second, out=self._scratch).div_(unbiased).add_(self.epsilon)
        theta.sub_(first.div(denominator).mul_(size))


@dataclass
class Descent:
    """Stochastic gradient descent, with heavy-ball momentum unless it is 0 (Sutskever 2013, as torch has it).

    nesterov: the step is that of the velocity after the next one, were the gradient the same.
    """

    theta: Tensor
    momentum: float
    updates: int = 0
    nesterov: bool = False
    moments: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.moments = {"velocity": torch.zeros_like(self.theta)} if self.momentum else {}

    def update(self, theta: Tensor, gradient: Tensor, rate: float) -> None:
        self.updates += 1
        if self.momentum:
            velocity = self.moments["velocity"].mul_(self.momentum).add_(gradient)
            gradient = gradient.add(velocity, alpha=self.momentum) if self.nesterov else velocity
        theta.add_(gradient, alpha=-rate)

    def update_on(self, theta: Tensor, gradient: Tensor, rate: Tensor, updates: Tensor) -> None:
        """As Adam's."""
        if self.momentum:
            velocity = self.moments["velocity"].mul_(self.momentum).add_(gradient)
            gradient = gradient.add(velocity, alpha=self.momentum) if self.nesterov else velocity
        theta.sub_(gradient.mul(rate.to(theta.dtype)))


class Torch:
    """An optimiser of torch's kind (`torch.optim.Optimizer`), on a network's own tensors.

        Torch(weights, torch.optim.AdamW, decay=0.01, betas=(0.9, 0.99))

    decay: its option `weight_decay`, for the tensors on which decay acts; others get none. What it remembers are its
    state's tensors and numbers. Its rate is the schedule's. Raises InvalidInput for a rate given here, and for a state
    that holds anything else.
    """

    def __init__(
        self,
        weights: Weights,
        kind: Callable[..., torch.optim.Optimizer],
        *,
        decay: float | None = None,
        **options: Any,
    ) -> None:
        if "lr" in options:
            raise InvalidInput(
                f"a rate of its own is given, lr={options['lr']}, and the schedule says the rate of every step",
                field="training.optimiser", allowed="its other options",
            )  # fmt: skip
        pieces = list(zip(weights.parameters, weights.decays, strict=True))
        groups: list[dict[str, Any]] = [{"params": [p for p, _ in pieces]}]
        if decay is not None:
            halves = ((decay, [p for p, decays in pieces if decays]), (0.0, [p for p, decays in pieces if not decays]))
            groups = [{"params": own, "weight_decay": value} for value, own in halves if own]
        self.updates = 0
        self.inner = kind(groups, lr=1.0, **options)

    def update(self, theta: Tensor, gradient: Tensor, rate: float) -> None:
        """One step at that rate; parameters and their gradients are views of theta and of the gradient."""
        self.updates += 1
        for group in self.inner.param_groups:
            group["lr"] = rate
        self.inner.step()

    @property
    def moments(self) -> dict[str, Tensor]:
        """Its state: "3.exp_avg" of the fourth tensor; what is a number and no tensor ends in "#"."""
        state: Mapping[int, Mapping[str, Any]] = self.inner.state_dict()["state"]
        pairs = [(f"{i}.{name}", value) for i, own in state.items() for name, value in own.items() if value is not None]
        return dict(_written(name, value) for name, value in pairs)

    def restore(self, moments: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Any]] = {}
        for written, value in moments.items():
            number, _, name = written.partition(".")
            is_number = name.endswith("#")
            state.setdefault(int(number), {})[name.removesuffix("#")] = value.item() if is_number else value
        groups = self.inner.state_dict()["param_groups"]
        self.inner.load_state_dict({"state": state, "param_groups": groups})


def _written(name: str, value: object) -> tuple[str, Tensor]:
    if isinstance(value, Tensor):
        return name, value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{name}#", torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)
    raise InvalidInput(
        f"the optimiser's state {name.partition('.')[2]!r} is a {type(value).__name__}", field="training.optimiser",
        allowed="tensors and numbers, which a killed run is resumed from",
    )  # fmt: skip
