"""Which files of a folder are pictures and which are left aside: one rule for every reader.

    aside = Aside(root)
    found = pictures(root / "cats", aside)          # an Entry for every picture in there
    names, loose = folders_of(root, aside)          # class folders by name, and pictures that lie beside them
    aside.words()                                   # ("left by a system or program: .DS_Store", ...)

Links to files and folders are followed, by a server and its workers only where they stay inside (`keep_to`), so that
what is looked at, fingerprinted and read are the same files; a folder met a second time within one walk is left aside,
so that links in a circle end. What an operating system or a program leaves (.DS_Store, ._1.png, Thumbs.db, __MACOSX,
@eaDir, .ipynb_checkpoints) and what is no picture is never data.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from modescape.names import some
from modescape.science.data.pictures import printable

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
_LEFT_BEHIND = {"thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found"}
_OTHER_PICTURES = {".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".svg", ".psd", ".dcm", ".exr", ".hdr", ".tga",
                   ".pbm", ".pnm", ".dng", ".cr2", ".nef", ".npy"}  # fmt: skip
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*")  # JPEG, PNG, GIF, TIFF

SYSTEM = "left by a system or program"
EMPTY = "folders without pictures"
OTHER = "not pictures"
AGAIN = "links to folders that are read already"
SPECIAL = "neither files nor folders"
LOST = "links to nothing"
OUTSIDE = "lead outside the allowed folders and are left out"
UNREAD = "pictures of a kind that is not read, or without its ending"


Version = tuple[int, ...]


class Entry(NamedTuple):
    """A picture: its path, its size in bytes, when it changed (nanoseconds), and which version of which file it is."""

    path: str
    size: int
    changed: int
    version: Version


def version_of(stat: os.stat_result) -> Version:
    """What another number of says that a file may hold something else than when it was read.

    Size and time alone do not: two files of one archive that change places have the same of both, and so has what is
    put back with its old time.
    """
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


_inside: tuple[str, ...] | None = None


def keep_to(folders: Iterable[Path] | None) -> None:
    """From now on this process follows no link out of these folders, or out of the set it lies in: what a server shows
    and trains on is what somebody put there, and not whatever its account can read. None: every link is followed, as in
    a notebook, whose files are its user's."""
    global _inside
    _inside = None if folders is None else tuple(os.path.realpath(folder.expanduser()) for folder in folders)


def kept_to() -> tuple[str, ...] | None:
    """The folders that links are followed to."""
    return _inside


def version_of_tree(root: Path) -> str:
    """What changes with anything that lies under a folder and may be data: of every file and folder its place and
    version. Of links that lead out their ends alone are looked at, and of what may not be looked into its outside.
    Raises OSError where that is the folder itself."""
    digest, seen, aside = hashlib.sha256(), set[tuple[int, int]](), Aside(root)
    waiting = [os.fspath(root)]
    while waiting:
        place = waiting.pop()
        try:
            if (who := _identity(place)) in seen:
                continue
            seen.add(who)
            with os.scandir(place) as listed:
                entries = sorted((one for one in listed if not is_left_behind(one.name)), key=lambda one: one.name)
        except OSError:  # whoever reads it says so; that it is here was seen in the folder around it
            if place == os.fspath(root):
                raise
            continue
        for entry in entries:
            digest.update(os.fsencode(entry.path) + repr(_version_in_a_folder(entry)).encode() + b"\0")
            if _is_folder(entry) and not _leads_out(entry, aside):
                waiting.append(entry.path)
    return digest.hexdigest()


def _version_in_a_folder(entry: os.DirEntry[str]) -> Version | str:
    try:
        return version_of(entry.stat())
    except OSError:  # a link to nothing, or what may not be looked at
        try:
            return version_of(entry.stat(follow_symlinks=False))
        except OSError as error:
            return type(error).__name__


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _leads_out(entry: os.DirEntry[str], aside: Aside) -> bool:
    if _inside is None or aside.is_public or not entry.is_symlink():
        return False
    real = os.path.realpath(entry.path)
    homes = (*_inside, os.path.realpath(aside.root))
    return not any(real == home or real.startswith(f"{home.rstrip('/')}/") for home in homes)


@dataclass
class Aside:
    """What lies under `root` and is no data: (path under the root, one of the reasons above). is_public: a published
    set, which whoever runs the server has laid out, on several disks perhaps; its links are all followed."""

    root: Path
    is_public: bool = field(default=False, kw_only=True)
    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, path: str, why: str) -> None:
        self.found.append((os.path.relpath(path, self.root), why))

    def of(self, why: str) -> list[str]:
        return sorted(printable(path) for path, reason in self.found if reason == why)

    def words(self) -> tuple[str, ...]:
        """A line a reason, with the first five names."""
        reasons = dict.fromkeys(why for _, why in sorted(self.found, key=lambda item: item[1]))
        return tuple(self._said(why, self.of(why)) for why in reasons)

    @staticmethod
    def _said(why: str, named: list[str]) -> str:
        if why == OUTSIDE:
            one = "1 link leads outside the allowed folders and is left out"
            why = f"{len(named):,} links {OUTSIDE}" if len(named) > 1 else one
        return f"{why}: {some(named)}"


