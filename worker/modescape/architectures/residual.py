"""What residual networks of basic blocks have in common: their layers, and which channels can be permuted together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from modescape.architectures.architecture import Layer, Layers, halved
from modescape.registry import Options

if TYPE_CHECKING:
    from modescape.science.alignment import Wiring


class ResidualOptions(Options):
    """Those of a network with a width and a depth."""

    width: int
    depth: int


def layers_of(growth: Sequence[int], *, bias: bool) -> Layers:
    """A 3x3 convolution, then `depth` blocks of each width, then one linear layer. With biases a shortcut has no
    norm."""

    def layers(channels: int, height: int, width: int, classes: int, options: ResidualOptions) -> Iterator[Layer]:
        widths, depth = [options.width * times for times in growth], options.depth
        yield Layer(9, channels, widths[0], height * width, bias=bias, norm=widths[0])
        inputs = widths[0]
        for stage, outputs in enumerate(widths):
            positions = halved(height, stage) * halved(width, stage)
            for _ in range(depth):
                yield Layer(9, inputs, outputs, positions, bias=bias, norm=outputs)
                yield Layer(9, outputs, outputs, positions, bias=bias, norm=outputs)
                if inputs != outputs:
                    yield Layer(1, inputs, outputs, positions, bias=bias, norm=0 if bias else outputs)
                inputs = outputs
        yield Layer(1, inputs, classes)

    return layers


def wiring(module: Any, wiring: Wiring) -> None:
    """The stream that blocks add to is one group until a shortcut changes its width; each block has one inside."""
    from torch import nn

    stream = "stream 0"
    wiring.layer(module.stem, None, stream)
    wiring.norm(module.stem_norm, stream)
    for i, block in enumerate(module.blocks):
        inner, out = f"block {i}", stream
        shortcut = list(block.shortcut) if isinstance(block.shortcut, nn.Sequential) else [block.shortcut]
        if not isinstance(shortcut[0], nn.Identity):
            out = f"stream {i + 1}"
            wiring.layer(shortcut[0], stream, out)
            for norm in shortcut[1:]:
                wiring.norm(norm, out)
        wiring.layer(block.first, stream, inner)
        wiring.norm(block.first_norm, inner)
        wiring.layer(block.second, inner, out)
        wiring.norm(block.second_norm, out)
        stream = out
    wiring.layer(module.head, stream, None)
