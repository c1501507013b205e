"""One transaction: reading, or writing with its events, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import URL, Select, insert, inspect, text
from sqlalchemy import event as listening
from sqlalchemy.orm import Session

from modescape.acting import actor
from modescape.database import open_database
from modescape.outage import DATABASE
from modescape.records import EventKind, Json
from modescape.store.lookup import batches
from modescape.tables import Base, Deed, Event, Experiment, Stage, utcnow

T = TypeVar("T")

EVENT_LOCK = 0x6D6F6465_01
PURGE_LOCK = 0x6D6F6465_02
LOOKS_LOCK = 0x6D6F6465_03
PLUGINS_LOCK = 0x6D6F6465_04
SAME_WORK_LOCK = 0x6D6F6465_05
USERS_LOCK = 0x6D6F6465_06
QUOTA_LOCK = 0x6D6F6465_07


@dataclass(frozen=True)
class Quota:
    """What experiments of one user may keep (bytes) and have waiting (seconds of machine time) together, None: any."""

    bytes: float | None = None
    seconds: float | None = None


class Change:
    """One writing transaction. Events wait until its end: their ids are given under a lock that is then held briefly,
    and always last, so that transactions cannot wait for each other in a circle."""

    def __init__(self, session: Session, now: datetime, quota: Quota | None = None) -> None:
        self.session = session
        self.now = now
        self.quota = quota
        self._events: list[Json] = []
        self._changed: dict[str, Experiment] = {}
        listening.listen(session, "after_flush", self._flushed)

    def _flushed(self, session: Session, _: object) -> None:
        rows = (row for row in (*session.new, *session.dirty) if isinstance(row, Experiment))
        self._changed |= {row.id: row for row in rows if session.is_modified(row)}

    def event(
        self, kind: EventKind | str, experiment_id: str | None, stage: Stage | None = None, /, **payload: Any
    ) -> None:
        self._events.append(
            {
                "kind": kind, "experiment_id": experiment_id, "stage_id": stage.id if stage else None, "at": self.now,
                "payload": ({"kind": stage.kind, "key": stage.key} if stage else {}) | payload,
            }
        )  # fmt: skip

    def deed(self, verb: str, kind: str, thing: str, name: str, **details: Any) -> None:
        """Keep that whoever asks did this on purpose, to a thing of that kind and id that is called so."""
        who = actor()
        self.session.add(
            Deed(at=self.now, who=who.name, role=who.role, address=who.address, verb=verb, kind=kind, thing=thing,
                 name=name, details=details)
        )  # fmt: skip

    def theirs(self, verb: str, experiment: Experiment, **details: Any) -> None:
        """The same of an experiment, which whoever asks must have made. Raises Forbidden."""
        actor().check_owner(experiment.created_by, f"the experiment {experiment.slug}")
        self.deed(verb, "experiment", experiment.id, experiment.name, **details)

    def write_events(self) -> None:
        """With one at least of every experiment whose row has changed: who holds lists in memory hears by them."""
        self.session.flush()
        told = {event["experiment_id"] for event in self._events}
        for id_, row in self._changed.items():
            if id_ not in told:
                self.event(EventKind.CHANGED, id_, name=row.name, tags=row.tags)
        if not self._events:
            return
        self.lock(EVENT_LOCK)
        self.session.execute(insert(Event), self._events)

    def lock(self, number: int, *, shared: bool = False) -> None:
        """Take one of PostgreSQL's advisory locks until the end; on SQLite writers are alone anyway."""
        if _is_postgres(self.session):
            function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
            self.session.execute(text(f"SELECT {function}({number})"))

    def insert_missing(self, model: type[Base], rows: list[Json]) -> int:
        """INSERT … ON CONFLICT DO NOTHING; how many rows were new."""
        if _is_postgres(self.session):
            from sqlalchemy.dialects.postgresql import insert as upsert
        else:
            from sqlalchemy.dialects.sqlite import insert as upsert  # type: ignore[assignment]
        rows = sorted(rows, key=lambda row: str(next(iter(row.values()))))  # one order, so that no two writers cross
        primary, inserted = inspect(model).primary_key, 0
        for some in batches(rows):
            statement = upsert(model).values(some).on_conflict_do_nothing().returning(*primary)
            inserted += len(self.session.execute(statement).all())
        return inserted


class Database:
    """Where transactions begin. quota: of each user. Raises ConfigurationError for a URL that cannot be opened."""

    def __init__(self, url: str | URL, quota: Quota | None = None) -> None:
        self.url = url
        self.quota = quota
        self.engine = open_database(url)
        self._writer = self.engine.execution_options(sqlite_begin="IMMEDIATE")

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Change]:
        """All of it and its events, or nothing."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            change = Change(session, now(session), self.quota)
            yield change
            change.write_events()
        DATABASE.back()


class Subject:
    """The part of a store that asks and changes one subject."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def found(self, statement: Select[T]) -> list[T]:
        """All that a statement asks for, read in a transaction of its own."""
        with self.database.reading() as session:
            return list(session.scalars(statement))


def now(session: Session) -> datetime:
    """The database's clock where there is one, so that workers on several machines agree."""
    if not _is_postgres(session):
        return utcnow()
    told: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    return told


def _is_postgres(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"
