"""What is here, what is missing, what it takes to get it."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from modescape.datasets.dataset import DataLocation, missing, own_path
from modescape.datasets.splitting import cut, held_out, in_order, numbers
from modescape.errors import DataCorrupt, DataMissing, InvalidInput, NotLoaded
from modescape.names import some
from modescape.own_files import read_apart
from modescape.records import DataInfo, Occurring
from modescape.registry import Dataset, datasets
from modescape.science.data.contents import Promised, wrong_in
from modescape.science.data.files import worth_saying
from modescape.science.data.hugging_face import read_saved
from modescape.science.data.layouts import Role
from modescape.science.data.own_folders import first_digest, scan_folder
from modescape.science.data.own_npz import read_npz
from modescape.science.data.own_numbers import are_rows, read_numbers
from modescape.science.data.raw import Labels, Origin, OwnTest, Published, RawData, file_digest, size_of
from modescape.spec_parts import NUMBERS, PICTURES, PLACES, DataSpec


def describe(spec: DataSpec, folders: Sequence[Path]) -> DataInfo:
    """Sizes and classes without loading torch; a user's own data is read and checked.

    Raises DataMissing (saying how to get the set), DataCorrupt (other files under its names) and InvalidInput (field
    data.path).
    """
    return as_scaled(_told(_described(spec, folders), spec), spec)


def as_scaled(info: DataInfo, spec: DataSpec) -> DataInfo:
    """With the size of pictures that a spec asks for."""
    side = spec.image_size
    return info if side is None or not info.are_pictures else replace(info, height=side, width=side)


def _described(spec: DataSpec, folders: Sequence[Path]) -> DataInfo:
    if spec.path is not None:
        return _described_own(_as_read(spec))
    entry, location = datasets[spec.dataset], DataLocation(tuple(folders))
    files = entry.files(location)
    if files is None:
        raise missing(spec.dataset, location, "files")
    if wrong := wrong_in(_promised(spec.dataset, files, location), patience=PATIENCE_SECONDS):
        raise DataCorrupt(f"{wrong}; {_OTHER_FILES}")
    if entry.describe is not None:
        return entry.describe(location, spec)
    if not entry.train_total:  # it says its sizes by being read
        return _info_of(_read(entry, location, spec))
    return published(spec.dataset)


def _read(entry: Dataset, location: DataLocation, spec: DataSpec) -> RawData:
    try:
        raw: RawData = entry.call(location, spec)
    except (NotLoaded, ImportError) as error:
        raise InvalidInput(
            f"the sizes of {entry.name} are known by reading it only, and that cannot be done here ({error})",
            field="data.dataset", allowed="a set whose declaration says its sizes",
        ) from None  # fmt: skip
    return raw


def _as_read(spec: DataSpec) -> DataSpec:
    """What of a spec decides how a user's own set is read; the rest may change without another look at it."""
    return DataSpec(dataset=spec.dataset, path=spec.path, white=spec.white, label=spec.label, split=spec.split,
                    split_seed=spec.split_seed)  # fmt: skip


@read_apart(lambda spec: [spec.path], field="data.path")
def _described_own(spec: DataSpec) -> DataInfo:
    describe_it = datasets[spec.dataset].describe
    assert describe_it is not None, "every set with a path describes itself"
    return describe_it(DataLocation(()), spec)


@dataclass(frozen=True)
class HowRead:
    """white: the value that is white in the pictures of an .npz file; sentences: how they are read, for people."""

    white: float | None
    sentences: tuple[str, ...]


def how_read(spec: DataSpec) -> HowRead:
    """Of a user's own .npz file. Raises InvalidInput."""
    return _how_read(_as_read(spec))


@read_apart(lambda spec: [spec.path], field="data.path")
def _how_read(spec: DataSpec) -> HowRead:
    reading = read_npz(own_path(spec), spec.white).raw.reading
    assert reading is not None
    return HowRead(reading.white, tuple(reading.sentences))


@read_apart(lambda path: [path], field="data.path")
def holds_rows(path: str) -> bool:
    """Whether an .npz file holds numbers that cannot be pictures. Raises InvalidInput."""
    return are_rows(Path(path))


