"""Which networks there are, what can be chosen of each, and how many weights they have, all without loading torch.

    architectures["small-cnn"].parameters(3, 32, 32, 10, CnnOptions())     # 19466

The networks themselves are in networks.py, which only the factories below load. Counts are closed forms that a test
compares with the networks built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field

from modescape.registry import Architecture, NoOptions, Options, architectures

if TYPE_CHECKING:
    from torch import nn


SMALL_CNN = (16, 32, 32)
MEDIUM_CNN = (64, 128, 256, 256)
RESNET50_BLOCKS = (3, 4, 6, 3)

F = TypeVar("F", bound=Callable[..., Any])


class CnnOptions(Options):
    """What the two plain convolutional networks let one choose; the defaults are the authors' code."""

    dropout: float = Field(
        0.1, ge=0, le=0.9, description="Share of features dropped after each convolution in training."
    )
    zero_bias: bool = Field(False, description="Start biases at zero; the authors' code draws them Glorot uniform.")
    last_relu: bool = Field(False, description="A ReLU after the last block too; the authors' code has none there.")
    order: Literal["conv-drop-pool-relu", "conv-relu-pool-drop"] = Field(
        "conv-drop-pool-relu", description="Order inside a block; the first is the authors' code."
    )


class MlpOptions(Options):
    first: int = Field(64, ge=1, le=8192, description="Units of the first hidden layer.")
    second: int = Field(32, ge=1, le=8192, description="Units of the second hidden layer.")
    dropout: float = Field(0.1, ge=0, le=0.9, description="Share of hidden units dropped in training.")
    zero_bias: bool = Field(True, description="Start biases at zero instead of Glorot uniform.")


