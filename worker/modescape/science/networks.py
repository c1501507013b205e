"""The torch building blocks of the architectures: plain convolutional networks, residual networks, dropout.

All networks take float32 images [N, C, H, W] and give logits [N, K].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from math import ceil, prod, sqrt
from typing import Any, Literal, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 1 << 16  # masks come from 16 random bits an element: rates are multiples of 1/65536


@runtime_checkable
class SeededNetwork(Protocol):
    """A network that draws its own initial weights. Others (plug-ins) are seeded through torch's global generator."""

    def initialise(self, rng: np.random.Generator) -> None: ...


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) whose masks come from 16 bits an element of a numpy generator.

    Each element is kept with probability 1 - rate and then divided by that probability, so means are unchanged.
    torch's own Bernoulli masks take longer than all of a small network's arithmetic (measured: SmallCNN, one thread,
    2,100 images a second with them and 5,800 without); bits from SFC64 cost a twentieth of that.

    In training mode masks come from `rng`, which the training loop sets each step. In evaluation mode the layer is off
    unless `forced` is set (Monte-Carlo dropout): then `rate` and `rng` are the sample's, and with `fixed` one mask
    of the feature shape serves every example: the first call draws it, later calls reuse it until `release`.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.rng: np.random.Generator | None = None
        self.forced: float | None = None
        self.fixed = False
        self.mask: Tensor | None = None

    def force(self, rate: float, rng: np.random.Generator, *, fixed: bool) -> None:
        """Stay active with `rate` in every mode until `release`; `fixed`: one mask for every example."""
        self.forced, self.rng, self.fixed, self.mask = rate, rng, fixed, None

    def release(self) -> None:
        """Back to ordinary dropout."""
        self.forced, self.fixed, self.mask = None, False, None

    @property
    def threshold(self) -> int:
        """Elements whose 16 bits are below it are dropped; 0 where the layer does nothing."""
        rate = self.forced if self.forced is not None else self.rate if self.training else 0.0
        return round(rate * _LEVELS)

    @property
    def scale(self) -> float:
        """What kept elements are multiplied by: one over the share kept, exactly the share the masks have."""
        return _LEVELS / (_LEVELS - self.threshold)

    def keep(self, features: Tensor) -> Tensor:
        """uint8 mask of `features`, 1 where kept: [N, ...], or [1, ...] when one mask serves all."""
        if self.mask is not None:
            return self.mask
        if self.rng is None:
            raise RuntimeError("a dropout layer in training needs its `rng`")
        shape = (1, *features.shape[1:]) if self.fixed else tuple(features.shape)
        mask = keep_mask(
            shape, self.threshold, self.rng, device=features.device, portable=self.forced is not None,
            channels_last=features.is_contiguous(memory_format=torch.channels_last),
        )  # fmt: skip
        if self.fixed:
            self.mask = mask
        return mask

    def forward(self, features: Tensor) -> Tensor:
        if self.threshold == 0:
            return features
        return features * self.keep(features).to(features.dtype).mul_(self.scale)


