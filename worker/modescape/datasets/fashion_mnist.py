"""Fashion-MNIST: IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from modescape.datasets.dataset import DataLocation, dataset, missing
from modescape.datasets.here import published
from modescape.errors import DataCorrupt
from modescape.records import DataInfo
from modescape.science.data.files import Version, version_of
from modescape.science.data.raw import Labels, OwnTest, Published, RawData
from modescape.spec_parts import DataSpec

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
# Of what these hold (science k.1): they may lie unpacked, or packed again as Debian does. (Its packages' bytes, with
# the published files' names and times in the gzip headers, have the MD5s below: the contents are the same.)
FILES = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
DOWNLOADS = (
    Published(_URL + "train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
    Published(_URL + "train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", 29_515),
    Published(_URL + "t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", 4_422_102),
    Published(_URL + "t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", 5_148),
)


def _files(location: DataLocation) -> list[Path] | None:
    folder = find_fashion(location)
    return [idx_file(folder, file) for file in FILES] if folder else None


def _describe(location: DataLocation, spec: DataSpec) -> DataInfo:
    """Labels are small enough to be checked by their content before anything is launched; images when loaded."""
    for part in ("train", "t10k"):
        _labels_of(part, location)
    return published("fashion-mnist")


def _own_test(location: DataLocation, spec: DataSpec) -> OwnTest | None:
    return OwnTest(_labels_of("t10k", location)) if find_fashion(location) else None


def _labels_of(part: str, location: DataLocation) -> Labels:
    folder, name = find_fashion(location), f"{part}-labels-idx1-ubyte"
    assert folder is not None
    path = idx_file(folder, name)
    return fashion_labels(path, location.checksums["fashion-mnist"][name], version_of(path.stat()))


@dataset(
    "fashion-mnist", title="Fashion-MNIST", source="Xiao, Rasul, Vollgraf 2017",
    channels=1, height=28, width=28, classes=FASHION_CLASSES, train_total=60_000, test_total=10_000,
    validation_default=5_000,
    place=40, checksums=FILES, downloads=DOWNLOADS, files=_files, describe=_describe, own_test=_own_test,
)  # fmt: skip
def _fashion_mnist(location: DataLocation, spec: DataSpec) -> RawData:
    """70,000 grey pictures of clothing, 28x28 pixels, 10 classes; IDX files, gzipped or not."""
    folder = find_fashion(location)
    if folder is None:
        raise missing("fashion-mnist", location, "IDX files")
    train_images, train_labels, test_images, test_labels = (
        read_idx(idx_file(folder, name), location.checksums["fashion-mnist"][name]) for name in FILES
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
            if all((place / name).exists() or (place / f"{name}.gz").exists() for name in FILES):
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
