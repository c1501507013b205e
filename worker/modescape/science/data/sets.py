"""The data sets: one function marked @dataset each, reading the files in their published layout."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from modescape.errors import DataCorrupt
from modescape.registry import datasets
from modescape.science.data.files import Version
from modescape.science.data.imagenet import files_of, imagenet_folder, list_parts
from modescape.science.data.raw import (
    FASHION_FILES,
    DataLocation,
    ImageFiles,
    Images,
    Labels,
    RawData,
    dataset,
    missing,
    stratified_split,
    verify_md5,
)
from modescape.spec import DataSpec

_DIGITS = tuple("0123456789")


@dataset(
    "digits", title="Digits", source="scikit-learn `load_digits`, after Alpaydin and Kaynak 1998 (UCI)",
    channels=1, height=8, width=8, classes=_DIGITS, train_total=597, test_total=1200, validation_default=197,
)  # fmt: skip
def _digits(location: DataLocation, spec: DataSpec) -> RawData:
    """1,797 handwritten digits of 8x8 pixels; ships with scikit-learn. 597 to train on, 1,200 to test, stratified."""
    return _some_digits(0, 9, test=1200)


@dataset(
    "digits-0-4", title="Digits 0 to 4", source="scikit-learn `load_digits`, after Alpaydin and Kaynak 1998 (UCI)",
    channels=1, height=8, width=8, classes=_DIGITS[:5], train_total=401, test_total=500, validation_default=101,
)  # fmt: skip
def _low_digits(location: DataLocation, spec: DataSpec) -> RawData:
    """The 901 digits 0 to 4; 5 to 9 are held out, to be looked at as images of another kind. 500 to test."""
    return _some_digits(0, 4, test=500)


@dataset(
    "digits-5-9", title="Digits 5 to 9", source="scikit-learn `load_digits`, after Alpaydin and Kaynak 1998 (UCI)",
    channels=1, height=8, width=8, classes=_DIGITS[5:], train_total=396, test_total=500, validation_default=96,
)  # fmt: skip
def _high_digits(location: DataLocation, spec: DataSpec) -> RawData:
    """The 896 digits 5 to 9, the classes that digits-0-4 holds out. 500 to test."""
    return _some_digits(5, 9, test=500)


def _some_digits(first: int, last: int, *, test: int) -> RawData:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    kept = (bunch.target >= first) & (bunch.target <= last)
    images = np.rint(bunch.images[kept] * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target[kept].astype(np.int64) - first
    trained, tested = stratified_split(labels, test=test, seed=0)
    return RawData(images[trained], labels[trained], images[tested], labels[tested], _DIGITS[first : last + 1])


FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@dataset(
    "fashion-mnist", title="Fashion-MNIST", source="Xiao, Rasul, Vollgraf 2017",
    channels=1, height=28, width=28, classes=FASHION_CLASSES, train_total=60_000, test_total=10_000,
    validation_default=5_000,
)  # fmt: skip
def _fashion_mnist(location: DataLocation, spec: DataSpec) -> RawData:
    """70,000 grey pictures of clothing, 28x28 pixels, 10 classes; IDX files, gzipped or not."""
    folder = find_fashion(location)
    if folder is None:
        raise missing("fashion-mnist", location, "IDX files")
    train_images, train_labels, test_images, test_labels = (
        read_idx(idx_file(folder, name), location.checksums["fashion-mnist"][name]) for name in FASHION_FILES
    )
    return RawData(
        train_images[:, None],
        train_labels.astype(np.int64),
        test_images[:, None],
        test_labels.astype(np.int64),
        FASHION_CLASSES,
    )


def find_fashion(location: DataLocation) -> Path | None:
    for folder in location.folders:
        for place in (folder, folder / "fashion-mnist", folder / "FashionMNIST" / "raw"):
            if all((place / name).exists() or (place / f"{name}.gz").exists() for name in FASHION_FILES):
                return place
    return None


def idx_file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.exists() else folder / f"{name}.gz"


@lru_cache(maxsize=4)
def fashion_labels(path: Path, md5: str, version: Version) -> Labels:
    """Labels int64 [N] of one part of Fashion-MNIST, read again when the file has changed. Raises DataCorrupt."""
    return read_idx(path, md5).astype(np.int64)


_IDX_DIMENSIONS = 4  # at most; those of Fashion-MNIST have 1 or 3
_IDX_LARGEST = 1 << 30  # bytes once unpacked, twenty times the largest of Fashion-MNIST's


def _unpacked(path: Path) -> bytes:
    try:
        with cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
            content = file.read(_IDX_LARGEST + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataCorrupt(f"{path} cannot be read: {error}") from error
    if len(content) > _IDX_LARGEST:
        raise DataCorrupt(f"{path} holds more than {_IDX_LARGEST >> 20} MiB, which no part of Fashion-MNIST does")
    return content


def read_idx(path: Path, md5: str | None = None) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes, gzipped or not. Raises DataCorrupt when it is something else or cut short, or when
    what it holds has another MD5.

    Layout (LeCun): two zero bytes, type 0x08, number of dimensions, each size as a big-endian 32-bit integer, data.
    """
    content = _unpacked(path)
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or not 1 <= content[3] <= _IDX_DIMENSIONS:
        raise DataCorrupt(f"{path} is not an IDX file of bytes (it begins with {content[:4]!r})")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataCorrupt(f"{path} is cut off: it promises {content[3]} sizes and is {len(content)} bytes long")
    sizes = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4"))
    data = np.frombuffer(content, np.uint8, offset=start)
    if data.size != math.prod(sizes):
        raise DataCorrupt(f"{path} promises {'x'.join(map(str, sizes))} bytes and holds {data.size}")
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 is not None and found != md5:
        raise DataCorrupt(
            f"{path} holds another set than its name says, or a changed one (MD5 {found}, expected {md5}); MNIST's "
            "files have the same names: give each set a folder of its own"
        )
    return data.reshape(sizes)


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES = tuple(_CIFAR100_NAMES.split())