class ResNet20Options(Options):
    keras_norm: bool = Field(
        True,
        description="Batch norm as in Keras (epsilon 0.001, momentum 0.99); off: PyTorch's (0.00001, 0.9), whose "
        "running statistics follow in tens of steps, not in hundreds: a training of some hundred steps needs that.",
    )


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer: a kernel of `area` pixels at `positions`; norm: channels of its batch norm."""

    area: int
    inputs: int
    outputs: int
    positions: int = 1
    bias: bool = True
    norm: int = 0

    @property
    def parameters(self) -> int:
        return self.area * self.inputs * self.outputs + self.outputs * self.bias + 2 * self.norm

    @property
    def multiply_adds(self) -> int:
        return self.area * self.inputs * self.outputs * self.positions


Layers = Callable[[int, int, int, int, Any], Iterable[Layer]]  # (channels, height, width, classes, options)


def architecture(
    name: str,
    *,
    title: str,
    source: str,
    layers: Layers,
    options: type[Options] = NoOptions,
    batch_norm: bool = False,
    min_side: int = 1,
    decay_on: Literal["kernels", "weights"] = "weights",
    dropout: bool | None = None,
) -> Callable[[F], F]:
    """Register a factory `(channels, height, width, classes, options) -> nn.Module`; its docstring is the summary.

    `layers`, with the same arguments, lists what the network computes: counts and costs are sums over it.
    """

    def register(factory: F) -> F:
        architectures.add(
            Architecture(
                name=name, title=title, summary=" ".join((factory.__doc__ or "").split()), source=source,
                options=options, call=factory, batch_norm=batch_norm, min_side=min_side,
                decay_on=decay_on, dropout=dropout,
                parameters=lambda *shape: sum(layer.parameters for layer in layers(*shape)),
                multiply_adds=lambda *shape: sum(layer.multiply_adds for layer in layers(*shape)),
            )
        )  # fmt: skip
        return factory

    return register


def halved(side: int, times: int = 1) -> int:
    """Side length after `times` halvings that round up, as TensorFlow's "SAME" pools and strided convolutions do."""
    return -(-side // (1 << times))


def _cnn(widths: Sequence[int]) -> Layers:
    def layers(channels: int, height: int, width: int, classes: int, options: CnnOptions) -> Iterator[Layer]:
        for i, (inputs, outputs) in enumerate(pairwise((channels, *widths))):
            yield Layer(9, inputs, outputs, halved(height, i) * halved(width, i))
        yield Layer(1, widths[-1] * halved(height, len(widths)) * halved(width, len(widths)), classes)

    return layers


@architecture(
    "small-cnn",
    title="SmallCNN",
    layers=_cnn(SMALL_CNN),
    options=CnnOptions,
    decay_on="kernels",  # as published
    source="Fort, Hu, Lakshminarayanan 2019, section 3; layout of the authors' notebook",
    dropout=True,
)
def small_cnn(channels: int, height: int, width: int, classes: int, options: CnnOptions) -> nn.Module:
    """Three 3x3 convolutions with 16, 32 and 32 channels, no batch norm; 19,466 weights on CIFAR-10."""
    from modescape.science.networks import Cnn

    return Cnn(channels, height, width, classes, SMALL_CNN, options)


@architecture(
    "medium-cnn",
    title="MediumCNN",
    layers=_cnn(MEDIUM_CNN),
    options=CnnOptions,
    decay_on="kernels",  # as published
    source="Fort, Hu, Lakshminarayanan 2019, section 3; layout of the authors' notebook",
    dropout=True,
)
def medium_cnn(channels: int, height: int, width: int, classes: int, options: CnnOptions) -> nn.Module:
    """Four 3x3 convolutions with 64, 128, 256 and 256 channels, no batch norm; 971,146 weights on CIFAR-10."""
    from modescape.science.networks import Cnn

    return Cnn(channels, height, width, classes, MEDIUM_CNN, options)


def _resnet20(channels: int, height: int, width: int, classes: int, options: ResNet20Options) -> Iterator[Layer]:
    yield Layer(9, channels, 16, height * width, norm=16)
    inputs = 16
    for stage, outputs in enumerate((16, 32, 64)):
        positions = halved(height, stage) * halved(width, stage)
        for _ in range(3):
            yield Layer(9, inputs, outputs, positions, norm=outputs)
            yield Layer(9, outputs, outputs, positions, norm=outputs)
            if inputs != outputs:
                yield Layer(1, inputs, outputs, positions)
            inputs = outputs
    yield Layer(1, 64, classes)


@architecture(
    "resnet20v1",
    title="ResNet20v1",
    layers=_resnet20,
    options=ResNet20Options,
    batch_norm=True,
    min_side=8,
    decay_on="kernels",  # as published
    source="He et al. 2016; layout of the Keras cifar10_resnet example, version 1, n = 3",
    dropout=True,
)
def resnet20v1(channels: int, height: int, width: int, classes: int, options: ResNet20Options) -> nn.Module:
    """Nine residual blocks of 16, 32 and 64 channels with batch norm; 273,066 weights on CIFAR-10."""
    from modescape.science.networks import ResNet20v1

    return ResNet20v1(channels, classes, keras_norm=options.keras_norm)


def _resnet18(channels: int, height: int, width: int, classes: int, options: NoOptions) -> Iterator[Layer]:
    yield Layer(9, channels, 64, height * width, bias=False, norm=64)
    inputs = 64
    for stage, outputs in enumerate((64, 128, 256, 512)):
        positions = halved(height, stage) * halved(width, stage)
        for _ in range(2):
            yield Layer(9, inputs, outputs, positions, bias=False, norm=outputs)
            yield Layer(9, outputs, outputs, positions, bias=False, norm=outputs)
            if inputs != outputs:
                yield Layer(1, inputs, outputs, positions, bias=False, norm=outputs)
            inputs = outputs
    yield Layer(1, 512, classes)


@architecture(
    "resnet18",
    title="ResNet18",
    layers=_resnet18,
    batch_norm=True,
    min_side=8,
    decay_on="kernels",  # as published
    source="He et al. 2016; layout of Zhang et al. 2020 (cyclical SG-MCMC), models/resnet.py",
    dropout=True,
)
def resnet18(channels: int, height: int, width: int, classes: int, options: NoOptions) -> nn.Module:
    """Eight basic blocks of 64 to 512 channels with batch norm, for 32-pixel images; 11,173,962 weights on CIFAR-10."""
    from modescape.science.networks import ResNet18

    return ResNet18(channels, classes)


def _resnet50(channels: int, height: int, width: int, classes: int, options: NoOptions) -> Iterator[Layer]:
    yield Layer(49, channels, 64, halved(height) * halved(width))
    inputs = 64
    for stage, blocks in enumerate(RESNET50_BLOCKS):
        inner, before = 64 * 2**stage, halved(height, stage + 2) * halved(width, stage + 2)
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


@architecture(
    "resnet50v2",
    title="ResNet50v2",
    layers=_resnet50,
    batch_norm=True,
    min_side=32,
    decay_on="kernels",  # as published
    source="He et al. 2016b (identity mappings); layout of Keras applications",
    dropout=True,
)
def resnet50v2(channels: int, height: int, width: int, classes: int, options: NoOptions) -> nn.Module:
    """Sixteen pre-activated bottleneck blocks for ImageNet; 25,568,360 weights with 1,000 classes."""
    from modescape.science.networks import ResNet50v2

    return ResNet50v2(channels, classes)


def _mlp(channels: int, height: int, width: int, classes: int, options: MlpOptions) -> Iterator[Layer]:
    for inputs, outputs in pairwise((channels * height * width, options.first, options.second, classes)):
        yield Layer(1, inputs, outputs)


@architecture(
    "mlp",
    title="MLP",
    layers=_mlp,
    options=MlpOptions,
    source="ours, for quick runs: the smallest network without normalisation",
    dropout=True,
)
def mlp(channels: int, height: int, width: int, classes: int, options: MlpOptions) -> nn.Module:
    """Two hidden layers with ReLU (64 and 32 units), for quick runs on small images."""
    from modescape.science.networks import Mlp

    return Mlp(channels * height * width, classes, options)