def worth_saying(aside: Iterable[str]) -> list[str]:
    """Of such lines those that a person should know before a launch: all but what systems and programs leave."""
    return [f"left aside: {line}" for line in aside if not line.startswith(SYSTEM)]


def is_left_behind(name: str) -> bool:
    """Whether a file or folder of that name belongs to a system or a program, and is hidden or never data."""
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PICTURES  # noqa: PTH122 - millions of them


def folders_of(root: Path, aside: Aside) -> tuple[dict[str, str], list[Entry]]:
    """The folders in `root` (name to path, in the order of their names) and the pictures that lie beside them.

    Raises OSError where something cannot be looked at.
    """
    folders, loose = _look(str(root), aside)
    return {os.path.basename(path): path for path in sorted(folders)}, loose  # noqa: PTH119


def pictures(folder: str | Path, aside: Aside) -> list[Entry]:
    """Every picture in `folder` and in the folders inside it, in no order. Raises OSError."""
    found: list[Entry] = []
    root, top = str(aside.root), str(folder)
    seen = set() if top == root else {_identity(root), _identity(os.path.dirname(top))}  # noqa: PTH120
    if _identity(top) in seen:
        aside.add(top, AGAIN)
        return []
    seen.add(_identity(top))
    waiting = [top]
    while waiting:
        place = waiting.pop()
        inner, here = _look(place, aside)
        found += here
        for path in sorted(inner):
            if (who := _identity(path)) in seen:
                aside.add(path, AGAIN)
            else:
                seen.add(who)
                waiting.append(path)
    return found


def by_parts(entry: Entry) -> list[str]:
    """Sorts as paths are sorted: folder by folder."""
    return entry.path.split("/")


def by_folder(entry: Entry) -> tuple[str, str]:
    """Sorts as torchvision's ImageFolder does: what lies in a folder before what lies in the folders inside it."""
    place, _, name = entry.path.rpartition("/")
    return place, name


def _identity(path: str) -> tuple[int, int]:
    stat = os.stat(path)  # noqa: PTH116
    return stat.st_dev, stat.st_ino


def _look(place: str, aside: Aside) -> tuple[list[str], list[Entry]]:
    """Folders and pictures that lie in one folder, links followed."""
    folders: list[str] = []
    found: list[Entry] = []
    with os.scandir(place) as entries:
        for entry in entries:
            if is_left_behind(entry.name):
                aside.add(entry.path, SYSTEM)
            elif _leads_out(entry, aside):
                aside.add(entry.path, OUTSIDE)
            elif entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                aside.add(entry.path, LOST if is_picture(entry.name) or "." not in entry.name else OTHER)
            elif entry.is_dir():
                folders.append(entry.path)
            elif not entry.is_file():
                aside.add(entry.path, SPECIAL)
            elif is_picture(entry.name):
                stat = entry.stat()
                found.append(Entry(entry.path, stat.st_size, stat.st_mtime_ns, version_of(stat)))
            else:
                aside.add(entry.path, UNREAD if _looks_like_a_picture(entry) else OTHER)
    return folders, found


def _looks_like_a_picture(entry: os.DirEntry[str]) -> bool:
    """By its ending or its first bytes. A picture that is left out without a word is worse than a refusal."""
    ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    if ending in _OTHER_PICTURES:
        return True
    try:
        with open(entry.path, "rb") as file:  # noqa: PTH123
            start = file.read(12)
    except OSError:
        return False
    return start.startswith(_BEGINNINGS) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


@dataclass(frozen=True)
class ClassFolders:
    """Class folders as they lie in one place. classes: name to pictures, in the order of the names, the index order of
    torchvision and Keras; empty: class folders without a picture; loose: pictures in no class folder."""

    place: Path
    classes: tuple[tuple[str, tuple[Entry, ...]], ...]
    empty: tuple[str, ...]
    loose: tuple[Entry, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.classes)

    @property
    def entries(self) -> Iterable[Entry]:
        return (entry for _, entries in self.classes for entry in entries)


def class_folders(place: Path, aside: Aside) -> ClassFolders:
    """Raises OSError where something cannot be looked at."""
    folders, loose = folders_of(place, aside)
    held, empty = [], []
    for name, path in folders.items():
        found = pictures(path, aside)
        if found:
            held.append((name, tuple(sorted(found, key=by_parts))))
        else:
            empty.append(name)
            aside.add(path, EMPTY)
    return ClassFolders(place, tuple(held), tuple(empty), tuple(sorted(loose)))
