"""SmallCNN of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from modescape.architectures.cnn import SizedCnnOptions, built, layers_of, plain_cnn
from modescape.versions import Added

if TYPE_CHECKING:
    from torch import nn

GROWTH = (1, 2, 2)


class SmallCnnOptions(SizedCnnOptions):
    width: Annotated[int, Added] = Field(
        16, ge=1, le=512, description="Channels of the first convolution; the others have twice as many."
    )
    depth: Annotated[int, Added] = Field(3, ge=1, le=8, description="Convolutions, each of which halves the image.")


@plain_cnn(
    "small-cnn",
    title="SmallCNN",
    options=SmallCnnOptions,
    layers=layers_of(GROWTH),
    place=10,
)
def small_cnn(channels: int, height: int, width: int, classes: int, options: SmallCnnOptions) -> nn.Module:
    """Three 3x3 convolutions with 16, 32 and 32 channels, no batch norm; 19,466 weights on CIFAR-10."""
    return built(GROWTH, channels, height, width, classes, options)
