"""What CIFAR-10 and CIFAR-100 have in common: folders of pickles, each verified before it is opened."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from modescape.datasets.dataset import DataLocation, all_there, missing
from modescape.errors import DataCorrupt
from modescape.registry import datasets
from modescape.science.data.files import Version, version_of
from modescape.science.data.raw import Images, Labels, OwnTest, RawData, verify_md5
from modescape.spec_parts import DataSpec

URL = "https://www.cs.toronto.edu/~kriz/"


def _folder(name: str, base: str, location: DataLocation) -> Path | None:
    return location.find(base, f"{name}/{base}", f"{datasets[name].title.replace('-', '')}/{base}")


def files(name: str, base: str) -> Callable[[DataLocation], Sequence[Path] | None]:
    """Where the files of the set of that name lie, in its folder `base`."""

    def found(location: DataLocation) -> Sequence[Path] | None:
        folder = _folder(name, base, location)
        return all_there([folder / file for file in datasets[name].checksums]) if folder else None

    return found


def own_test(name: str, base: str, file: str, key: str) -> Callable[[DataLocation, DataSpec], OwnTest | None]:
    """The test labels of that set, which its file has under `key`. Raises DataCorrupt for a file that is another."""

    def found(location: DataLocation, spec: DataSpec) -> OwnTest | None:
        if not datasets[name].files(location):
            return None
        folder = _folder(name, base, location)
        assert folder is not None
        path = folder / file
        return OwnTest(_labels(path, key, location.checksums[name][file], version_of(path.stat())))

    return found


@lru_cache(maxsize=2)
def _labels(path: Path, key: str, md5: str, version: Version) -> Labels:
    verify_md5(path, md5)  # before anything is unpickled
    with path.open("rb") as file:
        return np.array(pickle.load(file, encoding="latin1")[key], np.int64)


def read(name: str, base: str, location: DataLocation) -> RawData:
    """torchvision's arrays, once every file is the published one. Raises DataMissing, DataCorrupt."""
    folder = _folder(name, base, location)
    if folder is None:
        raise missing(name, location, f"folder {base}")
    checksums = location.checksums[name]
    for file, md5 in checksums.items():  # before torchvision unpickles anything
        verify_md5(folder / file, md5)
    train, test = (_checked(name, folder.parent, train=part, checksums=checksums) for part in (True, False))
    classes = tuple(str(label) for label in train.classes)
    return RawData(*_part(train, len(classes), folder), *_part(test, len(classes), folder), classes)


def _checked(name: str, root: Path, *, train: bool, checksums: Mapping[str, str]) -> Any:
    """torchvision's CIFAR10 or CIFAR100, demanding `checksums` (file name to MD5) instead of the published ones."""
    from torchvision.datasets import CIFAR10, CIFAR100

    base: Any = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]

    class Checked(base):  # type: ignore[misc]
        train_list: ClassVar = [[file, checksums[file]] for file, _ in base.train_list]
        test_list: ClassVar = [[file, checksums[file]] for file, _ in base.test_list]
        meta: ClassVar = {**base.meta, "md5": checksums[base.meta["filename"]]}

    return Checked(str(root), train=train)


def _part(part: Any, classes: int, folder: Path) -> tuple[Images, Labels]:
    labels = np.asarray(part.targets, np.int64)
    if len(labels) != len(part.data) or labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise DataCorrupt(
            f"{folder}: {len(part.data)} images, {len(labels)} labels from {labels.min()} to {labels.max()}"
        )
    return np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), labels
