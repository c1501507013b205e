"""A user's own arrays: images and labels in .npz files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.science.data import bounds
from modescape.science.data.files import Version, version_of
from modescape.science.data.layouts import (
    ArrayLayout,
    Place,
    Role,
    arrays_of,
    can_be_kept,
    images_of,
    ordered,
    readable,
    refuse_arrays,
)
from modescape.science.data.own_folders import pixels_read
from modescape.science.data.pictures import printable
from modescape.science.data.raw import (
    Images,
    Labels,
    Numbers,
    Origin,
    RawData,
    as_read,
    file_digest,
)
from modescape.science.data.values import Reading, in_bytes


def read_images(path: Path, white: float | None = None) -> tuple[Images, Reading]:
    """The images alone of an .npz file: those to test on if it has them, else all. Raises InvalidInput."""
    with readable(path):
        return _read_images(path, white, version_of(path.stat()))


@lru_cache(maxsize=2)
def _read_images(path: Path, white: float | None, version: Version) -> tuple[Images, Reading]:
    keys = npz_keys(path)
    key = images_of(keys)
    if key is None:
        held = ", ".join(keys) or "nothing"
        raise _bad_npz(f"it holds {held}", allowed="an .npz file with images or test_images")
    pixels, reading = _in_bytes(npz_arrays(path, [key]), (key,), white)
    return _as_images(pixels[key], key), reading


_bad_npz = refuse_arrays


@dataclass(frozen=True)
class FoundArrays:
    """What an .npz file holds: its images in the order drawn from the split seed, and which arrays they were.

    relabelled: whether class numbers are not the labels of the file.
    """

    raw: RawData
    layout: ArrayLayout
    relabelled: bool
    counts: Mapping[Place, int]

    def fingerprint(self, digest: str, seed: int) -> str:
        """digest: the SHA-256 of the file."""
        subjects = pixels_read(self.raw.reading is None or self.raw.reading.is_plain)
        if seed or not self.layout.is_as_before:
            subjects["order"] = str(seed)
        if self.relabelled:
            subjects["labels"] = ""
        if not self.layout.was_known:
            subjects["layout"] = ""
        return as_read(digest, subjects)


def read_npz(path: Path, white: float | None = None, seed: int = 0) -> FoundArrays:
    """The user's arrays, validated. white: the value that is white, where it is not found by itself; seed: of the
    order.

    Raises InvalidInput in words a person can act on.
    """
    with readable(path):
        return _read_npz(path, white, version_of(path.stat()), seed)


def fingerprint_of_npz(path: Path, reading: Reading | None) -> str:
    """Of the images alone: SHA-256 of the file, and of how it is read where that is not as before."""
    with readable(path):
        return as_read(file_digest(path, "sha256"), pixels_read(reading is None or reading.is_plain))


@lru_cache(maxsize=2)
def _read_npz(path: Path, white: float | None, version: Version, seed: int) -> FoundArrays:
    layout = arrays_of(npz_keys(path))
    keys = [key for pair in layout.pairs.values() for key in pair] + ([layout.classes] if layout.classes else [])
    arrays = npz_arrays(path, keys)
    names = arrays.get(layout.classes) if layout.classes else None
    arrays, reading = _in_bytes(arrays, [images for images, _ in layout.pairs.values()], white)
    images: dict[Place, Images] = {}
    given: dict[Place, Labels] = {}
    for place, pair in layout.pairs.items():
        images[place], given[place] = _npz_pair(arrays, *pair)
        del arrays[pair[0]]  # the set as it lies and as it is read need not both be held
    check_pairs(layout, images, given)
    classes, labels = as_classes(given, names, layout.classes)
    raw = replace(in_order(layout, images, labels, classes, seed), reading=reading)
    relabelled = any((labels[place] != given[place]).any() for place in given)
    return FoundArrays(raw, layout, relabelled, {place: len(one) for place, one in labels.items()})


def in_order(
    layout: ArrayLayout,
    images: dict[Place, Images] | dict[Place, Numbers],
    labels: Mapping[Place, Labels],
    classes: tuple[str, ...],
    seed: int,
) -> RawData:
    """Takes the images of each place out of `images` as they are put in order."""
    pixels: dict[Role, Images | Numbers] = {}
    truth: dict[Role, Labels] = {}
    origins: dict[str, Origin] = {}
    for role, (place, order) in ordered(labels, seed).items():
        pixels[role], truth[role] = images[place][order], labels[place][order]
        origins[role] = Origin(array=layout.pairs[place][0], rows=order, is_cut=place == "all")
        if place != "all":
            del images[place]
    return RawData(
        pixels["train"], truth["train"], pixels["test"], truth["test"], classes,
        validation_images=pixels.get("validation"), validation_labels=truth.get("validation"), origins=origins,
    )  # fmt: skip


def check_pairs(layout: ArrayLayout, images: Mapping[Place, Images | Numbers], labels: Mapping[Place, Labels]) -> None:
    """Sizes that agree, enough images and classes, and no class that training has never seen."""
    if "all" in images and len(images["all"]) < 10:
        raise _bad_npz(f"{len(images['all'])} images are too few to set a fifth aside for testing")
    if len(np.unique(labels["all" if "all" in images else "train"])) < 2:
        raise _bad_npz("all training labels are the same, a classifier needs at least 2 classes")
    if "all" in images:
        return
    (first, _), train = layout.pairs["train"], images["train"]
    for place, (key, labels_key) in layout.pairs.items():
        if images[place].shape[1:] != train.shape[1:]:
            raise _bad_npz(
                f"{first} are {train.shape[1:]} and {key} {images[place].shape[1:]} (channels, height, width)"
            )
        unseen = np.setdiff1d(labels[place], labels["train"])
        if unseen.size:
            more = f" (nor do {len(unseen) - 1} more)" if len(unseen) > 1 else ""
            count = int((labels[place] == unseen[0]).sum())
            raise _bad_npz(
                f"{labels_key}: {place} label {unseen[0]} does not occur in training{more}; {count} images have it"
            )


def as_classes(
    labels: Mapping[Place, Labels], names: NDArray[Any] | None, key: str | None
) -> tuple[tuple[str, ...], dict[Place, Labels]]:
    """Names and numbers 0 to K - 1 of the classes that occur; without names the labels of the file are the names.

    names: one for each class that occurs, or one for each number from 0 to the highest label.
    """
    occurring = np.unique(np.concatenate(list(labels.values())))
    if len(occurring) > 100_000:
        raise _bad_npz(f"its labels would mean {len(occurring)} classes")
    numbered = {place: np.searchsorted(occurring, one).astype(np.int64) for place, one in labels.items()}
    if names is None:
        return tuple(str(label) for label in occurring), numbered
    counts = sorted({len(occurring), int(occurring[-1]) + 1})
    if names.ndim != 1 or len(names) not in counts or names.dtype.kind != "U":
        wanted = " or ".join(map(str, counts))
        raise _bad_npz(f"`{key}` must be {wanted} texts, it is {names.dtype} of shape {names.shape}")
    chosen = tuple(map(str, names if len(names) == len(occurring) else names[occurring]))
    if odd := [name for name in chosen if not can_be_kept(name)]:
        raise _bad_npz(f"`{key}` holds {odd[0]!a}, in which are control characters, or halves of characters")
    return chosen, numbered


def _in_bytes(
    arrays: Mapping[str, NDArray[Any]], keys: Sequence[str], white: float | None
) -> tuple[dict[str, NDArray[Any]], Reading]:
    """The arrays of a file, of which those named by `keys` are images and become bytes together."""
    for key in keys:
        if arrays[key].dtype.kind not in "uifb":
            raise _bad_npz(f"{key} holds {arrays[key].dtype}, not numbers")
        if arrays[key].ndim not in (3, 4) or 0 in arrays[key].shape:
            raise _bad_npz(f"{key} has shape {arrays[key].shape}", allowed=_SHAPES)
    pixels, reading = in_bytes({key: arrays[key] for key in keys}, white=white)
    axes = (said for key in keys if (said := _two_ways(key, arrays[key].shape)))
    return {**arrays, **pixels}, replace(reading, sentences=(*reading.sentences, *axes))


def _two_ways(key: str, shape: tuple[int, ...]) -> str:
    """What is said of images whose channels could be at either place; "" of others."""
    if len(shape) != 4 or shape[1] not in _CHANNELS or shape[3] not in _CHANNELS:
        return ""
    return (
        f"{key}: both the second and the last axis of {shape} could be channels; the last was taken, for pictures of "
        f"{shape[1]}x{shape[2]} pixels. Where it is the second, save {key}.transpose(0, 2, 3, 1)."
    )


def npz_keys(path: Path) -> list[str]:
    """The names of the arrays; what else lies in the file is left alone."""
    with _opened_npz(path) as file:
        names = sorted(name for name in file.files if _is_array(file, name))
    if twice := [name for name, next_name in pairwise(names) if name == next_name]:
        raise _bad_npz(f"{path.name} holds more than one array called {twice[0]}", allowed="one array of each name")
    return names


def _is_array(file: Any, name: str) -> bool:
    held = file.zip.namelist()
    with file.zip.open(name if name in held else f"{name}.npy") as member:
        return bool(member.read(6) == b"\x93NUMPY")


def npz_arrays(path: Path, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """These arrays, never unpickled."""
    return {name: _npz_array(path, name) for name in keys}


def _npz_array(path: Path, key: str) -> NDArray[Any]:
    with _opened_npz(path, key) as file:
        found: NDArray[Any] = file[key]
        return found


_OBJECTS = "it holds Python objects, which might be programs and are never loaded; save it as numbers or texts"


@contextmanager
def _opened_npz(path: Path, key: str = "") -> Iterator[Any]:
    """The reading of damaged archives raises OSError, ValueError, zlib.error, struct.error, RuntimeError, ...

    key: the array that is going to be read, for errors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > bounds.most_unpacked():
            raise _bad_npz(
                f"it unpacks to {unpacked / 2**30:.1f} GiB, the limit is {bounds.most_unpacked() / 2**30:g} GiB; use "
                "class folders, or have MODESCAPE_READ_UNPACKED raised"
            )
        with np.load(path, allow_pickle=False) as file:
            yield file
    except InvalidInput:
        raise
    except Exception as error:
        reason = _OBJECTS if "allow_pickle" in str(error) else str(error) or type(error).__name__
        what = f"{printable(key)} in {path.name} cannot be read" if key else f"{path.name} cannot be read as .npz"
        raise _bad_npz(f"{what} ({reason})") from error


