"""How test images look when something went wrong: 19 types of corruption at 5 intensities (science j.1, j.2).

    corrupt(images, "fog", 3, indices=np.arange(100), dataset="fashion-mnist")     # uint8 [100, C, H, W] again
    applicable(1, 28, 28)                          # 18 names: all but `saturate`, which needs colour

Types, constants and algorithms are those of CIFAR-10-C and ImageNet-C (Hendrycks and Dietterich 2019,
hendrycks/robustness, make_cifar_c.py and make_imagenet_c.py), with the quirks of the published data: values are cut
off to bytes, not rounded; glass copies pixels instead of exchanging them; two defocus kernels sum to more than 1.
Written anew, so that images of any size and one channel work and every image has random numbers of its own, given by
(data set, type, intensity, index): one image corrupted alone is byte for byte the image of the batch.

Needs numpy and Pillow only, for the web process shows a gallery. The reader of published sets is in
`science.corrupted`.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modescape.errors import InvalidInput
from modescape.science.data.files import is_left_behind

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Table = Literal["cifar", "imagenet"]
Family = Literal["noise", "blur", "weather", "digital", "extra"]
GlassMode = Literal["copy", "swap"]
Border = Literal["nearest", "reflect", "mirror"]

VERSION = 1  # raised whenever bytes change: part of every seed, and printed with every figure
INTENSITIES = (1, 2, 3, 4, 5)

_CHUNK = 1 << 18  # values corrupted at a time: a megabyte of float32, so that intermediate arrays stay in cache
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue (ITU-R BT.601)
_SMALL = 16  # below so many pixels a side only noise and the plainest changes mean anything (science j.4)


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One type. constants: the five tuples of each table; small: whether it makes sense below 16 pixels a side.

    family: "extra" are the four types that CIFAR-10-C has beyond ImageNet-C's fifteen.
    """

    name: str
    title: str
    family: Family
    summary: str
    constants: Mapping[Table, tuple[tuple[float, ...], ...]]
    needs_colour: bool = False
    is_random: bool = True
    small: bool = False
    call: Callable[..., Floats | Pixels] = field(repr=False)


_TYPES: dict[str, Corruption] = {}
TYPES: Mapping[str, Corruption] = MappingProxyType(_TYPES)

Effect = Callable[..., Floats | Pixels]
Constants = Sequence[float | tuple[float, ...]]


def _corruption(
    name: str,
    title: str,
    family: Family,
    *,
    cifar: Constants,
    imagenet: Constants,
    needs_colour: bool = False,
    is_random: bool = True,
    small: bool = False,
) -> Callable[[Effect], Effect]:
    """Register an effect `(batch, *constants) -> values`: float32 in [0, 1], or uint8 if it delivers bytes itself."""

    def register(call: Effect) -> Effect:
        tables: dict[Table, tuple[tuple[float, ...], ...]] = {
            "cifar": tuple(c if isinstance(c, tuple) else (c,) for c in cifar),
            "imagenet": tuple(c if isinstance(c, tuple) else (c,) for c in imagenet),
        }
        _TYPES[name] = Corruption(
            name=name, title=title, family=family, summary=" ".join((call.__doc__ or "").split("\n\n")[0].split()),
            constants=MappingProxyType(tables), needs_colour=needs_colour, is_random=is_random, small=small, call=call,
        )  # fmt: skip
        return call

    return register


# --- what is asked for ------------------------------------------------------------------------------------------------


