"""A user's own pictures: folders of class folders, plain folders, and .npz files."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.science.data.pictures import (
    READING,
    Header,
    Levels,
    UnreadablePicture,
    find_levels,
    header_of,
    printable,
)
from modescape.science.data.raw import (
    DataLocation,
    ImageFiles,
    Images,
    Labels,
    RawData,
    dataset,
    file_digest,
    stratified_split,
)
from modescape.science.data.values import Reading, in_bytes
from modescape.spec import DataSpec

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
_IGNORED = {"thumbs.db", "desktop.ini"}
_LARGEST_SIDE = 128  # pictures of several sizes are scaled to their median size, at most this
_HELD_BYTES = 1 << 30  # folders that decode to more than this are read batch by batch
_PATH = "data.path"


@dataset("folder", title="Folder of pictures", source="the user's own")
def _folder(location: DataLocation, spec: DataSpec) -> RawData:
    """Your own pictures: one folder per class, or train/ and test/ with one folder per class in each."""
    found = scan_folder(own_path(spec))
    levels = levels_of(found, spec.white)
    parts = []
    for paths, labels in ((found.train, found.train_labels), (found.test, found.test_labels)):
        files = ImageFiles(paths, found.channels, found.height, found.width, levels=levels)
        parts.append((files.read(range(len(files))) if is_held(files) else files, labels))
    (train, train_labels), (test, test_labels) = parts
    return RawData(train, train_labels, test, test_labels, found.classes)


def is_held(files: ImageFiles) -> bool:
    return len(files) * files.channels * files.height * files.width <= _HELD_BYTES


@dataset("npz", title="NumPy file", source="the user's own")
def _npz(location: DataLocation, spec: DataSpec) -> RawData:
    """Your own arrays: an .npz file with images and labels, or train_images, train_labels, test_images, test_labels."""
    return read_npz(own_path(spec), spec.white)


def own_path(spec: DataSpec) -> Path:
    """The folder or file of a user's own set. Raises InvalidInput when it is not there."""
    if not spec.path:
        raise InvalidInput("this set needs a path", field=_PATH, allowed="a folder or an .npz file on this machine")
    path = Path(spec.path).expanduser()
    wanted = "a folder" if spec.dataset == "folder" else "an .npz file"
    try:
        there = path.is_dir() if spec.dataset == "folder" else path.is_file()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{spec.path!r} cannot be looked at: {error}", field=_PATH, allowed=wanted) from error
    if not there:
        raise InvalidInput(
            f"there is no {wanted.split(' ', 1)[1]} {spec.path!r}", field=_PATH, allowed=f"{wanted} that exists"
        )
    return path


@dataclass(frozen=True)
class FoundFolder:
    """What a folder of class folders holds: files in their fixed order, labels, the common size, and a fingerprint.

    deep: the files of more than 8 bits a pixel, whose white level is to be found (`levels_of`).
    """

    train: tuple[Path, ...]
    train_labels: Labels
    test: tuple[Path, ...]
    test_labels: Labels
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    fingerprint: str
    deep: tuple[Path, ...] = ()


def levels_of(found: FoundFolder | FoundPictures, given: float | None) -> Levels:
    """What is white in a folder of pictures; given: what the user says is. Decodes all that have more than 8 bits, once
    in a process. Raises UnreadablePicture, InvalidInput."""
    return _levels(found.fingerprint, found.deep, given)


@lru_cache(maxsize=8)
def _levels(fingerprint: str, deep: tuple[Path, ...], given: float | None) -> Levels:
    return find_levels(deep, given=given)


def scan_folder(root: Path) -> FoundFolder:
    """Look through a folder of class folders. Raises InvalidInput saying what is wrong and where.

    Without train/ and test/ a fifth of every class is the test set, chosen by a fixed seed from the sorted names. The
    result is remembered until a file's name, size or time changes, for forms ask at every key press.
    """
    with _reading(root):
        state = tuple(
            (_name(path, root), (stat := path.stat()).st_size, stat.st_mtime_ns)
            for path in sorted(root.rglob("*"))
            if path.is_file() and not _is_ignored(path)
        )
        return _scan_folder(root, state)


