"""Files in a folder: written under a temporary name, flushed to the disk, renamed, and the folder is flushed too."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO

from modescape.errors import NoRoom
from modescape.outage import free_bytes, room_in, why_full

SUFFIXES = (".npy", ".safetensors")
TMP = "tmp"
DAMAGED = "damaged"
BLOCK = 1 << 20
PROBE = 1 << 16  # bytes
_DIGEST = re.compile(r"[0-9a-f]{64}")

Wanted = Callable[[str], bool]


class Writing:
    """A temporary file that hashes what is written to it. room: what NoRoom is told by."""

    def __init__(self, file: IO[bytes], room: Callable[[], AbstractContextManager[None]]) -> None:
        self.file = file
        self.room = room
        self.hash = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes | memoryview) -> int:
        self.hash.update(data)
        self.bytes += memoryview(data).nbytes
        with self.room():
            return self.file.write(data)


def names_of(digest: str) -> tuple[str, ...]:
    """The names that a file of this content may have; () of what is no digest, which keeps names from outside inside
    the folder."""
    return tuple(f"{digest[:2]}/{digest}{suffix}" for suffix in SUFFIXES) if _DIGEST.fullmatch(digest) else ()


@dataclass(frozen=True)
class Content:
    """A file's bytes, read where it is kept and once through. name: under which it is."""

    name: str
    blocks: Iterator[bytes]


class Folder:
    """What `Artifacts` keeps files in, on this machine or a disk that several share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def where(self) -> str:
        return str(self.folder)

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def writing(self, expected: int | None) -> Iterator[Writing]:
        """A temporary file on the same disk, gone afterwards unless it was given a name. expected: its bytes, roughly,
        None where nobody knows. Raises NoRoom."""
        waiting = self.folder / TMP
        path = waiting / uuid.uuid4().hex
        room = partial(room_in, self.folder, expected, path)
        with room():
            waiting.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        try:
            try:
                yield Writing(file, room)
            finally:
                with room():  # what could not be written is tried once more
                    file.close()
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def landing(self) -> Iterator[Path]:
        """A folder in which a process that knows this folder alone leaves artifacts, which are kept afterwards."""
        yield self.folder.absolute()

    def keep(self, written: Writing, name: str) -> None:
        """Under the name of its content."""
        final = self.folder / name
        with written.room():
            if _same_size(final, written.bytes):
                os.utime(final)  # tells a purge going on elsewhere that these bytes are wanted again
            else:
                publish(written.file, final)

    def replace(self, written: Writing, name: str) -> None:
        """Whatever had the name."""
        with written.room():
            publish(written.file, self.folder / name)

    def path(self, digest: str) -> Path | None:
        for name in names_of(digest):
            if (path := self.folder / name).exists():
                return path
        return None

    def exists(self, digest: str) -> bool:
        return self.path(digest) is not None

    def content(self, digest: str) -> Content | None:
        path = self.path(digest)
        return None if path is None else Content(path.name, _blocks(path))

    def again(self, digest: str) -> bool:
        """Whether a file whose bytes are not what its name says was but a copy, which is gone now."""
        return False

    def set_aside(self, digest: str) -> str | None:
        """Move a file to where nobody takes it for the one of that name; where that is, None if there is none."""
        path = self.path(digest)
        if path is None:
            return None
        aside = self.folder / DAMAGED / path.name
        aside.parent.mkdir(exist_ok=True)
        return str(path.replace(aside))

    def delete(self, digest: str, keep_since: datetime | None) -> int:
        path = self.path(digest)
        if path is None:
            return 0
        state = path.stat()
        if keep_since is not None and state.st_mtime >= keep_since.timestamp():
            return 0
        path.unlink(missing_ok=True)
        return state.st_size

    def sweep(self, wanted: Wanted, oldest: float) -> int:
        """Delete what is not wanted, by its name, and was written before; bytes freed."""
        freed = 0
        for path in self.files():
            state = path.stat()
            if not wanted(f"{path.parent.name}/{path.name}") and state.st_mtime <= oldest:
                path.unlink(missing_ok=True)
                freed += state.st_size
        return freed

    def files(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from (path for path in self.folder.glob("*/*") if path.is_file())

    @contextmanager
    def reading(self, name: str) -> Iterator[Path | None]:
        """Where a file of this name can be read meanwhile; None where there is none."""
        path = self.folder / name
        yield path if path.exists() else None

    def drop(self, beginning: str, keep: str | None) -> None:
        """Delete the files whose names begin so, but one."""
        for path in self.folder.glob(f"{beginning}*"):
            if path.relative_to(self.folder).as_posix() != keep:
                path.unlink(missing_ok=True)

    def reach(self) -> None:
        return

    def check_room(self) -> None:
        """Write a little, and take it away again. Raises NoRoom."""
        with self.writing(PROBE) as written, written.room():
            written.write(bytes(PROBE))
            written.file.flush()

    def lack(self) -> str | None:
        try:
            with room_in(self.folder):
                folder = next(one for one in (self.folder, *self.folder.parents) if one.exists())
                found = os.statvfs(folder)
                if found.f_flag & os.ST_RDONLY:
                    raise OSError(errno.EROFS, "read-only")
                if found.f_bavail * found.f_frsize < PROBE:
                    raise OSError(errno.ENOSPC, "full")
        except NoRoom as error:
            return str(error)
        return None

    def why_not_written(self) -> str | None:
        if not self.folder.is_dir():
            return "the folder is not there"
        if not os.access(self.folder, os.W_OK | os.X_OK):
            return "the folder cannot be written"
        return why_full(self.folder)

    @property
    def free(self) -> int | None:
        return free_bytes(self.folder)


def publish(file: IO[bytes], final: Path) -> None:
    """Make a whole file appear under its name, and keep it there through a power cut."""
    file.flush()
    os.fsync(file.fileno())
    final.parent.mkdir(parents=True, exist_ok=True)
    Path(file.name).replace(final)
    descriptor = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _same_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
