"""A network whose module loads torch, so that only workers can load it."""

from pydantic import Field
from torch import nn

from modescape.architectures.architecture import Layer, architecture
from modescape.registry import Options


class GroupNormOptions(Options):
    width: int = Field(8, ge=4, le=64, multiple_of=4, description="Channels of the convolution.")


def layers(channels, height, width, classes, options):
    yield Layer(9, channels, options.width, positions=height * width, norm=options.width)
    yield Layer(1, options.width * height * width, classes)


@architecture("gn-net", title="GN net", source="their lab", layers=layers, options=GroupNormOptions)
def gn_net(channels, height, width, classes, options):
    """One convolution with group normalisation, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, options.width, 3, padding=1), nn.GroupNorm(4, options.width), nn.ReLU(),
        nn.Flatten(), nn.Linear(options.width * height * width, classes),
    )  # fmt: skip
