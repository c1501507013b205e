"""ResNet-18 for small images, of the published SG-MCMC code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from modescape.architectures.architecture import architecture
from modescape.architectures.residual import ResidualOptions, layers_of, wiring
from modescape.versions import Added

if TYPE_CHECKING:
    from torch import nn


GROWTH = (1, 2, 4, 8)


class ResNet18Options(ResidualOptions):
    width: Annotated[int, Added] = Field(
        64, ge=1, le=128, description="Channels of the first stage, doubled with each of the four."
    )
    depth: Annotated[int, Added] = Field(
        2, ge=1, le=8, description="Blocks of each of the four stages: 2 make 18 layers, 4 make 34."
    )


@architecture(
    "resnet18",
    title="ResNet18",
    layers=layers_of(GROWTH, bias=False),
    options=ResNet18Options,
    batch_norm=True,
    min_side=8,
    decay_on="kernels",  # as published
    source="He et al. 2016; layout of Zhang et al. 2020 (cyclical SG-MCMC), models/resnet.py",
    dropout=True,
    initial="torch's default, as in the published SG-MCMC code",
    wiring=wiring,
    place=40,
)
def resnet18(channels: int, height: int, width: int, classes: int, options: ResNet18Options) -> nn.Module:
    """Eight basic blocks of 64 to 512 channels with batch norm, for 32-pixel images; 11,173,962 weights on CIFAR-10."""
    from modescape.science.networks import ResNet18

    return ResNet18(channels, classes, [options.width * times for times in GROWTH], options.depth)
