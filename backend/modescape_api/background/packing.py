"""Archives of experiments that another process makes for this server, one after another."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from modescape.errors import ModescapeError
from modescape.making import Maker
from modescape.settings import Settings
from modescape.store import Store
from modescape.tables import Parcel

log = logging.getLogger("modescape.api")
_BEAT = 30.0  # seconds between two words of one that waits for its turn


class Packing:
    """Archives wait for each other: each takes a disk and a processor for itself. They lie in `made` of the home of the
    server that made them, for a day."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._maker = Maker(settings)
        self._turn = threading.Lock()
        self._is_over = False

    def file(self, parcel: Parcel) -> Path:
        return self._settings.made_folder / f"{parcel.id}.zip"

    def start(self, reference: str, parts: Sequence[str], total: int) -> Parcel:
        """Begin one, unless the same is being made. Raises NotFound."""
        for id_ in self._store.parcels.forget():
            (self._settings.made_folder / f"{id_}.zip").unlink(missing_ok=True)
        row, is_new = self._store.parcels.create(reference, parts, total)
        if is_new:
            threading.Thread(target=self._make, args=(row,), name=f"pack-{row.id[:8]}", daemon=True).start()
        return row

    def end(self) -> None:
        self._is_over = True
        self._maker.end()

    def _make(self, row: Parcel) -> None:
        while not self._turn.acquire(timeout=_BEAT):
            self._store.parcels.heard(row.id, 0, row.total_bytes)
        to = self.file(row)
        try:
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            asked = {"what": "parcel", "parcel": row.id, "experiment": row.experiment_id, "parts": row.parts}
            self._maker.write(asked, to)
        except (ModescapeError, OSError) as error:
            to.unlink(missing_ok=True)
            if not self._is_over:
                log.warning("the archive %s failed: %s", row.id, error)
                with suppress(Exception):  # the database may be away; nobody hears of it for two minutes then
                    self._store.parcels.failed(row.id, str(error))
        finally:
            self._turn.release()
