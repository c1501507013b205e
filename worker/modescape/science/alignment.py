"""Networks whose hidden units are in another order are the same function: finding the order that brings two together
(science l.2).

    symmetry = symmetry_of(architectures["small-cnn"], network)
    order = match(symmetry, weights_a, weights_b, seed=0)            # weight matching, Ainsworth et al. 2022
    moved = symmetry.permuted(weights_b, order)                      # the same function as b, nearer to a

Hidden units (channels) of one layer can be permuted if everything that reads them is permuted alike. Each such set of
units is a group here; tensors name the axes along which a group runs. Layers of a residual stream share one group.
The heads of an attention layer, and the channels of grouped convolutions and norms, keep together in blocks.
numpy; scipy and torch inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modescape.errors import StageError
from modescape.science.symmetry import Axis, Order, Symmetry, Tensors, in_blocks

if TYPE_CHECKING:
    import torch

    from modescape.science.data import InputTransform, Split

ROUNDS = 100
GAIN = 1e-12  # of the similarity, below which matching has come to rest


def match(symmetry: Symmetry, target: Tensors, tensors: Tensors, *, seed: int = 0) -> Order:
    """The order of `tensors`' units that brings its weights nearest to `target`'s: coordinate ascent over the groups in
    random order, each solved exactly as a linear assignment (Ainsworth, Hayase, Srinivasa 2022, algorithm 1).

    target, tensors: trainable tensors by name (statistics are no weights). A local optimum, not always the best one;
    where the symmetry was traced the better of two: from the order as it is, and from that in which every unit's own
    weights, sorted, are most alike. The second finds a network's own copy in another order, which the first may not.
    """
    found = _ascend(symmetry, target, tensors, symmetry.identity(), seed)
    if not symmetry.by_looks:
        return found
    other = _ascend(symmetry, target, tensors, _by_looks(symmetry, target, tensors), seed)
    return max(found, other, key=lambda order: _product(symmetry, target, tensors, order))


def _product(symmetry: Symmetry, target: Tensors, tensors: Tensors, order: Order) -> float:
    """The inner product of all that has units."""
    moved = symmetry.permuted({name: tensors[name] for name in symmetry.axes if name in tensors}, order)
    return float(sum(np.vdot(np.asarray(target[name], np.float64), values) for name, values in moved.items()))


def _by_looks(symmetry: Symmetry, target: Tensors, tensors: Tensors) -> Order:
    """Units matched by their weights in each tensor, sorted."""
    alike = {group: np.zeros((size, size)) for group, size in symmetry.sizes.items()}
    for name, axes in symmetry.axes.items():
        for axis in axes if name in tensors else ():
            size = symmetry.sizes[axis.group]
            one, other = (np.sort(_units(values[name], axis, size), axis=1) for values in (target, tensors))
            # the nearest, not the largest product: what is sorted points nearly one way
            alike[axis.group] += 2 * one @ other.T - (one**2).sum(1)[:, None] - (other**2).sum(1)
    return {group: best for groups in symmetry.steps for group, best in _best(symmetry, groups, alike).items()}


def _best(symmetry: Symmetry, groups: Sequence[str], alike: Mapping[str, NDArray[np.float64]]) -> Order:
    """The order of the groups of one step under which what is alike stands together."""
    from scipy.optimize import linear_sum_assignment

    if groups[0] in symmetry.families:
        family, blocks = symmetry.families[groups[0]]
        return _match_blocks({group: alike[group] for group in groups}, blocks, still=family in symmetry.still)
    return {groups[0]: linear_sum_assignment(alike[groups[0]], maximize=True)[1]}


def _ascend(symmetry: Symmetry, target: Tensors, tensors: Tensors, order: Order, seed: int) -> Order:
    """Coordinate ascent from `order`, which is changed."""
    rng = np.random.Generator(np.random.Philox(seed))
    steps = symmetry.steps
    for _ in range(ROUNDS):
        gained = 0.0
        for place in rng.permutation(len(steps)):
            groups = steps[place]
            alike = _similarities(symmetry, groups, target, tensors, order)
            for group, best in _best(symmetry, groups, alike).items():
                places = np.arange(len(best))
                similarity = alike[group]
                gained += float(similarity[places, best].sum() - similarity[places, order[group]].sum())
                order[group] = best
        if gained < GAIN:
            break
    return order


def _similarities(
    symmetry: Symmetry, groups: Collection[str], target: Tensors, tensors: Tensors, order: Order
) -> dict[str, NDArray[np.float64]]:
    """For each group, [units of target, units of tensors]: inner products of all that belongs to two units, where every
    other group is in its present order."""
    touched = {name: tensors[name] for name, axes in symmetry.axes.items()
               if name in tensors and any(axis.group in groups for axis in axes)}  # fmt: skip
    moved = symmetry.permuted(touched, order, without=groups)
    found = {group: np.zeros((symmetry.sizes[group], symmetry.sizes[group])) for group in groups}
    for name, values in moved.items():
        for axis in symmetry.axes[name]:
            if axis.group in groups:
                size = symmetry.sizes[axis.group]
                found[axis.group] += _units(target[name], axis, size) @ _units(values, axis, size).T
    return found


def _match_blocks(alike: Mapping[str, NDArray[np.float64]], blocks: int, *, still: bool) -> Order:
    """The best order of groups whose blocks move together: of every two blocks the best order inside, then the best
    assignment of blocks; exact. still: blocks stay where they are."""
    from scipy.optimize import linear_sum_assignment

    value, inside = np.zeros((blocks, blocks)), {}
    for group, similarity in alike.items():
        parts = similarity.reshape(blocks, len(similarity) // blocks, blocks, -1).transpose(0, 2, 1, 3)
        for pair in np.ndindex(blocks, blocks):
            if not still or pair[0] == pair[1]:
                rows, best = linear_sum_assignment(parts[pair], maximize=True)
                inside[group, pair] = best
                value[pair] += parts[pair][rows, best].sum()
    where = np.arange(blocks) if still else linear_sum_assignment(value, maximize=True)[1]
    return {group: in_blocks(where, [inside[group, pair] for pair in enumerate(where)]) for group in alike}


def _units(values: NDArray[Any], axis: Axis, size: int) -> NDArray[np.float64]:
    """One row a unit: all entries of a tensor that belong to it."""
    moved = np.moveaxis(np.asarray(values, np.float64), axis.number, 0)
    return moved[axis.start : axis.start + size * axis.width].reshape(size, -1)


# --- which units of a network are interchangeable --------------------------------------------------------------------


class Wired(Protocol):
    """What an architecture says of how its units are wired: nothing, and why, or `wiring(network, noted)`."""

    @property
    def title(self) -> str: ...

    @property
    def wiring(self) -> Callable[[Any, Wiring], None] | None: ...

    @property
    def why_not_aligned(self) -> str: ...


def symmetry_of(entry: Wired, module: torch.nn.Module, images: torch.Tensor) -> Symmetry:
    """The groups of a network of that architecture: as it says, or, where it does not, traced and checked on `images`
    [N, C, H, W], as the network sees them. Raises StageError where there are none."""
    if entry.why_not_aligned:
        raise StageError(f"two {entry.title} cannot be aligned: {entry.why_not_aligned}")
    if entry.wiring is not None:
        wiring = Wiring(module)
        entry.wiring(module, wiring)
        return wiring.symmetry
    from modescape.science.wiring import traced

    found = traced(module, tuple(images.shape[1:]))
    symmetry, refused = checked(found, module, images)
    if not symmetry.sizes:
        why = (
            f"permuting any of {', '.join(refused)} changes its logits"
            if refused
            else "no units of it can change places"
        )
        raise StageError(f"two {entry.title} cannot be aligned: {why}")
    return symmetry


EXACT = 1e-9  # of the largest logit, in float64: by how much permuting may change one
TRIES = 2  # random orders
ROUNDED = 1e-4  # in float32, for a network that cannot compute in float64


def checked(symmetry: Symmetry, module: torch.nn.Module, images: torch.Tensor) -> tuple[Symmetry, list[str]]:
    """The groups whose random permutation leaves the logits on `images` as they are, and those that are refused.

    Tried in float64 on weights moved at random from the network's own, so that no two units are alike by chance and no
    scale is near zero. All groups are tried at once; where that changes logits each is tried by itself, then what is
    left.
    """
    import torch

    try:
        twin = _Twin.of(module, images, torch.float64, EXACT)
    except RuntimeError:  # constants of its own in another precision
        twin = _Twin.of(module, images, torch.float32, ROUNDED)
    if twin.is_same(symmetry):
        return symmetry, []
    right = {group for step in symmetry.steps if twin.is_same(symmetry.only(step)) for group in step}
    left = symmetry.only(right)
    left = left if twin.is_same(left) else symmetry.only(())
    return left, [group for group in symmetry.sizes if group not in left.sizes]


@dataclass(frozen=True, eq=False)
class _Twin:
    """A copy of a network to be permuted. limit: by how much of the largest logit that may change logits."""

    module: torch.nn.Module
    images: torch.Tensor
    limit: float
    own: Tensors
    logits: torch.Tensor

    @classmethod
    def of(cls, module: torch.nn.Module, images: torch.Tensor, kind: torch.dtype, limit: float) -> _Twin:
        """Raises RuntimeError where it cannot compute in that precision."""
        import copy

        import torch

        from modescape.science import weights

        twin, shown = copy.deepcopy(module).to(device="cpu", dtype=kind).eval(), images.to(device="cpu", dtype=kind)
        _unlike_any(twin)
        with torch.no_grad():
            return cls(twin, shown, limit, weights.tensors(twin), twin(shown))

    def is_same(self, among: Symmetry) -> bool:
        """Whether random orders of these groups leave the logits."""
        rng = np.random.default_rng(0)
        return all(self._away(among, among.shuffled(rng)) <= self.limit for _ in range(TRIES))

    def _away(self, among: Symmetry, order: Order) -> float:
        import torch

        mine = {name: self.own[name] for name in among.axes}
        with torch.no_grad():
            self._put(among.permuted(mine, order))
            found = self.module(self.images)
            self._put(mine)
        return float((found - self.logits).abs().max() / self.logits.abs().max())

    def _put(self, tensors: Tensors) -> None:
        import torch

        state = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        for name, values in tensors.items():
            state[name].copy_(torch.from_numpy(np.ascontiguousarray(values)))


def _unlike_any(module: torch.nn.Module) -> None:
    """Move every weight and statistic by a random step of about a tenth of its tensor's size."""
    import torch

    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for values in (*module.parameters(), *module.buffers()):
            if values.is_floating_point() and values.numel():
                size = float(values.square().mean().sqrt()) + 0.5
                step = torch.randn(values.shape, generator=random, dtype=torch.float64).to(values.dtype)
                moved = values + 0.1 * size * step
                values.copy_(moved.abs() if bool((values >= 0).all()) else moved)  # variances stay variances


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
