"""Images that networks were not trained on: other sets made to fit, a user's own, or made up (science k.5).

    found = available(spec.ood[0], info, folders)              # what there is, before anything is read
    images = outside_images(spec.ood[0], shape, test, folders)
    images.pixels                                            # uint8 [n, C, H, W], of the training set's size
    images.conversion                                        # 'gray 8x8 digits scaled to 20x20 in 28x28'

Numpy and Pillow only. Pixels go through the same input transform as training, so they stay uint8 here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from modescape.datasets.dataset import DataLocation, own_path
from modescape.datasets.here import ANEW, describe
from modescape.errors import DataCorrupt, InvalidInput
from modescape.own_files import read_apart
from modescape.own_sets import place_name
from modescape.records import DataInfo
from modescape.registry import datasets
from modescape.science.data import (
    ImageFiles,
    Images,
    RawData,
    Shape,
    fingerprint_of_npz,
    first_outside_digest,
    levels_of,
    read_images,
    scan_pictures,
    size_of,
)
from modescape.science.data.files import worth_saying
from modescape.science.data.hugging_face import digest_of, read_saved
from modescape.science.seeds import stream_seed
from modescape.spec_parts import PLACES, SYNTHETIC, DataSpec

Array = NDArray[Any]
Floats = NDArray[np.float64]

MOST = 10_000  # images evaluated when the spec leaves their number open
FEWEST = 10
_VALUES = 1 << 22  # pixels handled at a time, so that memory does not grow with the set

_MADE = {
    "gaussian-noise": "each pixel normal around 127.5 with deviation 64, cut to 0 to 255",
    "uniform-noise": "each pixel uniform on 0 to 255",
    "constant": "one uniform colour an image",
    "permuted": "the pixels of each test image in random order, their colours kept together",
}


class Asked(Protocol):
    """Which images are meant: what is read here of an `OodSpec`, which looks here at what it asks for."""

    @property
    def dataset(self) -> str: ...

    @property
    def path(self) -> str | None: ...

    @property
    def white(self) -> float | None: ...

    @property
    def fingerprint(self) -> str | None: ...

    @property
    def images(self) -> int | None: ...

    @property
    def seed(self) -> int: ...

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Available:
    """What a set offers before it is read: images, channels and size (0x0 where pictures differ), one of files that may
    change with a fingerprint, a user's own with what is to be said of how it is read."""

    count: int
    channels: int
    height: int
    width: int
    fingerprint: str | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class OutsideImages:
    """pixels uint8 [n, C, H, W] of the training set's shape; title: what they are; conversion: what was done to them,
    in words."""

    pixels: Images
    title: str
    conversion: str


def title(spec: Asked) -> str:
    """As people read it: "SVHN", "Uniform noise", what one's own images are called, or their folder or file."""
    if spec.path is not None:
        return spec.name or place_name(spec.path, spec.dataset)
    if spec.dataset not in SYNTHETIC and spec.dataset not in datasets:  # a worker's plug-in
        return spec.dataset
    return SYNTHETIC.get(spec.dataset) or datasets[spec.dataset].title


def available(spec: Asked, info: DataInfo, folders: Sequence[Path]) -> Available:
    """What the set offers; checks that it is here, holds enough images, and can be made to look like the training set.

    Raises DataMissing, DataCorrupt, and InvalidInput with fields relative to the study.
    """
    found = _available(spec, folders)
    if found.count < FEWEST:
        raise InvalidInput(
            f"{title(spec)} holds {found.count} images", field="path", allowed=f"at least {FEWEST} images"
        )
    if spec.images is not None and spec.images > found.count:
        raise InvalidInput(
            f"{spec.images} images asked for, {title(spec)} has {found.count}",
            field="images",
            allowed=f"{FEWEST} to {found.count}, or empty",
        )
    if found.channels != info.channels and {found.channels, info.channels} != {1, 3}:
        raise InvalidInput(
            f"{title(spec)} has {found.channels} channels, the training images have {info.channels}",
            field="dataset",
            allowed=f"images of {info.channels} channels; only gray and RGB can be turned into each other",
        )
    return found


def own(spec: Asked) -> DataSpec:
    """A user's own images as a data set."""
    return DataSpec(dataset=spec.dataset, path=spec.path, white=spec.white)


def remarks(spec: Asked) -> list[str]:
    """What a person should know of a user's own images before a launch: what was left aside, how arrays are read. (How
    pictures are read, the look through them says.) Raises InvalidInput."""
    return list(_looked_at(own(spec)).remarks) if spec.dataset in ("folder", "npz") else []


def _available(spec: Asked, folders: Sequence[Path]) -> Available:
    try:
        if spec.dataset in ("folder", "npz", "huggingface"):
            return _looked_at(own(spec))
    except InvalidInput as error:
        raise InvalidInput(
            error.message, problems=[replace(p, field=p.field.removeprefix("data.")) for p in error.problems]
        ) from None
    info = describe(DataSpec(dataset=spec.dataset), tuple(folders))
    outside = datasets[spec.dataset].outside
    count = outside.total if outside else info.test_total
    return Available(count, info.channels, info.height, info.width, info.fingerprint)


