"""A small network of linear layers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pydantic import Field

from modescape.architectures.architecture import Layer, architecture
from modescape.registry import Options

if TYPE_CHECKING:
    from torch import nn

    from modescape.science.alignment import Wiring


class MlpOptions(Options):
    first: int = Field(64, ge=1, le=8192, description="Units of the first hidden layer.")
    second: int = Field(32, ge=1, le=8192, description="Units of the second hidden layer.")
    dropout: float = Field(0.1, ge=0, le=0.9, description="Share of hidden units dropped in training.")
    zero_bias: bool = Field(True, description="Start biases at zero instead of Glorot uniform.")


def _layers(channels: int, height: int, width: int, classes: int, options: MlpOptions) -> Iterator[Layer]:
    for inputs, outputs in pairwise((channels * height * width, options.first, options.second, classes)):
        yield Layer(1, inputs, outputs)


def _wiring(module: Any, wiring: Wiring) -> None:
    wiring.layer(module.first, None, "first")
    wiring.layer(module.second, "first", "second")
    wiring.layer(module.head, "second", None)


@architecture(
    "mlp",
    title="MLP",
    layers=_layers,
    options=MlpOptions,
    source="ours, for quick runs: the smallest network without normalisation",
    dropout=True,
    initial="Glorot's",
    wiring=_wiring,
    place=60,
)
def mlp(channels: int, height: int, width: int, classes: int, options: MlpOptions) -> nn.Module:
    """Two hidden layers with ReLU (64 and 32 units), for quick runs on small images."""
    from modescape.science.networks import Mlp

    return Mlp(channels * height * width, classes, **options.model_dump())
