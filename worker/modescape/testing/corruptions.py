"""What every corruption keeps to: bytes again, the same for an image wherever it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from modescape.corruptions.corruption import INTENSITIES, Pixels, applicable, corrupt
from modescape.errors import InvalidInput
from modescape.registry import Corruption, corruptions
from modescape.testing.contract import SHARED, Checked, Contract, concerns, equal, expect, module_of, refused

SIZES = ((1, 28), (3, 32), (1, 8), (3, 12))


def pictures(n: int, channels: int, side: int) -> Pixels:
    """Smooth made-up pictures that use the whole range, uint8 [n, C, side, side]."""
    rng = np.random.default_rng(5)
    coarse = rng.random((n, channels, 2 + side // 4, 2 + side // 4))
    for axis in (2, 3):
        places = np.linspace(0, coarse.shape[axis] - 1.001, side)
        below, share = places.astype(int), (places % 1).reshape((-1, 1) if axis == 2 else (1, -1))
        coarse = np.take(coarse, below, axis) * (1 - share) + np.take(coarse, below + 1, axis) * share
    low, high = coarse.min((2, 3), keepdims=True), coarse.max((2, 3), keepdims=True)
    return np.asarray((coarse - low) / (high - low) * 255).astype(np.uint8)


@dataclass(frozen=True)
class Trial:
    """textures: a folder of photographs of frost instead of made-up ones."""

    entry: Corruption
    textures: Path | None = None

    @property
    def module(self) -> str:
        return module_of(self.entry.call)

    def fits(self, channels: int, side: int) -> bool:
        return self.entry.name in applicable(channels, side, side)

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        return [size for size in SIZES if self.fits(*size)]

    def corrupted(self, images: Pixels, intensity: int, indices: Any, dataset: str = "tests") -> Pixels:
        return corrupt(
            images, self.entry.name, intensity, indices=np.asarray(indices), dataset=dataset,
            frost_textures=self.textures,
        )  # fmt: skip

    def tried(self) -> Iterator[tuple[Pixels, int, Pixels]]:
        """Images of each size that it fits, at each intensity, before and after."""
        for channels, side in self.sizes:
            images = pictures(12, channels, side)
            for intensity in INTENSITIES:
                yield images, intensity, self.corrupted(images, intensity, np.arange(40, 52))


CORRUPTION: Contract[Trial] = Contract("corruption", *SHARED)


@CORRUPTION.rule
def _constants(trial: Trial) -> None:
    """It has constants of five intensities for small images and for large ones, and a family with a title."""
    equal("tables of constants", set(trial.entry.constants), {"cifar", "imagenet"})
    for table, constants in trial.entry.constants.items():
        equal(f"number of intensities for {table}", len(constants), len(INTENSITIES))
    expect(trial.entry.family.key and trial.entry.family.title, "Its family has no key or no title.")


@CORRUPTION.rule
def _applies(trial: Trial) -> None:
    """It applies to images of some size, and refuses others in words."""
    expect(trial.sizes, f"It applies to none of {SIZES} (channels, side).")
    for channels, side in SIZES:
        if not trial.fits(channels, side):
            ask = partial(trial.corrupted, pictures(2, channels, side), 1, [0, 1])
            refused(f"An image of {channels}x{side}x{side}", ask, InvalidInput)


@CORRUPTION.rule
def _bytes(trial: Trial) -> None:
    """Corrupted images are bytes of the same shape, changed at every intensity, and the images given are as they
    were."""
    before = {size: pictures(12, *size).tobytes() for size in trial.sizes}
    for images, intensity, found in trial.tried():
        where = f"at intensity {intensity} on {images.shape[1]}x{images.shape[2]}x{images.shape[3]}"
        equal(f"type {where}", str(found.dtype), "uint8")
        equal(f"shape {where}", found.shape, images.shape)
        expect((found != images).any(), f"It changes nothing {where}.")
        expect(images.tobytes() == before[images.shape[1:3]], f"It changed the images it was given {where}.")


@CORRUPTION.rule
def _again(trial: Trial) -> None:
    """Asked again it gives the same bytes."""
    for images, intensity, found in trial.tried():
        again = trial.corrupted(images, intensity, np.arange(40, 52))
        expect((again == found).all(), f"At intensity {intensity} it gives other bytes the second time.")


@CORRUPTION.rule
def _alone(trial: Trial) -> None:
    """One image corrupted alone is byte for byte the image of the batch: its random numbers are its own."""
    for images, intensity, whole in trial.tried():
        chosen = [7] if intensity % 2 else [11, 2, 5]
        alone = trial.corrupted(images[chosen], intensity, np.arange(40, 52)[chosen])
        expect((alone == whole[chosen]).all(), f"Image {chosen[0]} alone, at intensity {intensity}, is another.")


@CORRUPTION.rule
def _random(trial: Trial) -> None:
    """Declared random it differs between images of one content and between data sets; else it does not."""
    concerns(trial.sizes)
    channels, side = max(trial.sizes)
    image = pictures(1, channels, side)
    first = trial.corrupted(image, 5, [0], "a")
    for index, dataset in ((1, "a"), (0, "b")):
        differs = bool((trial.corrupted(image, 5, [index], dataset) != first).any())
        equal("`is_random`", trial.entry.is_random, differs)


@CORRUPTION.lists
def check_corruption(entry: Corruption | str, *, frost_textures: Path | None = None) -> Checked:
    """Is this a corruption as `modescape.corruptions.corruption` asks? Tried on made-up pictures of four sizes; it must
    be registered.

    frost_textures: photographs instead of made-up ones, for those that use them. Raises ContractBroken with the first
    rule that does not hold.
    """
    entry = corruptions[entry] if isinstance(entry, str) else entry
    return CORRUPTION.check(entry.name, Trial(entry, frost_textures))
