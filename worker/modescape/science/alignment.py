"""Networks whose hidden units are in another order are the same function: finding the order that brings two together
(science l.2).

    symmetry = symmetry_of(architectures["small-cnn"], network)
    order = match(symmetry, weights_a, weights_b, seed=0)            # weight matching, Ainsworth et al. 2022
    moved = symmetry.permuted(weights_b, order)                      # the same function as b, nearer to a

Hidden units (channels) of one layer can be permuted if everything that reads them is permuted alike. Each such set of
units is a group here; tensors name the axes along which a group runs. Layers of a residual stream share one group.
numpy; scipy and torch inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modescape.errors import StageError

if TYPE_CHECKING:
    import torch

    from modescape.science.data import InputTransform, Split

Tensors = Mapping[str, NDArray[Any]]
Order = dict[str, NDArray[np.intp]]  # group -> for each place, the unit that goes there

ROUNDS = 100
GAIN = 1e-12  # of the similarity, below which matching has come to rest


@dataclass(frozen=True)
class Axis:
    """An axis of a tensor along which a group of units runs; each unit has `width` neighbouring entries there (the
    pixels of a channel that was flattened)."""

    number: int
    group: str
    width: int = 1


@dataclass
class Symmetry:
    """Which tensors of a network each group of interchangeable units touches. sizes: units of a group."""

    axes: dict[str, list[Axis]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def touch(self, name: str, shape: Sequence[int], **groups: str | None) -> None:
        """Note that axis `out` (0) or `into` (1) of a tensor runs along a group; None leaves an axis alone."""
        for number, key in enumerate(("out", "into")):
            group = groups.get(key)
            if group is not None:
                size = self.sizes.setdefault(group, shape[number])
                self.axes.setdefault(name, []).append(Axis(number, group, shape[number] // size))

    def permuted(self, tensors: Tensors, order: Order, *, without: str = "") -> dict[str, NDArray[Any]]:
        """The tensors with every group (but `without`) in the given order; weights and batch-norm statistics alike."""
        moved = {}
        for name, values in tensors.items():
            for axis in self.axes.get(name, ()):
                if axis.group != without:
                    values = np.take(values, _spread(order[axis.group], axis.width), axis=axis.number)
            moved[name] = values
        return moved


def _spread(order: NDArray[np.intp], width: int) -> NDArray[np.intp]:
    """The order of units as an order of entries, `width` of them a unit."""
    return np.asarray((order[:, None] * width + np.arange(width)).reshape(-1))


def match(symmetry: Symmetry, target: Tensors, tensors: Tensors, *, seed: int = 0) -> Order:
    """The order of `tensors`' units that brings its weights nearest to `target`'s: coordinate ascent over the groups in
    random order, each solved exactly as a linear assignment (Ainsworth, Hayase, Srinivasa 2022, algorithm 1).

    target, tensors: trainable tensors by name (statistics are no weights). A local optimum, not always the best one.
    """
    from scipy.optimize import linear_sum_assignment

    rng = np.random.Generator(np.random.Philox(seed))
    order: Order = {group: np.arange(size) for group, size in symmetry.sizes.items()}
    groups = list(symmetry.sizes)
    for _ in range(ROUNDS):
        gained = 0.0
        for place in rng.permutation(len(groups)):
            group = groups[place]
            touched = {name: tensors[name] for name, axes in symmetry.axes.items()
                       if name in tensors and any(axis.group == group for axis in axes)}  # fmt: skip
            moved = symmetry.permuted(touched, order, without=group)
            similarity = np.zeros((symmetry.sizes[group], symmetry.sizes[group]))
            for name, values in moved.items():
                for axis in symmetry.axes[name]:
                    if axis.group == group:
                        similarity += _units(target[name], axis) @ _units(values, axis).T
            _, best = linear_sum_assignment(similarity, maximize=True)
            places = np.arange(len(best))
            gained += float(similarity[places, best].sum() - similarity[places, order[group]].sum())
            order[group] = best
        if gained < GAIN:
            break
    return order


def _units(values: NDArray[Any], axis: Axis) -> NDArray[np.float64]:
    """One row a unit: all entries of a tensor that belong to it."""
    moved = np.moveaxis(np.asarray(values, np.float64), axis.number, 0)
    return moved.reshape(moved.shape[0] // axis.width, -1)


# --- which units of a network are interchangeable --------------------------------------------------------------------


class Wired(Protocol):
    """What an architecture says of how its units are wired: nothing, and why, or `wiring(network, noted)`."""

    @property
    def title(self) -> str: ...

    @property
    def wiring(self) -> Callable[[Any, Wiring], None] | None: ...

    @property
    def why_not_aligned(self) -> str: ...


def symmetry_of(entry: Wired, module: torch.nn.Module) -> Symmetry:
    """The groups of a network of that architecture. Raises StageError where it does not say how its units are wired."""
    if entry.wiring is None:
        raise StageError(f"two {entry.title} cannot be aligned: {entry.why_not_aligned}")
    wiring = Wiring(module)
    entry.wiring(module, wiring)
    return wiring.symmetry


class Wiring:
    """Walks a network from its input to its head, noting groups: what `Architecture.wiring` is given."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.symmetry = Symmetry()
        self._names = {id(part): name for name, part in module.named_modules()}

    def layer(self, layer: Any, into: str | None, out: str | None) -> None:
        """A convolution or linear layer."""
        name = self._names[id(layer)]
        # an input group must be known before a flattening layer's width can be told, so `out` of earlier layers first
        self.symmetry.touch(f"{name}.weight", tuple(layer.weight.shape), out=out, into=into)
        if layer.bias is not None:
            self.symmetry.touch(f"{name}.bias", tuple(layer.bias.shape), out=out)

    def norm(self, layer: torch.nn.Module, group: str) -> None:
        name = self._names[id(layer)]
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.symmetry.touch(f"{name}.{part}", tuple(getattr(layer, part).shape), out=group)


