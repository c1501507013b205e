"""What is here, what is missing, what it takes to get it."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np

from modescape.errors import DataCorrupt, DataMissing, InvalidInput
from modescape.registry import datasets
from modescape.science.data.contents import Promised, wrong_in
from modescape.science.data.pictures import printable
from modescape.science.data.raw import (
    CHECKSUMS,
    DOWNLOADS,
    FASHION_FILES,
    HOW_TO_GET,
    DataLocation,
    ImageFiles,
    Images,
    Labels,
    Published,
    RawData,
    file_digest,
    missing,
    size_of,
    verify_md5,
)
from modescape.science.data.sets import (
    CIFAR_FOLDERS,
    blobs,
    fashion_labels,
    find_fashion,
    idx_file,
    imagenet_folder,
)
from modescape.science.data.user import PICTURES, fingerprint_of_npz, is_held, own_path, read_npz, scan_folder
from modescape.spec import DataInfo, DataSpec


def describe(spec: DataSpec, folders: Sequence[Path]) -> DataInfo:
    """Sizes and classes without loading torch; a user's own data is read and checked.

    Raises DataMissing (saying how to get the set), DataCorrupt (other files under its names) and InvalidInput (field
    data.path).
    """
    entry, location = datasets[spec.dataset], DataLocation(tuple(folders))
    if spec.dataset == "folder":
        found = scan_folder(own_path(spec))
        n = len(found.train)
        return DataInfo(
            found.channels,
            found.height,
            found.width,
            found.classes,
            n,
            len(found.test),
            min(5000, n // 10),
            found.fingerprint,
        )
    if spec.dataset == "npz":
        path = own_path(spec)
        raw = read_npz(path, spec.white)
        n = len(raw.train_labels)
        shape = cast(Images, raw.train_images).shape
        return DataInfo(
            shape[1],
            shape[2],
            shape[3],
            raw.classes,
            n,
            len(raw.test_labels),
            min(5000, n // 10),
            fingerprint_of_npz(path, raw.reading),
            raw.reading.remarks if raw.reading else (),
        )
    if not entry.train_total:  # a plug-in's set says its sizes by being read
        raw = entry.call(location, spec)
        return _info_of(raw)
    files = _files_of(spec.dataset, location)
    if files is None:
        raise missing(spec.dataset, location, "files")
    if wrong := wrong_in(_promised(spec.dataset, files, location), patience=PATIENCE_SECONDS):
        raise DataCorrupt(f"{wrong}; {_OTHER_FILES}")
    if spec.dataset == "imagenet":
        return _describe_imagenet(location)
    if spec.dataset == "fashion-mnist":
        for part in ("train", "t10k"):
            _fashion_labels(part, location)
    return published(spec.dataset)


def _fashion_labels(part: str, location: DataLocation) -> Labels:
    """Small enough to be checked by their content before anything is launched; images are when they are loaded."""
    folder, name = find_fashion(location), f"{part}-labels-idx1-ubyte"
    assert folder is not None
    path = idx_file(folder, name)
    return fashion_labels(path, location.checksums["fashion-mnist"][name], path.stat().st_mtime_ns)


def published(name: str) -> DataInfo:
    """Sizes and classes of a public set as published, for plans of one that is not here."""
    entry = datasets[name]
    return DataInfo(
        entry.channels,
        entry.height,
        entry.width,
        entry.classes,
        entry.train_total,
        entry.test_total,
        entry.validation_default,
    )


def held_out(name: str, total: int) -> int:
    """Images for validation where none are asked for: the set's own number, or a tenth of a part of it."""
    default = datasets[name].validation_default
    return default if 0 < default < total else min(5000, total // 10)


def _describe_imagenet(location: DataLocation) -> DataInfo:
    """What is there, which may be a part of ImageNet in its layout: a hundred classes, or a few images of each."""
    folder = imagenet_folder(location)
    assert folder is not None
    train, test = (_list_pictures(part) for part in (folder, folder.parent / "val"))
    entry, names = datasets["imagenet"], train.classes
    digest = hashlib.sha256(f"{train.fingerprint}|{test.fingerprint}".encode()).hexdigest()
    total = train.count
    return DataInfo(
        entry.channels, entry.height, entry.width, names, total, test.count, held_out("imagenet", total), digest
    )  # fmt: skip


@dataclass(frozen=True)
class _ListedPictures:
    """Class folders whose pictures are too many to read: class names (sorted), how many pictures, and a fingerprint of
    classes and of every picture's name, size and time."""

    classes: tuple[str, ...]
    count: int
    fingerprint: str


_listed: dict[Path, tuple[tuple[tuple[Path, int], ...], float, _ListedPictures]] = {}
_QUICK = 0.1  # seconds
_TRUSTED = 100  # times as long as listing took


def _list_pictures(root: Path) -> _ListedPictures:
    """The class folders of `root`, listed anew when a folder's time has changed.

    Pictures overwritten in place leave their folder's time as it is, so what is listed quickly is always listed, and
    only a listing that took longer than a tenth of a second is trusted, a hundred times as long as it took: forms,
    which ask at every key press, wait for what is large (1.3 million files: seconds) once in minutes.
    """
    state = tuple((entry, entry.stat().st_mtime_ns) for entry in sorted(root.iterdir()) if entry.is_dir())
    for entry, _ in state:
        if printable(entry.name) != entry.name:
            raise DataCorrupt(f"the name of the class folder {printable(entry)} is not UTF-8; rename it")
    begun = time.monotonic()
    before, until, found = _listed.get(root, ((), 0.0, None))
    if found is not None and before == state and begun < until:
        return found
    digest, count = hashlib.sha256(), 0
    for folder, _ in state:
        digest.update(b"\0\0" + os.fsencode(folder.name))
        for path in _pictures_of(folder):
            try:
                stat = os.stat(path)  # noqa: PTH116 - a Path for each would double the time
            except OSError as error:
                raise DataCorrupt(f"{path} cannot be read: {error}") from error
            digest.update(os.fsencode(path[len(str(folder)) :]))
            digest.update(f"\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
            count += 1
    found = _ListedPictures(tuple(folder.name for folder, _ in state), count, digest.hexdigest())
    now = time.monotonic()
    took = now - begun
    _listed[root] = (state, now + _TRUSTED * took if took > _QUICK else 0.0, found)
    return found


def _pictures_of(folder: Path) -> list[str]:
    """Paths of the pictures of a class, sorted; folders inside it count, as torchvision reads them."""
    return sorted(
        f"{place}/{name}"
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name[name.rfind(".") :].lower() in PICTURES
    )


def _info_of(raw: RawData) -> DataInfo:
    images = raw.train_images
    channels, height, width = size_of(images)
    n = len(raw.train_labels)
    return DataInfo(channels, height, width, raw.classes, n, len(raw.test_labels), min(5000, n // 10))


Names = tuple[tuple[str, frozenset[str]], ...]  # of picture files, by class folder


@dataclass(frozen=True)
class OwnTest:
    """What can be known of the test images without torch or scikit-learn. labels: in their order; names: of the files
    of a set that is read as it is needed. None: not known, or no such files."""

    labels: Labels | None
    names: Names | None = None


def own_test(spec: DataSpec, folders: Sequence[Path]) -> OwnTest | None:
    """Of all test images of a set that `describe` has found; None for a plug-in's set, whose reader may need anything.

    Raises DataCorrupt when a pickled file is not the published one.
    """
    location = DataLocation(tuple(folders))
    if spec.dataset == "folder":
        found = scan_folder(own_path(spec))
        held = is_held(ImageFiles(found.test, found.channels, found.height, found.width))
        return OwnTest(found.test_labels, None if held else _names_by_folder(found.test))
    if spec.dataset == "npz":
        return OwnTest(read_npz(own_path(spec), spec.white).test_labels)
    if spec.dataset == "blobs":
        return OwnTest(blobs(location, spec).test_labels)
    if spec.dataset in ("digits", "digits-0-4", "digits-5-9", "svhn"):
        return OwnTest(None)  # scikit-learn and SciPy have them
    files = _files_of(spec.dataset, location)
    if not files:
        return None
    if spec.dataset == "imagenet":
        return OwnTest(None, _names_listed(files[1], _list_pictures(files[1]).fingerprint))
    if spec.dataset == "fashion-mnist":
        return OwnTest(_fashion_labels("t10k", location))
    file, key = {"cifar10": ("test_batch", "labels"), "cifar100": ("test", "fine_labels")}[spec.dataset]
    path = files[0].parent / file
    return OwnTest(_cifar_labels(path, key, location.checksums[spec.dataset][file], path.stat().st_mtime_ns))


@lru_cache(maxsize=2)
def _names_by_folder(paths: tuple[Path, ...]) -> Names:
    found: dict[str, set[str]] = {}
    for path in paths:
        found.setdefault(path.parent.name, set()).add(path.name)
    return tuple((name, frozenset(files)) for name, files in sorted(found.items()))


@lru_cache(maxsize=2)
def _names_listed(root: Path, fingerprint: str) -> Names:
    return _names_by_folder(
        tuple(Path(path) for folder in root.iterdir() if folder.is_dir() for path in _pictures_of(folder))
    )


@lru_cache(maxsize=2)
def _cifar_labels(path: Path, key: str, md5: str, changed: int) -> Labels:
    verify_md5(path, md5)  # before anything is unpickled
    with path.open("rb") as file:
        return np.array(pickle.load(file, encoding="latin1")[key], np.int64)


def seed_name(spec: DataSpec) -> str:
    """What names a set's images in the seeds of their corruptions: a user's own by their content, others by their name,
    so that they are the same on every machine."""
    return (spec.fingerprint or spec.dataset) if spec.path else spec.dataset


@dataclass(frozen=True)
class Availability:
    """Whether a data set is here. state: "here" only where the files hold what was published, "checking" while that is
    not known, "other" where they do not; bytes: on disk when there are files, else of the download; how: the next step,
    in words."""

    name: str
    title: str
    state: Literal["here", "checking", "other", "missing"]
    where: Path | None
    bytes: int | None
    how: str
    fetchable: bool

    @property
    def present(self) -> bool:
        return self.state == "here"


PATIENCE_SECONDS = 1.0  # for files that are read for the first time; what takes longer is said to be being checked
_OTHER_FILES = "move it elsewhere, for it has the name of another set's file, or fetch the set again if it is damaged"


def availability(folders: Sequence[Path], *, patience: float | None = PATIENCE_SECONDS) -> list[Availability]:
    """Every registered set with published files, and whether it is here; a user's own sets are not listed.

    patience: seconds to wait for files that were not read before; None: as long as it takes.
    """
    location = DataLocation(tuple(folders))
    until = None if patience is None else time.monotonic() + patience
    named = [name for name in datasets if name not in ("folder", "npz")]
    return [
        availability_of(name, location, patience=None if until is None else max(0.0, until - time.monotonic()))
        for name in named
    ]


def availability_of(name: str, location: DataLocation, *, patience: float | None = PATIENCE_SECONDS) -> Availability:
    entry = datasets[name]
    files = _files_of(name, location)
    where = files[0].parent if files else None
    size = _bytes_of(files) if files else entry.download_bytes
    if files is None:
        how = f"modescape data fetch {name}" if name in DOWNLOADS else HOW_TO_GET.get(name, "brought by a plug-in")
        return Availability(name, entry.title, "missing", where, size, how, name in DOWNLOADS)
    wrong = wrong_in(_promised(name, files, location), patience=patience)
    if wrong is None:
        return Availability(name, entry.title, "checking", where, size, "its files are being checked", False)
    if wrong:
        return Availability(name, entry.title, "other", where, size, f"{wrong}; {_OTHER_FILES}", False)
    return Availability(name, entry.title, "here", where, size, HOW_TO_GET.get(name, ""), False)


def _bytes_of(files: Sequence[Path]) -> int | None:
    try:
        return sum(path.stat().st_size for path in files)
    except OSError:  # gone since they were found
        return None


def _promised(name: str, files: Sequence[Path], location: DataLocation) -> list[Promised]:
    """What the files of a public set must hold, where that was published."""
    sums = location.checksums.get(name, {})
    named = {path: path.name.removesuffix(".gz") for path in files}
    return [Promised(path, sums[file]) for path, file in named.items() if file in sums]


def _files_of(name: str, location: DataLocation) -> list[Path] | None:
    """The files of a set; [] for sets that need none, None when they are missing."""
    if name == "fashion-mnist":
        folder = find_fashion(location)
        return [idx_file(folder, file) for file in FASHION_FILES] if folder else None
    if name in CIFAR_FOLDERS:
        base = CIFAR_FOLDERS[name]
        found = location.find(base, f"{name}/{base}", f"{datasets[name].title.replace('-', '')}/{base}")
        return _all_there([found / file for file in CHECKSUMS[name]]) if found else None
    if name == "svhn":
        first = location.find("train_32x32.mat", "svhn/train_32x32.mat", "SVHN/train_32x32.mat")
        return _all_there([first, first.parent / "test_32x32.mat"]) if first else None
    if name == "imagenet":
        folder = imagenet_folder(location)
        return _all_there([folder, folder.parent / "val"]) if folder else None
    return []


def _all_there(paths: list[Path]) -> list[Path] | None:
    return paths if all(path.exists() for path in paths) else None


def fetch(
    name: str,
    folder: Path,
    progress: Callable[[int, int], None],
    *,
    downloads: Mapping[str, Sequence[Published]] = DOWNLOADS,
) -> None:
    """Download a public set into `folder`, check it, put it in place whole or not at all. progress(bytes done, of all).

    Raises InvalidInput for sets that cannot be fetched, DataMissing when the server does not answer, DataCorrupt when
    what came has another checksum.
    """
    if name not in downloads:
        raise InvalidInput(f"{name!r} cannot be fetched", field="name", allowed="one of " + ", ".join(downloads))
    files = downloads[name]
    total, done = sum(file.bytes for file in files), 0
    target = folder if name in CIFAR_FOLDERS else folder / name
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target) as temporary:
        for file in files:
            arriving = Path(temporary) / file.name
            for size in _download(file, arriving):
                done += size
                progress(min(done, total), total)
            found = file_digest(arriving, "md5")
            if found != file.md5:
                raise DataCorrupt(f"{file.url} arrived with MD5 {found}, expected {file.md5}; nothing was kept")
            if arriving.name.endswith(".tar.gz"):
                _unpack(arriving, Path(temporary) / "unpacked", target)
            else:
                arriving.replace(target / file.name)
    progress(total, total)


def _download(file: Published, target: Path) -> Iterator[int]:
    """Write the file; yields the size of each piece as it comes."""
    request = urllib.request.Request(file.url, headers={"User-Agent": "modescape"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer, target.open("wb") as out:
            while piece := cast(BinaryIO, answer).read(1 << 18):
                out.write(piece)
                yield len(piece)
    except OSError as error:
        raise DataMissing(f"{file.url} could not be fetched: {error}") from error


def _unpack(archive: Path, temporary: Path, target: Path) -> None:
    """Unpack beside the target and rename each top folder into place."""
    with tarfile.open(archive) as tar:
        tar.extractall(temporary, filter="data")
    for entry in temporary.iterdir():
        shutil.rmtree(target / entry.name, ignore_errors=True)
        entry.replace(target / entry.name)