@read_apart(lambda spec, split, most=None: [spec.path], field="data.path")
def own_names(spec: DataSpec, split: str, most: int | None = None) -> list[str]:
    """The file or row of each image of a user's own set that a spec uses in a split, or of the first of them; [] for
    other sets.

    Raises InvalidInput.
    """
    return _own_names(spec).get(split, [])[:most]


def _own_names(spec: DataSpec) -> dict[str, list[str]]:
    if spec.dataset == "folder":
        found = scan_folder(own_path(spec))
        origins: dict[str, Origin] = {r: found.origin(p) for r, (p, _) in found.ordered(spec.split_seed).items()}
    elif spec.dataset == "npz":
        origins = dict(read_npz(own_path(spec), spec.white, spec.split_seed).raw.origins)
    elif spec.dataset == "huggingface":
        origins = dict(read_saved(own_path(spec), spec.split_seed).raw.origins)
    elif spec.dataset in NUMBERS:
        origins = dict(read_numbers(own_path(spec), spec.split_seed, spec.label).raw.origins)
    else:
        return {}
    sizes = {role: len(origin) for role, origin in origins.items()}
    total, own = sizes["train"], sizes.get("validation", 0)
    chosen = cut(spec, total, own, sizes["test"], held_out(spec.dataset, total))
    held = origins.get("validation", origins["train"])
    parts = {"train": origins["train"].take(chosen.train), "validation": held.take(chosen.validation)}
    return {role: part.names() for role, part in {**parts, "test": origins["test"].take(chosen.test)}.items()}


