"""What a network says of itself without torch: what can be chosen, its layers, how it starts and can be aligned.

    architectures["small-cnn"].parameters(3, 32, 32, 10, CnnOptions())     # 19466

The factory alone loads torch. Counts are closed forms that a test compares with the networks built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

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
    layers: Layers,
    options: type[Options] = NoOptions,
    batch_norm: bool = False,
    min_side: int = 1,
    decay_on: Literal["kernels", "weights"] = "weights",
    dropout: bool | None = None,
    initial: str = "",
    wiring: Callable[[Any, Wiring], None] | None = None,
    unaligned: str = "",
    place: int = LAST,
) -> Callable[[F], F]:
    """Register a factory `(channels, height, width, classes, options) -> nn.Module`; its docstring is the summary.

    `layers`, with the same arguments, lists what the network computes: counts and costs are sums over it. The rest is
    said in `registry.Architecture`.
    """

    def register(factory: F) -> F:
        architectures.add(
            Architecture(
                name=name, title=title, summary=" ".join((factory.__doc__ or "").split()), source=source,
                options=options, call=factory, batch_norm=batch_norm, min_side=min_side,
                decay_on=decay_on, dropout=dropout, initial=initial, wiring=wiring, unaligned=unaligned,
                place=place,
                parameters=lambda *shape: sum(layer.parameters for layer in layers(*shape)),
                multiply_adds=lambda *shape: sum(layer.multiply_adds for layer in layers(*shape)),
            )
        )  # fmt: skip
        return factory

    return register


def halved(side: int, times: int = 1) -> int:
    """Side length after `times` halvings that round up, as TensorFlow's "SAME" pools and strided convolutions do."""
    return -(-side // (1 << times))
