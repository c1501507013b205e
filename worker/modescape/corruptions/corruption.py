"""How test images look when something went wrong: 19 types of corruption at 5 intensities (science j.1, j.2).

    corrupt(images, "fog", 3, indices=np.arange(100), dataset="fashion-mnist")     # uint8 [100, C, H, W] again
    applicable(1, 28, 28)                          # 18 names: all but `saturate`, which needs colour

Types, constants and algorithms are those of CIFAR-10-C and ImageNet-C (Hendrycks and Dietterich 2019,
hendrycks/robustness, make_cifar_c.py and make_imagenet_c.py), with the quirks of the published data: values are cut
off to bytes, not rounded; glass copies pixels instead of exchanging them; two defocus kernels sum to more than 1.
Written anew, so that images of any size and one channel work and every image has random numbers of its own, given by
(data set, type, intensity, index): one image corrupted alone is byte for byte the image of the batch.

Needs numpy and Pillow only, for the web process shows a gallery. The reader of published sets is in `published`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.registry import LAST, Corruption, Family, Table, corruptions

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
GlassMode = Literal["copy", "swap"]

VERSION = 1  # raised whenever bytes change: part of every seed, and printed with every figure
INTENSITIES = (1, 2, 3, 4, 5)

_CHUNK = 1 << 18  # values corrupted at a time: a megabyte of float32, so that intermediate arrays stay in cache
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue (ITU-R BT.601)
HENDRYCKS = "Hendrycks and Dietterich 2019 (hendrycks/robustness)"
_SMALL = 16  # below so many pixels a side only noise and the plainest changes mean anything (science j.4)

NOISE = Family("noise", "Noise")
BLUR = Family("blur", "Blur")
WEATHER = Family("weather", "Weather")
DIGITAL = Family("digital", "Digital")
EXTRA = Family("extra", "Extra types of CIFAR-10-C")

Effect = Callable[..., Floats | Pixels]
Constants = Sequence[float | tuple[float, ...]]


def corruption(
    name: str,
    *,
    title: str,
    family: Family,
    cifar: Constants,
    imagenet: Constants,
    source: str = HENDRYCKS,
    needs_colour: bool = False,
    is_random: bool = True,
    small: bool = False,
    place: int = LAST,
) -> Callable[[Effect], Effect]:
    """Register an effect `(batch, *constants) -> values`: float32 in [0, 1], or uint8 if it delivers bytes itself.

    Its docstring begins with the summary; cifar, imagenet: the constants of the five intensities in both tables.
    """

    def register(call: Effect) -> Effect:
        tables: dict[Table, Constants] = {"cifar": cifar, "imagenet": imagenet}
        corruptions.add(
            Corruption(
                name=name, title=title, family=family, source=source, call=call, place=place,
                summary=" ".join((call.__doc__ or "").split("\n\n")[0].split()),
                constants={table: tuple(c if isinstance(c, tuple) else (c,) for c in values)
                           for table, values in tables.items()},
                needs_colour=needs_colour, is_random=is_random, small=small,
            )
        )  # fmt: skip
        return call

    return register


# --- what is asked for ------------------------------------------------------------------------------------------------


def applicable(channels: int, height: int, width: int) -> tuple[str, ...]:
    """The types that mean something for images of this size: all 19 in colour, 18 in grey, 8 below 16 pixels a side."""
    small = min(height, width) < _SMALL
    return tuple(
        name
        for name, kind in corruptions.items()
        if (channels == 3 or not kind.needs_colour) and (kind.small or not small)
    )


def table_for(height: int, width: int) -> Table:
    """Which constants fit: CIFAR's were made for 32 pixels a side, ImageNet's for 224; in between the nearer ratio."""
    return "cifar" if min(height, width) < math.sqrt(32 * 224) else "imagenet"


def corrupt(
    images: Pixels,
    name: str,
    intensity: int,
    *,
    indices: NDArray[np.int64],
    dataset: str,
    table: Table | None = None,
    frost_textures: Path | None = None,
    glass: GlassMode = "copy",
    check: Callable[[], None] | None = None,
) -> Pixels:
    """Images of one type and intensity, uint8 [n, C, H, W] as given.

    indices: place of each image in its data set [n], which with `dataset`, the type and the intensity decides its
    random numbers; frost_textures: folder of photographs of frost, else textures made up here; glass: `swap` exchanges
    pixels as the authors meant, `copy` does what CIFAR-10-C and ImageNet-C have; check: called every few hundred
    images, may raise to stop. Raises InvalidInput for an unknown type, an intensity outside 1 to 5, a type that does
    not apply to such images, and a folder without textures.
    """
    n, channels, height, width = images.shape
    if name not in corruptions:
        raise InvalidInput(
            f"there is no corruption {name!r}", field="shift.corruptions", allowed="one of " + ", ".join(corruptions)
        )
    if intensity not in INTENSITIES:
        raise InvalidInput(
            f"intensity must be 1 to 5, got {intensity} (corruption {name!r})", field="shift.intensities",
            allowed="1 to 5",
        )  # fmt: skip
    fitting = applicable(channels, height, width)
    if name not in fitting:
        raise InvalidInput(
            f"{name!r} does not apply to images of {channels} channel(s) and {height}x{width} pixels",
            field="shift.corruptions", allowed=", ".join(fitting),
        )  # fmt: skip
    if images.dtype != np.uint8 or len(indices) != n:
        raise ValueError(f"need uint8 images and an index each, got {images.dtype} and {len(indices)} for {n}")
    table = table or table_for(height, width)
    kind = corruptions[name]
    constants = kind.constants[table][intensity - 1]
    seeds = _seeds(dataset, name, intensity, indices)
    result = np.empty_like(images, order="C")
    step = max(1, _CHUNK // (channels * height * width))
    for start in range(0, n, step):
        if check is not None:
            check()
        part = slice(start, start + step)
        pixels = np.ascontiguousarray(images[part])
        batch = Batch(pixels, Draws(seeds[part]), table, frost_textures, glass)
        values = kind.call(batch, *constants)
        result[part] = values if values.dtype == np.uint8 else truncated(cast(Floats, values))
    return result


def truncated(values: NDArray[np.floating]) -> Pixels:
    """[0, 1] to bytes as the published data have it: clipped and cut off, not rounded.

    A thousandth of a level is added first, so that values which are whole but for rounding errors stay what they are.
    """
    levels = values * np.float32(255)
    levels += np.float32(1e-3)
    return np.clip(levels, 0, 255, out=levels).astype(np.uint8)


@dataclass(frozen=True)
class Batch:
    """What an effect works on: bytes [n, C, H, W], random numbers, and how lengths of its table scale."""

    pixels: Pixels
    draws: Draws
    table: Table
    frost_textures: Path | None
    glass: GlassMode

    @property
    def x(self) -> Floats:
        """float32 [n, C, H, W] in [0, 1], a new array."""
        return np.divide(self.pixels, np.float32(255), dtype=np.float32)

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[2], self.pixels.shape[3]

    @property
    def scale(self) -> float:
        """Pixels here for each pixel of the table's own images (science j.4)."""
        return min(self.size) / (32 if self.table == "cifar" else 224)

    @property
    def in_colour(self) -> bool:
        return bool(self.pixels.shape[1] == 3)

    def colour(self, red: float, green: float, blue: float) -> Floats:
        """A colour [C, 1, 1] of [0, 255] levels, in [0, 1]; images without colour get its luma."""
        rgb = np.array([red, green, blue], np.float32) / np.float32(255)
        levels = rgb if self.in_colour else np.array([rgb @ LUMA], np.float32)
        return levels[:, None, None]


