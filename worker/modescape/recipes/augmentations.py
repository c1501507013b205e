"""Random changes of training examples. Evaluation never sees any."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from modescape.recipes.recipe import Examples, augmentation
from modescape.registry import NoOptions, Options, PixelAugmentation

if TYPE_CHECKING:
    from torch import Tensor

    Rng = np.random.Generator


@augmentation("none", title="None", source="the authors' code; science c.4", place=10)
def none(examples: Examples, options: NoOptions, rng: Rng) -> Examples:
    """Images as they are."""
    return examples


@augmentation(
    "shift-flip", title="Shift and flip", source="Keras' examples; science c.4", place=20,
    reading=lambda options: "shift-flip",
)  # fmt: skip
def shift_flip(examples: Examples, options: NoOptions, rng: Rng) -> Examples:
    """Shifts of up to a tenth of each side, every second image flipped from left to right."""
    return examples


@augmentation(
    "crop-flip", title="Crop and flip", source="He et al. 2016, section 4.2", place=30,
    reading=lambda options: "crop-flip",
)  # fmt: skip
def crop_flip(examples: Examples, options: NoOptions, rng: Rng) -> Examples:
    """Padded by an eighth and cut back at random, every second image flipped from left to right."""
    return examples


@augmentation(
    "resized-crop-flip", title="Resized crop and flip", source="Szegedy et al. 2015, section 6", place=40,
    reading=lambda options: "resized-crop-flip",
)  # fmt: skip
def resized_crop_flip(examples: Examples, options: NoOptions, rng: Rng) -> Examples:
    """Boxes of 8 to 100 % of the area scaled to the image's size, every second image flipped from left to right."""
    return examples


class FirstOptions(Options):
    first: PixelAugmentation = Field("none", description="What each picture is changed by before.")


class MixupOptions(FirstOptions):
    alpha: float = Field(0.2, gt=0, le=100, description="Both parameters of the Beta distribution of the share.")


@augmentation(
    "mixup", title="Mixup", source="Zhang et al. 2018, section 2", options=MixupOptions, place=50,
    reading=lambda options: options.first,
)  # fmt: skip
def mixup(examples: Examples, options: MixupOptions, rng: Rng) -> Examples:
    """Each example and another of its batch, pixels and labels, mixed in one share a batch."""
    share, order = float(rng.beta(options.alpha, options.alpha)), _order(examples, rng)
    images = examples.images.float()
    return _mixed(examples, share * images + (1 - share) * images[order], share, order)


class CutmixOptions(FirstOptions):
    alpha: float = Field(1.0, gt=0, le=100, description="Both parameters of the Beta distribution of the area's share.")


@augmentation(
    "cutmix", title="CutMix", source="Yun et al. 2019, section 3.1", options=CutmixOptions, place=60,
    reading=lambda options: options.first,
)  # fmt: skip
def cutmix(examples: Examples, options: CutmixOptions, rng: Rng) -> Examples:
    """A box of each image is that of another of its batch, and labels are mixed by area; one box a batch."""
    share, order = float(rng.beta(options.alpha, options.alpha)), _order(examples, rng)
    height, width = examples.images.shape[2:]
    top, bottom = _reach(height, share, rng)
    left, right = _reach(width, share, rng)
    images = examples.images.clone()
    images[:, :, top:bottom, left:right] = examples.images[order][:, :, top:bottom, left:right]
    return _mixed(examples, images, 1 - (bottom - top) * (right - left) / (height * width), order)


def _reach(side: int, share: float, rng: Rng) -> tuple[int, int]:
    """Where the box begins and ends along a side: sqrt(1 - share) of it around a random middle, cut at the border."""
    half, middle = int(side * (1 - share) ** 0.5) // 2, int(rng.integers(side))
    return max(0, middle - half), min(side, middle + half)


def _order(examples: Examples, rng: Rng) -> Tensor:
    import torch

    return torch.from_numpy(rng.permutation(len(examples.labels))).to(examples.labels.device)


def _mixed(examples: Examples, images: Tensor, share: float, order: Tensor) -> Examples:
    """An answer is right by the label that has the larger share."""
    shares = examples.known_shares()
    labels = examples.labels if share >= 0.5 else examples.labels[order]
    return replace(examples, images=images, labels=labels, shares=share * shares + (1 - share) * shares[order])


@augmentation(
    "trivial-augment", title="TrivialAugment", source="Müller and Hutter 2021, as torchvision has it",
    options=FirstOptions, reading=lambda options: options.first, draws="torch", package="torchvision", place=70,
)  # fmt: skip
def trivial_augment(examples: Examples, options: FirstOptions, rng: Rng) -> Examples:
    """One of fourteen changes of shape, colour or contrast at a random strength, each image its own."""
    from torchvision.transforms import v2

    return _each(examples, v2.TrivialAugmentWide())


class RandAugmentOptions(FirstOptions):
    changes: int = Field(2, ge=1, le=14, description="Changes that each image gets, one after another.")
    magnitude: int = Field(9, ge=0, le=30, description="Their strength, of 30.")


@augmentation(
    "rand-augment", title="RandAugment", source="Cubuk et al. 2020, as torchvision has it", options=RandAugmentOptions,
    reading=lambda options: options.first, draws="torch", package="torchvision", place=80,
)  # fmt: skip
def rand_augment(examples: Examples, options: RandAugmentOptions, rng: Rng) -> Examples:
    """A few changes of shape, colour or contrast at a fixed strength, drawn for each image."""
    from torchvision.transforms import v2

    return _each(examples, v2.RandAugment(num_ops=options.changes, magnitude=options.magnitude))


def _each(examples: Examples, change: object) -> Examples:
    """Images changed one by one: torchvision gives all of a batch the same change."""
    import torch

    assert callable(change)
    changed = torch.stack([change(image) for image in examples.images])
    return replace(examples, images=changed.contiguous(memory_format=torch.channels_last))
