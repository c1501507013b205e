"""A network as one flat vector: take it out, put it back, name its pieces, re-estimate its batch norm.

    theta = flatten(network)                # float32 [P], in the order of `named_parameters()`, row-major
    assign(network, theta + step)

Batch-norm statistics are buffers: kept beside theta, never in it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from modescape.errors import InvalidInput

if TYPE_CHECKING:
    from modescape.science.data import InputTransform, Split

Theta = npt.NDArray[np.float32]
Arrays = dict[str, np.ndarray]

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# Batch and instance norm share a base. Norms of other libraries are known by the names of their types.
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_NORM_NAME = re.compile("(batch|layer|group|instance|rms|global_?response)_?norm", re.IGNORECASE)


@dataclass(frozen=True)
class Piece:
    """One trainable tensor: its name, its shape, and where it begins in theta."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        return prod(self.shape)


def names_and_shapes(module: nn.Module) -> list[Piece]:
    """The pieces theta is made of, in order."""
    pieces, start = [], 0
    for name, parameter in module.named_parameters():
        pieces.append(Piece(name, tuple(parameter.shape), start))
        start += parameter.numel()
    return pieces


def flatten(module: nn.Module) -> Theta:
    """theta, float32 [P]: every trainable tensor, row-major, one after another (science a.1). A copy."""
    return np.concatenate([_numpy(p).reshape(-1) for p in module.parameters()]).astype(np.float32, copy=False)


def assign(module: nn.Module, theta: np.ndarray) -> None:
    """Put theta [P] into the network. Raises InvalidInput when the length is another network's."""
    total = sum(p.numel() for p in module.parameters())
    if theta.shape != (total,):
        raise InvalidInput(f"weights {theta.shape} do not fit this network", field="weights", allowed=f"({total},)")
    flat = torch.from_numpy(np.ascontiguousarray(theta, dtype=np.float32))
    start = 0
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(flat[start : start + parameter.numel()].view(parameter.shape))
            start += parameter.numel()


def buffers(module: nn.Module) -> Arrays:
    """Batch-norm statistics (and any other buffer) by name; copies."""
    return {name: _numpy(buffer) for name, buffer in module.named_buffers()}


def assign_buffers(module: nn.Module, values: Mapping[str, np.ndarray]) -> None:
    """Put buffers back; names the network does not have are refused, names left out stay as they are."""
    own = dict(module.named_buffers())
    with torch.no_grad():
        for name, value in values.items():
            if name not in own:
                known = ", ".join(own) or "none"
                raise InvalidInput(f"this network has no buffer {name!r}", field="weights", allowed=known)
            own[name].copy_(torch.from_numpy(np.array(value)))


def tensors(module: nn.Module) -> Arrays:
    """Everything that makes the network what it is, by name: parameters first, then buffers; copies."""
    return {**{name: _numpy(p) for name, p in module.named_parameters()}, **buffers(module)}


def load_tensors(module: nn.Module, values: Mapping[str, np.ndarray]) -> None:
    """The inverse of `tensors`."""
    assign(module, from_tensors(module, values))
    names = {piece.name for piece in names_and_shapes(module)}
    assign_buffers(module, {name: value for name, value in values.items() if name not in names})


def from_tensors(module: nn.Module, values: Mapping[str, np.ndarray]) -> Theta:
    """theta [P] from named arrays; further names (buffers) are ignored.

    Raises InvalidInput when one is missing or misshapen.
    """
    parts = []
    for piece in names_and_shapes(module):
        value = values.get(piece.name)
        if value is None or tuple(value.shape) != piece.shape:
            found = "missing" if value is None else f"of shape {tuple(value.shape)}"
            raise InvalidInput(f"the tensor {piece.name!r} is {found}", field="weights", allowed=f"shape {piece.shape}")
        parts.append(np.asarray(value, np.float32).reshape(-1))
    return np.concatenate(parts)


def norm_parameters(module: nn.Module) -> tuple[str, ...]:
    """Names of the scales and offsets of batch, layer, group, instance and RMS norm, by the type of their layer: they
    start at one and at zero in every network."""
    own = {
        id(parameter)
        for layer in module.modules()
        if isinstance(layer, _NORMS) or _NORM_NAME.search(type(layer).__name__)
        for parameter in layer.parameters(recurse=False)
    }
    return tuple(name for name, parameter in module.named_parameters() if id(parameter) in own)


