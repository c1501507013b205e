"""Several networks as one: weights, gradients, buffers and moments of runs as rows of tensors [M, ...]."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from modescape.errors import InvalidInput
from modescape.science.arithmetic import Precision
from modescape.science.networks import CnnBlock, Dropout, dropout_layers
from modescape.science.optimisers import Adam, Descent, Weights, rows_of
from modescape.training import Run


class Rows:
    """Runs at one step whose weights, gradients and what their optimisers remember are rows of [M, P].

    Each run's own tensors are views of them from then on.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        first = self.runs[0]
        self.theta = torch.stack([run.theta for run in self.runs])
        self.gradient = torch.zeros_like(self.theta)
        self.sums = torch.stack([run.sums for run in self.runs])
        self.optimiser = self._of_all(first)
        for i, run in enumerate(self.runs):
            run.live_in(self.theta[i], self.gradient[i])
            run.sums = self.sums[i]
            rows_of(self.optimiser, run.optimiser, i)

    def _of_all(self, first: Run) -> Adam | Descent:
        """One optimiser of what all of them remember."""
        made = first.recipe.optimiser(Weights(self.theta, (), ()))
        assert isinstance(made, Adam | Descent)  # as `cannot_be` has it
        made.updates = first.optimiser.updates
        for name, moment in made.moments.items():
            moment.copy_(torch.stack([run.optimiser.moments[name] for run in self.runs]))
        return made

    def decay(self) -> None:
        """Add what weight decay adds to the gradients."""
        first = self.runs[0]
        if first.decayed is not None:
            self.gradient.addcmul_(self.theta, first.decayed, value=first.training.weight_decay)


class Function:
    """The loss of all of `rows` as one function of theta (`torch.func.vmap`), by torch's own operations alone."""

    def __init__(self, rows: Rows, precision: Precision) -> None:
        self.rows, self.precision = rows, precision
        first = rows.runs[0]
        self._base = _plain(first.module)
        names = [name for name, _ in first.module.named_buffers()]
        own = [dict(run.module.named_buffers()) for run in rows.runs]
        self._buffers = {name: torch.stack([one[name] for one in own]) for name in names}
        for i, run in enumerate(rows.runs):
            for name, buffer in run.module.named_buffers():
                buffer.data = self._buffers[name][i]
        self._pieces = [(name, piece.numel(), piece.shape) for name, piece in first.module.named_parameters()]

    def differentiate(self, images: Tensor, targets: Tensor, masks: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Losses [M] and logits [M, n, K] of images [M, n, ...], as networks see them; gradients go to the rows'."""
        found, (losses, logits) = vmap(grad_and_value(self._loss, has_aux=True), randomness="error")(
            self._named(self.rows.theta), self._buffers, images, targets, masks
        )
        with torch.no_grad():
            self.rows.gradient.copy_(torch.cat([found[name].flatten(1) for name, *_ in self._pieces], 1))
        return losses, logits

    def _loss(
        self,
        weights: dict[str, Tensor],
        buffers: dict[str, Tensor],
        images: Tensor,
        targets: Tensor,
        masks: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        first = self.rows.runs[0]
        for layer, mask in zip(dropout_layers(self._base), masks, strict=True):
            layer.mask = mask if mask.numel() else None
        with torch.autocast(
            first.device.type, torch.bfloat16, enabled=self.precision == "bfloat16", cache_enabled=False
        ):
            logits = functional_call(self._base, (weights, buffers), (images,)).float()
        return first.loss_of(logits, targets, first.loss_options), logits

    def _named(self, theta: Tensor) -> dict[str, Tensor]:
        found, start = {}, 0
        for name, count, shape in self._pieces:
            found[name] = theta[:, start : start + count].view(-1, *shape)
            start += count
        return found


def _plain(network: nn.Module) -> nn.Module:
    """A copy whose layers are torch's own operations; its weights are of no importance."""
    base = copy.deepcopy(network).train()
    for layer in base.modules():
        if isinstance(layer, CnnBlock):
            layer.plain = True
    return base


@dataclass(frozen=True)
class Dropped:
    """A dropout layer in training. threshold: as `Dropout.threshold`; shape: of one example's features; last: whether
    features lie channels-last, as masks then do."""

    threshold: int
    shape: tuple[int, ...]
    last: bool


def dropped_in(run: Run) -> list[Dropped]:
    """Its dropout layers in their order of drawing, found by a step that changes nothing.

    Raises InvalidInput where they are not used once each, in their order.
    """
    network = copy.deepcopy(run.module).train()
    layers = dropout_layers(network)
    seen: dict[int, Dropped] = {}
    order: list[int] = []

    def seeing(place: int, layer: Dropout) -> Callable[[Tensor], Tensor]:
        def keep(features: Tensor) -> Tensor:
            last = features.is_contiguous(memory_format=torch.channels_last) if features.dim() == 4 else False
            seen[place] = Dropped(layer.threshold, tuple(features.shape[1:]), last)
            order.append(place)
            return torch.ones_like(features, dtype=torch.uint8)

        return keep

    for place, layer in enumerate(layers):
        layer.keep = seeing(place, layer)  # type: ignore[method-assign, assignment]
    with torch.no_grad():
        network(run.splits.transform(run.batch(run.step).images))
    if order != sorted(order) or len(order) != len(set(order)):
        raise InvalidInput("its dropout layers are not used once each, in their order", field="network")
    return [seen.get(place, Dropped(0, (), False)) for place in range(len(layers))]