# --- REPAIR -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Activity:
    """Mean and standard deviation of what each unit of each hidden layer gives before its non-linearity, over images
    (and places): layer name -> [units]."""

    mean: dict[str, NDArray[np.float64]]
    deviation: dict[str, NDArray[np.float64]]


def hidden_layers(module: torch.nn.Module) -> list[str]:
    """Convolutions and linear layers but the head, from input to output: those REPAIR corrects."""
    from torch import nn

    found = [name for name, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    return [name for name in found if name != "head"]


def activity(
    module: torch.nn.Module,
    images: Split,
    transform: InputTransform,
    *,
    layers: Sequence[str] | None = None,
    device: str = "cpu",
) -> Activity:
    """The activity of the network's hidden layers (or of `layers`) on some images, in float64."""
    import torch

    names = list(layers) if layers is not None else hidden_layers(module)
    sums: dict[str, list[NDArray[np.float64]]] = {}
    counts: dict[str, int] = {}

    def keep(name: str) -> Callable[[Any, Any, Any], None]:
        def hook(_layer: Any, _inputs: Any, outputs: Any) -> None:
            values = outputs.detach().double()
            rows = values.movedim(1, 0).reshape(values.shape[1], -1)
            found = [rows.sum(1).cpu().numpy(), rows.square().sum(1).cpu().numpy()]
            before = sums.get(name)
            sums[name] = found if before is None else [old + new for old, new in zip(before, found, strict=True)]
            counts[name] = counts.get(name, 0) + rows.shape[1]

        return hook

    parts = dict(module.named_modules())
    handles = [parts[name].register_forward_hook(keep(name)) for name in names]
    module.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(images), 500):
                rows = torch.arange(start, min(start + 500, len(images)), device=images.labels.device)
                # images that ask for a gradient go through the layer itself, not its fast stand-in: hooks see layers
                module(transform(images.batch(rows).to(device)).requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    mean = {name: sums[name][0] / counts[name] for name in names}
    deviation = {name: np.sqrt(np.maximum(sums[name][1] / counts[name] - mean[name] ** 2, 0.0)) for name in names}
    return Activity(mean, deviation)


def repair(
    module: torch.nn.Module,
    first: Activity,
    last: Activity,
    t: float,
    images: Split,
    transform: InputTransform,
    *,
    device: str = "cpu",
) -> None:
    """Rescale and shift every hidden unit so that its mean and deviation on `images` are (1-t) times those of one end
    plus t times those of the other (Jordan, Sedghi, Saukh, Entezari, Neyshabur 2022); changes weights in place.

    Layer by layer from the input, since each correction changes what the next layer is given. For networks without
    batch norm; others get new statistics (weights.refresh_batch_norm).

    It need not lower the loss: where units were not matched, restoring their activity makes wrong answers surer.
    Measured on training images, barriers aligned and then repaired, networks trained with Adam on 20,000 images of
    Fashion-MNIST for 3 epochs: SmallCNN on standardised pixels .446 ± .076 and .163 ± .021 nats (lower in 3 of 3 pairs
    of 3 runs), MLP of 512 and 512 units .341 ± .025 and .118 ± .016 (3 of 3), but SmallCNN on raw pixels 1.30 ± .11 and
    1.39 ± .29 (4 of 10 pairs of 5 runs). So both barriers are shown.
    """
    import torch

    parts = dict(module.named_modules())
    for name in hidden_layers(module):
        layer: Any = parts[name]
        now = activity(module, images, transform, layers=[name], device=device)
        mean = (1 - t) * first.mean[name] + t * last.mean[name]
        deviation = (1 - t) * first.deviation[name] + t * last.deviation[name]
        # a unit that never varies cannot be rescaled; it is moved only
        scale = np.divide(deviation, now.deviation[name], out=np.ones_like(deviation), where=now.deviation[name] > 0)
        shift = mean - scale * now.mean[name]
        with torch.no_grad():
            factor = torch.from_numpy(scale).to(layer.weight)
            layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.dim() - 1)))
            layer.bias.mul_(factor).add_(torch.from_numpy(shift).to(layer.weight))
