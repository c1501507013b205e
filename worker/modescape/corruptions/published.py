"""Published sets of corrupted test images: CIFAR-10-C and CIFAR-100-C (`.npy` files), ImageNet-C (folders of JPEG).

    fingerprint = check_set("/data/CIFAR-10-C", info, types, intensities, own=own_test(spec.data, folders))
    found = PublishedSet(Path("/data/CIFAR-10-C"), splits.test, splits.classes)
    found.check_labels(labels)                        # image i of every type and intensity is test image i
    found.images("fog", 3, 0, 500)                    # the first 500: uint8 [500, C, H, W]

Types have the names of `corruptions`; the two that TensorFlow Datasets calls otherwise are found as well.
Everything wrong with a set is an InvalidInput of the field `path`, which belongs to the study `shift`. Published by
Hendrycks, Dietterich 2019: CIFAR-10-C is Zenodo record 2535967, CIFAR-100-C 3555552, ImageNet-C 2235448 (science j.3).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from modescape.corruptions.corruption import INTENSITIES
from modescape.errors import InvalidInput
from modescape.registry import corruptions
from modescape.science.data import (
    ImageFiles,
    Images,
    Labels,
    Names,
    OwnTest,
    Split,
    is_left_behind,
    is_picture,
    size_of,
)
from modescape.science.data.pictures import UnreadablePicture, header_of, printable

if TYPE_CHECKING:
    from modescape.records import DataInfo

_ALLOWED = (
    "a folder of .npy files as CIFAR-10-C has (labels.npy and one file a type), or of "
    "<type>/<intensity>/<class>/*.JPEG as ImageNet-C has"
)
_NO_ORDER = "{} holds folders of pictures, whose order only a test set read from files tells"
_ALSO_CALLED = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}


def _refuse(message: str) -> InvalidInput:
    return InvalidInput(message, field="path", allowed=_ALLOWED)


# --- before anything is read ------------------------------------------------------------------------------------------


def check_set(
    path: str | Path,
    info: DataInfo,
    types: Sequence[str],
    intensities: Sequence[int] = INTENSITIES,
    *,
    own: OwnTest | None = None,
) -> str:
    """Check that a set has these types and intensities in the shape of the data set; its fingerprint.

    own: what is known of the data set's test images; the set must have the same labels in the same order, or the same
    class folders with copies of all their pictures. What is not known here, `PublishedSet.check_labels` compares, which
    needs the data set. The fingerprint changes with names, sizes, times, labels and a sample of the images, not with
    every byte: reading three gigabytes would take longer than a form may. Needs no torch. Raises InvalidInput.
    """
    folder = Path(path).expanduser()
    try:
        if not folder.is_dir():
            raise _refuse(f"there is no folder {str(path)!r}")
        if any(not is_left_behind(file.name) for file in folder.glob("*.npy")):
            return _check_arrays(folder, info, types, own)
        return _check_folders(folder, info, types, intensities, own)
    except OSError as error:
        raise _refuse(f"{folder} cannot be looked at: {error}") from error
    except UnicodeEncodeError as error:
        raise _refuse(f"{folder} holds a name that is not UTF-8: {printable(error.object)}") from error


def _check_arrays(folder: Path, info: DataInfo, types: Sequence[str], own: OwnTest | None) -> str:
    missing = [name for name in types if not _array_file(folder, name).exists()]
    if missing:
        raise _refuse(f"{folder} lacks {len(missing)} of {len(types)} types: {', '.join(missing)}")
    labels = _published_labels(folder)
    if labels.shape[1] != info.test_total:
        raise _refuse(
            f"{folder} has {labels.shape[1]} images of each type and intensity, the data set {info.test_total} to test"
        )
    if labels.min() < 0 or labels.max() >= len(info.classes):
        raise _refuse(
            f"its labels go from {labels.min()} to {labels.max()}, the data set's from 0 to {len(info.classes) - 1}"
        )
    if own is not None and own.labels is not None:
        _check_order(folder, labels, own.labels)
    digest = hashlib.sha256(labels.tobytes())
    for name in types:
        rows = _rows(folder, name, labels.size, (info.channels, info.height, info.width))
        digest.update(f"{name}|{rows.shape}|{_array_file(folder, name).stat().st_mtime_ns}|".encode())
        digest.update(np.ascontiguousarray(rows[:: max(1, len(rows) // 50)]).tobytes())
    return digest.hexdigest()


def _check_folders(
    folder: Path, info: DataInfo, types: Sequence[str], intensities: Sequence[int], own: OwnTest | None
) -> str:
    missing = [name for name in types if not _type_folder(folder, name).is_dir()]
    if missing:
        raise _refuse(
            f"{folder} lacks {len(missing)} of {len(types)} types: {', '.join(missing)}"
            if len(missing) < len(types)
            else f"{folder} holds neither .npy files nor folders of corruption types"
        )
    if own is not None and own.names is None:
        raise _refuse(_NO_ORDER.format(folder))
    digest = hashlib.sha256()
    first: list[str] = []
    for name in types:
        for intensity in intensities:
            place = _type_folder(folder, name) / str(intensity)
            if not place.is_dir():
                raise _refuse(f"{folder} lacks the folder {name}/{intensity}")
            changed = _class_folders(place, info.classes)
            classes = list(changed)
            first = first or classes
            if classes != first:
                odd = sorted(set(classes) ^ set(first))
                raise _refuse(f"{name}/{intensity} has other classes than {types[0]}/{intensities[0]}: {odd[0]}")
            if len(classes) != len(info.classes):
                raise _refuse(f"{name}/{intensity} holds {len(classes)} classes, the data set {len(info.classes)}")
            if own is not None and (odd := sorted(set(classes) - set(info.classes))):
                raise _refuse(
                    f"{name}/{intensity} has other classes than the data set: {odd[0]} ({len(odd)} of {len(classes)})"
                )
            one = _first_picture(place / classes[0])
            if one is None:
                raise _refuse(f"{name}/{intensity}/{classes[0]} holds no images")
            _check_size(one, (info.height, info.width))
            if own is not None and own.names is not None:
                _check_listed(place, own.names, tuple(changed.values()))
            digest.update(f"{name}/{intensity}/{one.name}|{one.stat().st_size}|{list(changed.values())}|".encode())
    digest.update("\n".join(first).encode())
    return digest.hexdigest()


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedSet:
    """The corrupted copies of one test set, in its order. Files are opened when they are asked for.

    classes: the data set's, by their numbers. ImageNet-C's pictures are found by the class and the file name of the
    test set's own, so `test` must be read from files then; a .npy set has its images in the order of the test set.
    """

    path: Path
    test: Split
    classes: tuple[str, ...]

    @cached_property
    def _folder(self) -> Path:
        return self.path.expanduser()

    @cached_property
    def _is_arrays(self) -> bool:
        return (self._folder / "labels.npy").exists()

    def check_labels(self, labels: Labels) -> None:
        """Raises InvalidInput unless the set's images are of the classes `labels` [n] of the first n test images.

        Of folders every type and intensity there is must have every one of those images, too.
        """
        if self._is_arrays:
            published = _published_labels(self._folder)
        else:
            number = {name: i for i, name in enumerate(self.classes)}
            published = np.array([[number[name] for name, _ in self._named(0, len(labels))]], np.int64)
        n = len(labels)
        rows = self._own_rows(0, n) if self._is_arrays else np.arange(n)
        if published.shape[1] <= max(rows, default=-1):
            needed = max(rows, default=-1) + 1
            raise _refuse(
                f"{self._folder} has {published.shape[1]} images of each type and intensity, {needed} are needed"
            )
        _check_order(self._folder, published[:, rows], labels)
        if not self._is_arrays:
            for cell in self._cells():
                self._check_files(cell, 0, n)

    def images(self, name: str, intensity: int, start: int, stop: int) -> Images:
        """Test images start to stop - 1 of one type and intensity, uint8 [n, C, H, W].

        Only these rows of a .npy file are read. Raises InvalidInput when the set does not hold them.
        """
        if name not in corruptions or intensity not in INTENSITIES:
            raise InvalidInput(
                f"there is no {name!r} of intensity {intensity}", field="corruptions", allowed=", ".join(corruptions)
            )
        channels, height, width = size_of(self.test.images)
        if self._is_arrays:
            size = _published_labels(self._folder).size
            count = size // len(INTENSITIES)
            wanted = self._own_rows(start, stop)
            if max(wanted, default=-1) >= count:
                raise _refuse(
                    f"{self._folder} has {count} images of each type and intensity, number {max(wanted)} is needed"
                )
            first = (intensity - 1) * count
            rows = _rows(self._folder, name, size, (channels, height, width))[first + wanted]
            return np.ascontiguousarray(rows.transpose(0, 3, 1, 2))
        cell = _type_folder(self._folder, name) / str(intensity)
        self._check_files(cell, start, stop)
        files = [cell / folder / name for folder, name in self._named(start, stop)]
        for file in files:
            _check_size(file, (height, width))
        assert isinstance(self.test.images, ImageFiles)
        return replace(self.test.images, paths=tuple(files), crop=False).read(range(len(files)))

    def _own_rows(self, start: int, stop: int) -> NDArray[np.intp]:
        """The rows of a .npy set that are test images start to stop - 1: a user's arrays are read in another order."""
        own = None if self.test.origin is None else self.test.origin.own_rows
        return np.arange(start, stop) if own is None else own[start:stop]

    def _named(self, start: int, stop: int) -> list[tuple[str, str]]:
        """Class and file name of the clean test images, whose corrupted copies lie under the same."""
        if not isinstance(self.test.images, ImageFiles):
            raise _refuse(_NO_ORDER.format(self._folder))
        paths, labels = self.test.images.paths[start:stop], self.test.labels[start:stop].tolist()
        return [(self.classes[label], path.name) for path, label in zip(paths, labels, strict=True)]

    def _cells(self) -> list[Path]:
        """The folder of every type and intensity there is."""
        folders = [
            _type_folder(self._folder, name) / str(intensity) for name in corruptions for intensity in INTENSITIES
        ]
        found = [folder for folder in folders if folder.is_dir()]
        if not found:
            raise _refuse(f"{self._folder} holds neither .npy files nor folders of corruption types")
        return found

    def _check_files(self, cell: Path, start: int, stop: int) -> None:
        wanted: dict[str, set[str]] = {}
        for folder, name in self._named(start, stop):
            wanted.setdefault(folder, set()).add(name)
        _check_pictures(cell, wanted.items())


