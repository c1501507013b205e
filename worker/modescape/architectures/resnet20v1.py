"""ResNet20v1 of the paper, from the Keras examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from modescape.architectures.architecture import architecture
from modescape.architectures.residual import ResidualOptions, layers_of, wiring
from modescape.versions import Added

if TYPE_CHECKING:
    from torch import nn


GROWTH = (1, 2, 4)


class ResNet20Options(ResidualOptions):
    keras_norm: bool = Field(
        True,
        description="Batch norm as in Keras (epsilon 0.001, momentum 0.99); off: PyTorch's (0.00001, 0.9), whose "
        "running statistics follow in tens of steps, not in hundreds: a training of some hundred steps needs that.",
    )
    width: Annotated[int, Added] = Field(
        16, ge=1, le=160, description="Channels of the first stage; the others have twice and four times as many."
    )
    depth: Annotated[int, Added] = Field(
        3, ge=1, le=18, description="Blocks of each of the three stages: 3 make 20 layers, 18 make 110."
    )


@architecture(
    "resnet20v1",
    title="ResNet20v1",
    layers=layers_of(GROWTH, bias=True),
    options=ResNet20Options,
    batch_norm=True,
    min_side=8,
    decay_on="kernels",  # as published
    source="He et al. 2016; layout of the Keras cifar10_resnet example, version 1, n = 3",
    dropout=True,
    initial="He's normal, cut off at two deviations, as in the Keras example it is taken from",
    wiring=wiring,
    place=30,
)
def resnet20v1(channels: int, height: int, width: int, classes: int, options: ResNet20Options) -> nn.Module:
    """Nine residual blocks of 16, 32 and 64 channels with batch norm; 273,066 weights on CIFAR-10."""
    from modescape.science.networks import ResNet20v1

    widths = [options.width * times for times in GROWTH]
    return ResNet20v1(channels, classes, widths, options.depth, keras_norm=options.keras_norm)
