"""What processes tell each other: what workers found out about things with names, and facts set once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import select

from modescape.records import Json
from modescape.store.transaction import PLUGINS_LOCK, Subject
from modescape.tables import Catalogue as Entry
from modescape.tables import Fact

# kinds of rows that are not about plug-ins: people's sets, counted networks, and ways of training that were measured
_KEPT = ("data", "look", "size", "grouping")


class Catalogue(Subject):
    """Entries by kind and name."""

    def entries(self, kind: str | None = None) -> list[Entry]:
        statement = select(Entry).order_by(Entry.kind, Entry.name)
        return self.found(statement if kind is None else statement.where(Entry.kind == kind))

    def entry(self, kind: str, name: str) -> Entry | None:
        with self.database.reading() as session:
            return session.get(Entry, (kind, name))

    def put(self, kind: str, name: str, details: Json) -> None:
        with self.database.writing() as change:
            change.session.merge(Entry(kind=kind, name=name, details=details, at=change.now))

    def put_first(self, kind: str, name: str, details: Json) -> Entry:
        """What is kept under that name: this, unless somebody was first."""
        with self.database.writing() as change:
            change.insert_missing(Entry, [{"kind": kind, "name": name, "details": details, "at": change.now}])
            return change.session.get_one(Entry, (kind, name))

    def published(self) -> list[Entry]:
        """What workers said of plug-ins."""
        return self.found(select(Entry).where(Entry.kind.not_in(_KEPT)).order_by(Entry.kind, Entry.name))

    def publish(self, rows: Mapping[tuple[str, str], Json], is_gone: Callable[[Json], bool]) -> None:
        """Say this of plug-ins, by kind and name. is_gone: whether what a worker said of a module before is void;
        entries of packages that no worker has any more go with it."""
        with self.database.writing() as change:
            change.lock(PLUGINS_LOCK)  # of several workers that start together each sees what the others said
            session = change.session
            said = list(session.scalars(select(Entry).where(Entry.kind.not_in(_KEPT))))
            states = {(one.kind, one.name): one.details for one in said if one.kind == "plugin"}
            states = {key: details for key, details in states.items() if not is_gone(details)} | {
                key: details for key, details in rows.items() if key[0] == "plugin"
            }
            packages = {details["package"] for details in states.values()}
            packages -= {details["package"] for (kind, _), details in rows.items() if kind == "plugin"}
            for one in said:
                key, package = (one.kind, one.name), one.details.get("brought", {}).get("package")
                if key not in rows and key not in states and package not in packages:
                    session.delete(one)
            for (kind, name), details in rows.items():
                session.merge(Entry(kind=kind, name=name, details=details, at=change.now))

    def fact(self, name: str) -> str | None:
        with self.database.reading() as session:
            found = session.get(Fact, name)
        return None if found is None else found.value

    def set_fact(self, name: str, value: str) -> None:
        with self.database.writing() as change:
            change.session.merge(Fact(name=name, value=value, at=change.now))

    def set_fact_once(self, name: str, value: str) -> bool:
        """True for the one caller that sets it first."""
        with self.database.writing() as change:
            row = {"name": name, "value": value, "at": change.now}
            return change.insert_missing(Fact, [row]) == 1