def _npz_pair(arrays: Mapping[str, NDArray[Any]], images_key: str, labels_key: str) -> tuple[Images, Labels]:
    images, labels = _as_images(arrays[images_key], images_key), as_labels(arrays[labels_key], labels_key)
    if len(images) != len(labels):
        raise _bad_npz(f"{images_key} holds {len(images)} images, {labels_key} {len(labels)} labels")
    return images, labels


_CHANNELS = (1, 3)
_SHAPES = "[N, H, W], [N, H, W, C] or [N, C, H, W], none empty"


def _as_images(values: Images, key: str) -> Images:
    """uint8 [N, C, H, W] from NHW, NHWC or NCHW; where it could be either, NHWC, which `_two_ways` says."""
    if values.ndim == 3:
        values = values[:, None]
    elif values.shape[3] in _CHANNELS:
        values = values.transpose(0, 3, 1, 2)
    elif values.shape[1] not in _CHANNELS:
        raise _bad_npz(f"{key} has shape {values.shape}", allowed="1 or 3 channels, at the second or the last place")
    if max(values.shape[2:]) > 1024:
        raise _bad_npz(f"{key} are {values.shape[2]}x{values.shape[3]} pixels", allowed="at most 1024 a side")
    return np.ascontiguousarray(values)


def as_labels(values: NDArray[Any], key: str) -> Labels:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "uif":
        raise _bad_npz(
            f"{key} holds {values.dtype} of shape {values.shape}", allowed="whole numbers from 0, one an image"
        )
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            where = int(np.flatnonzero(~np.isfinite(values))[0])
            raise _bad_npz(
                f"{key} holds {values[where]} at position {where}", allowed="whole numbers from 0, none missing"
            )
        if (values != np.rint(values)).any():
            raise _bad_npz(f"{key} holds {values[values != np.rint(values)][0]:g}", allowed="whole numbers from 0")
    if values.size and values.min() < 0:
        raise _bad_npz(f"{key} holds {values.min():g}", allowed="whole numbers from 0")
    if values.size and values.max() >= 2**31:
        raise _bad_npz(f"{key} holds {values.max():g}", allowed="class numbers from 0")
    return values.astype(np.int64)
