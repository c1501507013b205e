"""What the two plain convolutional networks have in common: options, layers, and which channels can be permuted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from modescape.architectures.architecture import Layer, Layers, architecture, halved
from modescape.registry import Options

if TYPE_CHECKING:
    from torch import nn

    from modescape.science.alignment import Wiring


class CnnOptions(Options):
    """What the two plain convolutional networks let one choose; the defaults are the authors' code."""

    dropout: float = Field(
        0.1, ge=0, le=0.9, description="Share of features dropped after each convolution in training."
    )
    zero_bias: bool = Field(False, description="Start biases at zero; the authors' code draws them Glorot uniform.")
    last_relu: bool = Field(False, description="A ReLU after the last block too; the authors' code has none there.")
    order: Literal["conv-drop-pool-relu", "conv-relu-pool-drop"] = Field(
        "conv-drop-pool-relu", description="Order inside a block; the first is the authors' code."
    )


class SizedCnnOptions(CnnOptions):
    """Those of a network with a width and a depth."""

    width: int
    depth: int


def widths_of(growth: Sequence[int], options: SizedCnnOptions) -> tuple[int, ...]:
    """Channels of each convolution: the first one's times `growth`, whose last goes on for a deeper network."""
    return tuple(options.width * growth[min(i, len(growth) - 1)] for i in range(options.depth))


def built(
    growth: Sequence[int], channels: int, height: int, width: int, classes: int, options: SizedCnnOptions
) -> nn.Module:
    from modescape.science.networks import Cnn

    own = options.model_dump(exclude={"width", "depth"})
    return Cnn(channels, height, width, classes, widths_of(growth, options), **own)


def layers_of(growth: Sequence[int]) -> Layers:
    """A 3x3 convolution of each width, each halving the image, then one linear layer."""

    def layers(channels: int, height: int, width: int, classes: int, options: SizedCnnOptions) -> Iterator[Layer]:
        widths = widths_of(growth, options)
        for i, (inputs, outputs) in enumerate(pairwise((channels, *widths))):
            yield Layer(9, inputs, outputs, halved(height, i) * halved(width, i))
        yield Layer(1, widths[-1] * halved(height, len(widths)) * halved(width, len(widths)), classes)

    return layers


def wiring(module: Any, wiring: Wiring) -> None:
    """One group a convolution."""
    before = None
    for i, block in enumerate(module.blocks):
        wiring.layer(block.conv, before, f"block {i}")
        before = f"block {i}"
    wiring.layer(module.head, before, None)


plain_cnn = partial(
    architecture,
    decay_on="kernels",  # as published
    source="Fort, Hu, Lakshminarayanan 2019, section 3; layout of the authors' notebook",
    dropout=True,
    initial="Glorot's, biases too, as in the authors' code",
    wiring=wiring,
    engine=2,  # the first convolution of several channels is torch's
)
