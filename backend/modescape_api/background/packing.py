"""Archives of experiments that another process makes for this server, one after another."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modescape.acting import UserRole, actor
from modescape.database import UNAVAILABLE
from modescape.errors import Busy, Conflict, ModescapeError
from modescape.making import Maker
from modescape.outage import DATABASE, LOOPS, megabytes
from modescape.settings import Settings
from modescape.store import Store
from modescape.store.parcels import ParcelState
from modescape.tables import Parcel

log = logging.getLogger("modescape.api")
_BEAT = 30.0  # seconds between two words of one that waits for its turn
_TIDY = 900.0  # seconds between two looks for what is old
_UNUSED = 3600.0  # seconds for which one is kept that nobody fetches
_SHARE = 0.5  # of the disk that is free but for archives: what all of them may take, those of one person half of it
_MOST, _MOST_OF_ONE = 64, 16  # that are kept, of all and of one person


class Packing:
    """Archives wait for each other: each takes a disk and a processor for itself. They lie in `made` of the home of the
    server that made them, for an hour after they were last asked for; what is older there goes, whoever made it. They
    take a part of the disk: where another one needs the room, those go that nobody has asked for longest."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._maker = Maker(settings)
        self._turn, self._begins = threading.Lock(), threading.Lock()
        self._over = threading.Event()
        threading.Thread(target=self._tidy, name="tidy-made", daemon=True).start()

    def file(self, parcel: Parcel) -> Path:
        return self._settings.made_folder / f"{parcel.id}.zip"

    def start(self, reference: str, parts: Sequence[str], total: int) -> Parcel:
        """Begin one of an experiment, by its id, unless the same is here or being made. Raises NotFound, Busy, and
        Conflict for one that is too large."""
        with self._begins:
            for row in self._store.parcels.unchanged(reference, parts):
                if self.used(row) is not None:
                    return row
            if not self._is_made(reference, parts):
                self._make_room(total)
            row, is_new = self._store.parcels.create(reference, parts, total)
        if is_new:
            try:
                threading.Thread(target=self._make, args=(row,), name=f"pack-{row.id[:8]}", daemon=True).start()
            except BaseException:
                self._failed(row, "it could not be begun; ask again in a minute")
                raise
        return row

    def _is_made(self, reference: str, parts: Sequence[str]) -> bool:
        """Whether the same is on its way. reference: an id."""
        rows = (row for row in self._store.parcels.kept() if row.state == ParcelState.MAKING)
        return any(row.experiment_id == reference and sorted(row.parts) == sorted(parts) for row in rows)

    def used(self, parcel: Parcel) -> Path | None:
        """Its file, which somebody wants now; None where it is not here."""
        path = self.file(parcel)
        with suppress(OSError):  # where nothing can be written it goes sooner
            os.utime(path)
        return path if path.exists() else None

    def _make_room(self, size: int) -> None:
        """For one of so many bytes: what nobody has asked for longest goes. Raises Busy, Conflict."""
        folder, who = self._settings.made_folder, actor()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        rows = self._store.parcels.kept()
        ready = [found for row in rows if (found := self._found(row)) is not None]
        making = [_Kept(row, row.total_bytes, 0.0) for row in rows if row.state == ParcelState.MAKING]
        free = shutil.disk_usage(folder).free + sum(one.bytes for one in ready)
        most = int(_SHARE * free)
        for share, count, of_it in (
            (most if who.may(UserRole.ADMIN) else most // 2, _MOST_OF_ONE, lambda one: one.row.created_by == who.name),
            (most, _MOST, lambda one: True),
        ):
            if size > share:
                raise Conflict(
                    f"the archive takes {megabytes(size)}, and one may take {megabytes(share)} here now; ask for fewer "
                    "parts, or `modescape export` it on the server's machine"
                )
            left = sorted(filter(of_it, ready), key=lambda one: one.used)
            held = sum(one.bytes for one in filter(of_it, making))
            while left and (held + size + sum(one.bytes for one in left) > share or len(left) >= count):
                oldest = left.pop(0)
                ready.remove(oldest)
                self._drop(oldest.row)
            if held + size > share:
                raise Busy("archives that are being made now need the room; try again when they are done")

    def _found(self, row: Parcel) -> _Kept | None:
        """One that is ready, where its file is here."""
        try:
            told = self.file(row).stat()
        except FileNotFoundError:
            return None
        return _Kept(row, told.st_size, told.st_mtime) if row.state == ParcelState.READY else None

    def _drop(self, row: Parcel) -> None:
        self._store.parcels.drop([row.id])
        self.file(row).unlink(missing_ok=True)

    def end(self) -> None:
        self._over.set()
        self._maker.end()

    def _tidy(self) -> None:
        while True:
            try:
                self._store.parcels.forget()
                rows = {row.id: row.state for row in self._store.parcels.kept()}
                making = {id_ for id_, state in rows.items() if state == ParcelState.MAKING}
                gone = _sweep(self._settings.made_folder, time.time() - _UNUSED, making)
                self._store.parcels.drop(list(gone & rows.keys()))
            except UNAVAILABLE as error:
                DATABASE.away(error)
            except Exception:
                LOOPS.exception("old archives could not be looked for")
            if self._over.wait(_TIDY):
                return

    def _make(self, row: Parcel) -> None:
        while not self._turn.acquire(timeout=_BEAT):
            if self._over.is_set():
                return
            try:
                self._store.parcels.heard(row.id, 0, row.total_bytes)
            except UNAVAILABLE as error:  # it speaks again when that is back
                DATABASE.away(error)
            except Exception:
                LOOPS.exception("that an archive waits could not be told")
        to = self.file(row)
        try:
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            asked = {"what": "parcel", "parcel": row.id, "experiment": row.experiment_id, "parts": row.parts}
            self._maker.write(asked, to)
        except (ModescapeError, OSError) as error:
            to.unlink(missing_ok=True)
            if not self._over.is_set():
                log.warning("the archive %s failed: %s", row.id, error)
                self._failed(row, str(error))
        except Exception:
            log.exception("the archive %s failed", row.id)
            self._failed(row, "it could not be made; the server's log has the details")
        finally:
            self._turn.release()

    def _failed(self, row: Parcel, why: str) -> None:
        with suppress(Exception):  # the database may be away; nobody hears of it for two minutes then
            self._store.parcels.failed(row.id, why)


@dataclass(frozen=True)
class _Kept:
    """An archive that takes room. used: when it was last asked for."""

    row: Parcel
    bytes: int
    used: float


def _sweep(folder: Path, before: float, but: set[str]) -> set[str]:
    """Ids of files that were last written or asked for before a moment and are gone now: what nobody fetches, what is
    of experiments that are gone, what a server has left that was killed. but: ids of those that are being written."""
    gone = set()
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):  # another server of this home was first
            if path.stem not in but and path.stat().st_mtime < before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                gone.add(path.stem)
    return gone