# --- random numbers, an own stream for every image -------------------------------------------------------------------


def _seeds(dataset: str, name: str, intensity: int, indices: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One 64-bit seed an image [n], from what names the corrupted image and the version of this module."""
    text = f"modescape-corruption/{VERSION}|{dataset}|{name}|{intensity}"
    start = np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
    return _mixed(_mixed(indices.astype(np.uint64) + np.uint64(1)) ^ start)


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea, Flood 2014, figure 16)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


class Draws:
    """Random numbers for a batch: image i has the SplitMix64 stream of its own seed, whatever else is in the batch.

    Ten thousand generators would take longer to make than their numbers; counters and a hash give all streams at once.
    """

    def __init__(self, seeds: NDArray[np.uint64]) -> None:
        self._seeds = seeds
        self._used = 0

    def bits(self, *shape: int) -> NDArray[np.uint32]:
        """[n, *shape], all 32 bits random."""
        count = math.prod(shape)
        words = (count + 1) // 2
        steps = np.arange(self._used + 1, self._used + words + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self._used += words
        halves = _mixed(self._seeds[:, None] + steps).astype("<u8", copy=False).view("<u4")
        return np.ascontiguousarray(halves[:, :count]).reshape(len(self._seeds), *shape)

    def uniform(self, low: float, high: float, *shape: int) -> Floats:
        """float32 [n, *shape] between low and high, both excluded, in steps of 2^-24 of the range."""
        unit = (self.bits(*shape) >> np.uint32(8)).astype(np.float32)
        unit += np.float32(0.5)
        unit *= np.float32((high - low) / 2**24)
        unit += np.float32(low)
        return unit

    def integers(self, low: int, high: int, *shape: int) -> NDArray[np.int64]:
        """[n, *shape], low to high - 1. (The bias of the division is below 2^-32 times the range.)"""
        wide = self.bits(*shape).astype(np.int64)
        wide *= high - low
        wide >>= 32
        wide += low
        return wide

    def normal(self, *shape: int) -> Floats:
        """Standard normal float32 [n, *shape] (Box and Muller 1958), at most 6.7 in size."""
        count = math.prod(shape)
        pairs = (count + 1) // 2
        bits = self.bits(2, pairs).astype(np.float32)
        bits += np.float32(0.5)
        bits *= np.float32(2.0**-32)
        radius = np.sqrt(np.float32(-2) * np.log(bits[:, 0]))
        angle = bits[:, 1] * np.float32(2 * np.pi)
        both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return np.ascontiguousarray(both[:, :count]).reshape(len(self._seeds), *shape)
