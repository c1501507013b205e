"""A user's own pictures: folders of class folders, and plain folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from modescape.science.data.files import Entry
from modescape.science.data.layouts import (
    Place,
    Role,
    Survey,
    entries_of,
    ordered,
    outside_pictures,
    readable,
    refuse,
    survey_of,
)
from modescape.science.data.pictures import Header, Levels, UnreadablePicture, find_levels, header_of
from modescape.science.data.raw import (
    ImageFiles,
    Labels,
    Origin,
    as_read,
    file_digest,
)

_LARGEST_SIDE = 128  # pictures of several sizes are scaled to their median size, at most this
_HELD_BYTES = 1 << 30  # folders that decode to more than this are read batch by batch


def is_held(files: ImageFiles) -> bool:
    return len(files) * files.channels * files.height * files.width <= _HELD_BYTES


@dataclass(frozen=True)
class FoundFolder:
    """What a folder of class folders holds: files and labels of its parts class by class, the common size, and a
    SHA-256 of names and contents.

    is_plain: whether all pixels are as they were by the first rule; deep: the files of more than 8 bits a pixel, whose
    white level is to be found (`levels_of`).
    """

    survey: Survey
    parts: Mapping[Place, tuple[tuple[Path, ...], Labels]]
    channels: int
    height: int
    width: int
    digest: str
    is_plain: bool = True
    deep: tuple[Path, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """Every file, sorted."""
        return sorted(path for paths, _ in self.parts.values() for path in paths)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.survey.classes

    def ordered(self, seed: int) -> dict[Role, tuple[tuple[Path, ...], Labels]]:
        """Files and labels of each split, in the order drawn from the split seed."""
        found: dict[Role, tuple[tuple[Path, ...], Labels]] = {}
        for role, (place, order) in ordered({place: labels for place, (_, labels) in self.parts.items()}, seed).items():
            paths, labels = self.parts[place]
            found[role] = tuple(paths[i] for i in order), labels[order]
        return found

    def origin(self, paths: Iterable[Path]) -> Origin:
        return Origin(tuple(os.path.relpath(path, self.survey.root) for path in paths))

    def fingerprint(self, seed: int) -> str:
        layout = {} if self.survey.is_as_before else {"layout": ""}
        return as_read(self.digest, {**layout, **({"order": str(seed)} if seed else {}), **pixels_read(self.is_plain)})


def levels_of(found: FoundFolder | FoundPictures, given: float | None) -> Levels:
    """What is white in a folder of pictures; given: what the user says is. Decodes all that have more than 8 bits, once
    in a process. Raises UnreadablePicture, InvalidInput."""
    return _levels(found.digest if isinstance(found, FoundFolder) else found.fingerprint, found.deep, given)


@lru_cache(maxsize=8)
def _levels(content: str, deep: tuple[Path, ...], given: float | None) -> Levels:
    return find_levels(deep, given=given)


def scan_folder(root: Path) -> FoundFolder:
    """Look through a folder of class folders. Raises InvalidInput saying what is wrong and where.

    What the files hold is remembered until a name or a file changes (`version_of`), for forms ask at every key press.
    """
    return _scan_folder(survey_of(root))


@lru_cache(maxsize=8)
def _scan_folder(survey: Survey) -> FoundFolder:
    parts, entries = entries_of(survey)
    if "all" in parts and len(entries) < 5:
        raise refuse(f"{len(entries)} pictures are too few to set a fifth aside for testing")
    headers, digest = _looked_at(entries, survey.root)
    height, width = _common_size([(header.height, header.width) for header in headers])
    return FoundFolder(
        survey, parts, _channels(headers), height, width, digest, all(header.is_plain for header in headers),
        _deep(entries, headers),
    )  # fmt: skip


def _looked_at(entries: Sequence[Entry], root: Path) -> tuple[list[Header], str]:
    """What the headers say, and a SHA-256 of all names under the root and all contents."""
    digest, headers = hashlib.sha256(), []
    for entry in entries:
        path = Path(entry.path)
        with readable(path):
            content = path.read_bytes()
        digest.update(f"{os.path.relpath(path, root)}\0{len(content)}\0".encode())
        digest.update(content)
        headers.append(_picture(path))
    return headers, digest.hexdigest()


def first_digest(root: Path) -> str:
    """The fingerprint that a folder had by the first rule of reading, which did not follow links to folders inside."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not _was_ignored(path)]
    return _digest_of(files, root)


def first_outside_digest(root: Path) -> str:
    """The same for a folder of other images, or for a file."""
    if root.is_file():
        return file_digest(root, "sha256")
    return first_digest(root / "test" if (root / "train").is_dir() and (root / "test").is_dir() else root)


def _digest_of(files: Iterable[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(os.fsencode(path.relative_to(root)) + f"\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _was_ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in ("thumbs.db", "desktop.ini")


def _picture(path: Path) -> Header:
    """What a picture's header says; nothing is decoded."""
    try:
        return header_of(path)
    except UnreadablePicture as error:
        raise refuse(f"{path.parent.name}/{path.name} cannot be read as a picture: {error.reason}") from error


def _channels(headers: Sequence[Header]) -> int:
    return 1 if all(header.grey for header in headers) else 3


def _deep(entries: Sequence[Entry], headers: Sequence[Header]) -> tuple[Path, ...]:
    return tuple(Path(e.path) for e, header in zip(entries, headers, strict=True) if header.kind != "bytes")


def pixels_read(is_plain: bool) -> dict[str, str]:
    """The subject of reading that numbers and pictures belong to, where those of before gave other pixels."""
    return {} if is_plain else {"pixels": ""}


def _common_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Height and width all pictures are scaled to: their own (at most 224) when equal, else the median (to 128)."""
    height, width = (int(np.median([size[axis] for size in sizes])) for axis in (0, 1))
    limit = 224 if len(set(sizes)) == 1 else _LARGEST_SIDE
    scale = min(1.0, limit / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True)
class FoundPictures:
    """What a folder holds when classes do not matter: files in their order, the common size (0x0 if there are several
    sizes), a fingerprint, and what was left aside, in words."""

    paths: tuple[Path, ...]
    channels: int
    height: int
    width: int
    fingerprint: str
    deep: tuple[Path, ...] = ()
    aside: tuple[str, ...] = ()


def scan_pictures(root: Path) -> FoundPictures:
    """Every picture under `root`, or under its test folder where it has splits; remembered like `scan_folder`.

    Raises InvalidInput saying which file cannot be read.
    """
    place, entries, aside = outside_pictures(root)
    return replace(_scan_pictures(place, tuple(entries)), aside=aside)


@lru_cache(maxsize=8)
def _scan_pictures(root: Path, entries: tuple[Entry, ...]) -> FoundPictures:
    headers, digest = _looked_at(entries, root)
    sizes = {(header.height, header.width) for header in headers}
    height, width = sizes.pop() if len(sizes) == 1 else (0, 0)
    return FoundPictures(
        tuple(Path(entry.path) for entry in entries), _channels(headers), height, width,
        as_read(digest, pixels_read(all(header.is_plain for header in headers))), _deep(entries, headers),
    )  # fmt: skip