@dataset(
    "cifar10", title="CIFAR-10", source="Krizhevsky 2009",
    channels=3, height=32, width=32, classes=CIFAR10_CLASSES,
    train_total=50_000, test_total=10_000, validation_default=500,
)  # fmt: skip
def _cifar10(location: DataLocation, spec: DataSpec) -> RawData:
    """60,000 colour pictures of animals and vehicles, 32x32 pixels, 10 classes."""
    return _cifar("cifar10", location)


@dataset(
    "cifar100", title="CIFAR-100", source="Krizhevsky 2009",
    channels=3, height=32, width=32, classes=CIFAR100_CLASSES,
    train_total=50_000, test_total=10_000, validation_default=500,
)  # fmt: skip
def _cifar100(location: DataLocation, spec: DataSpec) -> RawData:
    """60,000 colour pictures, 32x32 pixels, 100 fine classes."""
    return _cifar("cifar100", location)


CIFAR_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def _cifar(name: str, location: DataLocation) -> RawData:
    base = CIFAR_FOLDERS[name]
    folder = location.find(base, f"{name}/{base}", f"{datasets[name].title.replace('-', '')}/{base}")
    if folder is None:
        raise missing(name, location, f"folder {base}")
    checksums = location.checksums[name]
    for file, md5 in checksums.items():  # before torchvision unpickles anything
        verify_md5(folder / file, md5)
    train, test = (checked_cifar(name, folder.parent, train=part, checksums=checksums) for part in (True, False))
    classes = tuple(str(label) for label in train.classes)
    return RawData(*_cifar_part(train, len(classes), folder), *_cifar_part(test, len(classes), folder), classes)


def checked_cifar(name: str, root: Path, *, train: bool, checksums: Mapping[str, str]) -> Any:
    """torchvision's CIFAR10 or CIFAR100, demanding `checksums` (file name to MD5) instead of the published ones."""
    from torchvision.datasets import CIFAR10, CIFAR100

    base: Any = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]

    class Checked(base):  # type: ignore[misc]
        train_list: ClassVar = [[file, checksums[file]] for file, _ in base.train_list]
        test_list: ClassVar = [[file, checksums[file]] for file, _ in base.test_list]
        meta: ClassVar = {**base.meta, "md5": checksums[base.meta["filename"]]}

    return Checked(str(root), train=train)


