"""A folder or an archive, as named files: nothing outside it is reached, and nothing in it is unpacked unasked.

    lies = opened(Path("ensemble.npz"))
    lies.names                              # ("ensemble.json", "test.labels.npy", "test.logits.npy")
    lies.array("test.logits.npy")           # an Array, of which only the header was read

Names are paths with `/`, as in the format on disk.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modescape.errors import InvalidInput
from modescape.imported.arrays import (
    LARGEST,
    Array,
    Refused,
    foreign,
    is_archive,
    is_pickle,
    mapped,
    pickled,
    printable,
    refuse,
    streamed,
    torch_pickled,
)
from modescape.imported.ensemble import Tensors

MOST_FILES = 100_000
_TEXT = 16 << 20  # bytes of a file of text
_HELD = 1 << 30  # bytes of an array that is held at once: labels, ids, strengths
_BOMB = 200  # times its size, that an archive of numbers may unpack to; noise packs to about its own size
_SMALL = 1 << 30  # bytes that any archive may unpack to
_MANIFEST = "ensemble.json"
_NAMES = "names of letters, digits and the like, below the folder"


class Container(Protocol):
    """Named files."""

    @property
    def name(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def size(self, name: str) -> int: ...

    def open(self, name: str) -> IO[bytes]: ...

    def array(self, name: str) -> Array: ...

    def tensors(self, name: str) -> Tensors: ...


def opened(path: Path, *, is_given: bool = True) -> Container:
    """What lies at a path. is_given: whether whoever asks knows it by that path. Raises InvalidInput where that is
    neither a folder nor a whole .npz or .zip."""
    if path.is_dir():
        return Folder(path.name, path, is_given=is_given)
    if not path.exists():
        raise refuse(str(path), "there is nothing of that name", "a folder, or a file")
    check_file(path, "a folder, or a file")
    return Archive(path.name, path, str(path) if is_given else "")


def text(lies: Container, name: str) -> str:
    """A file of text. Raises InvalidInput where it is too large or not UTF-8."""
    if lies.size(name) > _TEXT:
        raise refuse(name, f"it has {lies.size(name):,} bytes", f"at most {_TEXT >> 20} MiB of text")
    with lies.open(name) as file:
        content = file.read(_TEXT + 1)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(name, f"it is not UTF-8 ({error.reason} at byte {error.start})", "text in UTF-8") from error


def values(array: Array) -> NDArray[Any]:
    """An array that is small by nature, read at once. Raises InvalidInput."""
    if array.nbytes > _HELD:
        raise refuse(array.name, f"it is {array.dtype} {list(array.shape)}", f"at most {_HELD >> 20} MiB")
    found = array.read()
    if found.dtype.kind == "U":  # Python ends in errors of its own where four bytes are no character
        points = np.ascontiguousarray(found).reshape(-1).view(np.uint32)
        if ((points > 0x10FFFF) | ((points >= 0xD800) & (points <= 0xDFFF))).any():
            raise refuse(array.name, "some of its texts are of bytes that are no characters", "whole characters")
    return found


def check_name(name: str, of: str) -> None:
    """Raises InvalidInput for names that lead out of their folder, or cannot be kept."""
    check_letters(name, of)
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or ":" in parts[0]:
        raise refuse(of, f"it holds {printable(name)!r}, which leads out of it", _NAMES)


def check_letters(name: str, of: str) -> None:
    """Raises InvalidInput for a name of bytes or characters that cannot be kept, sent or shown."""
    if _cannot_be_kept(name) or "\\" in name:
        raise refuse(of, f"it holds a file called {name!a}", _NAMES)


def _cannot_be_kept(name: str) -> bool:
    return any(ord(letter) < 32 or ord(letter) == 127 or "\ud800" <= letter <= "\udfff" for letter in name)


def check_said(name: str | None, of: str) -> None:
    """Raises InvalidInput for a name that somebody gave (of: under which word) and no array and no file can have."""
    if name is not None and _cannot_be_kept(name):
        raise InvalidInput(f"is {name[:200]!a}, with characters that no name has", field=of, allowed=_NAMES)


def check_file(path: Path, allowed: str) -> Path:
    """A path that somebody named, or that a pattern found, where it is a file of a name that can be kept. Raises
    InvalidInput, which says what else is there."""
    if not path.is_file():
        raise refuse(str(path), _no_file(path), allowed)
    check_letters(path.name, str(path.parent))
    return path


def is_inside(path: Path, folder: Path | None) -> bool:
    """Whether a path leads to somewhere in a folder, links followed; to anywhere, where there is none."""
    try:
        return folder is None or path.resolve().is_relative_to(folder.resolve())
    except ValueError:  # what no path can be, for it holds a NUL
        return False


def _no_file(path: Path) -> str:
    if path.is_dir():
        return "it is a folder"
    if path.exists():
        return "it is a pipe, a socket or a device"
    return "it is a link that leads nowhere" if path.is_symlink() else "there is no file of that name"


def check_pickle(name: str, at: str = "") -> None:
    """Raises InvalidInput, with the lines that convert it, for a name that says it is a pickle. at: as those lines call
    it."""
    if name.lower().endswith((".p", ".pkl", ".pickle", ".joblib")):
        raise pickled(name, at=at)
    if name.lower().endswith((".pt", ".pth", ".ckpt")):
        raise torch_pickled(name, at)


# --- a folder ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """The files below a folder, those that links lead to included where they are below it too. like_files: how names
    end that no folder has; is_given: whether whoever asks knows it by its path."""

    name: str
    root: Path
    like_files: tuple[str, ...] = (".npy", ".npz", ".safetensors")
    is_given: bool = False

    @cached_property
    def files(self) -> Mapping[str, Path]:
        """By name, sorted. Raises InvalidInput for a link that leads out, or too many files."""
        inside, found = self.root.resolve(), {}
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(one for one in folders if not one.startswith((".", "__MACOSX")))
            for name in folders:
                if name.lower().endswith(self.like_files):
                    place = (Path(folder) / name).relative_to(self.root).as_posix()
                    raise refuse(place, "it is a folder, and called like a file", "a file, or a folder of another name")
            for name in [*names, *(one for one in folders if (Path(folder) / one).is_symlink())]:
                path = Path(folder) / name
                self._check_link(path, inside)
                if not (path.is_file() or path.is_dir()):
                    raise refuse(path.relative_to(self.root).as_posix(), "it is a pipe, a socket or a device", "a file")
                if path.is_file() and not name.startswith("."):
                    found[path.relative_to(self.root).as_posix()] = path
            if len(found) > MOST_FILES:
                raise refuse(self.name, f"it holds more than {MOST_FILES:,} files", f"at most {MOST_FILES:,}")
        for name in found:
            check_name(name, self.name)
        return dict(sorted(found.items()))

    def _check_link(self, path: Path, inside: Path) -> None:
        if not path.is_symlink():
            return
        name = path.relative_to(self.root).as_posix()
        try:
            leads = path.resolve()
        except (OSError, RuntimeError) as error:  # a link to itself
            raise refuse(name, "it is a link that leads nowhere", "files, and links to files of the folder") from error
        if not leads.is_relative_to(inside):
            raise refuse(name, f"it is a link that leads out of {self.name}", "files, and links to files of the folder")
        if path.is_dir():
            raise refuse(name, "it is a link to a folder", "files, and links to files of the folder")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.files)

    def size(self, name: str) -> int:
        return self.files[name].stat().st_size

    def open(self, name: str) -> IO[bytes]:
        return self.files[name].open("rb")

    def array(self, name: str) -> Array:
        return mapped(self.files[name], name, self.at(name))

    def at(self, name: str) -> str:
        """A file's path as whoever asks would open it."""
        return (self.root / name).as_posix() if self.is_given else name

    def tensors(self, name: str) -> Tensors:
        path = self.files[name]
        return Tensors(name, self.size(name), lambda: path.open("rb"), path)