@read_apart(lambda data: [data.path], field="data.path")
def _looked_at(data: DataSpec) -> Available:
    path = own_path(data)
    if data.dataset == "folder":
        pictures = scan_pictures(path)
        size = (pictures.channels, pictures.height, pictures.width)
        return Available(len(pictures.paths), *size, pictures.fingerprint, tuple(worth_saying(pictures.aside)))
    if data.dataset == "npz":
        images, reading = read_images(path, data.white)
        return Available(len(images), *size_of(images), fingerprint_of_npz(path, reading), tuple(reading.remarks))
    saved = read_saved(path)
    found = saved.raw.test_images
    return Available(len(found), *size_of(found), saved.fingerprint(digest_of(path), 0))


def count_images(spec: Asked, test: int) -> int:
    """How many images will be evaluated, without looking for public files; test: test images of the training set."""
    if spec.images is not None:
        return spec.images
    if spec.dataset in SYNTHETIC:
        return min(MOST, test) if spec.dataset == "permuted" else MOST
    if spec.dataset in PLACES:
        return min(MOST, _available(spec, ()).count)
    entry = datasets[spec.dataset]
    there = entry.outside.total if entry.outside else entry.test_total
    return min(MOST, there or MOST)


def outside_images(
    spec: Asked,
    shape: Shape,
    test: Images | ImageFiles,
    folders: Sequence[Path],
) -> OutsideImages:
    """The images, in the channels and size of `shape`; test: the training set's test images, for the permuted ones.

    A choice of n among more is drawn by the spec's seed and kept in the set's own order. Raises DataMissing,
    DataCorrupt (also when a user's own files changed since the experiment was created).
    """
    if spec.dataset in SYNTHETIC:
        count = count_images(spec, len(test))
        made = _MAKERS[spec.dataset](_generator(spec, spec.dataset), count, shape, test)
        pixels = np.concatenate(list(made)) if spec.dataset != "constant" else next(made)
        return OutsideImages(np.ascontiguousarray(pixels), title(spec), _MADE[spec.dataset])
    if spec.fingerprint is not None and _available(spec, folders).fingerprint != spec.fingerprint:
        what = spec.path or title(spec)
        if spec.path and first_outside_digest(own_path(own(spec))) == spec.fingerprint:
            raise DataCorrupt(f"{what} {ANEW}")
        raise DataCorrupt(f"{what} has changed since the experiment was created; clone it to use the new images")
    source = _read(spec, DataLocation(tuple(folders)))
    chosen = _choice(spec, len(source))
    size = size_of(cast(Images, source))
    inner = _inner(spec, shape)
    if isinstance(source, ImageFiles):
        files = replace(source, channels=shape.channels, height=shape.height, width=shape.width)
        pixels = files.read([int(i) for i in chosen])
    else:
        pixels = fitted(source[chosen], shape, inner)
    return OutsideImages(np.ascontiguousarray(pixels), title(spec), _words(spec, size, shape, inner))


def _generator(spec: Asked, stream: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(stream_seed(spec.seed, f"outside/{stream}", 0)))


def _choice(spec: Asked, there: int) -> NDArray[np.intp]:
    wanted = min(MOST, there) if spec.images is None else spec.images
    if wanted > there:
        raise DataCorrupt(f"{title(spec)} has {there} images, {wanted} were planned")
    return np.sort(_generator(spec, "choice").permutation(there)[:wanted])


def _inner(spec: Asked, shape: Shape) -> tuple[int, int]:
    """Height and width to which images are scaled: those of the training set, or what its middle is kept for."""
    outside = None if spec.dataset not in datasets else datasets[spec.dataset].outside
    if outside is None or shape.height != shape.width or shape.height not in outside.inside:
        return shape.height, shape.width
    side = outside.inside[shape.height]
    return side, side


def _read(spec: Asked, location: DataLocation) -> Array | ImageFiles:
    """Test images [N, C, H, W], 0 to 255, or what a set has in their place."""
    if spec.dataset == "folder":
        pictures = scan_pictures(own_path(own(spec)))
        levels = levels_of(pictures, spec.white)
        return ImageFiles(pictures.paths, pictures.channels, pictures.height, pictures.width, levels=levels)
    if spec.dataset == "npz":
        return read_images(own_path(own(spec)), spec.white)[0]
    if spec.dataset == "huggingface":
        return cast(Array, read_saved(own_path(own(spec))).raw.test_images)
    entry = datasets[spec.dataset]
    if entry.outside is not None:
        return cast(Array, entry.outside.read())
    raw: RawData = entry.call(location, DataSpec(dataset=spec.dataset))
    return raw.test_images


