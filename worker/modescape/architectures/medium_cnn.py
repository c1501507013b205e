"""MediumCNN of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modescape.architectures.cnn import CnnOptions, layers_of, plain_cnn

if TYPE_CHECKING:
    from torch import nn

WIDTHS = (64, 128, 256, 256)


@plain_cnn(
    "medium-cnn",
    title="MediumCNN",
    layers=layers_of(WIDTHS),
    place=20,
)
def medium_cnn(channels: int, height: int, width: int, classes: int, options: CnnOptions) -> nn.Module:
    """Four 3x3 convolutions with 64, 128, 256 and 256 channels, no batch norm; 971,146 weights on CIFAR-10."""
    from modescape.science.networks import Cnn

    return Cnn(channels, height, width, classes, WIDTHS, **options.model_dump())