def applicable(channels: int, height: int, width: int) -> tuple[str, ...]:
    """The types that mean something for images of this size: all 19 in colour, 18 in grey, 8 below 16 pixels a side."""
    small = min(height, width) < _SMALL
    return tuple(
        name for name, kind in TYPES.items() if (channels == 3 or not kind.needs_colour) and (kind.small or not small)
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
    if name not in TYPES:
        raise InvalidInput(
            f"there is no corruption {name!r}", field="shift.corruptions", allowed="one of " + ", ".join(TYPES)
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
    kind = TYPES[name]
    constants = kind.constants[table][intensity - 1]
    textures = _textures(frost_textures) if name == "frost" else ()
    seeds = _seeds(dataset, name, intensity, indices)
    result = np.empty_like(images, order="C")
    step = max(1, _CHUNK // (channels * height * width))
    for start in range(0, n, step):
        if check is not None:
            check()
        part = slice(start, start + step)
        pixels = np.ascontiguousarray(images[part])
        batch = Batch(pixels, Draws(seeds[part]), table, textures, glass)
        values = kind.call(batch, *constants)
        result[part] = values if values.dtype == np.uint8 else _truncated(cast(Floats, values))
    return result


def _truncated(values: NDArray[np.floating]) -> Pixels:
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
    textures: tuple[tuple[Path | int, int], ...]
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
        levels = rgb if self.in_colour else np.array([rgb @ _LUMA], np.float32)
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


# --- linear maps along an axis ----------------------------------------------------------------------------------------


def _folded(index: NDArray[np.int64], size: int, border: Border) -> NDArray[np.int64]:
    """Where an index beyond the border reads: its nearest, or mirrored with (reflect) or without (mirror) the edge
    repeated; scipy.ndimage's names."""
    if border == "nearest" or size == 1:
        return np.clip(index, 0, size - 1)
    period = 2 * size if border == "reflect" else 2 * size - 2
    index = index % period
    return np.minimum(index, period - int(border == "reflect") - index)


@lru_cache(maxsize=64)
def _smoothing(size: int, sigma: float, border: Border = "nearest", truncate: float = 4.0) -> Floats:
    """The matrix [size, size] of a Gaussian blur along one axis: kernel cut at `truncate` sigma, made to sum to 1."""
    matrix = np.zeros((size, size))
    reach = int(truncate * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma > 0 else np.ones(1)
    rows = np.arange(size)
    for offset, weight in zip(offsets, weights / weights.sum(), strict=True):
        np.add.at(matrix, (rows, _folded(rows + offset, size, border)), weight)
    return matrix.astype(np.float32)


def _mapped(x: Floats, down: Floats, across: Floats) -> Floats:
    """down @ image @ across^T of every image [..., H, W].

    One product an image, so that rounding cannot depend on which images are corrupted together.
    """
    return cast(Floats, np.matmul(np.matmul(down, x), across.T))


def _blurred(x: Floats, sigma: float, border: Border = "nearest", truncate: float = 4.0) -> Floats:
    height, width = x.shape[-2:]
    return _mapped(x, _smoothing(height, sigma, border, truncate), _smoothing(width, sigma, border, truncate))


@lru_cache(maxsize=256)
def _zooming(size: int, factor: float) -> Floats:
    """The matrix [size, size] that enlarges the middle of an axis.

    The ceil(size / factor) middle pixels, linearly interpolated on round(side * factor) points whose ends are the end
    pixels (scipy.ndimage.zoom of order 1), of which the middle `size` are kept.
    """
    side = math.ceil(size / factor)
    enlarged = round(side * factor)
    trimmed = (enlarged - size) // 2
    place = (np.arange(size) + trimmed) * ((side - 1) / (enlarged - 1))
    left = np.minimum(place.astype(np.int64), side - 1)
    right = np.minimum(left + 1, side - 1)
    matrix = np.zeros((size, size))
    rows, start = np.arange(size), (size - side) // 2
    np.add.at(matrix, (rows, start + left), 1 - (place - left))
    np.add.at(matrix, (rows, start + right), place - left)
    return matrix.astype(np.float32)


def _sampled(x: Floats, rows: Floats, columns: Floats, border: Border) -> Floats:
    """Bilinear values of images [n, C, H, W] at places [n, H, W]."""
    n, channels, height, width = x.shape
    top, left = np.floor(rows), np.floor(columns)
    down, across = (rows - top)[:, None], (columns - left)[:, None]
    top_index, left_index = top.astype(np.int64), left.astype(np.int64)
    first = (np.arange(n) * (height * width))[:, None, None]
    upper, lower = (first + _folded(top_index + i, height, border) * width for i in (0, 1))
    near, far = (_folded(left_index + i, width, border) for i in (0, 1))
    planes = np.ascontiguousarray(x.transpose(1, 0, 2, 3)).reshape(channels, -1)

    def read(index: NDArray[np.int64]) -> Floats:
        return planes[:, index.reshape(-1)].reshape(channels, n, height, width).transpose(1, 0, 2, 3)

    above = read(upper + near)
    above += across * (read(upper + far) - above)
    below = read(lower + near)
    below += across * (read(lower + far) - below)
    below -= above
    below *= down
    below += above
    return np.ascontiguousarray(below)


# --- noise ------------------------------------------------------------------------------------------------------------


@_corruption("gaussian_noise", "Gaussian noise", "noise", small=True,
             cifar=(0.04, 0.06, 0.08, 0.09, 0.10), imagenet=(0.08, 0.12, 0.18, 0.26, 0.38))  # fmt: skip
def _gaussian_noise(batch: Batch, std: float) -> Floats:
    """Normal noise is added, as in low light."""
    noise = batch.draws.normal(*batch.pixels.shape[1:])
    noise *= np.float32(std)
    noise += batch.x
    return noise


@_corruption("shot_noise", "Shot noise", "noise", small=True,
             cifar=(500, 250, 100, 75, 50), imagenet=(60, 25, 12, 5, 3))  # fmt: skip
def _shot_noise(batch: Batch, photons: float) -> Pixels:
    """Light is counted in few photons: a Poisson number for every value."""
    limits, levels = _poisson(photons)
    wanted = (batch.draws.bits(*batch.pixels.shape[1:]).astype(np.float64) + 0.5) * 2.0**-32
    wanted += batch.pixels
    counts = np.searchsorted(limits, wanted.reshape(-1)).reshape(wanted.shape)
    counts -= batch.pixels.astype(np.int64) * len(levels)
    return levels[counts]


@lru_cache(maxsize=16)
def _poisson(photons: float) -> tuple[NDArray[np.float64], Pixels]:
    """Distribution functions of the counts of all 256 pixel values, one above the other, and the byte of each count.

    Entry v * K + k is v + P(count <= k) of pixel value v, so one sorted search inverts every distribution.
    """
    most = int(photons + 12 * math.sqrt(photons) + 20)
    counts = np.arange(most + 1)
    mean = (np.arange(256) / 255 * photons)[:, None]
    factorials = np.cumsum(np.log(np.maximum(counts, 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.exp(counts * np.log(mean) - mean - factorials)
    density[0] = counts == 0
    below = np.minimum(np.cumsum(density, axis=1), 1)
    below[:, -1] = 1
    return (below + np.arange(256)[:, None]).reshape(-1), _truncated(counts / photons)


@_corruption("impulse_noise", "Impulse noise", "noise", small=True,
             cifar=(0.01, 0.02, 0.03, 0.05, 0.07), imagenet=(0.03, 0.06, 0.09, 0.17, 0.27))  # fmt: skip
def _impulse_noise(batch: Batch, share: float) -> Pixels:
    """Salt and pepper: single values become 0 or 255, equally likely, each channel for itself."""
    luck = batch.draws.bits(*batch.pixels.shape[1:])
    hit, salt = np.uint32(round(share * 2**32)), np.uint32(round(share * 2**31))
    return np.where(luck < hit, np.where(luck < salt, np.uint8(255), np.uint8(0)), batch.pixels)


# --- blur -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def disk(radius: float, alias_sigma: float) -> NDArray[np.float64]:
    """The kernel of `defocus_blur`: a disk on a 17x17 grid (beyond radius 8 just as large as needed), smoothed.

    Smoothing mirrors at the array's border, which a disk of radius 8 or 10 touches, so the ImageNet kernels of
    intensity 4 and 5 sum to 1.01298 and 1.01079; the published images are that much brighter.
    """
    reach = 8 if radius <= 8 else math.ceil(radius)
    axis = np.arange(-reach, reach + 1)
    kernel = (axis[:, None] ** 2 + axis**2 <= radius**2).astype(np.float64)
    kernel /= kernel.sum()
    half = 1 if radius <= 8 else 2
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / alias_sigma) ** 2)
    smoothing = np.zeros((len(axis), len(axis)))
    for offset, weight in zip(range(-half, half + 1), weights / weights.sum(), strict=True):
        rows = np.arange(len(axis))
        np.add.at(smoothing, (rows, _folded(rows + offset, len(axis), "mirror")), weight)
    return smoothing @ kernel @ smoothing.T


@_corruption("defocus_blur", "Defocus blur", "blur", is_random=False,
             cifar=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
             imagenet=((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)))  # fmt: skip
def _defocus_blur(batch: Batch, radius: float, alias_sigma: float) -> Floats:
    """Every point becomes a small disk, as when the lens is out of focus.

    The radius grows with the image but does not shrink: CIFAR's intensity 4 has radius 1, and at 28 pixels 7/8 of that
    would be a single pixel, no blur at all.
    """
    kernel = disk(radius * max(1.0, batch.scale), alias_sigma)
    reach = len(kernel) // 2
    height, width = batch.size
    rows, columns = (_folded(np.arange(-reach, size + reach), size, "mirror") for size in (height, width))
    wide = batch.x[:, :, rows][:, :, :, columns]
    out = np.zeros(batch.pixels.shape, np.float32)
    for i, j in zip(*np.nonzero(kernel > 1e-9), strict=True):
        out += wide[:, :, i : i + height, j : j + width] * np.float32(kernel[i, j])
    return out


@_corruption("glass_blur", "Glass blur", "blur",
             cifar=((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
             imagenet=((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)))  # fmt: skip
def _glass_blur(batch: Batch, sigma: float, most: float, iterations: float) -> Floats:
    """Pixels change places with near ones, as behind frosted glass; blurred before and after.

    Pixels are visited from the last to the first. In the authors' program the exchange of two pixels of a colour image
    works on views and copies the far pixel into both places; the published data have that, and so has mode `copy`.
    """
    n, channels, height, width = batch.pixels.shape
    blurred = _truncated(_blurred(batch.x, sigma)).reshape(n, channels, height * width)
    for _ in range(int(iterations)):
        partner = _partners(batch.draws, height, width, int(most))
        blurred = _exchanged(blurred, partner) if batch.glass == "swap" else _copied(blurred, partner)
    x = np.divide(blurred.reshape(batch.pixels.shape), np.float32(255), dtype=np.float32)
    return _blurred(x, sigma)


def _partners(draws: Draws, height: int, width: int, most: int) -> NDArray[np.int64]:
    """The pixel [n, H * W] each pixel is exchanged with, at most `most` away; itself near the borders."""
    place = np.arange(height * width)
    row, column = place // width, place % width
    inside = (row > most) & (row <= height - most) & (column > most) & (column <= width - most)
    shift = draws.integers(-most, most, 2, height * width)
    moved = shift[:, 1]
    moved *= width
    moved += shift[:, 0]
    moved *= inside
    moved += place
    return moved


def _copied(pixels: Pixels, partner: NDArray[np.int64]) -> Pixels:
    """Each pixel, from the last to the first, takes the value its partner has at that moment.

    A partner further on has been visited already and has its new value; so old values are found by following partners
    until one lies before, which doubling does for all pixels at once.
    """
    n, channels, count = pixels.shape
    place = np.arange(count)
    old = count + place  # node count + p: the old value of pixel p; node p: its new value
    nodes = np.concatenate([np.where(partner > place, partner, partner + count), np.broadcast_to(old, (n, count))], 1)
    while (nodes < count).any():
        nodes = np.take_along_axis(nodes, nodes, 1)
    source = nodes[:, None, :count] - count
    return np.take_along_axis(pixels, np.broadcast_to(source, (n, channels, count)), 2)


def _exchanged(pixels: Pixels, partner: NDArray[np.int64]) -> Pixels:
    """Each pixel, from the last to the first, changes places with its partner."""
    n, _, count = pixels.shape
    rows = np.arange(n)
    values = pixels.transpose(0, 2, 1).copy()
    for place in range(count - 1, -1, -1):
        other = partner[:, place]
        here = values[:, place].copy()
        values[:, place] = values[rows, other]
        values[rows, other] = here
    return values.transpose(0, 2, 1)


def motion_weights(radius: float, sigma: float) -> NDArray[np.float64]:
    """ImageMagick's one-sided kernel: weights of the pixels 0, 1, ..., 2 ceil(radius) along the motion."""
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum())


def _moved(x: Floats, radius: float, sigma: float, angles: Floats) -> Floats:
    """Motion blur of images [n, C, H, W] at angles [n] in degrees, edges repeated, rounded to 8 bits.

    Images are sorted by angle, so that those with equal steps lie together and every step is a plain slice.
    """
    n, _, height, width = x.shape
    weights = motion_weights(radius, sigma)
    order = np.argsort(angles, kind="stable")
    turn = np.radians(angles[order].astype(np.float64))
    reach = len(weights) - 1
    wide = np.pad(x[order], ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    out = np.zeros_like(x)
    for step, weight in enumerate(weights):
        if weight < 1e-8:  # of no consequence even for a white image
            break
        right = np.ceil(step * np.cos(turn) - 0.5).astype(np.int64)
        down = np.ceil(step * np.sin(turn) - 0.5).astype(np.int64)
        turns = np.flatnonzero((np.diff(right) != 0) | (np.diff(down) != 0)) + 1
        for start, stop in zip([0, *turns], [*turns, n], strict=True):
            top, left = reach + down[start], reach + right[start]
            out[start:stop] += wide[start:stop, :, top : top + height, left : left + width] * np.float32(weight)
    rounded = np.empty_like(out)
    rounded[order] = np.floor(out * np.float32(255) + np.float32(0.5))
    return np.divide(np.minimum(rounded, 255), np.float32(255))


@_corruption("motion_blur", "Motion blur", "blur",
             cifar=((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
             imagenet=((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)))  # fmt: skip
def _motion_blur(batch: Batch, radius: float, sigma: float) -> Floats:
    """The camera moved: every point is drawn out along a random direction within 45 degrees of the horizontal."""
    angles = batch.draws.uniform(-45, 45)
    return _moved(batch.x, radius * batch.scale, sigma * batch.scale, angles)


@_corruption("zoom_blur", "Zoom blur", "blur", is_random=False,
             cifar=tuple((stop, 0.01) for stop in (1.06, 1.11, 1.16, 1.21, 1.26)),
             imagenet=((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)))  # fmt: skip
def _zoom_blur(batch: Batch, stop: float, step: float) -> Floats:
    """The camera moved forwards: the mean of the image and enlargements of its middle."""
    factors = zoom_factors(stop, step)
    x = batch.x
    out = x.copy()
    for factor in factors:
        out += _mapped(x, _zooming(batch.size[0], factor), _zooming(batch.size[1], factor))
    out *= np.float32(1 / (len(factors) + 1))
    return out


def zoom_factors(stop: float, step: float) -> tuple[float, ...]:
    """1 and upwards; whether the last one below `stop` is there is decided by rounding, as in the authors' program."""
    return tuple(float(factor) for factor in np.arange(1, stop, step))


# --- weather ----------------------------------------------------------------------------------------------------------


@_corruption("snow", "Snow", "weather",
             cifar=((0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
                    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9), (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
                    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)),
             imagenet=((0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
                       (0.55, 0.3, 4, 0.9, 12, 8, 0.7), (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
                       (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55)))  # fmt: skip
def _snow(
    batch: Batch, mean: float, std: float, zoom: float, threshold: float, radius: float, sigma: float, blend: float
) -> Floats:
    """Flakes fall past the camera and the scene is paler."""
    height, width = batch.size
    layer = batch.draws.normal(1, height, width) * np.float32(std) + np.float32(mean)
    layer = _mapped(layer, _zooming(height, zoom), _zooming(width, zoom))
    layer[layer < threshold] = 0
    flakes = np.divide(_truncated(layer), np.float32(255), dtype=np.float32)
    angles = batch.draws.uniform(-135, -45)
    flakes = _moved(flakes, radius * batch.scale, sigma * batch.scale, angles)
    x = batch.x
    grey = np.tensordot(_LUMA, x, (0, 1))[:, None] if batch.in_colour else x
    pale = np.maximum(x, grey * np.float32(1.5) + np.float32(0.5))
    x = x * np.float32(blend) + pale * np.float32(1 - blend)
    return cast(Floats, x + flakes + flakes[:, :, ::-1, ::-1])


@_corruption("frost", "Frost", "weather",
             cifar=((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
             imagenet=((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)))  # fmt: skip
def _frost(batch: Batch, image_weight: float, frost_weight: float) -> Floats:
    """Ice crystals on the window: a piece of one of five textures is laid over the image."""
    n, channels, height, width = batch.pixels.shape
    chosen = batch.draws.integers(0, len(batch.textures))
    place = batch.draws.uniform(0, 1, 2)
    ice = np.empty((n, channels, height, width), np.float32)
    for i in range(n):
        sheet = _sheet(*batch.textures[chosen[i]], height, width, batch.table)
        top = int(place[i, 0] * (sheet.shape[0] - height))
        left = int(place[i, 1] * (sheet.shape[1] - width))
        piece = sheet[top : top + height, left : left + width]
        ice[i] = piece.transpose(2, 0, 1) if batch.in_colour else piece @ _LUMA
    ice *= np.float32(frost_weight / 255)
    return batch.x * np.float32(image_weight) + ice


@lru_cache(maxsize=16)
def _sheet(texture: Path | int, changed: int, height: int, width: int, table: Table) -> Pixels:
    """The texture as pieces are cut from it: CIFAR's constants take every fifth pixel, which is what shrinking to a
    fifth with bilinear interpolation comes to; enlarged if the images are larger. changed: the time of a photograph,
    so that another one of its name is read."""
    whole = procedural_frost(texture) if isinstance(texture, int) else _photograph(texture)
    sheet = whole[2::5, 2::5] if table == "cifar" else whole
    factor = max((height + 1) / sheet.shape[0], (width + 1) / sheet.shape[1])
    if factor > 1:
        size = (math.ceil(sheet.shape[1] * factor), math.ceil(sheet.shape[0] * factor))
        sheet = np.asarray(Image.fromarray(sheet).resize(size, Image.Resampling.BILINEAR))
    return sheet


Texture = tuple[Path | int, int]  # a photograph and its time in ns, or a number of our own and 0
_TEXTURES = 5  # the authors have six photographs, but their random index reaches five
_FROST_ALLOWED = "a folder of PNG or JPEG photographs of frost, or nothing for textures made up here"


def _textures(folder: Path | None) -> tuple[Texture, ...]:
    """The textures of frost: the first five pictures of a folder by name with their times, or the numbers of our own.

    Raises InvalidInput (field path) when the folder holds no pictures.
    """
    if folder is None:
        return tuple((number, 0) for number in range(len(_FROSTS)))
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [path for path in files if path.is_file() and not is_left_behind(path.name)]
    pictures = tuple(path for path in files if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if not pictures:
        raise InvalidInput(f"there are no pictures in {str(folder)!r}", field="path", allowed=_FROST_ALLOWED)
    return tuple((picture, picture.stat().st_mtime_ns) for picture in pictures[:_TEXTURES])


def frost_fingerprint(folder: Path) -> str:
    """SHA-256 of the photographs that `corrupt` takes from a folder, their names and bytes.

    Raises InvalidInput (field path) when there are none, or one cannot be read.
    """
    return _fingerprint(_textures(folder))


@lru_cache(maxsize=4)
def _fingerprint(textures: tuple[Texture, ...]) -> str:
    digest = hashlib.sha256()
    for file, _ in textures:
        assert isinstance(file, Path)
        _photograph(file)
        digest.update(os.fsencode(file.name) + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _photograph(file: Path) -> Pixels:
    try:
        with Image.open(file) as picture:
            return np.asarray(picture.convert("RGB"))
    except Exception as error:  # Pillow raises what it pleases on damaged files
        raise InvalidInput(f"{file.name} cannot be read: {error}", field="path", allowed=_FROST_ALLOWED) from error


# Mean light, its standard deviation, and the tint of the authors' first five photographs, so that as much light is
# added; their pictures are not ours to give.
_FROSTS = (
    (0.51, 0.07, (0.30, 0.59, 0.65)),
    (0.80, 0.09, (0.79, 0.80, 0.84)),
    (0.80, 0.09, (0.79, 0.80, 0.84)),
    (0.59, 0.11, (0.54, 0.60, 0.65)),
    (0.48, 0.17, (0.44, 0.48, 0.53)),
)


@lru_cache(maxsize=len(_FROSTS))
def procedural_frost(number: int) -> Pixels:
    """A texture of 600x900 pixels made from its number: needles of ice in many directions on clouds of rime.

    Each layer is smooth noise far longer than wide, turned; where it passes through zero there is a sharp ridge, and
    crystals are the highest ridge of any direction.
    """
    mean, std, tint = _FROSTS[number]
    height, width = 600, 900
    rng = np.random.Generator(np.random.Philox(key=[VERSION, number]))

    def noise(rows: int, columns: int, angle: float = 0) -> Floats:
        """Smooth noise of about unit size, its cells `rows` by `columns` pixels, turned by `angle` degrees."""
        tall, wide = (1100, 1100) if angle else (height, width)  # turned, its diagonal must cover the sheet
        cells = rng.standard_normal((tall // rows + 2, wide // columns + 2)).astype(np.float32)
        layer = Image.fromarray(cells).resize((wide, tall), Image.Resampling.BICUBIC)
        if angle:
            layer = layer.rotate(angle, Image.Resampling.BILINEAR)
        top, left = (tall - height) // 2, (wide - width) // 2
        return np.asarray(layer, np.float32)[top : top + height, left : left + width]

    clouds = sum((noise(cell, cell) * (cell / 160) ** 0.8 for cell in (160, 60, 24, 9)), np.float32(0))
    crystals = np.zeros((height, width), np.float32)
    for angle in rng.uniform(1, 180, 7):
        where = np.clip(noise(70, 70) + 0.4, 0, 1)  # each direction grows in patches
        crystals = np.maximum(crystals, where * np.maximum(1 - np.abs(noise(7, 80, angle)) * 2, 0))
    light = clouds / clouds.std() * 0.5 + crystals / crystals.std() + noise(2, 2) * 0.3
    light = (light - light.mean()) / light.std()
    colour = np.array(tint, np.float32)
    rgb = (mean + std * light)[:, :, None] * (colour / (colour @ _LUMA))
    levels: Pixels = np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)
    return levels


@_corruption("fog", "Fog", "weather",
             cifar=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
             imagenet=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)))  # fmt: skip
def _fog(batch: Batch, strength: float, decay: float) -> Floats:
    """Fog of uneven thickness lies before the scene."""
    x = batch.x
    height, width = batch.size
    side = 1 << (max(height, width) - 1).bit_length()
    fog = plasma(batch.draws, len(x), side, decay)[:, None, :height, :width]
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    x += fog * np.float32(strength)
    x *= brightest / (brightest + np.float32(strength))
    return x


def plasma(draws: Draws, n: int, side: int, decay: float) -> Floats:
    """Clouds [n, side, side] from 0 to 1: diamond-square on a torus, `side` a power of two.

    Every midpoint is the mean of its four neighbours plus wibble * U(-wibble, wibble); wibble starts at 100 and is
    divided by `decay` at every level.
    """
    heights = np.zeros((n, side, side), np.float32)
    step, wibble = side, 100.0
    while step >= 2:
        half = step // 2
        points = side // step

        def wobbly(total: Floats, wibble: float = wibble, points: int = points) -> Floats:
            return total * np.float32(0.25) + draws.uniform(-(wibble**2), wibble**2, points, points)

        corners = heights[:, ::step, ::step].copy()
        below, right = np.roll(corners, -1, 1), np.roll(corners, -1, 2)
        centres = wobbly(corners + below + right + np.roll(below, -1, 2))
        heights[:, half::step, half::step] = centres
        heights[:, ::step, half::step] = wobbly(centres + np.roll(centres, 1, 1) + corners + right)
        heights[:, half::step, ::step] = wobbly(centres + np.roll(centres, 1, 2) + corners + below)
        step, wibble = half, wibble / decay
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights


@_corruption("brightness", "Brightness", "weather", small=True, is_random=False,
             cifar=(0.05, 0.1, 0.15, 0.2, 0.3), imagenet=(0.1, 0.2, 0.3, 0.4, 0.5))  # fmt: skip
def _brightness(batch: Batch, more: float) -> Floats:
    """Brighter: a constant is added to the value of the HSV colour.

    With hue and saturation kept, a colour is multiplied by its new value over its old; black becomes grey.
    """
    x = batch.x
    if not batch.in_colour:
        return x + np.float32(more)
    value = x.max(axis=1, keepdims=True)
    brighter = np.minimum(value + np.float32(more), 1)
    return cast(Floats, np.where(value > 0, x * (brighter / np.maximum(value, np.float32(1e-6))), brighter))


# --- digital ----------------------------------------------------------------------------------------------------------


@_corruption("contrast", "Contrast", "digital", small=True, is_random=False,
             cifar=(0.75, 0.5, 0.4, 0.3, 0.15), imagenet=(0.4, 0.3, 0.2, 0.1, 0.05))  # fmt: skip
def _contrast(batch: Batch, factor: float) -> Floats:
    """Paler: values move towards the mean of their channel over the image."""
    n, channels, height, width = batch.pixels.shape
    total = batch.pixels.reshape(n, channels, -1).sum(axis=2, dtype=np.int64)[:, :, None, None]
    mean = (total / (255.0 * height * width)).astype(np.float32)
    return cast(Floats, (batch.x - mean) * np.float32(factor) + mean)


@_corruption("elastic_transform", "Elastic transform", "digital",
             cifar=((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)),
             imagenet=((488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88),
                       (29.28, 2.44, 4.88)))  # fmt: skip
def _elastic_transform(batch: Batch, alpha: float, sigma: float, jitter: float) -> Floats:
    """Stretched: a random affine map, then smooth random displacements.

    Coordinates are exact where the authors' library rounds those of the affine map to 1/32 of a pixel.
    """
    height, width = batch.size
    alpha, sigma, jitter = (length * batch.scale for length in (alpha, sigma, jitter))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    warped = _sampled(batch.x, *_affine(batch.draws.uniform(-jitter, jitter, 3, 2), rows, columns), "mirror")
    if alpha == 0:
        return warped
    noise = batch.draws.uniform(-1, 1, 2, height, width)
    shift = _blurred(noise, sigma, "reflect", truncate=3.0) * np.float32(alpha)
    return _sampled(warped, rows + shift[:, 1], columns + shift[:, 0], "reflect")


def _affine(jitter: Floats, rows: Floats, columns: Floats) -> tuple[Floats, Floats]:
    """Where the affine map that moves three points by jitter [n, 3, (x, y)] reads each pixel: rows, columns [n, H, W].

    The points are (+s, +s), (+s, -s) and (-s, -s) from the middle, s a third of the shorter side. A pixel is
    p + a u + b v in the moved triangle (p the second point, u and v its edges) and reads the same (a, b) of the first.
    """
    height, width = rows.shape
    s = min(height, width) // 3
    middle = np.array([width // 2, height // 2], np.float64)
    points = middle + s * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + jitter
    p, u, v = moved[:, 1], moved[:, 0] - moved[:, 1], moved[:, 1] - moved[:, 2]
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]

    def linear(of_x: NDArray[np.float64], of_y: NDArray[np.float64]) -> Floats:
        constant = -(of_x * p[:, 0] + of_y * p[:, 1])
        terms = (coefficient.astype(np.float32)[:, None, None] for coefficient in (of_x, of_y, constant))
        across, down, first = terms
        return across * columns + down * rows + first

    a = linear(v[:, 1] / area, -v[:, 0] / area)
    b = linear(-u[:, 1] / area, u[:, 0] / area)
    side = np.float32(2 * s)
    return a * side + np.float32(points[1, 1]), b * side + np.float32(points[1, 0])


def _pictures(pixels: Pixels) -> Iterator[Image.Image]:
    """Every image as Pillow sees it: in colour, or grey, one for each channel."""
    if pixels.shape[1] == 3:
        yield from (Image.fromarray(image) for image in np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)))
    else:
        yield from (Image.fromarray(image) for image in pixels.reshape(-1, *pixels.shape[2:]))


def _from_pictures(pictures: Iterator[Image.Image], like: Pixels) -> Pixels:
    n, channels, height, width = like.shape
    stacked = np.stack([np.asarray(picture) for picture in pictures])
    if channels == 3:
        return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))
    return stacked.reshape(n, channels, height, width)


@_corruption("pixelate", "Pixelate", "digital", small=True, is_random=False,
             cifar=(0.95, 0.9, 0.85, 0.75, 0.65), imagenet=(0.6, 0.5, 0.4, 0.3, 0.25))  # fmt: skip
def _pixelate(batch: Batch, share: float) -> Pixels:
    """Made smaller and larger again, so that pixels are coarser."""
    height, width = batch.size
    small = (max(1, int(width * share)), max(1, int(height * share)))
    box = Image.Resampling.BOX
    coarse = (picture.resize(small, box).resize((width, height), box) for picture in _pictures(batch.pixels))
    return _from_pictures(coarse, batch.pixels)


@_corruption("jpeg_compression", "JPEG compression", "digital", is_random=False,
             cifar=(80, 65, 58, 50, 40), imagenet=(25, 18, 15, 10, 7))  # fmt: skip
def _jpeg_compression(batch: Batch, quality: float) -> Pixels:
    """Stored as JPEG of low quality, colours at half the resolution."""
    return _from_pictures((_as_jpeg(picture, int(quality)) for picture in _pictures(batch.pixels)), batch.pixels)


def _as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


# --- the four extra types of CIFAR-10-C -------------------------------------------------------------------------------


@_corruption("speckle_noise", "Speckle noise", "extra", small=True,
             cifar=(0.06, 0.10, 0.12, 0.16, 0.20), imagenet=(0.15, 0.20, 0.35, 0.45, 0.60))  # fmt: skip
def _speckle_noise(batch: Batch, std: float) -> Floats:
    """Normal noise in proportion to the light."""
    noise = batch.draws.normal(*batch.pixels.shape[1:])
    noise *= np.float32(std)
    noise += 1
    noise *= batch.x
    return noise


@_corruption("gaussian_blur", "Gaussian blur", "extra", small=True, is_random=False,
             cifar=(0.4, 0.6, 0.7, 0.8, 1), imagenet=(1, 2, 3, 4, 6))  # fmt: skip
def _gaussian_blur(batch: Batch, sigma: float) -> Floats:
    """Every point becomes a small Gaussian spot."""
    return _blurred(batch.x, sigma)


@_corruption("spatter", "Spatter", "extra",
             cifar=((0.62, 0.1, 0.7, 0.7, 0.5, 0), (0.65, 0.1, 0.8, 0.7, 0.5, 0), (0.65, 0.3, 1, 0.69, 0.5, 0),
                    (0.65, 0.1, 0.7, 0.69, 0.6, 1), (0.65, 0.1, 0.5, 0.68, 0.6, 1)),
             imagenet=((0.65, 0.3, 4, 0.69, 0.6, 0), (0.65, 0.3, 3, 0.68, 0.6, 0), (0.65, 0.3, 2, 0.68, 0.5, 0),
                       (0.65, 0.3, 1, 0.65, 1.5, 1), (0.67, 0.4, 1, 0.65, 1.5, 1)))  # fmt: skip
def _spatter(
    batch: Batch, mean: float, std: float, sigma: float, threshold: float, strength: float, mud: float
) -> Floats:
    """Drops of water (1 to 3) or mud (4 and 5) on the lens."""
    height, width = batch.size
    liquid = _blurred(batch.draws.normal(height, width) * np.float32(std) + np.float32(mean), sigma)
    liquid[liquid < threshold] = 0
    x = batch.x
    if mud:
        cover = _blurred((liquid > threshold).astype(np.float32), strength)
        cover[cover < 0.8] = 0
        cover = cover[:, None]
        return x * (1 - cover) + batch.colour(63, 42, 20) * cover
    drops = water(_truncated(liquid))
    most = drops.max(axis=(1, 2), keepdims=True)
    most[most == 0] = 1  # no drop at all: the image stays as it is
    cover = drops * (np.float32(strength) / most)
    return cast(Floats, x + batch.colour(175, 238, 238) * cover[:, None])


def water(liquid: Pixels) -> Floats:
    """How much light drops of liquid [n, H, W] throw towards the camera, up to a factor per image.

    Distance from the drops' edges (at most 20), box-blurred, its histogram equalised, embossed, box-blurred, times the
    liquid; 8 bits after every step, as OpenCV has it.
    """
    distance = np.minimum(chamfer_distance(canny(liquid, 50, 150)), 20)
    depth = _equalised(np.floor(_boxed(distance) + np.float32(1e-4)).astype(np.uint8))
    raised = _neighbours(depth.astype(np.float32), "mirror")
    embossed = sum(
        (raised(i - 1, j - 1) * weight for i, row in enumerate(_EMBOSS) for j, weight in enumerate(row) if weight),
        np.float32(0),
    )
    smooth = np.floor(_boxed(np.clip(embossed, 0, 255)) + np.float32(0.5))
    return cast(Floats, liquid * smooth)


Number = TypeVar("Number", np.float32, np.int32)
_EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))


def _neighbours(x: NDArray[Number], border: Border) -> Callable[[int, int], NDArray[Number]]:
    """A function giving the images [n, H, W] shifted: (down, across) is the value of that neighbour, of -1 to 1."""
    height, width = x.shape[-2:]
    rows, columns = (_folded(np.arange(-1, size + 1), size, border) for size in (height, width))
    wide = x[:, rows][:, :, columns]
    return lambda down, across: wide[:, 1 + down : 1 + down + height, 1 + across : 1 + across + width]


def _boxed(x: Floats) -> Floats:
    """Mean of the 3x3 pixels around each, mirrored at the border."""
    near = _neighbours(x, "mirror")
    tall = near(-1, 0) + near(0, 0) + near(1, 0)
    near = _neighbours(tall, "mirror")
    return (near(0, -1) + near(0, 0) + near(0, 1)) * np.float32(1 / 9)


def canny(images: Pixels, low: int, high: int) -> NDArray[np.bool_]:
    """Edges of images [n, H, W] (Canny 1986) in OpenCV's form: 3x3 Sobel, |dx| + |dy|, border repeated.

    A pixel is an edge where the slope exceeds its two neighbours across the edge and `high`, or `low` if other edge
    pixels lead to it.
    """
    near = _neighbours(images.astype(np.int32), "nearest")
    dx = near(-1, 1) + 2 * near(0, 1) + near(1, 1) - near(-1, -1) - 2 * near(0, -1) - near(1, -1)
    dy = near(1, -1) + 2 * near(1, 0) + near(1, 1) - near(-1, -1) - 2 * near(-1, 0) - near(-1, 1)
    across, down = np.abs(dx), np.abs(dy)
    slope = across + down
    wide = np.pad(slope, ((0, 0), (1, 1), (1, 1)))
    height, width = images.shape[1:]

    def at(i: int, j: int) -> NDArray[np.int32]:
        return wide[:, 1 + i : 1 + i + height, 1 + j : 1 + j + width]

    flat = down * 32768 < across * 13573  # 13573 / 32768 = tan(22.5 degrees)
    steep = down * 32768 > across * (13573 + 65536)  # tan(67.5) = 2 + tan(22.5)
    falling = (dx ^ dy) < 0
    horizontal = (slope > at(0, -1)) & (slope >= at(0, 1))
    vertical = (slope > at(-1, 0)) & (slope >= at(1, 0))
    diagonal = np.where(falling, (slope > at(-1, 1)) & (slope > at(1, -1)), (slope > at(-1, -1)) & (slope > at(1, 1)))
    crest = (slope > low) & np.where(flat, horizontal, np.where(steep, vertical, diagonal))
    edges = crest & (slope > high)
    count = -1
    while (found := int(edges.sum())) != count:
        count = found
        wide_edges = np.pad(edges, ((0, 0), (1, 1), (1, 1)))
        tall = wide_edges[:, :-2] | wide_edges[:, 1:-1] | wide_edges[:, 2:]
        edges = crest & (tall[:, :, :-2] | tall[:, :, 1:-1] | tall[:, :, 2:])
    return cast(NDArray[np.bool_], edges)


def chamfer_distance(zeros: NDArray[np.bool_]) -> Floats:
    """Distance [n, H, W] to the nearest true pixel in steps of 1, 1.4 and 2.1969 (Borgefors 1986, 5x5), as OpenCV's.

    Infinite where an image has none. Two scans; along a row a running minimum takes the place of the inner loop.
    """
    n, height, width = zeros.shape
    distance = np.where(zeros, np.float32(0), np.float32(np.inf))
    place = np.arange(width, dtype=np.float32)
    for scan in (distance, distance[:, ::-1, ::-1]):
        wide = np.full((n, height + 2, width + 4), np.inf, np.float32)
        wide[:, 2:, 2:-2] = scan
        for row in range(2, height + 2):
            here = wide[:, row, 2:-2]
            for up, side, length in _STEPS:
                np.minimum(here, wide[:, row - up, 2 + side : 2 + side + width] + np.float32(length), out=here)
            here[:] = np.minimum.accumulate(here - place, axis=1) + place
        scan[:] = wide[:, 2:, 2:-2]
    return distance


_STEPS = (
    (1, 0, 1.0), (1, -1, 1.4), (1, 1, 1.4), (1, -2, 2.1969), (1, 2, 2.1969), (2, -1, 2.1969), (2, 1, 2.1969),
)  # fmt: skip


def _equalised(images: Pixels) -> Pixels:
    """Histogram equalisation of images [n, H, W]: the lowest level becomes 0, the highest 255, a flat image stays."""
    n = len(images)
    flat = images.reshape(n, -1).astype(np.int64)
    levels = int(flat.max(initial=0)) + 1
    counts = np.bincount((flat + np.arange(n)[:, None] * levels).reshape(-1), minlength=n * levels).reshape(n, levels)
    lowest = (counts > 0).argmax(axis=1)
    least = np.take_along_axis(counts, lowest[:, None], 1)
    rest = flat.shape[1] - least
    new = np.rint((np.cumsum(counts, axis=1) - least) * (255 / np.maximum(rest, 1)))
    new = np.where(rest > 0, np.maximum(new, 0), np.arange(levels))
    return np.take_along_axis(new.astype(np.uint8), flat, 1).reshape(images.shape)


@_corruption("saturate", "Saturate", "extra", needs_colour=True, is_random=False,
             cifar=((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
             imagenet=((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)))  # fmt: skip
def _saturate(batch: Batch, factor: float, more: float) -> Floats:
    """Colours become paler (1 and 2) or stronger (3 to 5): the saturation of the HSV colour changes.

    With hue and value kept, the distance of every channel from the value grows in proportion; grey has no hue and
    turns red where saturation is added, as in the authors' program.
    """
    x = batch.x
    value = x.max(axis=1, keepdims=True)
    low = x.min(axis=1, keepdims=True)
    spread = value - low
    before = spread / np.maximum(value, np.float32(1e-6))
    after = np.clip(before * np.float32(factor) + np.float32(more), 0, 1)
    coloured = value - (value - x) * (after / np.maximum(before, np.float32(1e-6)))
    red = np.concatenate([value, value * (1 - after), value * (1 - after)], axis=1)
    return np.where(spread > 0, coloured, red)
