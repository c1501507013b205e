"""What a network says of itself without torch: what can be chosen, its layers, how it starts and can be aligned.

    architectures["small-cnn"].parameters(3, 32, 32, 10, CnnOptions())     # 19466

The factory alone loads torch. Counts are closed forms that a test compares with the networks built, or, where layers
are not declared, counted by `counting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from modescape.architectures import counting
from modescape.registry import LAST, Architecture, NoOptions, Options, architectures

if TYPE_CHECKING:
    from modescape.science.alignment import Wiring

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer: a kernel of `area` pixels at `positions`; norm: channels of its batch norm."""

    area: int
    inputs: int
    outputs: int
    positions: int = 1
    bias: bool = True
    norm: int = 0

    @property
    def parameters(self) -> int:
        return self.area * self.inputs * self.outputs + self.outputs * self.bias + 2 * self.norm

    @property
    def multiply_adds(self) -> int:
        return self.area * self.inputs * self.outputs * self.positions


Layers = Callable[[int, int, int, int, Any], Iterable[Layer]]  # (channels, height, width, classes, options)


def architecture(
    name: str,
    *,
    title: str,
    source: str,
    layers: Layers | None = None,
    options: type[Options] = NoOptions,
    batch_norm: bool | None = None,
    min_side: int = 1,
    decay_on: Literal["kernels", "weights"] = "weights",
    dropout: bool | None = None,
    initial: str = "",
    wiring: Callable[[Any, Wiring], None] | None = None,
    unaligned: str = "",
    engine: int = 1,
    place: int = LAST,
) -> Callable[[F], F]:
    """Register a factory `(channels, height, width, classes, options) -> nn.Module`; its docstring is the summary.

    `layers`, with the same arguments, lists what the network computes: counts and costs are sums over it, and no torch
    is needed for them. Without it they are counted of the network itself, and so is `batch_norm` where it is not said.
    The rest is said in `registry.Architecture`.
    """
    counted, norms = layers is None, layers is None and batch_norm is None

    def register(factory: F) -> F:
        sizes = _declared(layers) if layers is not None else _counted(name)
        architectures.add(
            Architecture(
                name=name, title=title, summary=" ".join((factory.__doc__ or "").split()), source=source,
                options=options, call=factory, batch_norm=bool(batch_norm), min_side=min_side,
                decay_on=decay_on, dropout=dropout, initial=initial, wiring=wiring, unaligned=unaligned,
                engine=engine, place=place, counted=counted, parameters=sizes[0], multiply_adds=sizes[1],
                norms=partial(counting.batch_norm, name) if norms else None,
            )
        )  # fmt: skip
        return factory

    return register


Size = Callable[..., int]


def _declared(layers: Layers) -> tuple[Size, Size]:
    """Weights, and multiply-adds of one image, as sums over layers."""
    return (
        lambda *shape: sum(layer.parameters for layer in layers(*shape)),
        lambda *shape: sum(layer.multiply_adds for layer in layers(*shape)),
    )


def _counted(name: str) -> tuple[Size, Size]:
    return partial(counting.parameters, name), partial(counting.multiply_adds, name)


def halved(side: int, times: int = 1) -> int:
    """Side length after `times` halvings that round up, as TensorFlow's "SAME" pools and strided convolutions do."""
    return -(-side // (1 << times))
