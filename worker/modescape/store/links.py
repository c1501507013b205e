"""Links by which one experiment, report or view can be read, until they end or are revoked."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import delete, select, update

from modescape import names
from modescape.acting import UserRole, actor
from modescape.database import UNAVAILABLE
from modescape.errors import NotFound
from modescape.store.transaction import Subject, now
from modescape.tables import SharedLink

_TO_A_MINUTE = timedelta(minutes=1)  # how exactly it is kept when one was last followed


class Links(Subject):
    """What a link leads to is decided where addresses are known; here it is a text."""

    def all(self) -> list[SharedLink]:
        """One's own, the newest first; for an admin everybody's."""
        who, statement = actor(), select(SharedLink)
        if not who.may(UserRole.ADMIN):
            statement = statement.where(SharedLink.created_by == who.name)
        return self.found(statement.order_by(SharedLink.created_at.desc(), SharedLink.id))

    def add(
        self, kind: str, target: str, name: str, digest: str, lifetime: timedelta | None, *, without_sign_in: bool
    ) -> SharedLink:
        """digest: of its secret; lifetime: None never ends. Raises InvalidInput, Forbidden."""
        actor().check(UserRole.RESEARCHER, "sharing a link")
        name = names.checked(name, field="name")
        with self.database.writing() as change:
            row = SharedLink(
                id=str(uuid.uuid4()), digest=digest, kind=kind, target=target, name=name, created_by=actor().name,
                created_at=change.now, expires_at=None if lifetime is None else change.now + lifetime,
                without_sign_in=without_sign_in,
            )  # fmt: skip
            change.session.add(row)
            change.deed("share", "link", row.id, name, target=target, without_sign_in=without_sign_in)
            return row

    def revoke(self, id_: str) -> None:
        """Nobody reads anything by it from now on. Raises NotFound, also for somebody else's."""
        with self.database.writing() as change:
            row = change.session.get(SharedLink, id_)
            if row is None or not actor().owns(row.created_by):
                raise NotFound(f"there is no link {id_[:80]!r}")
            change.session.execute(delete(SharedLink).where(SharedLink.id == id_))
            change.deed("revoke", "link", id_, row.name, target=row.target)

    def by_secret(self, digest: str) -> SharedLink | None:
        """The link of which this is the secret's digest, unless it has ended; that it was followed is kept."""
        with self.database.reading() as session:
            row = session.scalar(select(SharedLink).where(SharedLink.digest == digest))
            at = now(session)
        if row is None or (row.expires_at is not None and row.expires_at <= at):
            return None
        if row.used_at is None or at - row.used_at > _TO_A_MINUTE:
            with suppress(*UNAVAILABLE), self.database.writing() as change:
                change.session.execute(update(SharedLink).where(SharedLink.id == row.id).values(used_at=at))
        return row
