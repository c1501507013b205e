"""A network as one flat vector: take it out, put it back, name its pieces, re-estimate its batch norm.

    theta = flatten(network)                # float32 [P], in the order of `named_parameters()`, row-major
    assign(network, theta + step)

Batch-norm statistics are buffers: kept beside theta, never in it.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Piece:
    """One trainable tensor: its name, its shape, and where it begins in theta."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        return prod(self.shape)


Layout = Sequence[Piece]


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
    own = names_and_shapes(module)
    assign(module, from_tensors(own, values))
    names = {piece.name for piece in own}
    assign_buffers(module, {name: value for name, value in values.items() if name not in names})


def to_tensors(layout: nn.Module | Layout, theta: np.ndarray) -> Arrays:
    """theta [P] cut into named arrays, as a safetensors file holds them."""
    return {p.name: theta[p.start : p.start + p.size].reshape(p.shape) for p in _layout(layout)}


def from_tensors(layout: nn.Module | Layout, values: Mapping[str, np.ndarray]) -> Theta:
    """theta [P] from named arrays; further names (buffers) are ignored.

    Raises InvalidInput when one is missing or misshapen.
    """
    parts = []
    for piece in _layout(layout):
        value = values.get(piece.name)
        if value is None or tuple(value.shape) != piece.shape:
            found = "missing" if value is None else f"of shape {tuple(value.shape)}"
            raise InvalidInput(f"the tensor {piece.name!r} is {found}", field="weights", allowed=f"shape {piece.shape}")
        parts.append(np.asarray(value, np.float32).reshape(-1))
    return np.concatenate(parts)


def kernel_mask(layout: nn.Module | Layout) -> npt.NDArray[np.bool_]:
    """True where theta belongs to a tensor of two or more dimensions (convolution and linear kernels), [P]."""
    return np.concatenate([np.full(p.size, len(p.shape) >= 2) for p in _layout(layout)])


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


def _layout(layout: nn.Module | Layout) -> Layout:
    return names_and_shapes(layout) if isinstance(layout, nn.Module) else layout


def _numpy(tensor: Tensor) -> np.ndarray:
    """A row-major copy on the host."""
    return np.array(tensor.detach().cpu().contiguous().numpy())
