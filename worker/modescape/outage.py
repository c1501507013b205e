"""Services that are away for a while: one line a minute says so, one line that they are back. And disks without room.

BROKER.away(error)      # a warning, at most once a minute
BROKER.back()           # one line if it was away
with room_in(folder, 40_000_000): ...       # a full disk is NoRoom: "the disk of … is full (2 MB free, needs 40 MB)"
LOOPS.exception(...)    # what a loop met that nobody thought of, at most once a minute: the loop goes on
"""

from __future__ import annotations

import errno
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modescape.errors import NoRoom, StorageAway

EVERY_SECONDS = 60.0
LEAST_FREE = 16 * 2**20  # bytes: a disk with less has none for what comes next


class Outage:
    """What this process knows of one service. Of an error only the driver's first line is said: no SQL, no values."""

    def __init__(
        self, service: str, *, every_seconds: float = EVERY_SECONDS, away: str = "does not answer",
        back: str = "answers again",
    ) -> None:  # fmt: skip
        self._service, self._away, self._back = service, away, back
        self._every = every_seconds
        self._log = logging.getLogger("modescape.outage")
        self._lock = threading.Lock()
        self._said_at: float | None = None  # None: it answers

    def away(self, error: BaseException) -> None:
        now = time.monotonic()
        with self._lock:
            if self._said_at is not None and now - self._said_at < self._every:
                return
            self._said_at = now
        self._log.warning("the %s %s (%s); trying again", self._service, self._away, first_line(error))

    def back(self) -> None:
        with self._lock:
            was_away, self._said_at = self._said_at is not None, None
        if was_away:
            self._log.warning("the %s %s", self._service, self._back)


class OnceAMinute(logging.Filter):
    """For a library that reports every attempt to reconnect."""

    def __init__(self) -> None:
        super().__init__()
        self._passed_at: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if self._passed_at is not None and record.created - self._passed_at < EVERY_SECONDS:
            return False
        self._passed_at = record.created
        return True


def first_line(error: BaseException) -> str:
    """What a driver says, without the statement, its values and the links SQLAlchemy adds."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0][:300] if said else type(error).__name__


# What the system says of a folder that takes no more, and goes on taking it once somebody has made room.
_FULL = {errno.ENOSPC: "is full", errno.EDQUOT: "has no more room under its quota"}
_CLOSED = {
    errno.EFBIG: "takes no file that large", errno.EROFS: "can only be read", errno.EACCES: "may not be written",
    errno.EPERM: "may not be written", errno.EIO: "does not work",
}  # fmt: skip


def no_room(error: BaseException | None) -> NoRoom | None:
    """What it is where some disk has no room, wherever that was; None for any other error."""
    if isinstance(error, NoRoom):
        return error
    if not isinstance(error, OSError) or error.errno not in _FULL:
        return None
    return NoRoom(f"a disk {_FULL[error.errno]}" + (f", and {error.filename} is on it" if error.filename else ""))


@contextmanager
def room_in(folder: Path, bytes: int | None = None, begun: Path | None = None) -> Iterator[None]:
    """Whoever writes there meets NoRoom where there is none, or nothing may be written; bytes: how many it writes;
    begun: the file that holds some of them, and is taken away."""
    try:
        yield
    except OSError as error:
        why = (_FULL | _CLOSED).get(error.errno or 0)
        if why is None:
            raise
        raise NoRoom(f"the disk of {folder} {why} ({_sizes(folder, bytes, begun)})", bytes=bytes) from error


def free_bytes(folder: Path) -> int | None:
    """Where a folder is, or will be; None where the system does not say."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def why_full(folder: Path) -> str | None:
    """That a folder's disk has no room to speak of, in words; None when it has."""
    return "the disk is full" if shutil.disk_usage(folder).free < LEAST_FREE else None


def _sizes(folder: Path, bytes: int | None, begun: Path | None) -> str:
    free = free_bytes(folder)
    if free is not None and begun is not None and begun.exists():
        free += begun.stat().st_blocks * 512
    known = [f"{megabytes(free)} free"] if free is not None else []
    return ", ".join([*known, *([f"needs {megabytes(bytes)}"] if bytes is not None else [])]) or "no more is known"


def megabytes(bytes: float) -> str:
    """As people read sizes of disks."""
    for size, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if bytes >= size:
            return f"{bytes / size:,.3g} {unit}" if bytes < 100 * size else f"{bytes / size:,.0f} {unit}"
    return f"{bytes / 1e3:.0f} kB"


LOOPS = logging.getLogger("modescape.loops")
LOOPS.addFilter(OnceAMinute())
BROKER = Outage("broker")
DATABASE = Outage("database")
DISK = Outage("disk", away="has no room, and work waits", back="has room again")
BUCKET = Outage("bucket", away="cannot be used, and work waits", back="can be used again")


def lacks(lack: NoRoom) -> None:
    """Say what work waits for."""
    (BUCKET if isinstance(lack, StorageAway) else DISK).away(lack)


def lacks_nothing() -> None:
    for one in (DISK, BUCKET):
        one.back()
