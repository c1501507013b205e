"""What workers publish of plug-ins, looked at again when a request comes and the last look is old."""

from __future__ import annotations

import time

from modescape import published_entries
from modescape.database import UNAVAILABLE
from modescape.outage import DATABASE
from modescape.published_entries import Elsewhere
from modescape.store import Store
from modescape.tables import Catalogue

SECONDS = 2.0  # between two looks: a query that reads few rows, or none


class Plugins:
    """Lets published entries stand in for those this process has not loaded. elsewhere: what workers have."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next = 0.0
        self._rows: list[tuple[str, str, object]] = []
        self.elsewhere: list[Elsewhere] = []

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._next

    def look(self) -> None:
        self._next = time.monotonic() + SECONDS
        try:
            self._take(self._store.catalogue.published())
        except UNAVAILABLE as error:  # whoever asks the database next says so
            DATABASE.away(error)

    def _take(self, rows: list[Catalogue]) -> None:
        told: list[tuple[str, str, object]] = [(row.kind, row.name, row.details) for row in rows]
        if told != self._rows:
            published_entries.stand_in(rows)
            self._rows, self.elsewhere = told, published_entries.elsewhere(rows)
