"""What a data set is before torch sees it: uint8 images and labels, held or read on demand, and who reads them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modescape.errors import DataCorrupt, DataMissing
from modescape.science.data.pictures import READING as PIXELS
from modescape.science.data.pictures import Levels, UnreadablePicture, decode, printable
from modescape.science.data.values import Reading

if TYPE_CHECKING:
    from torch import Tensor


Images = NDArray[np.uint8]
Numbers = NDArray[np.float32]  # [N, C, H, W] of examples that are no pictures: as they are
Labels = NDArray[np.int64]
Augmentation = Literal["none", "shift-flip", "crop-flip", "resized-crop-flip"]


class Shape(NamedTuple):
    """What a network must know of its data: image size and the number of classes."""

    channels: int
    height: int
    width: int
    classes: int


@dataclass(frozen=True)
class Published:
    """A file of a public data set: where torchvision fetches it, its MD5 as published, its size in bytes."""

    url: str
    md5: str
    bytes: int

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


# How a user's own sets are read, by subject. What was read before this was written down is version 1. Whoever changes
# how something is read raises its subject (or adds one), and every set to which it matters gets another fingerprint.
# order: train, validation and test in an order drawn from the split seed; layout: splits by the usual names; labels:
# classes are the labels that occur; pixels: numbers of any depth and pictures of any kind as bytes; numbers: float32s.
READING: Mapping[str, int] = {"order": 2, "layout": 2, "labels": 2, "pixels": PIXELS, "numbers": 1}


def as_read(digest: str, subjects: Mapping[str, str]) -> str:
    """The fingerprint of own data: what they hold (a SHA-256) and how it is read.

    subjects: those of `READING` by which this set is read differently than by version 1, each with what else decides
    (such as the seed of the order). Without any the digest is the fingerprint, so that what was computed from a set
    that reads as before is found again.
    """
    if not subjects:
        return digest
    rules = ";".join(f"{subject} {READING[subject]} {value}" for subject, value in sorted(subjects.items()))
    return hashlib.sha256(f"{digest}|{rules}".encode()).hexdigest()


@dataclass(frozen=True)
class Origin:
    """Where each image of a split was: a file under the set's folder, or a row of an array. Files or rows, in order.

    is_cut: whether the split is a part of that array, which had no splits of its own.
    """

    files: tuple[str, ...] = ()
    array: str = ""
    rows: NDArray[np.intp] | None = None
    is_cut: bool = False

    def __len__(self) -> int:
        return len(self.files) if self.rows is None else len(self.rows)

    @property
    def own_rows(self) -> NDArray[np.intp] | None:
        """The rows of a split that is an array of its own, by which other arrays (corrupted copies) know its images."""
        return None if self.is_cut else self.rows

    def names(self) -> list[str]:
        """One an image, such as cats/001.png or train_images[17]."""
        if self.rows is None:
            return [printable(file) for file in self.files]
        return [f"{self.array}[{row}]" for row in self.rows]

    def take(self, indices: NDArray[np.intp]) -> Origin:
        if self.rows is None:
            return Origin(tuple(self.files[i] for i in indices))
        return replace(self, rows=self.rows[indices])


@dataclass(frozen=True)
class RawData:
    """A data set as read: uint8 images [N, C, H, W] (or files read on demand, or float32 numbers that are no pictures),
    labels int64 [N], class names.

    validation: where the set has one of its own, else it is cut from training. origins: of a user's own images, by
    split; reading: how numbers became bytes.
    """

    train_images: Images | Numbers | ImageFiles
    train_labels: Labels
    test_images: Images | Numbers | ImageFiles
    test_labels: Labels
    classes: tuple[str, ...]
    reading: Reading | None = None
    validation_images: Images | Numbers | ImageFiles | None = None
    validation_labels: Labels | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageFiles:
    """Images too many to hold: read from disk when a batch asks for them, scaled to one size.

    With `crop` (ImageNet) the shorter side is scaled to 256/224 of the size and the centre is cut out, else the whole
    image is scaled. levels: a user's own pictures, read by the rules of `pictures`; None: those of a public set, read
    as torchvision reads them.
    """

    paths: tuple[Path, ...]
    channels: int
    height: int
    width: int
    crop: bool = False
    levels: Levels | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Sequence[int]) -> ImageFiles:
        return replace(self, paths=tuple(self.paths[i] for i in indices))

    def read(self, indices: Sequence[int], boxes: Sequence[Box | None] | None = None) -> Images:
        """uint8 [n, C, H, W]; decoding runs in threads, for Pillow lets go of the interpreter lock.

        Raises UnreadablePicture (a DataCorrupt) naming the file.
        """
        found = [None] * len(indices) if boxes is None else boxes
        images = np.empty((len(indices), self.height, self.width, self.channels), np.uint8)

        def one(position: int) -> None:
            images[position] = self._decode(self.paths[indices[position]], found[position])

        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            for _ in threads.map(one, range(len(indices))):
                pass
        return images.transpose(0, 3, 1, 2)

    def _decode(self, path: Path, box: Box | None) -> Images:
        mode = "L" if self.channels == 1 else "RGB"
        image = _as_torchvision(path, mode) if self.levels is None else decode(path, self.levels).image.convert(mode)
        region = box.of(image.width, image.height) if box else self._centre(image) if self.crop else None
        image = image.resize((self.width, self.height), Image.Resampling.BILINEAR, box=region, reducing_gap=3)
        return np.asarray(image, np.uint8).reshape(self.height, self.width, self.channels)

    def _centre(self, image: Image.Image) -> tuple[float, float, float, float]:
        share = 224 / 256
        scale = min(image.width / self.width, image.height / self.height) * share
        width, height = self.width * scale, self.height * scale
        left, top = (image.width - width) / 2, (image.height - height) / 2
        return left, top, left + width, top + height


def _as_torchvision(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as opened:
            return opened.convert(mode)
    except Exception as error:  # Pillow's readers raise what they please on damaged files
        raise UnreadablePicture(path, str(error) or type(error).__name__) from error


@dataclass(frozen=True)
class Box:
    """A random part of an image: its share of the area, its aspect ratio, and its place (Szegedy 2015)."""

    area: float
    ratio: float
    across: float
    down: float

    def of(self, width: int, height: int) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) inside an image of that size."""
        w = min(width, (self.area * width * height * self.ratio) ** 0.5)
        h = min(height, (self.area * width * height / self.ratio) ** 0.5)
        left, top = self.across * (width - w), self.down * (height - h)
        return left, top, left + w, top + h


