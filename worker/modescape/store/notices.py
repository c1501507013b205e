"""Where it is told that experiments have ended, and what has still to be told."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.orm import aliased

from modescape.acting import UserRole, actor
from modescape.claims.repeated_looks import Look
from modescape.errors import NotFound
from modescape.finding import Finding
from modescape.notices import WAITS
from modescape.records import Json, Status
from modescape.store.transaction import Change, Subject
from modescape.tables import Experiment, Notice, Recipient

_CLAIM = timedelta(minutes=2)  # longer than a message can take: who claimed one and was killed loses it
KEPT = timedelta(days=30)  # of what was told, or given up
ENDINGS = tuple(str(status) for status in Status if status.has_ended)


@dataclass(frozen=True)
class Due:
    """A message that is to be sent now, by who asked; attempts: how often that failed."""

    notice: Notice
    recipient: Recipient


class Notices(Subject):
    def recipients(self) -> list[Recipient]:
        return self.found(select(Recipient).order_by(Recipient.created_at, Recipient.id))

    def add(self, address: str, when: Sequence[str], secret: str) -> Recipient:
        """An address that `notices.checked_address` has passed; when: the endings it wants to hear of. Forbidden."""
        actor().check(UserRole.ADMIN, "adding an address")
        with self.database.writing() as change:
            row = Recipient(
                id=str(uuid.uuid4()), address=address, secret=secret, endings=list(when), created_by=actor().name,
                created_at=change.now,
            )  # fmt: skip
            change.session.add(row)
            change.deed("add", "address", row.id, address)
            return row

    def remove(self, id_: str) -> None:
        """With what has still to be told there. Raises NotFound, Forbidden."""
        actor().check(UserRole.ADMIN, "removing an address")
        with self.database.writing() as change:
            row = change.session.get(Recipient, id_)
            if row is None:
                raise NotFound(f"there is no address {id_[:80]!r}")
            change.session.execute(delete(Recipient).where(Recipient.id == id_))
            change.deed("remove", "address", id_, row.address)

    def of(self, id_: str, limit: int = 20) -> list[Notice]:
        """What was told an address, or is to be, the newest first. Raises NotFound."""
        with self.database.reading() as session:
            if session.get(Recipient, id_) is None:
                raise NotFound(f"there is no address {id_[:80]!r}")
            of_it = select(Notice).where(Notice.recipient_id == id_)
            return list(session.scalars(of_it.order_by(Notice.created_at.desc(), Notice.id).limit(limit)))

    def claim(self) -> Due | None:
        """A message that is due, which nobody else sends for two minutes, to an address that is told nothing now: one
        that is slow holds up its own messages alone."""
        with self.database.writing() as change:
            other = aliased(Notice)
            is_told = exists().where(other.recipient_id == Notice.recipient_id, other.claimed_until >= change.now)
            due = (Notice.next_at <= change.now, or_(Notice.claimed_until.is_(None), Notice.claimed_until < change.now))
            found = change.session.execute(
                select(Notice, Recipient).join(Recipient, Recipient.id == Notice.recipient_id).where(*due, ~is_told)
                .order_by(Notice.next_at, Notice.id).limit(1)
            ).one_or_none()  # fmt: skip
            if found is None:
                return None
            notice, recipient = found
            taken = update(Notice).where(Notice.id == notice.id, *due).values(claimed_until=change.now + _CLAIM)
            is_ours = change.session.execute(taken.execution_options(synchronize_session=False)).rowcount  # type: ignore[attr-defined]
            return Due(notice, recipient) if is_ours else None

    def told(self, id_: str) -> None:
        """It has arrived."""
        self._after(id_, None)

    def failed(self, id_: str, why: str) -> None:
        """It has not: it is due again after a while, longer each time, and at last given up. What else its address is
        to be told waits for some seconds, too."""
        self._after(id_, why)

    def _after(self, id_: str, why: str | None) -> None:
        with self.database.writing() as change:
            row = change.session.get(Notice, id_)
            if row is None:
                return  # its address is gone
            row.attempts += 1
            row.claimed_until, row.error = None, None if why is None else why[:500]
            if why is None:
                row.told_at, row.next_at = change.now, None
            else:
                wait = WAITS[row.attempts - 1] if row.attempts <= len(WAITS) else None
                row.next_at = None if wait is None else change.now + wait
                others = (Notice.recipient_id == row.recipient_id, Notice.next_at < change.now + WAITS[0])
                later = update(Notice).where(*others).values(next_at=change.now + WAITS[0])
                change.session.execute(later.execution_options(synchronize_session=False))
            change.session.execute(
                delete(Notice).where(Notice.next_at.is_(None), Notice.created_at < change.now - KEPT)
            )

    def test(self, id_: str) -> Notice:
        """Write down a message that says nothing. Raises NotFound, Forbidden."""
        actor().check(UserRole.ADMIN, "trying an address")
        with self.database.writing() as change:
            row = change.session.get(Recipient, id_)
            if row is None:
                raise NotFound(f"there is no address {id_[:80]!r}")
            about = {"name": "A message to try it", "slug": "", "status": "succeeded", "sentence": None, "error": None}
            return tell(change, row, "test", about)

    def waiting(self) -> int:
        """Messages that have still to be told."""
        with self.database.reading() as session:
            open_ = select(func.count()).select_from(Notice).where(Notice.next_at.is_not(None))
            return session.scalar(open_) or 0


def notify(change: Change, experiment: Experiment, which: Collection[str] | None = None) -> None:
    """Write down, with the change that ends an experiment, who is to be told."""
    for recipient in change.session.scalars(select(Recipient)):
        if str(experiment.status) in recipient.endings:
            tell(change, recipient, f"experiment.{experiment.status}", _about(experiment))


def tell(change: Change, recipient: Recipient, kind: str, data: Json) -> Notice:
    payload = {"type": kind, "timestamp": change.now.isoformat(), "data": data}
    notice = Notice(
        id=f"msg_{uuid.uuid4().hex}", recipient_id=recipient.id, payload=payload, attempts=0, created_at=change.now,
        next_at=change.now,
    )  # fmt: skip
    change.session.add(notice)
    return notice


def _about(row: Experiment) -> Json:
    look = Look.of(row, {one["id"]: True for one in row.earlier})  # each of them may have been one: no word too many
    return {
        **{name: getattr(row, name) for name in (
            "id", "slug", "name", "created_by", "preset", "dataset", "architecture", "runs", "seconds", "accuracy",
            "ensemble_accuracy", "disagreement", "error", "tags",
        )},
        "status": str(row.status), "sentence": Finding.of(row).sentence_at(look) if row.finding else None,
    }  # fmt: skip