def head_parameters(module: nn.Module, shape: Sequence[int], classes: int, *, seed: int = 0) -> tuple[str, ...]:
    """Names of the head's weight (and bias), both of K rows; () where no layer is one (science a.1).

    The head is the layer for which adding one random vector to all its rows, and one number to its biases, leaves the
    softmax unchanged, while adding a vector to one row does not: its class mean cannot change a prediction. Tried on
    random inputs of `shape` [C, H, W], in float64 where the network can compute in it; the network is left as it is.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    layers = [name for name, layer in module.named_modules() if _could_be_head(layer, classes)]
    for kind, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        twin = copy.deepcopy(module).to(device="cpu", dtype=kind).eval()
        random = torch.Generator().manual_seed(seed)
        images = torch.randn(4, *shape, generator=random, dtype=torch.float64).to(kind)
        try:
            with torch.no_grad():
                found = [name for name in reversed(layers) if _is_head(twin, name, images, random, tolerance)]
        except RuntimeError:
            continue  # constants of its own in another precision
        layer = module.get_submodule(found[0]) if found else None
        return tuple(names[id(parameter)] for parameter in _rows_of(layer)) if layer is not None else ()
    return ()


def _could_be_head(layer: nn.Module, classes: int) -> bool:
    weight = layer._parameters.get("weight")
    return weight is not None and weight.dim() >= 2 and weight.shape[0] == classes


def _rows_of(layer: nn.Module) -> list[nn.Parameter]:
    """Weight and bias of a layer, if it has one."""
    return [p for name in ("weight", "bias") if (p := layer._parameters.get(name)) is not None]


def _is_head(module: nn.Module, name: str, images: Tensor, random: torch.Generator, tolerance: float) -> bool:
    layer = module.get_submodule(name)
    before = torch.log_softmax(module(images), -1)
    scale = 1 + float(before.abs().max())

    def change(rows: slice) -> float:
        """By how much log-probabilities move when these rows do, over their own size."""
        kept = [parameter.clone() for parameter in _rows_of(layer)]
        for parameter in _rows_of(layer):
            step = torch.randn(parameter.shape[1:], generator=random, dtype=torch.float64).to(parameter.dtype)
            parameter[rows] += (1 + parameter.std()) * step
        moved = float((torch.log_softmax(module(images), -1) - before).abs().max()) / scale
        for parameter, was in zip(_rows_of(layer), kept, strict=True):
            parameter.copy_(was)
        return moved

    return change(slice(None)) <= tolerance < change(slice(0, 1)) / 100


def without_class_mean(values: npt.NDArray[np.float64], classes: int) -> npt.NDArray[np.float64]:
    """Flattened tensors of K rows [S, size], each without the mean of its rows."""
    rows = values.reshape(len(values), classes, -1)
    return np.asarray((rows - rows.mean(axis=1, keepdims=True)).reshape(len(values), -1))


def has_batch_norm(module: nn.Module) -> bool:
    return any(isinstance(layer, BATCH_NORM) for layer in module.modules())


def refresh_batch_norm(
    module: nn.Module, images: Split, transform: InputTransform, n: int, *, batch: int = 250
) -> None:
    """Set batch-norm statistics to those of the first `n` training images, un-augmented (science d.7; Garipov 2018).

    Cumulative averages weighted by batch size: the mean is exactly that of all n images, the variance the mean of the
    batches' unbiased variances, as training estimates it. Dropout stays off. Nothing to do without batch norm.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, BATCH_NORM)]
    if not layers:
        return
    n = min(n, len(images))
    device = next(module.parameters()).device
    with _statistics_only(module, layers), torch.no_grad():
        seen = 0
        while seen < n:
            # equal batches: no tiny last one with a wild variance
            size = -(-(n - seen) // max(1, -(-(n - seen) // batch)))
            for layer in layers:
                layer.momentum = size / (seen + size)
            module(transform(images.batch(torch.arange(seen, seen + size)).to(device)))
            seen += size


@contextmanager
def _statistics_only(module: nn.Module, layers: Sequence[nn.Module]) -> Iterator[None]:
    """Batch-norm layers in training mode with empty statistics, everything else in evaluation mode; restored after."""
    norms = cast("Sequence[nn.BatchNorm2d]", layers)
    modes = {m: m.training for m in module.modules()}
    momenta = [layer.momentum for layer in norms]
    module.eval()
    for layer in norms:
        layer.reset_running_stats()
        layer.train()
    try:
        yield
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
        for m, training in modes.items():
            m.training = training


def _numpy(tensor: Tensor) -> np.ndarray:
    """A row-major copy on the host."""
    return np.array(tensor.detach().cpu().contiguous().numpy())