@contextmanager
def _reading(place: Path) -> Iterator[None]:
    """What the system says of a folder or file that cannot be read, or is no longer there, in words."""
    try:
        yield
    except OSError as error:
        name = place if error.filename is None else error.filename
        raise _refuse(f"{printable(name)} cannot be read: {error.strerror or error}") from error


def _name(path: Path, root: Path) -> str:
    """Relative to `root`. Raises InvalidInput for names that cannot be stored or shown."""
    name = str(path.relative_to(root))
    if printable(name) != name:
        raise _refuse(f"the name {printable(name)} is not UTF-8; rename it")
    return name


@lru_cache(maxsize=8)
def _scan_folder(root: Path, state: tuple[tuple[str, int, int], ...]) -> FoundFolder:
    split = (root / "train").is_dir() and (root / "test").is_dir()
    classes, paths, labels = _class_folders(root / "train" if split else root)
    order = np.random.Generator(np.random.Philox(0))
    if split:
        test_classes, test_paths, test_labels = _class_folders(root / "test")
        if test_classes != classes:
            odd = sorted(set(classes) ^ set(test_classes))
            raise _refuse(f"train/ and test/ do not hold the same classes: {', '.join(odd[:5])}")
        train, test = order.permutation(len(paths)), order.permutation(len(test_paths))
    else:
        test_paths, test_labels = paths, labels
        train, test = stratified_split(labels, test=len(labels) // 5, seed=0)
    if len(test) == 0:
        raise _refuse(f"{len(paths)} pictures are too few to set a fifth aside for testing")
    digest = hashlib.sha256()
    headers = {}
    for name, _, _ in state:
        path = root / name
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
        headers[path] = _picture(path)
    height, width = _common_size([(header.height, header.width) for header in headers.values()])
    return FoundFolder(
        tuple(paths[i] for i in train), labels[train], tuple(test_paths[i] for i in test), test_labels[test],
        classes, _channels(headers), height, width, _stamped(digest.hexdigest(), _is_plain(headers)), _deep(headers),
    )  # fmt: skip


def _class_folders(root: Path) -> tuple[tuple[str, ...], list[Path], Labels]:
    """Class names (sorted), picture files (sorted by class and name) and their labels."""
    entries = sorted(entry for entry in root.iterdir() if not _is_ignored(entry))
    loose = [entry for entry in entries if not entry.is_dir()]
    folders = [entry for entry in entries if entry.is_dir()]
    if loose:
        raise _refuse(f"{loose[0].name} lies beside the class folders of {root}, not in one of them")
    if len(folders) < 2:
        raise _refuse(f"{root} holds {len(folders)} class folder(s), a classifier needs at least 2")
    paths: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_ignored(path))
        odd = [path for path in files if path.suffix.lower() not in PICTURES]
        if odd:
            raise _refuse(f"{odd[0].relative_to(root)} is not a picture, and class folders hold nothing else")
        if not files:
            raise _refuse(f"the class folder {folder.name!r} holds no pictures")
        paths += files
        labels += [label] * len(files)
    return tuple(folder.name for folder in folders), paths, np.array(labels, np.int64)


def _refuse(message: str) -> InvalidInput:
    kinds = ", ".join(sorted(suffix[1:] for suffix in PICTURES))
    return InvalidInput(
        message,
        field=_PATH,
        allowed=f"a folder with one folder of pictures ({kinds}) per class, or train/ and test/ of such",
    )


def _is_ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _IGNORED


def _picture(path: Path) -> Header:
    """What a picture's header says; nothing is decoded."""
    try:
        return header_of(path)
    except UnreadablePicture as error:
        raise _refuse(f"{path.parent.name}/{path.name} cannot be read as a picture: {error.reason}") from error


def _channels(headers: Mapping[Path, Header]) -> int:
    return 1 if all(header.grey for header in headers.values()) else 3


def _deep(headers: Mapping[Path, Header]) -> tuple[Path, ...]:
    return tuple(path for path, header in headers.items() if header.kind != "bytes")