# --- files ------------------------------------------------------------------------------------------------------------


def _array_file(folder: Path, name: str) -> Path:
    own, other = folder / f"{name}.npy", folder / f"{_ALSO_CALLED.get(name, name)}.npy"
    return other if other.exists() and not own.exists() else own


def _type_folder(folder: Path, name: str) -> Path:
    own, other = folder / name, folder / _ALSO_CALLED.get(name, name)
    return other if other.is_dir() and not own.is_dir() else own


def _class_folders(cell: Path, expected: Sequence[str]) -> dict[str, int]:
    """The class folders of one type and intensity with their times, sorted. Beyond the expected ones, empty folders are
    left aside (to look into all would take minutes: ImageNet-C has 75,000 of them)."""
    with os.scandir(cell) as entries:
        found = {e.name: e.stat().st_mtime_ns for e in entries if not is_left_behind(e.name) and e.is_dir()}
    for name in found.keys() - set(expected):
        if _first_picture(cell / name) is None:
            del found[name]
    if not found:
        raise _refuse(f"{'/'.join(cell.parts[-2:])} holds no class folders")
    return dict(sorted(found.items()))


def _first_picture(folder: Path) -> Path | None:
    names = [name for name in _files(folder) if is_picture(name) and not is_left_behind(name)]
    return folder / min(names) if names else None


