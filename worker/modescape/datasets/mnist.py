"""MNIST: IDX files, gzipped or not, as Fashion-MNIST's are, and by the same names: it lies in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modescape.datasets.dataset import DataLocation, dataset, missing
from modescape.datasets.fashion_mnist import fashion_labels, idx_file, read_idx
from modescape.datasets.here import published
from modescape.records import DataInfo
from modescape.science.data.files import version_of
from modescape.science.data.raw import Labels, OwnTest, RawData
from modescape.spec_parts import DataSpec

MNIST_CLASSES = tuple("0123456789")
FILES = {  # MD5 of what they hold, unpacked
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def _files(location: DataLocation) -> list[Path] | None:
    folder = find_mnist(location)
    return [idx_file(folder, file) for file in FILES] if folder else None


def _describe(location: DataLocation, spec: DataSpec) -> DataInfo:
    """Labels are checked by their content before anything is launched; images when loaded."""
    for part in ("train", "t10k"):
        _labels_of(part, location)
    return published("mnist")


def _own_test(location: DataLocation, spec: DataSpec) -> OwnTest | None:
    return OwnTest(_labels_of("t10k", location)) if find_mnist(location) else None


def _labels_of(part: str, location: DataLocation) -> Labels:
    folder, name = find_mnist(location), f"{part}-labels-idx1-ubyte"
    assert folder is not None
    path = idx_file(folder, name)
    return fashion_labels(path, location.checksums["mnist"][name], version_of(path.stat()))


@dataset(
    "mnist", title="MNIST", source="LeCun, Bottou, Bengio, Haffner 1998",
    channels=1, height=28, width=28, classes=MNIST_CLASSES, train_total=60_000, test_total=10_000,
    validation_default=5_000,
    place=45, how_to_get="put the four published IDX files into a folder `mnist` of a folder of data sets",
    checksums=FILES, files=_files, describe=_describe, own_test=_own_test,
)  # fmt: skip
def _mnist(location: DataLocation, spec: DataSpec) -> RawData:
    """70,000 grey pictures of handwritten digits, 28x28 pixels; IDX files, gzipped or not, in a folder `mnist`."""
    folder = find_mnist(location)
    if folder is None:
        raise missing("mnist", location, "IDX files in a folder `mnist`")
    train_images, train_labels, test_images, test_labels = (
        read_idx(idx_file(folder, name), location.checksums["mnist"][name]) for name in FILES
    )
    return RawData(
        train_images[:, None], train_labels.astype(np.int64), test_images[:, None], test_labels.astype(np.int64),
        MNIST_CLASSES,
    )  # fmt: skip


def find_mnist(location: DataLocation) -> Path | None:
    """Never a folder that could be Fashion-MNIST's: the files have the same names."""
    for folder in location.folders:
        own = [folder] if folder.name.lower() == "mnist" else []
        for place in (*own, folder / "mnist", folder / "MNIST" / "raw"):
            if all((place / name).exists() or (place / f"{name}.gz").exists() for name in FILES):
                return place
    return None