def keep_mask(
    shape: tuple[int, ...],
    threshold: int,
    rng: np.random.Generator,
    *,
    device: torch.device,
    channels_last: bool,
    portable: bool,
) -> Tensor:
    """uint8 [shape], 1 with probability 1 - threshold/65536; channels_last: whether features lie so, as masks then do.

    On a GPU the bits come from its own generator, seeded by `rng`, unless the mask must be equal on every device.
    """
    count = prod(shape)
    if device.type == "cuda" and not portable:
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**63)))
        kept = torch.randint(_LEVELS, (count,), generator=generator, device=device) >= threshold
        flat = kept.to(torch.uint8)
    else:
        words = rng.bit_generator.random_raw(-(-count // 4))
        flat = torch.from_numpy((words.view(np.uint16)[:count] >= threshold).view(np.uint8)).to(device)
    if len(shape) == 4 and channels_last:
        return flat.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)
    return flat.view(shape)


class Scaled:
    """A hook before a network's `forward`: images [N, C, H, W] are scaled to `side` squared, with antialiasing."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, _module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        images, *more = given
        if images.shape[-2:] == (self.side, self.side):
            return given
        scaled = F.interpolate(images.float(), (self.side, self.side), mode="bilinear", antialias=True)
        return (scaled.to(images.dtype), *more)


def dropout_layers(module: nn.Module) -> list[Dropout]:
    """Every dropout layer of a network, in the order of `modules()`."""
    return [layer for layer in module.modules() if isinstance(layer, Dropout)]


@contextmanager
def forced_dropout(module: nn.Module, rate: float, rng: np.random.Generator, *, fixed: bool) -> Iterator[None]:
    """Within it every dropout layer drops with `rate`, in evaluation mode too (science d.2, activation dropout)."""
    layers = dropout_layers(module)
    for layer in layers:
        layer.force(rate, rng, fixed=fixed)
    try:
        yield
    finally:
        for layer in layers:
            layer.release()


class Cnn(nn.Module):
    """SmallCNN and MediumCNN: blocks of convolution, dropout, max-pooling and ReLU, then one linear layer.

    Layout of the authors' notebook (science b.1): pooling rounds odd sizes up, the last block has no ReLU, and biases
    are Glorot uniform like the kernels unless `zero_bias`.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        classes: int,
        widths: Sequence[int],
        *,
        dropout: float,
        zero_bias: bool,
        last_relu: bool,
        order: Literal["conv-drop-pool-relu", "conv-relu-pool-drop"],
    ) -> None:
        super().__init__()
        self.zero_bias = zero_bias
        last, drop_first = len(widths) - 1, order == "conv-drop-pool-relu"
        self.blocks = nn.Sequential(
            *(
                CnnBlock(inputs, outputs, dropout, drop_first=drop_first, relu=i < last or last_relu)
                for i, (inputs, outputs) in enumerate(zip((channels, *widths), widths, strict=False))
            )
        )
        features = widths[-1] * ceil(height / 2 ** len(widths)) * ceil(width / 2 ** len(widths))
        self.head = nn.Linear(features, classes)

    def initialise(self, rng: np.random.Generator) -> None:
        _fill_glorot(self, rng, zero_bias=self.zero_bias)

    @staticmethod
    def look(images: Tensor) -> Pixels:
        """What `forward` takes in place of images, for networks that see the same ones in turn."""
        return Pixels(images)

    def forward(self, images: Tensor | Pixels) -> Tensor:
        pixels = images if isinstance(images, Pixels) else Pixels(images)
        return cast(Tensor, self.head(self.blocks(pixels).flatten(1)))


