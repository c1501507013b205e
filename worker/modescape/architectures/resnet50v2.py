"""ResNet50v2 for ImageNet, from Keras."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator

from modescape.architectures.architecture import Layer, architecture, halved
from modescape.errors import InvalidInput
from modescape.registry import Options
from modescape.versions import Added

if TYPE_CHECKING:
    from torch import nn

    from modescape.science.alignment import Wiring


class ResNet50Options(Options):
    width: Annotated[int, Added] = Field(
        64, ge=1, le=128, description="Channels of the first convolution; the published network is that of 64."
    )
    blocks: Annotated[tuple[int, ...], Added] = Field(
        (3, 4, 6, 3), min_length=4, max_length=4, description="Blocks of each stage: 3, 4, 23, 3 make 101 layers."
    )

    @field_validator("blocks")
    @classmethod
    def _some(cls, blocks: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= count <= 64 for count in blocks):
            raise InvalidInput("a stage has no blocks, or too many", allowed="four numbers of 1 to 64")
        return blocks


def _layers(channels: int, height: int, width: int, classes: int, options: ResNet50Options) -> Iterator[Layer]:
    yield Layer(49, channels, options.width, halved(height) * halved(width))
    inputs = options.width
    for stage, blocks in enumerate(options.blocks):
        inner, before = options.width * 2**stage, halved(height, stage + 2) * halved(width, stage + 2)
        for block in range(blocks):
            last = block == blocks - 1 and stage < 3
            after = halved(height, stage + 3) * halved(width, stage + 3) if last else before
            yield Layer(1, inputs, inner, before, bias=False, norm=inputs + inner)
            yield Layer(9, inner, inner, after, bias=False, norm=inner)
            yield Layer(1, inner, 4 * inner, after)
            if block == 0:
                yield Layer(1, inputs, 4 * inner, after)
            inputs = 4 * inner
    yield Layer(1, inputs, classes, norm=inputs)


def _wiring(module: Any, wiring: Wiring) -> None:
    stream = "stream 0"
    wiring.layer(module.stem, None, stream)
    for i, block in enumerate(module.blocks):
        out = stream if block.shortcut is None else f"stream {i + 1}"
        wiring.norm(block.norm, stream)
        wiring.layer(block.first, stream, f"block {i} first")
        wiring.norm(block.first_norm, f"block {i} first")
        wiring.layer(block.second, f"block {i} first", f"block {i} second")
        wiring.norm(block.second_norm, f"block {i} second")
        wiring.layer(block.third, f"block {i} second", out)
        if block.shortcut is not None:
            wiring.layer(block.shortcut, stream, out)
        stream = out
    wiring.norm(module.norm, stream)
    wiring.layer(module.head, stream, None)


@architecture(
    "resnet50v2",
    title="ResNet50v2",
    layers=_layers,
    options=ResNet50Options,
    batch_norm=True,
    min_side=32,
    decay_on="kernels",  # as published
    source="He et al. 2016b (identity mappings); layout of Keras applications",
    dropout=True,
    initial="Glorot's, as in Keras; the paper names none",
    wiring=_wiring,
    place=50,
)
def resnet50v2(channels: int, height: int, width: int, classes: int, options: ResNet50Options) -> nn.Module:
    """Sixteen pre-activated bottleneck blocks for ImageNet; 25,568,360 weights with 1,000 classes."""
    from modescape.science.networks import ResNet50v2

    return ResNet50v2(channels, classes, options.blocks, options.width)
