"""What processes tell each other: what workers found out about things with names, and facts set once."""

from __future__ import annotations

from sqlalchemy import select

from modescape.records import Json
from modescape.store.transaction import Subject
from modescape.tables import Catalogue as Entry
from modescape.tables import Fact


class Catalogue(Subject):
    """Entries by kind and name."""

    def entries(self, kind: str | None = None) -> list[Entry]:
        with self.database.reading() as session:
            statement = select(Entry).order_by(Entry.kind, Entry.name)
            return list(session.scalars(statement if kind is None else statement.where(Entry.kind == kind)))

    def entry(self, kind: str, name: str) -> Entry | None:
        with self.database.reading() as session:
            return session.get(Entry, (kind, name))

    def put(self, kind: str, name: str, details: Json) -> None:
        with self.database.writing() as change:
            change.session.merge(Entry(kind=kind, name=name, details=details, at=change.now))

    def fact(self, name: str) -> str | None:
        with self.database.reading() as session:
            return session.scalar(select(Fact.value).where(Fact.name == name))

    def set_fact_once(self, name: str, value: str) -> bool:
        """True for the one caller that sets it first."""
        with self.database.writing() as change:
            row = {"name": name, "value": value, "at": change.now}
            return change.insert_missing(Fact, [row]) == 1
