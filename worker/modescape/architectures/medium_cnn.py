"""MediumCNN of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from modescape.architectures.cnn import SizedCnnOptions, built, layers_of, plain_cnn
from modescape.versions import Added

if TYPE_CHECKING:
    from torch import nn

GROWTH = (1, 2, 4, 4)


class MediumCnnOptions(SizedCnnOptions):
    width: Annotated[int, Added] = Field(
        64, ge=1, le=256, description="Channels of the first convolution; the others have twice and four times as many."
    )
    depth: Annotated[int, Added] = Field(4, ge=1, le=8, description="Convolutions, each of which halves the image.")


@plain_cnn(
    "medium-cnn",
    title="MediumCNN",
    options=MediumCnnOptions,
    layers=layers_of(GROWTH),
    place=20,
)
def medium_cnn(channels: int, height: int, width: int, classes: int, options: MediumCnnOptions) -> nn.Module:
    """Four 3x3 convolutions with 64, 128, 256 and 256 channels, no batch norm; 971,146 weights on CIFAR-10."""
    return built(GROWTH, channels, height, width, classes, options)