# --- made to fit ------------------------------------------------------------------------------------------------------


def fitted(images: Array, shape: Shape, inner: tuple[int, int]) -> Images:
    """Images [N, C, H, W] of 0 to 255 in the channels and size of `shape`, uint8, rounded once at the end.

    RGB becomes gray by its luma (.299 R + .587 G + .114 B, ITU-R BT.601), gray becomes RGB by repetition. The picture
    is scaled to `inner` (height, width) and stands in the middle of black.
    """
    n, channels, height, width = images.shape
    across, down = resizing(width, inner[1]), resizing(height, inner[0])
    top, left = (shape.height - inner[0]) // 2, (shape.width - inner[1]) // 2
    made = np.zeros((n, *shape[:3]), np.uint8)
    rows = max(1, _VALUES // (channels * height * width))
    for start in range(0, n, rows):
        block = np.asarray(images[start : start + rows], np.float64)
        if channels == 3 and shape.channels == 1:
            block = np.tensordot(block, [0.299, 0.587, 0.114], axes=(1, 0))[:, None]
        scaled = down @ block @ across.T
        where = np.s_[start : start + rows, :, top : top + inner[0], left : left + inner[1]]
        made[where] = np.rint(scaled).clip(0, 255).astype(np.uint8)  # one channel is repeated by broadcasting
    return made


def resizing(size: int, target: int) -> Floats:
    """Matrix [target, size] of bilinear scaling along one axis: rows sum to 1, pixel centres at half numbers.

    Border pixels are repeated when growing; when shrinking, the triangle widens so that every pixel counts (as Pillow
    does).
    """
    scale = size / target
    reach = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale - 0.5
    weights = np.maximum(1 - np.abs(np.arange(size)[None] - centres[:, None]) / reach, 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _words(spec: Asked, size: tuple[int, int, int], shape: Shape, inner: tuple[int, int]) -> str:
    channels, height, width = size
    colour = "gray" if channels == 1 else "RGB"
    if inner != (shape.height, shape.width):
        outside = datasets[spec.dataset].outside
        shown = f"{colour} {height}x{width} {outside.noun if outside else 'images'}"
        return f"{shown} scaled to {inner[0]}x{inner[1]} in {shape.height}x{shape.width}"
    parts = [f"{colour} {height}x{width}" if height else f"{colour}, of several sizes"]
    if channels != shape.channels:
        parts.append("made gray by luma" if shape.channels == 1 else "repeated in three channels")
    if (height, width) != inner:
        stretched = not height or height * inner[1] != width * inner[0]
        parts.append(f"{'stretched' if stretched else 'scaled'} to {inner[0]}x{inner[1]}")
    return ", ".join(parts) if len(parts) > 1 else f"{parts[0]}, as they are"


# --- made up ----------------------------------------------------------------------------------------------------------

Maker = Callable[[np.random.Generator, int, Shape, "Images | ImageFiles"], Iterator[Images]]


def _blocks(count: int, shape: Shape) -> Iterator[int]:
    """Sizes of the blocks in which `count` images are made."""
    rows = max(1, _VALUES // (shape.channels * shape.height * shape.width))
    for start in range(0, count, rows):
        yield min(rows, count - start)


def _gaussian(rng: np.random.Generator, count: int, shape: Shape, test: Images | ImageFiles) -> Iterator[Images]:
    for n in _blocks(count, shape):
        yield np.rint(rng.normal(127.5, 64, (n, *shape[:3]))).clip(0, 255).astype(np.uint8)


def _uniform(rng: np.random.Generator, count: int, shape: Shape, test: Images | ImageFiles) -> Iterator[Images]:
    for n in _blocks(count, shape):
        yield rng.integers(0, 256, (n, *shape[:3]), dtype=np.uint8)


def _constant(rng: np.random.Generator, count: int, shape: Shape, test: Images | ImageFiles) -> Iterator[Images]:
    colours = rng.integers(0, 256, (count, shape.channels, 1, 1), dtype=np.uint8)
    yield np.broadcast_to(colours, (count, *shape[:3]))


def _permuted(rng: np.random.Generator, count: int, shape: Shape, test: Images | ImageFiles) -> Iterator[Images]:
    start = 0
    for n in _blocks(count, shape):
        rows = range(start, start + n)
        pixels = test.read(rows) if isinstance(test, ImageFiles) else np.asarray(test[rows.start : rows.stop])
        order = rng.random((n, 1, shape.height * shape.width)).argsort(axis=-1)
        yield np.take_along_axis(pixels.reshape(n, shape.channels, -1), order, axis=-1).reshape(pixels.shape)
        start += n


_MAKERS: Mapping[str, Maker] = {
    "gaussian-noise": _gaussian,
    "uniform-noise": _uniform,
    "constant": _constant,
    "permuted": _permuted,
}