def with_sizes(info: DataInfo, spec: DataSpec, labels: Mapping[Role, Labels]) -> DataInfo:
    """labels: of every split of a user's own set, in its order. What a person should know first goes into `remarks`,
    but for what depends on how many images a spec asks for (`describe`)."""
    total, own = len(labels["train"]), len(labels["validation"]) if "validation" in labels else 0
    default = own or min(5000, total // 10)
    notes = [info.layout] if "for there is no other" in info.layout else []
    notes += worth_saying(info.ignored)
    trained = labels["train"][in_order(spec, total)]
    first = [_first(one, len(info.classes)) for one in (trained, labels.get("validation"), labels["test"])]
    last = _first(trained[::-1], len(info.classes))
    places = zip(first[0], np.where(last < 0, -1, total - 1 - last), *first[1:], strict=True)
    return replace(
        info, train_total=total, test_total=len(labels["test"]), validation_default=default, validation_total=own,
        remarks=(*info.remarks, *notes), occurring=tuple(Occurring(*map(int, one)) for one in places),
    )  # fmt: skip


def _first(labels: Labels | None, classes: int) -> NDArray[np.int64]:
    """Where each class is found first, -1 where it is not."""
    places = np.full(classes, -1, np.int64)
    if labels is not None:
        found, first = np.unique(labels, return_index=True)
        places[found] = first
    return places


def _told(info: DataInfo, spec: DataSpec) -> DataInfo:
    """With the classes that the training images of this spec lack, though there are images of them to validate or
    test."""
    try:
        n = numbers(spec, info.train_total, info.validation_total, info.test_total, info.validation_default)
    except InvalidInput:  # told by `spec.check`, with its field
        return info
    lacking = [
        name for name, at in zip(info.classes, info.occurring, strict=False)
        if not 0 <= at.train < n.train
        and (0 <= at.test < n.test or _is_held(at, n.validation, info))
    ]  # fmt: skip
    if not lacking:
        return info
    said = f"the {n.train:,} training images hold none of {len(lacking)} of the classes: {some(lacking)}"
    return replace(info, remarks=(*info.remarks, said))


def _is_held(at: Occurring, validation: int, info: DataInfo) -> bool:
    """Whether a class is among the images for validation: the first of its own, or the last of training."""
    if info.validation_total:
        return 0 <= at.validation < validation
    return at.last_train >= info.train_total - validation


def since_created(spec: DataSpec, folders: Sequence[Path]) -> str | None:
    """What has become of the files whose fingerprint a spec has; None when it is the same, read in the same way.

    Raises DataMissing, and InvalidInput where the files can no longer be read at all.
    """
    what = spec.path or datasets[spec.dataset].title
    try:
        if describe(spec, folders).fingerprint == spec.fingerprint:
            return None
    except InvalidInput as error:
        if not _is_as_first_read(spec):
            raise
        return f"{what} {ANEW} ({error.message})"
    if _is_as_first_read(spec):
        return f"{what} {ANEW}"
    return f"{what} has changed since the experiment was created; clone it to use the new data"


ANEW = (
    "is read differently since this experiment was created (a newer rule for the order of images, splits, labels or "
    "links), though its files are the same; what is finished stays, the rest has to be launched anew, as a clone"
)


def _is_as_first_read(spec: DataSpec) -> bool:
    """Whether a user's own files still are what the first rule of reading found."""
    if spec.path is None or spec.dataset not in PICTURES:
        return False
    return spec.fingerprint == _digest_by_the_first_rule(spec.dataset, str(own_path(spec)))


@read_apart(lambda dataset, path: [path], field="data.path")
def _digest_by_the_first_rule(dataset: str, path: str) -> str:
    return first_digest(Path(path)) if dataset == "folder" else file_digest(Path(path), "sha256")


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


def _info_of(raw: RawData) -> DataInfo:
    images = raw.train_images
    channels, height, width = size_of(images)
    n, own = len(raw.train_labels), 0 if raw.validation_labels is None else len(raw.validation_labels)
    return DataInfo(
        channels, height, width, raw.classes, n, len(raw.test_labels), own or min(5000, n // 10), validation_total=own
    )


def own_test(spec: DataSpec, folders: Sequence[Path]) -> OwnTest | None:
    """Of all test images of a set that `describe` has found; None for a plug-in's set, whose reader may need anything.

    Raises DataCorrupt when a pickled file is not the published one.
    """
    return datasets[spec.dataset].own_test(DataLocation(tuple(folders)), spec)


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
    named = [name for name in datasets if name not in PLACES]
    return [
        availability_of(name, location, patience=None if until is None else max(0.0, until - time.monotonic()))
        for name in named
    ]


def availability_of(name: str, location: DataLocation, *, patience: float | None = PATIENCE_SECONDS) -> Availability:
    entry = datasets[name]
    files = entry.files(location)
    where = files[0].parent if files else None
    size = _bytes_of(files) if files else entry.download_bytes
    if files is None:
        how = f"modescape data fetch {name}" if entry.downloads else entry.how_to_get or "brought by a plug-in"
        return Availability(name, entry.title, "missing", where, size, how, bool(entry.downloads))
    wrong = wrong_in(_promised(name, files, location), patience=patience)
    if wrong is None:
        return Availability(name, entry.title, "checking", where, size, "its files are being checked", False)
    if wrong:
        return Availability(name, entry.title, "other", where, size, f"{wrong}; {_OTHER_FILES}", False)
    return Availability(name, entry.title, "here", where, size, entry.how_to_get, False)


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


def fetchable() -> dict[str, Sequence[Published]]:
    """What there is to download of each public set that can be fetched."""
    return {name: entry.downloads for name, entry in datasets.items() if entry.downloads}


def fetch(
    name: str,
    folder: Path,
    progress: Callable[[int, int], None],
    *,
    downloads: Mapping[str, Sequence[Published]] | None = None,
) -> None:
    """Download a public set into `folder`, check it, put it in place whole or not at all. progress(bytes done, of all).

    Raises InvalidInput for sets that cannot be fetched, DataMissing when the server does not answer, DataCorrupt when
    what came has another checksum.
    """
    downloads = fetchable() if downloads is None else downloads
    if name not in downloads:
        raise InvalidInput(f"{name!r} cannot be fetched", field="name", allowed="one of " + ", ".join(downloads))
    files = downloads[name]
    total, done = sum(file.bytes for file in files), 0
    has_folder = all(file.name.endswith(".tar.gz") for file in files)
    target = folder if has_folder else folder / name
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
    except (OSError, HTTPException) as error:
        raise DataMissing(f"{file.url} could not be fetched: {error}") from error


def _unpack(archive: Path, temporary: Path, target: Path) -> None:
    """Unpack beside the target and rename each top folder into place. Raises DataCorrupt."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataCorrupt(f"{archive.name} arrived as published and cannot be unpacked: {error}") from None
    for entry in temporary.iterdir():
        shutil.rmtree(target / entry.name, ignore_errors=True)
        entry.replace(target / entry.name)
