"""SmallCNN of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modescape.architectures.cnn import CnnOptions, layers_of, plain_cnn

if TYPE_CHECKING:
    from torch import nn

WIDTHS = (16, 32, 32)


@plain_cnn(
    "small-cnn",
    title="SmallCNN",
    layers=layers_of(WIDTHS),
    place=10,
)
def small_cnn(channels: int, height: int, width: int, classes: int, options: CnnOptions) -> nn.Module:
    """Three 3x3 convolutions with 16, 32 and 32 channels, no batch norm; 19,466 weights on CIFAR-10."""
    from modescape.science.networks import Cnn

    return Cnn(channels, height, width, classes, WIDTHS, **options.model_dump())
