"""ImageNet as it lies on a disk: train/ and val/ with a folder per class, or a flat val/ beside the development kit.

    folder = imagenet_folder(location)               # .../train, or None
    train, test = list_parts(folder)                 # classes, how many pictures of each, a fingerprint
    paths, labels = files_of(test)                   # in torchvision's order: class by class, file by file

A flat val/ (ILSVRC2012_val_00000001.JPEG, ...) is labelled by ILSVRC2012_validation_ground_truth.txt, whose numbers are
ILSVRC2012 ids, and meta.mat says which synset (n01440764) an id is. Ids have an order of their own; a class's number
here is the place of its synset among the sorted names, as for class folders.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from modescape.datasets.dataset import DataLocation, all_there, dataset, missing
from modescape.datasets.splitting import held_out
from modescape.errors import DataCorrupt
from modescape.names import some
from modescape.records import DataInfo
from modescape.registry import datasets
from modescape.science.data.files import (
    LOST,
    UNREAD,
    Aside,
    Entry,
    Version,
    by_folder,
    folders_of,
    pictures,
    version_of,
    worth_saying,
)
from modescape.science.data.pictures import printable
from modescape.science.data.raw import ImageFiles, Labels, Names, OwnTest, RawData
from modescape.spec_parts import DataSpec

_QUICK = 0.1  # seconds
_TRUSTED = 100  # times as long as listing took
HOW_TO_GET = (
    "get it from image-net.org under its own terms and unpack it as imagenet/train/<class>/ and imagenet/val/<class>/"
)
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_KITS = (".", "data", "devkit", "devkit/data", "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12/data")


def imagenet_folder(location: DataLocation) -> Path | None:
    return location.find("imagenet/train", "ImageNet/train", "ILSVRC2012/train")


def _files(location: DataLocation) -> Sequence[Path] | None:
    folder = imagenet_folder(location)
    return all_there([folder, folder.parent / "val"]) if folder else None


@dataclass(frozen=True)
class ListedPictures:
    """Pictures too many to read: by class (sorted by name) how many, a fingerprint of every picture's name, size and
    time, and what was left aside, in words. flat: whether they lie without class folders."""

    root: Path
    counts: Mapping[str, int]
    fingerprint: str
    aside: tuple[str, ...]
    flat: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.counts)

    @property
    def count(self) -> int:
        return sum(self.counts.values())


def list_parts(folder: Path) -> tuple[ListedPictures, ListedPictures]:
    """Training and test pictures, which hold the same classes. folder: .../train, val/ lies beside it.

    Raises DataCorrupt.
    """
    train, test = list_pictures(folder), list_pictures(folder.parent / "val")
    if test.flat:
        test = _labelled(test.root, test.fingerprint, train.classes)
    if train.classes != test.classes and not test.flat:
        odd = sorted({*train.classes} ^ {*test.classes})
        raise DataCorrupt(f"{folder.parent}: train and val do not hold the same class folders: {some(odd)}")
    return train, test


_listed: dict[Path, tuple[tuple[tuple[str, int], ...], float, ListedPictures]] = {}


def list_pictures(root: Path) -> ListedPictures:
    """The class folders of `root`, listed anew when a folder's time has changed. Raises DataCorrupt.

    Pictures overwritten in place leave their folder's time as it is, so what is listed quickly is always listed, and
    only a listing that took longer than a tenth of a second is trusted, a hundred times as long as it took: forms,
    which ask at every key press, wait for what is large (1.3 million files: seconds) once in minutes.
    """
    aside = Aside(root, is_public=True)
    try:
        folders, loose = folders_of(root, aside)
        state = tuple((path, os.stat(path).st_mtime_ns) for path in (str(root), *folders.values()))  # noqa: PTH116
        begun = time.monotonic()
        before, until, found = _listed.get(root, ((), 0.0, None))
        if found is not None and before == state and begun < until:
            return found
        found = _list(root, folders, loose, aside)
    except OSError as error:
        raise DataCorrupt(f"{root} cannot be read: {error}") from error
    now = time.monotonic()
    took = now - begun
    _listed[root] = (state, now + _TRUSTED * took if took > _QUICK else 0.0, found)
    return found


def _list(root: Path, folders: Mapping[str, str], loose: Sequence[Entry], aside: Aside) -> ListedPictures:
    digest, counts = hashlib.sha256(), {}
    for name, path in folders.items():
        if printable(name) != name:
            raise DataCorrupt(f"the name of the class folder {printable(path)} is not UTF-8; rename it")
        if found := sorted(pictures(path, aside)):  # folders inside it count, as torchvision reads them
            counts[name] = len(found)
            digest.update(b"\0\0" + os.fsencode(name))
            _add(digest, found, path)
    if loose and counts:
        raise DataCorrupt(f"{root}: {Path(loose[0].path).name} lies beside the class folders, not in one of them")
    if loose:
        _add(digest, sorted(loose), str(root))
        counts = {"": len(loose)}
    if odd := aside.of(LOST):
        raise DataCorrupt(f"{root / odd[0]} is a link to nothing")
    if odd := aside.of(UNREAD):
        raise DataCorrupt(f"{root / odd[0]} is no picture of a kind that is read, or lacks its ending")
    return ListedPictures(root, counts, digest.hexdigest(), aside.words(), flat=bool(loose))


def _add(digest: hashlib._Hash, entries: Sequence[Entry], folder: str) -> None:
    for entry in entries:
        digest.update(os.fsencode(entry.path[len(folder) :]) + f"\0{entry.size}\0{entry.changed}\0".encode())


def files_of(listed: ListedPictures, classes: Sequence[str]) -> tuple[tuple[Path, ...], Labels]:
    """Every picture and its class number, in the order of torchvision's ImageFolder: class by class.

    classes: of the training set. Raises DataCorrupt.
    """
    by_class = _by_class(listed, classes)
    paths = tuple(Path(path) for name in classes for path in by_class[name])
    return paths, np.array([i for i, name in enumerate(classes) for _ in by_class[name]], np.int64)


def _by_class(listed: ListedPictures, classes: Sequence[str]) -> dict[str, list[str]]:
    aside = Aside(listed.root, is_public=True)
    try:
        folders, loose = folders_of(listed.root, aside)
        if listed.flat:
            return _sorted_flat(listed.root, loose, classes)
        return {
            name: [entry.path for entry in sorted(pictures(folders[name], aside), key=by_folder)] for name in classes
        }
    except (OSError, KeyError) as error:
        raise DataCorrupt(f"{listed.root} cannot be read: {error}") from error


# --- a flat val/ ------------------------------------------------------------------------------------------------------


def _sorted_flat(root: Path, loose: Sequence[Entry], classes: Sequence[str]) -> dict[str, list[str]]:
    """The pictures of a flat folder by class, sorted; those of classes that training lacks are left out."""
    wnids = _truth_of(root)
    found: dict[str, list[str]] = {name: [] for name in classes}
    for entry in sorted(loose):
        wnid = wnids[_number(root, entry, len(wnids)) - 1]
        if wnid in found:
            found[wnid].append(entry.path)
    return found


def _number(root: Path, entry: Entry, most: int) -> int:
    name = os.path.basename(entry.path)  # noqa: PTH119
    known = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.\w+", name)
    if known is None or not 1 <= int(known[1]) <= most:
        raise DataCorrupt(
            f"{root} has no class folders, and {name} is none of ImageNet's {most:,} validation pictures; {_SORT}"
        )
    return int(known[1])


_SORT = (
    "sort val/ into class folders (val/n01440764/ILSVRC2012_val_00000293.JPEG, ...), for instance with the script "
    "valprep.sh, or put the development kit (ILSVRC2012_devkit_t12) beside it"
)


@lru_cache(maxsize=2)
def _labelled(root: Path, fingerprint: str, classes: tuple[str, ...]) -> ListedPictures:
    """A flat folder once its pictures' classes are known. fingerprint: of its files."""
    aside = Aside(root, is_public=True)
    _, loose = folders_of(root, aside)
    found = _sorted_flat(root, loose, classes)
    count = sum(map(len, found.values()))
    said = (f"pictures of classes that train/ lacks: {len(loose) - count:,}",) if count < len(loose) else ()
    rule = "\n".join(_truth_of(root))
    digest = hashlib.sha256(f"{fingerprint}|{rule}".encode()).hexdigest()
    counts = {name: len(paths) for name, paths in found.items()}
    return ListedPictures(root, counts, digest, (*aside.words(), *said), flat=True)


