"""Local copies of what a bucket holds, of many processes of one home, within a limit: the least recently used go first.

Whoever looks for a copy holds a lock that many may have, and marks it as used, where the folder can be written; whoever
adds or deletes one holds that lock alone. A copy that was asked for in the last minute stays, so that whoever asked can
open it; once open, it can be read to its end whatever becomes of its name. What is still being written or sent lies
among temporary files, which are no copies.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from modescape.artifacts.folder import TMP, Folder, Writing, publish
from modescape.errors import NoRoom
from modescape.outage import free_bytes, room_in, why_full

HOLD_SECONDS = 60.0
_LANDED_SECONDS = 86_400.0  # after which nobody leaves anything in a folder any more
_SLACK = 10  # what is deleted at once: a tenth of the limit, for looking at all copies takes a while


class Cache:
    """limit: bytes of all copies together; more only where what was asked for in the last minute is more."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._copies = Folder(folder)
        self._has_cleaned = False

    @contextmanager
    def writing(self, expected: int | None) -> Iterator[Writing]:
        """As a folder's, of which others know that it is being written. Raises NoRoom."""
        with self._room():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            free = free_bytes(self.folder)
            with self._locked(fcntl.LOCK_EX):
                if not self._has_cleaned:
                    self._clean()
                if expected is not None and free is not None and free < expected:
                    self._note(self._shrunk(max(0, self._bytes() - expected)))
        with ExitStack() as until_done:
            with self._room(), self._locked(fcntl.LOCK_SH):  # nobody clears what is not marked yet
                written = until_done.enter_context(self._copies.writing(expected))
                fcntl.flock(written.file, fcntl.LOCK_EX)
            yield written

    def keep(self, written: Writing, name: str) -> Path:
        """Make a whole file a copy; where it is."""
        final = self.folder / name
        with self._room(), self._locked(fcntl.LOCK_EX), written.room():
            if not final.exists():
                kept = self._bytes() + written.bytes
                if kept > self.limit:
                    kept = self._shrunk(max(0, self.limit - self.limit // _SLACK - written.bytes)) + written.bytes
                self._note(kept)  # first: a count that is too high after a kill is mended when it reaches the limit
            publish(written.file, final)
            _mark(final)
        return final

    def find(self, digest: str) -> Path | None:
        """Where a copy is, which stays there for long enough to open it."""
        try:
            with self._locked(fcntl.LOCK_SH):
                path = self._copies.path(digest)
                if path is not None:
                    _mark(path)
                return path
        except OSError:  # nobody makes room where nothing can be written, so what is there stays
            return self._copies.path(digest) if os.access(self.folder, os.X_OK) else None

    def drop(self, digest: str) -> None:
        if self.folder.is_dir():
            with self._room(), self._locked(fcntl.LOCK_EX):
                self._note(self._bytes() - self._copies.delete(digest, None))

    def why_not_written(self) -> str | None:
        """What keeps copies from being written by whoever asks, in words; None when nothing does."""
        near = next(one for one in (self.folder, *self.folder.parents) if os.path.lexists(one))
        if not near.is_dir():
            return f"the folder of copies cannot be made: {near} is no folder"
        if not os.access(near, os.W_OK | os.X_OK):
            return "the folder of copies cannot be written"
        return why_full(near)

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Whoever writes meets NoRoom where the folder cannot be made or written."""
        try:
            with room_in(self.folder):
                yield
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise NoRoom(f"the folder of copies {self.folder} cannot be used: {error.strerror}") from error

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with (self.folder / "lock").open("ab") as lock:
            fcntl.flock(lock, how)
            yield

    def _bytes(self) -> int:
        """Of all copies, as was noted, or counted where nobody has."""
        try:
            return int((self.folder / "bytes").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return sum(path.stat().st_size for path in self._files())

    def _note(self, kept: int) -> None:
        (self.folder / "bytes").write_text(f"{max(0, kept)}", encoding="ascii")

    def _files(self) -> Iterator[Path]:
        return (path for path in self._copies.files() if path.parent.name != TMP)

    def _shrunk(self, most: int) -> int:
        """Delete what was not used for longest until so many bytes are left; how many are."""
        self._clean()
        states = sorted(((path.stat(), path) for path in self._files()), key=lambda one: one[0].st_atime_ns)
        kept, held = sum(state.st_size for state, _ in states), time.time() - HOLD_SECONDS
        for state, path in states:
            if kept <= most or state.st_atime > held:
                break
            path.unlink()
            kept -= state.st_size
        return kept

    def _clean(self) -> None:
        """Delete temporary files of processes that were killed: nobody holds their locks."""
        self._has_cleaned = True
        for path in (self.folder / TMP).glob("*"):
            if path.is_dir():
                if time.time() - path.stat().st_mtime > _LANDED_SECONDS:
                    shutil.rmtree(path)
                continue
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            except (BlockingIOError, FileNotFoundError):
                continue


def _mark(path: Path) -> None:
    """As used now; when it was written decides whether its bytes are read again (`Artifacts.sound`)."""
    state = path.stat()
    os.utime(path, ns=(time.time_ns(), state.st_mtime_ns))
