"""Archives of experiments that another process makes for this server, one after another."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from modescape.database import UNAVAILABLE
from modescape.errors import ModescapeError
from modescape.making import Maker
from modescape.outage import DATABASE, LOOPS
from modescape.settings import Settings
from modescape.store import Store
from modescape.store.parcels import KEPT
from modescape.tables import Parcel

log = logging.getLogger("modescape.api")
_BEAT = 30.0  # seconds between two words of one that waits for its turn
_TIDY = 900.0  # seconds between two looks for what is old


class Packing:
    """Archives wait for each other: each takes a disk and a processor for itself. They lie in `made` of the home of the
    server that made them, for a day; what is older there goes, whoever made it."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._maker = Maker(settings)
        self._turn = threading.Lock()
        self._over = threading.Event()
        threading.Thread(target=self._tidy, name="tidy-made", daemon=True).start()

    def file(self, parcel: Parcel) -> Path:
        return self._settings.made_folder / f"{parcel.id}.zip"

    def start(self, reference: str, parts: Sequence[str], total: int) -> Parcel:
        """Begin one, unless the same is being made. Raises NotFound, Busy."""
        row, is_new = self._store.parcels.create(reference, parts, total)
        if is_new:
            try:
                threading.Thread(target=self._make, args=(row,), name=f"pack-{row.id[:8]}", daemon=True).start()
            except BaseException:
                self._failed(row, "it could not be begun; ask again in a minute")
                raise
        return row

    def end(self) -> None:
        self._over.set()
        self._maker.end()

    def _tidy(self) -> None:
        while True:
            try:
                self._store.parcels.forget()
                _sweep(self._settings.made_folder, time.time() - KEPT.total_seconds())
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


def _sweep(folder: Path, before: float) -> None:
    """Of files that were last written before a moment: of experiments that are gone, of a server that was killed."""
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):  # another server of this home was first
            if path.stat().st_mtime < before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