def _truth_of(root: Path) -> tuple[str, ...]:
    """The synset of each validation picture, in the order of their numbers. Raises DataCorrupt."""
    places = [base / kit for base in (root.parent, root, root.parent.parent) for kit in _KITS]
    truth, meta = (next((p / name for p in places if (p / name).is_file()), None) for name in (_TRUTH, _META))
    if truth is None or meta is None:
        lacking = " and ".join(name for name, path in ((_TRUTH, truth), (_META, meta)) if path is None)
        raise DataCorrupt(f"{root} has no class folders and there is no {lacking} beside it: {_SORT}")
    return _truth(truth, meta, version_of(truth.stat()), version_of(meta.stat()))


@lru_cache(maxsize=2)
def _truth(truth: Path, meta: Path, *versions: Version) -> tuple[str, ...]:
    wnids = _synsets(meta)
    try:
        ids = [int(word) for word in truth.read_text("ascii").split()]
        return tuple(wnids[number] for number in ids)
    except (ValueError, KeyError) as error:
        raise DataCorrupt(f"{truth} does not hold ILSVRC2012 ids that {meta.name} knows: {error}") from error


def _synsets(meta: Path) -> dict[int, str]:
    """ILSVRC2012 id to synset, of the classes. SciPy, slow to load and not for servers, reads it in another process."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _READ, str(meta)], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise DataCorrupt(f"{meta} is not the development kit's: {said[-1] if said else 'it cannot be read'}")
    return {int(number): wnid for number, wnid in json.loads(done.stdout)}


_READ = """
import json, sys
from scipy.io import loadmat
synsets = loadmat(sys.argv[1], squeeze_me=True, variable_names=["synsets"])["synsets"]
print(json.dumps([[int(s["ILSVRC2012_ID"]), str(s["WNID"])] for s in synsets.ravel() if int(s["num_children"]) == 0]))
"""


def _describe(location: DataLocation, spec: DataSpec) -> DataInfo:
    """What is there, which may be a part of ImageNet in its layout: a hundred classes, or a few images of each."""
    folder = imagenet_folder(location)
    assert folder is not None
    train, test = list_parts(folder)
    entry, names = datasets["imagenet"], train.classes
    digest = hashlib.sha256(f"{train.fingerprint}|{test.fingerprint}".encode()).hexdigest()
    total = train.count
    ignored = (*train.aside, *test.aside)
    return DataInfo(
        entry.channels, entry.height, entry.width, names, total, test.count, held_out("imagenet", total), digest,
        ignored=ignored, remarks=tuple(worth_saying(ignored)),
    )  # fmt: skip


def _own_test(location: DataLocation, spec: DataSpec) -> OwnTest | None:
    """The names of the test images; their labels are found as they are read."""
    files = _files(location)
    if files is None:
        return None
    train, test = list_parts(files[0])
    return OwnTest(None, _names_listed(test.root, test.fingerprint, train.classes))


@lru_cache(maxsize=2)
def _names_listed(root: Path, fingerprint: str, classes: tuple[str, ...]) -> Names:
    found = sorted(_by_class(list_pictures(root), classes).items())
    return tuple((name, frozenset(map(os.path.basename, paths))) for name, paths in found if paths)


@dataset(
    "imagenet", title="ImageNet", source="Russakovsky et al. 2015 (ILSVRC 2012)",
    channels=3, height=224, width=224, classes=tuple(f"class {i}" for i in range(1000)), train_total=1_281_167,
    test_total=50_000, validation_default=10_000,
    place=80, how_to_get=HOW_TO_GET, files=_files, describe=_describe, own_test=_own_test,
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