def _files(folder: str | Path) -> set[str]:
    """The names of files, links to files among them; of pipes, folders and links to nothing none."""
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}


@lru_cache(maxsize=128)  # more than the cells of a set: 19 types at 5 intensities
def _check_listed(cell: Path, names: Names, changed: tuple[int, ...]) -> None:
    """`_check_pictures`, once as long as no class folder's time changes: ImageNet-C has 3.75 million files."""
    _check_pictures(cell, names)


def _check_pictures(cell: Path, wanted: Iterable[tuple[str, AbstractSet[str]]]) -> None:
    for name, files in wanted:
        there = _files(cell / name) if (cell / name).is_dir() else set()
        if missing := sorted(files - there):
            where = "/".join(cell.parts[-2:])
            raise _refuse(
                f"{where}/{name} lacks {len(missing)} of {len(files)} images of the test set, such as {missing[0]}"
            )


def _check_order(folder: Path, published: Labels, labels: Labels) -> None:
    """Labels there [rows, n], each row of which must be those here [n]."""
    wrong = published != labels
    if wrong.any():
        row, place = (int(i) for i in np.argwhere(wrong)[0])
        raise _refuse(
            f"{folder} has its labels in another order than the test set: image {place} is of class "
            f"{published[row, place]} there, {labels[place]} here ({int(wrong[row].sum())} of {len(labels)} differ)"
        )