Names = tuple[tuple[str, frozenset[str]], ...]  # of picture files, by class folder


@dataclass(frozen=True)
class OwnTest:
    """What can be known of the test images without torch or scikit-learn. labels: in the order in which files of
    corrupted copies have them, which for arrays of one's own is that of their rows; names: of the files
    of a set that is read as it is needed. None: not known, or no such files."""

    labels: Labels | None
    names: Names | None = None


def scaled(images: Images | Numbers, side: int) -> Images:
    """uint8 [N, C, side, side]: each picture scaled by Pillow's bilinear filter, which looks at every pixel when it
    shrinks. Raises ValueError for numbers that are no pictures."""
    if images.dtype != np.uint8:
        raise ValueError("numbers that are no pictures are not scaled")
    made = np.empty((*images.shape[:2], side, side), np.uint8)

    def one(position: int) -> None:
        for channel, plane in enumerate(images[position]):
            picture = Image.fromarray(plane).resize((side, side), Image.Resampling.BILINEAR)
            made[position, channel] = np.asarray(picture, np.uint8)

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for _ in threads.map(one, range(len(images))):
            pass
    return made


def size_of(images: Images | Numbers | Tensor | ImageFiles) -> tuple[int, int, int]:
    """(channels, height, width)."""
    if isinstance(images, ImageFiles):
        return images.channels, images.height, images.width
    _, channels, height, width = images.shape
    return channels, height, width


def stratified_split(labels: Labels, *, test: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices (train, test) in shuffled order; each class gives its share of `test`, by largest remainder."""
    rng = np.random.Generator(np.random.Philox(seed))
    names, counts = np.unique(labels, return_counts=True)
    exact = counts * (test / len(labels))
    given = np.floor(exact).astype(int)
    given[np.argsort(given - exact, kind="stable")[: test - given.sum()]] += 1
    tested, trained = [], []
    for name, share in zip(names, given, strict=True):
        members = rng.permutation(np.flatnonzero(labels == name))
        tested.append(members[:share])
        trained.append(members[share:])
    return rng.permutation(np.concatenate(trained)), rng.permutation(np.concatenate(tested))


def shown_order(classes: Sequence[str]) -> list[int]:
    """The order in which classes are shown: by number where all names are whole numbers, else as they are.

    Classes keep their numbers, which follow the text order of their names as in torchvision and Keras: 0, 1, 10, 2.
    """
    if all(re.fullmatch(r"[+-]?\d{1,18}", name, re.ASCII) for name in classes):
        return sorted(range(len(classes)), key=lambda i: (int(classes[i]), i))
    return list(range(len(classes)))


def verify_md5(path: Path, expected: str) -> None:
    """Raises DataMissing or DataCorrupt unless the file's MD5 is `expected` (the published form of these checksums)."""
    if not path.is_file():
        raise DataMissing(f"{path} is missing; fetch the set again")
    try:
        found = file_digest(path, "md5")
    except OSError as error:
        raise DataCorrupt(f"{path} cannot be read: {error.strerror or error}") from error
    if found != expected:
        raise DataCorrupt(f"{path} has MD5 {found}, expected {expected}; delete it and fetch the set again")


def file_digest(path: Path, algorithm: Literal["md5", "sha256"]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