class Pixels:
    """A batch of images [N, C, H, W] as a first layer sees it; every network that looks at it shares the copies."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    @cached_property
    def patches(self) -> Tensor:
        """What a 3x3 convolution with same padding multiplies, [9 C + 1, N H W]: shifted copies, and 1 for the bias."""
        n, channels, height, width = self.images.shape
        found = torch.empty(channels * 9 + 1, n * height * width)
        windows = self._windows(height, width).permute(0, 2, 3, 1, 4, 5)
        found[:-1].view(channels, 3, 3, n, height, width).copy_(windows)
        found[-1] = 1
        return found

    def _windows(self, height: int, width: int) -> Tensor:
        """[C, N, up, left, height, width], a view: the framed images shifted up and left."""
        framed = F.pad(self.images.permute(1, 0, 2, 3), (1, 1, 1, 1)).contiguous()
        return framed.unfold(2, height, 1).unfold(3, width, 1)


class CnnBlock(nn.Module):
    """plain: by torch's own operations alone, which functions of many networks at once can be made of (`vmap`)."""

    plain = False

    def __init__(self, inputs: int, outputs: int, dropout: float, *, drop_first: bool, relu: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.dropout = Dropout(dropout)
        self.relu = relu
        self.drop_first = drop_first

    def forward(self, inputs: Tensor | Pixels) -> Tensor:
        dropped = self.drop_first and self.dropout.threshold > 0
        if self.plain:
            plain: Tensor = self.conv(inputs.images if isinstance(inputs, Pixels) else inputs)
            return self._finish(F.max_pool2d(self.dropout(plain) if dropped else plain, 2, ceil_mode=True))
        if isinstance(inputs, Pixels) and _by_products(inputs.images):
            features: Tensor = _PixelConvolution.apply(inputs.patches, inputs.images.shape, *self.conv.parameters())
        else:
            features = self.conv(inputs.images if isinstance(inputs, Pixels) else inputs)
        if dropped and self.training:
            pooled: Tensor = _DropPool.apply(features, self.dropout.keep(features), self.dropout.scale, self.relu)
            return pooled
        if dropped:
            features = self.dropout(features)
        # max-pooling and ReLU commute, and pooling first leaves a quarter of the work
        return self._finish(_pooled(features))

    def _finish(self, features: Tensor) -> Tensor:
        """What follows pooling."""
        if self.relu:
            features = F.relu(features)
        return features if self.drop_first else cast(Tensor, self.dropout(features))


def _by_products(images: Tensor) -> bool:
    """Whether a first layer is computed by matrix products over its images, whose gradient nobody asks for: in training
    of one channel; else of a few, where many networks look at the same copies."""
    plain = images.dtype == torch.float32 and images.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return plain and not images.requires_grad and images.shape[1] <= (1 if torch.is_grad_enabled() else 4)


class _PixelConvolution(torch.autograd.Function):
    """3x3 convolution, same padding, of images themselves: few channels, and nobody asks for their gradient.

    One matrix product over the nine shifted copies of every channel, whose result lies channels-last as the rest of
    the network likes it. One thread, 128 images to 16 channels, both passes, AVX2 and AVX-512: 1.7 and 1.9 ms of
    1x28x28, where torch's convolution takes 5.7 and 2.5; but 6.7 and 6.5 of 3x32x32, where that takes 4.0 and 3.4.
    """

    @staticmethod
    def forward(ctx: Any, patches: Tensor, shape: Sequence[int], weight: Tensor, bias: Tensor) -> Tensor:
        n, _, height, width = shape
        outputs = weight.shape[0]
        kernels = torch.cat([weight.reshape(outputs, -1), bias[:, None]], 1)
        ctx.save_for_backward(patches)
        ctx.weight_shape = weight.shape
        return (patches.t() @ kernels.t()).view(n, height, width, outputs).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor, Tensor]:
        (patches,) = ctx.saved_tensors
        gradient = gradients[0].permute(0, 2, 3, 1).reshape(patches.shape[1], -1)
        found = (patches @ gradient).t()
        return None, None, found[:, :-1].reshape(ctx.weight_shape), found[:, -1]


def _pooled(features: Tensor) -> Tensor:
    """2x2 max-pooling, odd sizes rounded up.

    Without gradients even sizes are the larger of neighbouring rows, then columns: the same values, a third of the time
    (torch also notes which one won; measured on one AVX2 thread, 102 maps 28x28 of 16 channels: 0.3 ms against 1.2).
    """
    if features.requires_grad or features.shape[-2] % 2 or features.shape[-1] % 2:
        return F.max_pool2d(features, 2, ceil_mode=True)
    rows = torch.maximum(features[..., 0::2, :], features[..., 1::2, :])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])


