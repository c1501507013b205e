"""ResNet-18 for small images, of the published SG-MCMC code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modescape.architectures.architecture import architecture
from modescape.architectures.residual import layers_of, wiring
from modescape.registry import NoOptions

if TYPE_CHECKING:
    from torch import nn


@architecture(
    "resnet18",
    title="ResNet18",
    layers=layers_of((64, 128, 256, 512), 2, bias=False),
    batch_norm=True,
    min_side=8,
    decay_on="kernels",  # as published
    source="He et al. 2016; layout of Zhang et al. 2020 (cyclical SG-MCMC), models/resnet.py",
    dropout=True,
    initial="torch's default, as in the published SG-MCMC code",
    wiring=wiring,
    place=40,
)
def resnet18(channels: int, height: int, width: int, classes: int, options: NoOptions) -> nn.Module:
    """Eight basic blocks of 64 to 512 channels with batch norm, for 32-pixel images; 11,173,962 weights on CIFAR-10."""
    from modescape.science.networks import ResNet18

    return ResNet18(channels, classes)
