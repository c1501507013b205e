"""A data set as torch sees it: split, held as uint8, with the transform that networks see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from modescape.science.data.augmentation import augment, flip, random_boxes
from modescape.science.data.raw import Augmentation, ImageFiles, Labels, Origin, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

InputScale = Literal["raw255", "unit", "standardised", "pixel-mean", "symmetric", "mean-std"]
ChannelOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class InputTransform:
    """What a network sees of pixels: (pixel - shift) * scale, with values computed from the training set.

    shift and scale are float32 and broadcast against [N, C, H, W]; science c.3: raw255 is the authors' code.
    """

    kind: InputScale
    shift: NDArray[np.float32]
    scale: NDArray[np.float32]
    order: ChannelOrder = "rgb"

    def __call__(self, images: Tensor) -> Tensor:
        """float32 in the memory layout of `images` (uint8, or float32 numbers, [N, C, H, W]). Channels are scaled, then
        put in order."""
        scaled = self._scaled(images)
        return scaled if self.order == "rgb" else scaled.flip(1)

    def _scaled(self, images: Tensor) -> Tensor:
        import torch

        if self.kind == "raw255":
            return images.to(torch.float32)
        shift, scale = self._on(images.device)
        return images.to(torch.float32, copy=True).sub_(shift).mul_(scale)  # a copy, for numbers are float32 already

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        import torch

        if device not in self._cache:
            self._cache[device] = (torch.from_numpy(self.shift).to(device), torch.from_numpy(self.scale).to(device))
        return self._cache[device]

    @cached_property
    def _cache(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}


@dataclass(frozen=True)
class Split:
    """Images of one split, as uint8 [N, C, H, W] on a device (float32: numbers that are no pictures) or as files, and
    their labels int64 [N].

    origin: which files or rows they were, of a user's own set.
    """

    images: Tensor | ImageFiles
    labels: Tensor
    origin: Origin | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_streamed(self) -> bool:
        return isinstance(self.images, ImageFiles)

    def batch(
        self, indices: Tensor, *, augmentation: Augmentation = "none", rng: np.random.Generator | None = None
    ) -> Tensor:
        """Images [n, C, H, W] as they are kept, in channels-last memory, augmented from `rng`."""
        import torch

        if isinstance(self.images, ImageFiles):
            boxes = random_boxes(len(indices), rng) if augmentation == "resized-crop-flip" and rng is not None else None
            read = torch.from_numpy(self.images.read(indices.tolist(), boxes)).to(self.labels.device)
            if boxes is not None and rng is not None:
                return flip(read, rng)
            return read if rng is None else augment(read, augmentation, rng)
        picked = self.images.permute(0, 2, 3, 1).index_select(0, indices).permute(0, 3, 1, 2)
        return picked if augmentation == "none" or rng is None else augment(picked, augmentation, rng)

    def rows(self, start: int, stop: int) -> Tensor:
        """Images [n, C, H, W] from one place to another, as they are kept: where they are held, a view."""
        import torch

        if isinstance(self.images, ImageFiles):
            return self.batch(torch.arange(start, min(stop, len(self)), device=self.labels.device))
        return self.images[start:stop]

    def take(self, n: int) -> Split:
        """The first n."""
        images = self.images.take(range(min(n, len(self)))) if isinstance(self.images, ImageFiles) else self.images[:n]
        return Split(images, self.labels[:n], self.origin and self.origin.take(np.arange(min(n, len(self)))))

    def to(self, device: torch.device | str) -> Split:
        images = self.images if isinstance(self.images, ImageFiles) else self.images.to(device)
        return Split(images, self.labels.to(device), self.origin)

    def numpy_labels(self) -> Labels:
        return cast(Labels, self.labels.cpu().numpy())


@dataclass(frozen=True)
class Splits:
    """A data set ready for training: three splits, class names, and the transform computed from the training images."""

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    transform: InputTransform
    shape: Shape

    def to(self, device: torch.device | str) -> Splits:
        return replace(
            self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device)
        )


_STATISTICS_IMAGES = 10_000  # of streamed sets, whose every image would be read from disk


@dataclass(frozen=True)
class Inputs:
    """How pixels are scaled, and in which order channels come. mean, deviation: of x/255, for the kind mean-std."""

    kind: InputScale
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    order: ChannelOrder = "rgb"


def transform_of(inputs: Inputs, train: Split) -> InputTransform:
    """What a network sees (science c.3). mean and deviation are in the order of the files' channels."""
    if inputs.kind != "mean-std":
        return replace(make_transform(inputs.kind, train), order=inputs.order)
    mean, deviation = (255 * np.array(values)[None, :, None, None] for values in (inputs.mean, inputs.deviation))
    shift, scale = mean.astype(np.float32), (1 / deviation).astype(np.float32)
    return InputTransform(inputs.kind, shift, scale, inputs.order)


def make_transform(kind: InputScale, train: Split) -> InputTransform:
    """The transform of science c.3, from all training images (streamed sets: from the first 10,000)."""
    if kind in ("raw255", "unit", "symmetric"):
        middle, factor = {"raw255": (0.0, 1.0), "unit": (0.0, 1 / 255), "symmetric": (127.5, 1 / 127.5)}[kind]
        return InputTransform(kind, _constant(middle), _constant(factor))
    total, squares, n = _sums(train)
    if kind == "pixel-mean":
        return InputTransform(kind, (total / n).astype(np.float32)[None], _constant(1 / 255))
    pixels = n * total.shape[1] * total.shape[2]
    mean = total.sum((1, 2)) / pixels
    deviation = np.sqrt(np.maximum(squares.sum((1, 2)) / pixels - mean**2, 0))
    shift, scale = (
        v.astype(np.float32)[None, :, None, None] for v in (mean, 1 / np.where(deviation > 0, deviation, 1))
    )
    return InputTransform(kind, shift, scale)


def _constant(value: float) -> NDArray[np.float32]:
    return np.full((1, 1, 1, 1), value, np.float32)


def _sums(train: Split) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Sum and sum of squares of every pixel over the training images [C, H, W], and their number; exact of bytes."""
    import torch

    n = min(len(train), _STATISTICS_IMAGES) if train.is_streamed else len(train)
    total: Any = 0
    squares: Any = 0
    for start in range(0, n, 1000):
        pixels = train.batch(torch.arange(start, min(start + 1000, n))).numpy()
        pixels = pixels.astype(np.int64 if pixels.dtype == np.uint8 else np.float64)
        total = total + pixels.sum(0)
        squares = squares + (pixels**2).sum(0)
    return total.astype(np.float64), squares.astype(np.float64), n
