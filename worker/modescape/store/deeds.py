"""What somebody did on purpose, as the audit list tells it; written with the change itself (`Change.deed`)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select

from modescape.store.transaction import Subject
from modescape.tables import Deed


class Deeds(Subject):
    def page(
        self, *, before: int | None = None, who: str | None = None, thing: str | None = None, limit: int = 100
    ) -> list[Deed]:
        """The newest first, from the one before `before` on; of somebody, or done to a thing of that id."""
        statement = select(Deed).order_by(Deed.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(Deed.id < before)
        if who is not None:
            statement = statement.where(Deed.who == who)
        if thing is not None:
            statement = statement.where(Deed.thing == thing)
        return self.found(statement)

    def keep(self, verb: str, kind: str, thing: str, name: str, **details: Any) -> None:
        """That whoever asks does this, of what no row is: files."""
        with self.database.writing() as change:
            change.deed(verb, kind, thing, name, **details)

    def forget(self, age: timedelta) -> int:
        """Those that are older; how many."""
        with self.database.writing() as change:
            result = change.session.execute(delete(Deed).where(Deed.at < change.now - age))
            return int(result.rowcount)  # type: ignore[attr-defined]