# --- an archive -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Archive:
    """The files of an .npz or .zip, read as streams; they are never unpacked to disk. given: its path, as whoever asks
    would open it; "": by its name."""

    name: str
    path: Path
    given: str = ""

    @cached_property
    def files(self) -> Mapping[str, zipfile.ZipInfo]:
        """By name, sorted. Raises InvalidInput for what is no archive of ours, or not a safe one."""
        items = [item for item in self._items() if not _is_aside(_name_of(item))]
        self._check_sizes(items)
        found: dict[str, zipfile.ZipInfo] = {}
        for item in items:
            self._check(item)
            name = _name_of(item)
            if name in found:
                raise refuse(self.name, f"it holds {name!r} twice", "one file of each name")
            found[name] = item
        return dict(sorted(self._without_folder(found).items()))

    def _items(self) -> list[zipfile.ZipInfo]:
        beginning = self._beginning()
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.infolist()
        except Exception as error:  # damaged archives raise struct.error, ValueError, RuntimeError, ...
            if is_archive(beginning):
                reason = str(error) or type(error).__name__
                raise refuse(self.name, f"it is a damaged archive ({reason})", "a whole .npz or .zip") from error
            if is_pickle(beginning):
                raise pickled(self.name, at=self.given) from error
            if refused := foreign(self.name, beginning, self.given):
                raise refused from error
            raise refuse(self.name, "it is no archive", "a folder, .npz, .zip, .npy, .csv, .parquet, .arrow") from error

    def _beginning(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(8)

    def _check_sizes(self, items: list[zipfile.ZipInfo]) -> None:
        size, unpacked = self.path.stat().st_size, sum(item.file_size for item in items)
        if len(items) > MOST_FILES:
            raise refuse(self.name, f"it holds {len(items):,} files", f"at most {MOST_FILES:,}")
        if sum(item.compress_size for item in items) > size:
            raise refuse(self.name, "its files lie over each other, as in an archive made to harm", "a plain .zip")
        if unpacked > max(_SMALL, _BOMB * size) or unpacked > 4 * LARGEST:
            raise refuse(
                self.name,
                f"{size:,} bytes unpack to {unpacked:,}",
                f"at most {_BOMB} times its size, {LARGEST >> 28} GiB",
            )

    def _check(self, item: zipfile.ZipInfo) -> None:
        check_name(item.orig_filename, self.name)
        if item.flag_bits & 1:
            raise refuse(item.filename, "it is encrypted", "files without a password")
        if item.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise refuse(item.filename, "it is packed in a way that is not read", "stored or deflated")
        if stat.S_ISLNK(item.external_attr >> 16):
            raise refuse(item.filename, "it is a link", "files")

    def _without_folder(self, found: dict[str, zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        """Where a folder was packed with itself around its files."""
        first = {PurePosixPath(name).parts[0] for name in found}
        around = f"{first.pop()}/" if len(first) == 1 else ""
        if around and all(name.startswith(around) for name in found):
            return {name.removeprefix(around): item for name, item in found.items()}
        return found

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.files)

    def size(self, name: str) -> int:
        return self.files[name].file_size

    def open(self, name: str) -> IO[bytes]:
        try:
            archive = zipfile.ZipFile(self.path)
        except Exception as error:
            raise self._unreadable(name, error) from error
        with archive:  # an open file keeps the archive open until it is closed itself
            try:
                return archive.open(self.files[name])
            except Exception as error:
                raise self._unreadable(name, error) from error

    def _unreadable(self, name: str, error: Exception) -> Refused:
        return refuse(f"{name} in {self.name}", f"it cannot be read ({error})", "a whole, undamaged archive")

    def array(self, name: str) -> Array:
        return streamed(name, self.size(name), lambda: self.open(name))

    def tensors(self, name: str) -> Tensors:
        return Tensors(name, self.size(name), lambda: self.open(name))


_UTF8 = 1 << 11  # the flag of an archive's names that are UTF-8


def _name_of(item: zipfile.ZipInfo) -> str:
    """As whoever packed it read it: `zip` of Unix writes UTF-8 and does not say so, and Python takes that for CP437."""
    if not item.flag_bits & _UTF8:
        try:
            return item.filename.encode("cp437").decode()
        except UnicodeError:
            pass
    return item.filename


def _is_aside(name: str) -> bool:
    """Folders, and what systems leave in archives."""
    return name.endswith("/") or is_of_a_desktop(name)


def is_of_a_desktop(name: str) -> bool:
    """Whether a file is what a Mac leaves beside others."""
    path = PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name.startswith((".DS_Store", "._"))


def manifest_text(lies: Container) -> str | None:
    """The text of ensemble.json; in an .npz that NumPy wrote, of the array of that name. None where there is none."""
    if _MANIFEST in lies.names:
        return text(lies, _MANIFEST)
    packed = f"{_MANIFEST}.npy"
    if packed not in lies.names:
        return None
    found = np.asarray(values(lies.array(packed)))
    if found.dtype.kind == "U" and found.size == 1:
        return str(found.reshape(-1)[0])
    return found.tobytes().decode("utf-8", "replace")