def _is_plain(headers: Mapping[Path, Header]) -> bool:
    return all(header.is_plain for header in headers.values())


def _stamped(fingerprint: str, is_plain: bool) -> str:
    """The fingerprint of what is read by the rules of now: another one, where those of before gave other pixels."""
    return fingerprint if is_plain else hashlib.sha256(f"{fingerprint} reading {READING}".encode()).hexdigest()


def _common_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Height and width all pictures are scaled to: their own (at most 224) when equal, else the median (to 128)."""
    height, width = (int(np.median([size[axis] for size in sizes])) for axis in (0, 1))
    limit = 224 if len(set(sizes)) == 1 else _LARGEST_SIDE
    scale = min(1.0, limit / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True)
class FoundPictures:
    """What a folder holds when classes do not matter: files in their order, the common size (0x0 if there are several
    sizes), and a fingerprint."""

    paths: tuple[Path, ...]
    channels: int
    height: int
    width: int
    fingerprint: str
    deep: tuple[Path, ...] = ()


def scan_pictures(root: Path) -> FoundPictures:
    """Every picture under `root`, or under its test/ where it has train/ and test/; remembered like `scan_folder`.

    Raises InvalidInput saying which file is no picture.
    """
    with _reading(root):
        place = root / "test" if (root / "train").is_dir() and (root / "test").is_dir() else root
        files = sorted(path for path in place.rglob("*") if path.is_file() and not _is_ignored(path))
        for path in files:
            _name(path, place)
        return _scan_pictures(place, tuple((path, (s := path.stat()).st_size, s.st_mtime_ns) for path in files))


@lru_cache(maxsize=8)
def _scan_pictures(root: Path, state: tuple[tuple[Path, int, int], ...]) -> FoundPictures:
    digest = hashlib.sha256()
    headers = {}
    for path, _, _ in state:
        if path.suffix.lower() not in PICTURES:
            raise InvalidInput(
                f"{path.relative_to(root)} is not a picture", field=_PATH, allowed="a folder of pictures only"
            )
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode())
        digest.update(content)
        headers[path] = _picture(path)
    sizes = {(header.height, header.width) for header in headers.values()}
    height, width = sizes.pop() if len(sizes) == 1 else (0, 0)
    return FoundPictures(
        tuple(headers), _channels(headers), height, width, _stamped(digest.hexdigest(), _is_plain(headers)),
        _deep(headers),
    )  # fmt: skip


def read_images(path: Path, white: float | None = None) -> tuple[Images, Reading]:
    """The images alone of an .npz file: `test_images` if it has them, else `images`. Raises InvalidInput."""
    with _reading(path):
        stat = path.stat()
        return _read_images(path, white, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=2)
def _read_images(path: Path, white: float | None, size: int, changed: int) -> tuple[Images, Reading]:
    arrays = _npz_arrays(path)
    key = next((key for key in ("test_images", "images") if key in arrays), None)
    if key is None:
        held = ", ".join(sorted(arrays)) or "nothing"
        raise _bad_npz(f"it holds {held}", allowed="an .npz file with images or test_images")
    pixels, reading = _in_bytes(arrays, (key,), white)
    return _as_images(pixels[key], key), reading


_NPZ_KEYS = "images and labels, or train_images, train_labels, test_images and test_labels"
_NPZ_LARGEST = 8 << 30  # bytes once unpacked


def read_npz(path: Path, white: float | None = None) -> RawData:
    """The user's arrays, validated. white: the value that is white, where it is not found by itself.

    Raises InvalidInput in words a person can act on.
    """
    with _reading(path):
        stat = path.stat()
        return _read_npz(path, white, stat.st_size, stat.st_mtime_ns)


def fingerprint_of_npz(path: Path, reading: Reading | None) -> str:
    """SHA-256 of the file, and of how it is read where that is not as before."""
    with _reading(path):
        return _stamped(file_digest(path, "sha256"), reading is None or reading.is_plain)


@lru_cache(maxsize=2)
def _read_npz(path: Path, white: float | None, size: int, changed: int) -> RawData:
    arrays = _npz_arrays(path)
    if {"train_images", "train_labels", "test_images", "test_labels"} <= arrays.keys():
        arrays, reading = _in_bytes(arrays, ("train_images", "test_images"), white)
        train, train_labels = _npz_pair(arrays, "train_images", "train_labels")
        test, test_labels = _npz_pair(arrays, "test_images", "test_labels")
        if train.shape[1:] != test.shape[1:]:
            raise _bad_npz(
                f"train_images are {train.shape[1:]} and test_images {test.shape[1:]} (channels, height, width)"
            )
    elif {"images", "labels"} <= arrays.keys():
        arrays, reading = _in_bytes(arrays, ("images",), white)
        images, labels = _npz_pair(arrays, "images", "labels")
        if len(images) < 10:
            raise _bad_npz(f"{len(images)} images are too few to set a fifth aside for testing")
        chosen, other = stratified_split(labels, test=len(labels) // 5, seed=0)
        train, train_labels, test, test_labels = images[chosen], labels[chosen], images[other], labels[other]
    else:
        raise _bad_npz(f"it holds {', '.join(sorted(arrays)) or 'nothing'}")
    count = int(max(train_labels.max(), test_labels.max())) + 1
    if count < 2 or len(np.unique(train_labels)) < 2:
        raise _bad_npz("all training labels are the same, a classifier needs at least 2 classes")
    unseen = np.setdiff1d(test_labels, train_labels)
    if unseen.size:
        raise _bad_npz(f"test label {unseen[0]} does not occur in training")
    if count > 100_000:
        raise _bad_npz(f"labels go up to {count - 1}, which would mean {count} classes")
    names = arrays.get("classes")
    if names is not None and (names.shape != (count,) or names.dtype.kind != "U"):
        raise _bad_npz(f"`classes` must be {count} texts, it is {names.dtype} of shape {names.shape}")
    classes = tuple(str(i) for i in range(count)) if names is None else tuple(str(name) for name in names)
    return RawData(train, train_labels, test, test_labels, classes, reading)


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
    return {**arrays, **pixels}, reading


def _npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of the file, never unpickled; what else lies in it is left alone.

    The reading of damaged archives raises OSError, ValueError, zlib.error, struct.error, RuntimeError, ...
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > _NPZ_LARGEST:
            raise _bad_npz(
                f"it unpacks to {unpacked / 2**30:.1f} GiB, the limit is {_NPZ_LARGEST >> 30} GiB; use class folders"
            )
        with np.load(path, allow_pickle=False) as file:
            return {name: values for name in file.files if isinstance(values := file[name], np.ndarray)}
    except InvalidInput:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise _bad_npz(f"{path.name} cannot be read as .npz ({reason})") from error


def _npz_pair(arrays: Mapping[str, NDArray[Any]], images_key: str, labels_key: str) -> tuple[Images, Labels]:
    images, labels = _as_images(arrays[images_key], images_key), _as_labels(arrays[labels_key], labels_key)
    if len(images) != len(labels):
        raise _bad_npz(f"{images_key} holds {len(images)} images, {labels_key} {len(labels)} labels")
    return images, labels


_SHAPES = "[N, H, W], [N, H, W, C] or [N, C, H, W], none empty"


def _as_images(values: Images, key: str) -> Images:
    """uint8 [N, C, H, W] from NHW, NHWC or NCHW."""
    if values.ndim == 3:
        values = values[:, None]
    elif values.shape[3] in (1, 3):
        values = values.transpose(0, 3, 1, 2)
    elif values.shape[1] not in (1, 3):
        raise _bad_npz(f"{key} has shape {values.shape}", allowed="1 or 3 channels, at the second or the last place")
    if max(values.shape[2:]) > 1024:
        raise _bad_npz(f"{key} are {values.shape[2]}x{values.shape[3]} pixels", allowed="at most 1024 a side")
    return np.ascontiguousarray(values)


def _as_labels(values: NDArray[Any], key: str) -> Labels:
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


def _bad_npz(message: str, *, allowed: str = f"an .npz file with {_NPZ_KEYS}") -> InvalidInput:
    return InvalidInput(message, field=_PATH, allowed=allowed)
