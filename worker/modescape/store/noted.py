"""When secrets were last shown: whoever shows one only reads, and waits for no write; it is written later, at best."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from threading import Lock
from typing import Any

from sqlalchemy import inspect, or_, update
from sqlalchemy.orm import InstrumentedAttribute

from modescape.store.transaction import Database


class Noted:
    """Moments of a column, by the key of their rows, which are not written yet."""

    def __init__(self, database: Database, column: InstrumentedAttribute[Any]) -> None:
        self._database, self._column = database, column
        (self._key,) = inspect(column.class_).primary_key
        self._lock = Lock()
        self._at: dict[str, datetime] = {}

    def note(self, key: str, at: datetime) -> None:
        with self._lock:
            self._at[key] = at

    def tell(self, rows: Iterable[Any]) -> None:
        """Into rows that were read, what is not written yet."""
        with self._lock:
            for row in rows:
                if (at := self._at.get(getattr(row, self._key.name))) is not None:
                    setattr(row, self._column.key, at)

    def write(self) -> None:
        """What cannot be written now stays for the next time. Raises what the database says."""
        with self._lock:
            noted, self._at = self._at, {}
        if not noted:
            return
        try:
            with self._database.writing() as change:
                for key, at in sorted(noted.items()):
                    earlier = or_(self._column.is_(None), self._column < at)
                    of_it = update(self._column.class_).where(self._key == key, earlier)
                    change.session.execute(of_it.values({self._column: at}))
        except BaseException:
            with self._lock:
                self._at = noted | self._at
            raise