def _cifar_part(part: Any, classes: int, folder: Path) -> tuple[Images, Labels]:
    labels = np.asarray(part.targets, np.int64)
    if len(labels) != len(part.data) or labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise DataCorrupt(
            f"{folder}: {len(part.data)} images, {len(labels)} labels from {labels.min()} to {labels.max()}"
        )
    return np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), labels


@dataset(
    "svhn", title="SVHN", source="Netzer et al. 2011",
    channels=3, height=32, width=32, classes=_DIGITS, train_total=73_257, test_total=26_032, validation_default=5_000,
)  # fmt: skip
def _svhn(location: DataLocation, spec: DataSpec) -> RawData:
    """99,289 cropped house numbers in colour, 32x32 pixels, 10 classes; the published class 10 is the digit 0."""
    first = location.find("train_32x32.mat", "svhn/train_32x32.mat", "SVHN/train_32x32.mat")
    if first is None or not (first.parent / "test_32x32.mat").exists():
        raise missing("svhn", location, "train_32x32.mat and test_32x32.mat")
    checksums = location.checksums["svhn"]
    for file, md5 in checksums.items():
        verify_md5(first.parent / file, md5)
    train, test = (checked_svhn(first.parent, split=part, checksums=checksums) for part in ("train", "test"))
    return RawData(
        np.ascontiguousarray(train.data),
        np.atleast_1d(train.labels),
        np.ascontiguousarray(test.data),
        np.atleast_1d(test.labels),
        _DIGITS,
    )


def checked_svhn(root: Path, *, split: str, checksums: Mapping[str, str]) -> Any:
    """torchvision's SVHN, demanding `checksums` (file name to MD5) instead of the published ones."""
    from torchvision.datasets import SVHN

    class Checked(SVHN):  # type: ignore[misc]
        split_list: ClassVar = {
            part: [url, file, checksums[file]] for part, (url, file, _) in SVHN.split_list.items() if file in checksums
        }

    return Checked(str(root), split=split)


@dataset(
    "imagenet", title="ImageNet", source="Russakovsky et al. 2015 (ILSVRC 2012)",
    channels=3, height=224, width=224, classes=tuple(f"class {i}" for i in range(1000)), train_total=1_281_167,
    test_total=50_000, validation_default=10_000,
)  # fmt: skip
def _imagenet(location: DataLocation, spec: DataSpec) -> RawData:
    """1,331,167 photographs in 1,000 classes, cut to 224x224 and read from disk as they are needed."""
    folder = imagenet_folder(location)
    if folder is None or not (folder.parent / "val").is_dir():
        raise missing("imagenet", location, "imagenet/train and imagenet/val")
    listed = list_parts(folder)
    classes, parts = listed[0].classes, []
    for one in listed:
        paths, labels = files_of(one, classes)
        order = np.random.Generator(np.random.Philox(0)).permutation(len(paths))  # folders come class by class
        parts.append((ImageFiles(tuple(paths[i] for i in order), 3, 224, 224, crop=True), labels[order]))
    (train, train_labels), (test, test_labels) = parts
    return RawData(train, train_labels, test, test_labels, classes)


@dataset(
    "blobs", title="Blobs", source="made up here, for tests: one Gaussian blob per class at its own place",
    channels=1, height=8, width=8, classes=("a", "b", "c", "d"),
    train_total=400, test_total=200, validation_default=100,
)  # fmt: skip
def blobs(location: DataLocation, spec: DataSpec) -> RawData:
    """600 noisy spots, 8x8 pixels, 4 classes by the place of the spot; for tests and first steps, needs no files."""
    rng = np.random.Generator(np.random.Philox(20))
    labels = rng.permutation(np.arange(600) % 4)
    centre = np.array([(2, 2), (2, 5), (5, 2), (5, 5)])[labels] + rng.normal(0, 0.8, (600, 2))
    rows, columns = np.mgrid[:8, :8]
    distance = (rows - centre[:, 0, None, None]) ** 2 + (columns - centre[:, 1, None, None]) ** 2
    light = 180 * np.exp(-distance / 3) + rng.normal(30, 40, (600, 8, 8))
    images = np.rint(light.clip(0, 255)).astype(np.uint8)[:, None]
    return RawData(images[:400], labels[:400], images[400:], labels[400:], ("a", "b", "c", "d"))