class _DropPool(torch.autograd.Function):
    """Dropout, 2x2 max-pooling (odd sizes rounded up) and, with `relu`, ReLU: one pass forward, a quarter of one back.

    A dropped element is 0, so what survives pooling and ReLU with a value above 0 was never dropped: behind a ReLU the
    backward pass needs no mask, only the scale. The convolution's output is changed in place; its backward pass does
    not need it.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, keep: Tensor, scale: float, relu: bool) -> Tensor:
        features = features.detach()
        features.mul_(keep.to(features.dtype))
        pooled, winners = torch.ops.aten.max_pool2d_with_indices(features, [2, 2], [2, 2], [0, 0], [1, 1], True)
        pooled.mul_(scale)
        if relu:
            pooled.relu_()
        ctx.scale, ctx.relu, ctx.features = scale, relu, features  # of the features backward reads only the shape
        ctx.save_for_backward(winners, pooled if relu else keep)
        return cast(Tensor, pooled)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        winners, last = ctx.saved_tensors
        gradient = gradients[0] * ctx.scale
        if ctx.relu:
            gradient = torch.ops.aten.threshold_backward(gradient, last, 0)
        full = torch.ops.aten.max_pool2d_with_indices_backward(
            gradient, ctx.features, [2, 2], [2, 2], [0, 0], [1, 1], True, winners
        )
        return full if ctx.relu else full.mul_(last), None, None, None


class Mlp(nn.Module):
    """Two hidden layers with ReLU and dropout; Glorot uniform kernels (science b.5)."""

    def __init__(self, inputs: int, classes: int, *, first: int, second: int, dropout: float, zero_bias: bool) -> None:
        super().__init__()
        self.zero_bias = zero_bias
        self.first = nn.Linear(inputs, first)
        self.first_dropout = Dropout(dropout)
        self.second = nn.Linear(first, second)
        self.second_dropout = Dropout(dropout)
        self.head = nn.Linear(second, classes)

    def initialise(self, rng: np.random.Generator) -> None:
        _fill_glorot(self, rng, zero_bias=self.zero_bias)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first_dropout(F.relu(self.first(images.flatten(1))))
        hidden = self.second_dropout(F.relu(self.second(hidden)))
        return cast(Tensor, self.head(hidden))


class ResNet(nn.Module):
    """Basic blocks in stages of one width, `depth` each; images are halved where a stage begins, but for the first."""

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: Sequence[int],
        depth: int,
        norm: Callable[[int], nn.BatchNorm2d],
        *,
        bias: bool,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=bias)
        self.stem_norm = norm(widths[0])
        blocks, inputs = [], widths[0]
        for outputs in widths:
            for block in range(depth):
                stride = 2 if block == 0 and outputs > widths[0] else 1
                blocks.append(BasicBlock(inputs, outputs, stride, norm, bias=bias))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.dropout = Dropout(0.0)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(F.relu(self.stem_norm(self.stem(images))))
        return cast(Tensor, self.head(self.dropout(features.mean((2, 3)))))


class ResNet20v1(ResNet):
    """The Keras `cifar10_resnet` example, version 1, n = 3 (science b.2). Dropout (rate 0) sits before the head."""

    def __init__(
        self, channels: int, classes: int, widths: Sequence[int] = (16, 32, 64), depth: int = 3, *,
        keras_norm: bool = True,
    ) -> None:  # fmt: skip
        # Keras counts momentum as the share kept, torch as the share replaced
        norm = _norm(1e-3, 0.01) if keras_norm else _norm(1e-5, 0.1)
        super().__init__(channels, classes, widths, depth, norm, bias=True)

    def initialise(self, rng: np.random.Generator) -> None:
        for layer in _weight_layers(self):
            fan_in, _ = _fans(layer.weight)
            _fill(layer.weight, rng, _he_normal(fan_in))
            _fill(layer.bias, rng, _zeros)


class ResNet18(ResNet):
    """ResNet-18 for 32-pixel images as in the cyclical SG-MCMC code (science b.4); torch's default initialisation."""

    def __init__(
        self, channels: int, classes: int, widths: Sequence[int] = (64, 128, 256, 512), depth: int = 2
    ) -> None:
        super().__init__(channels, classes, widths, depth, _norm(1e-5, 0.1), bias=False)

    def initialise(self, rng: np.random.Generator) -> None:
        for layer in _weight_layers(self):
            # torch's default, kaiming_uniform(a=sqrt(5)), is uniform within 1/sqrt(fan_in) for kernels and biases
            limit = _uniform(1 / sqrt(_fans(layer.weight)[0]))
            _fill(layer.weight, rng, limit)
            _fill(layer.bias, rng, limit)