def _array(file: Path) -> NDArray[np.generic]:
    """The array of a .npy file, mapped into memory, never unpickled."""
    if not file.is_file():  # a pipe would be waited for
        raise _refuse(f"{file.name} is no file")
    try:
        return cast("NDArray[np.generic]", np.lib.format.open_memmap(file, mode="r"))
    except Exception as error:  # OSError, ValueError, EOFError, TokenError, ...: numpy reads a header as Python
        reason = str(error) or type(error).__name__
        raise _refuse(f"{file.name} is not a whole .npy file of numbers ({reason})") from error


def _published_labels(folder: Path) -> Labels:
    """labels.npy as [5, N]: the labels of the test set once for each intensity."""
    file = folder / "labels.npy"
    if not file.exists():
        raise _refuse(f"{folder} holds no labels.npy")
    labels = _array(file)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) == 0 or len(labels) % len(INTENSITIES):
        raise _refuse(
            f"labels.npy holds {labels.dtype} of shape {labels.shape}, not whole numbers, {len(INTENSITIES)} x images"
        )
    return np.asarray(labels, np.int64).reshape(len(INTENSITIES), -1)


def _rows(folder: Path, name: str, count: int, shape: tuple[int, int, int]) -> Images:
    """The images of one type, mapped into memory: uint8 [count, H, W, C], intensity after intensity."""
    file = _array_file(folder, name)
    if not file.exists():
        raise _refuse(f"{folder} lacks the type {name}")
    rows = _array(file)
    channels, height, width = shape
    wanted = (count, height, width, channels)
    if rows.dtype != np.uint8:
        raise _refuse(f"{file.name} holds {rows.dtype}, not uint8")
    if rows.shape != wanted:
        raise _refuse(f"{file.name} has shape {rows.shape}, needed is {wanted} (5 x images, height, width, channels)")
    return cast(Images, rows)


def _check_size(file: Path, size: tuple[int, int]) -> None:
    """Published pictures are already cut to the size networks see; others would be scaled without anybody knowing."""
    try:
        header = header_of(file)
    except UnreadablePicture as error:
        raise _refuse(f"{file.name} cannot be read as a picture: {error.reason}") from error
    found = (header.height, header.width)
    if found != size:
        raise _refuse(f"{file.name} has {found[0]}x{found[1]} pixels, networks are trained on {size[0]}x{size[1]}")
