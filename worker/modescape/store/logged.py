"""Points of members that are still being trained elsewhere: kept batch by batch as they come, until the member comes.

A batch is a row, so that taking it is one insert however long its curves are. It is kept once, whoever sends it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session, load_only

from modescape.acting import actor
from modescape.errors import Conflict, InvalidInput, NotFound
from modescape.records import EventKind
from modescape.store.curves import SeriesPoints, joined, packed, unpacked
from modescape.store.transaction import Change, Subject
from modescape.tables import Gathered, Gathering, LoggedBatch, LoggedMember

MOST_POINTS = 5_000_000  # of one member
MOST_CURVES = 500
_TOLD_EVERY = timedelta(seconds=2)


class Taken(NamedTuple):
    """What became of a batch. experiment_id: what the import is so far, None while it is none; has_begun: whether it is
    that since this batch."""

    is_new: bool
    experiment_id: str | None
    has_begun: bool = False


class Logged(Subject):
    """By the import that waits for the members, or by the experiment that it is so far."""

    def add(
        self, gathering_id: str, member: str, batch: str, curves: Mapping[str, SeriesPoints], training: str = ""
    ) -> Taken:
        """Keep a batch, if it is not kept already. curves: by name, of one member; training: its sender's name for this
        one of it, for it may be trained again.

        Raises NotFound, Conflict for an import that is sealed and for a member that has come, InvalidInput for more
        than MOST_POINTS or MOST_CURVES.
        """
        with self.database.writing() as change:
            session = change.session
            experiment_id = _growing(session, gathering_id)
            row = session.get(LoggedMember, (gathering_id, member), with_for_update={"key_share": True})
            if row is None:
                row = _begun(change, gathering_id, member)
            batch = f"{training} {batch}" if training else batch
            if session.scalar(_batch(gathering_id, member, batch)):
                return Taken(False, experiment_id)
            before = row.curves if _training_of(session, gathering_id, member) == training else []
            row.points += sum(len(one.steps) for one in curves.values())
            row.curves = list(dict.fromkeys((*before, *curves)))
            _check_bounds(row)
            session.add(
                LoggedBatch(
                    gathering_id=gathering_id, member=member, batch=batch, number=row.batches,
                    curves=[[name, len(one.steps)] for name, one in curves.items()],
                    points=b"".join(packed(one) for one in curves.values()),
                )
            )  # fmt: skip
            if experiment_id is not None and change.now - row.told_at >= _TOLD_EVERY:
                change.event(EventKind.POINTS, experiment_id, kind="curves", member=member)
                row.told_at = change.now
            row.batches += 1
            return Taken(True, experiment_id)

    def of(self, gathering_id: str) -> list[LoggedMember]:
        """Members that are being trained, by id."""
        return self.found(_members(LoggedMember.gathering_id == gathering_id))

    def of_experiment(self, experiment_id: str) -> list[LoggedMember]:
        """Members that are being trained, of the import that an experiment is so far; none of one that is sealed."""
        with self.database.reading() as session:
            found = session.scalars(_light().where(Gathering.experiment_id == experiment_id)).first()
            if found is None or experiment_id in found.looks:
                return []
            return list(session.scalars(_members(LoggedMember.gathering_id == found.id)))

    def count(self, gathering_id: str, member: str) -> int:
        """Points of a member that are here."""
        with self.database.reading() as session:
            row = session.get(LoggedMember, (gathering_id, member))
        return 0 if row is None else row.points

    def version(self, experiment_id: str) -> int:
        """A number that is another one when points of an experiment have come: how many there are."""
        return sum(row.points for row in self.of_experiment(experiment_id))

    def curves(
        self, gathering_id: str, member: str, name: str | None = None, *, training: str | None = None
    ) -> dict[str, SeriesPoints]:
        """A member's curves by name, in the order of their steps; of two points at one step the later one. name: of
        the only one that is wanted; training: the one whose points they are, None for the last that was begun."""
        found: dict[str, list[SeriesPoints]] = {}
        statement = select(LoggedBatch.batch, LoggedBatch.curves, LoggedBatch.points).order_by(LoggedBatch.number)
        with self.database.reading() as session:
            wanted = _training_of(session, gathering_id, member) if training is None else training
            rows = session.execute(
                statement.where(LoggedBatch.gathering_id == gathering_id, LoggedBatch.member == member)
            )
            for batch, curves, points in rows:
                if _training(batch) != wanted:
                    continue
                for one, part in _parts(curves, points):
                    if name in (None, one):
                        found.setdefault(one, []).append(part)
        return {one: _in_order(joined(parts)) for one, parts in found.items()}


def points_of(session: Session, gathering_id: str, members: Sequence[str]) -> int:
    """Points that are here of members, whose rows are then held until the end of the transaction."""
    which = (LoggedMember.gathering_id == gathering_id, LoggedMember.member.in_(members))
    return sum(session.scalars(select(LoggedMember.points).where(*which).with_for_update(key_share=True)))


def forget(session: Session, gathering_id: str, members: Sequence[str]) -> None:
    """Members that have come, with their curves."""
    for table in (LoggedBatch, LoggedMember):
        session.execute(delete(table).where(table.gathering_id == gathering_id, table.member.in_(members)))


def _members(which: Any) -> Select[LoggedMember]:
    return select(LoggedMember).where(which).order_by(LoggedMember.member)


def _light() -> Select[Gathering]:
    return select(Gathering).options(
        load_only(
            Gathering.name,
            Gathering.created_by,
            Gathering.sealed,
            Gathering.experiment_id,
            Gathering.looks,
            Gathering.planned,
        )
    )


def _growing(session: Session, gathering_id: str) -> str | None:
    """The experiment that an import is so far. Raises NotFound, Conflict."""
    row = session.scalars(_light().where(Gathering.id == gathering_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no import {gathering_id[:80]!r}")
    actor().check_owner(row.created_by, f"the import {row.name!r}")
    if row.sealed:
        raise Conflict("it is sealed: no member is awaited. Reopen it to log those of more members")
    return None if row.experiment_id in row.looks else row.experiment_id


def _begun(change: Change, gathering_id: str, member: str) -> LoggedMember:
    """The row of a member of which nothing was logged yet. Raises Conflict for one that has come."""
    session = change.session
    here = session.scalars(select(Gathered.members).where(Gathered.gathering_id == gathering_id))
    if any(member in members for members in here):
        raise Conflict(f"member {member[:80]!r} is here already; what was added stays as it is, and so do its curves")
    row = {"gathering_id": gathering_id, "member": member, "points": 0, "batches": 0, "curves": [],
           "told_at": change.now - _TOLD_EVERY}  # fmt: skip
    change.insert_missing(LoggedMember, [row])  # somebody else may begin it in the same moment
    return session.get_one(LoggedMember, (gathering_id, member), with_for_update={"key_share": True})


def _batch(gathering_id: str, member: str, batch: str) -> Select[int]:
    same = (LoggedBatch.gathering_id == gathering_id, LoggedBatch.member == member, LoggedBatch.batch == batch)
    return select(LoggedBatch.number + 1).where(*same)


def _training_of(session: Session, gathering_id: str, member: str) -> str:
    """The training whose points came last; "" of one that has no name."""
    last = (
        select(LoggedBatch.batch)
        .where(LoggedBatch.gathering_id == gathering_id, LoggedBatch.member == member)
        .order_by(LoggedBatch.number.desc())
        .limit(1)
    )
    return _training(session.scalar(last) or "")


def _training(batch: str) -> str:
    return batch.rpartition(" ")[0]


def _check_bounds(row: LoggedMember) -> None:
    if row.points > MOST_POINTS:
        raise InvalidInput(
            f"has {row.points:,} points with these", field=f"member {row.member[:80]!r}",
            allowed=f"{MOST_POINTS:,} of all its curves together; log every tenth step",
        )  # fmt: skip
    if len(row.curves) > MOST_CURVES:
        raise InvalidInput(
            f"has {len(row.curves):,} curves with these", field=f"member {row.member[:80]!r}", allowed=f"{MOST_CURVES}"
        )


def _parts(curves: Sequence[tuple[str, int]], points: bytes) -> Iterator[tuple[str, SeriesPoints]]:
    begin = 0
    for name, count in curves:
        yield name, unpacked(points[begin : begin + 24 * count])
        begin += 24 * count


def _in_order(points: SeriesPoints) -> SeriesPoints:
    order = np.argsort(points.steps, kind="stable")
    steps = points.steps[order]
    last = np.append(steps[1:] != steps[:-1], True) if len(steps) else np.zeros(0, bool)
    return SeriesPoints(*(column[order][last] for column in points))