class BasicBlock(nn.Module):
    """conv-BN-ReLU-conv-BN, plus shortcut, ReLU. With biases (Keras) the shortcut convolution has no BN."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, norm: Callable[[int], nn.BatchNorm2d], *, bias: bool
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)
        self.first_norm = norm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.second_norm = norm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=bias)
            self.shortcut = convolution if bias else nn.Sequential(convolution, norm(outputs))

    def forward(self, images: Tensor) -> Tensor:
        features = F.relu(self.first_norm(self.first(images)))
        return F.relu(self.second_norm(self.second(features)) + self.shortcut(images))


class ResNet50v2(nn.Module):
    """The pre-activated ResNet-50 of Keras applications (science b.3); counts: blocks of each stage; width: channels
    of the first convolution."""

    def __init__(self, channels: int, classes: int, counts: Sequence[int], width: int = 64) -> None:
        super().__init__()
        norm = _norm(1.001e-5, 0.01)
        self.stem = nn.Conv2d(channels, width, 7, 2, padding=3)
        blocks, inputs = [], width
        for stage, count in enumerate(counts):
            inner = width * 2**stage
            for block in range(count):
                stride = 2 if block == count - 1 and stage < 3 else 1
                blocks.append(_Bottleneck(inputs, inner, stride, norm, project=block == 0))
                inputs = 4 * inner
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm(inputs)
        self.dropout = Dropout(0.0)
        self.head = nn.Linear(inputs, classes)

    def initialise(self, rng: np.random.Generator) -> None:
        _fill_glorot(self, rng, zero_bias=True)

    def forward(self, images: Tensor) -> Tensor:
        # Keras pads with zeros before this pool; torch's own padding is minus infinity and would not clip the border
        features = F.max_pool2d(F.pad(self.stem(images), (1, 1, 1, 1)), 3, 2)
        features = F.relu(self.norm(self.blocks(features)))
        return cast(Tensor, self.head(self.dropout(features.mean((2, 3)))))


class _Bottleneck(nn.Module):
    """BN-ReLU first; 1x1, 3x3 (with the stride), 1x1 convolutions; the shortcut is projected or sub-sampled."""

    def __init__(
        self, inputs: int, inner: int, stride: int, norm: Callable[[int], nn.BatchNorm2d], *, project: bool
    ) -> None:
        super().__init__()
        self.stride = stride
        self.norm = norm(inputs)
        self.first = nn.Conv2d(inputs, inner, 1, bias=False)
        self.first_norm = norm(inner)
        self.second = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.second_norm = norm(inner)
        self.third = nn.Conv2d(inner, 4 * inner, 1)
        self.shortcut = nn.Conv2d(inputs, 4 * inner, 1, stride) if project else None

    def forward(self, images: Tensor) -> Tensor:
        ready = F.relu(self.norm(images))
        features = F.relu(self.first_norm(self.first(ready)))
        features = self.third(F.relu(self.second_norm(self.second(features))))
        if self.shortcut is not None:
            return cast(Tensor, features + self.shortcut(ready))
        # a 1x1 max-pool with stride is plain sub-sampling
        return cast(Tensor, features + (images[:, :, :: self.stride, :: self.stride] if self.stride > 1 else images))


def _norm(epsilon: float, momentum: float) -> Callable[[int], nn.BatchNorm2d]:
    return lambda channels: nn.BatchNorm2d(channels, eps=epsilon, momentum=momentum)


def _weight_layers(module: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    return (layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear))


# How initial weights are drawn: (rng, shape) -> float64 values. Fans count the kernel's area.
Draw = Callable[[np.random.Generator, tuple[int, ...]], "np.ndarray[Any, np.dtype[np.float64]]"]


def _fans(weight: Tensor) -> tuple[int, int]:
    area = prod(weight.shape[2:])
    return weight.shape[1] * area, weight.shape[0] * area


def _fill(parameter: Tensor | None, rng: np.random.Generator, draw: Draw) -> None:
    if parameter is not None:
        parameter.copy_(torch.from_numpy(draw(rng, tuple(parameter.shape)).astype(np.float32)))


def _fill_glorot(module: nn.Module, rng: np.random.Generator, *, zero_bias: bool) -> None:
    """Kernels Glorot uniform, and biases like them unless they start at zero."""
    for layer in _weight_layers(module):
        _fill(layer.weight, rng, _glorot_uniform(*_fans(layer.weight)))
        _fill(layer.bias, rng, _zeros if zero_bias else _glorot_uniform(1, layer.weight.shape[0]))


def _uniform(limit: float) -> Draw:
    return lambda rng, shape: rng.uniform(-limit, limit, shape)


def _glorot_uniform(fan_in: int, fan_out: int) -> Draw:
    return _uniform(sqrt(6 / (fan_in + fan_out)))


def _zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.zeros(shape)


def _he_normal(fan_in: int) -> Draw:
    """Normal cut at two deviations, as Keras has it: the deviation *after* cutting is sqrt(2 / fan_in)."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
        values = rng.standard_normal(shape)
        while (outside := np.abs(values) > 2).any():
            values[outside] = rng.standard_normal(int(outside.sum()))
        return values * (sqrt(2 / fan_in) / 0.87962566103423978)

    return draw
