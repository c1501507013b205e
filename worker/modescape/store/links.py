"""Links by which one experiment, report or view can be read, until they end or are revoked."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import String, cast, delete, func, select

from modescape import names, users
from modescape.acting import UserRole, actor
from modescape.errors import InvalidInput, NotFound
from modescape.store.noted import Noted
from modescape.store.transaction import QUOTA_LOCK, Change, Database, Subject, now
from modescape.tables import Experiment, FormerUser, Report, SharedLink, Sweep, User

MOST = 200  # links of one user that have not ended


class Links(Subject):
    """What a link leads to is decided where addresses are known; here it is a text, and ids of what it is of."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._followed = Noted(database, SharedLink.used_at)

    def all(self) -> list[SharedLink]:
        """One's own, the newest first; for an admin everybody's."""
        who, statement = actor(), select(SharedLink)
        if not who.may(UserRole.ADMIN):
            statement = statement.where(SharedLink.created_by == who.name)
        rows = self.found(statement.order_by(SharedLink.created_at.desc(), SharedLink.id))
        self._followed.tell(rows)
        return rows

    def add(
        self, kind: str, target: str, name: str, digest: str, lifetime: timedelta, things: Sequence[str] = (), *,
        without_sign_in: bool = False,
    ) -> SharedLink:  # fmt: skip
        """digest: of its secret; things: ids of all experiments, reports and sweeps that it is of: it ends with the
        first of them that goes. Raises InvalidInput, Forbidden, NotFound where one is gone already."""
        actor().check(UserRole.RESEARCHER, "sharing a link")
        name = names.checked(name, field="name")
        with self.database.writing() as change:
            if not _are_there(change, things):
                raise NotFound("what is shared was deleted in this moment")
            change.lock(QUOTA_LOCK)  # of two at once the second meets the first
            alive = SharedLink.created_by == actor().name, SharedLink.expires_at > change.now
            if (change.session.scalar(select(func.count()).select_from(SharedLink).where(*alive)) or 0) >= MOST:
                raise InvalidInput(
                    f"you share {MOST} links already", field="name", allowed="another once one has ended"
                )
            row = SharedLink(
                id=str(uuid.uuid4()), digest=digest, kind=kind, target=target, things=list(things), name=name,
                created_by=actor().name, created_at=change.now, expires_at=change.now + lifetime,
                without_sign_in=without_sign_in,
            )  # fmt: skip
            change.session.add(row)
            change.deed("share", "link", row.id, name, target=target, without_sign_in=without_sign_in)
            return row

    def revoke(self, id_: str) -> None:
        """Nobody reads anything by it from now on; whoever made it may always. Raises NotFound, also for somebody
        else's."""
        with self.database.writing() as change:
            row, who = change.session.get(SharedLink, id_), actor()
            if row is None or not (row.created_by == who.name or who.may(UserRole.ADMIN)):
                raise NotFound(f"there is no link {id_[:80]!r}")
            change.session.execute(delete(SharedLink).where(SharedLink.id == id_))
            change.deed("revoke", "link", id_, row.name, target=row.target)

    def by_secret(self, digest: str) -> SharedLink | None:
        """The link of which this is the secret's digest, while it holds."""
        return next(iter(self.by_secrets([digest])), None)

    def by_secrets(self, digests: Sequence[str]) -> list[SharedLink]:
        """Those of them that hold: which have not ended, and whose makers are here and may share. That they were
        followed is remembered, and written later (`write_followed`)."""
        with self.database.reading() as session:
            of_them = select(SharedLink).where(SharedLink.digest.in_(digests), SharedLink.expires_at > now(session))
            rows = list(session.scalars(of_them))
            keys = {users.key_of(row.created_by) for row in rows}
            if not keys:
                return []
            known = {user.key: user for user in session.scalars(select(User).where(User.key.in_(keys)))}
            former = set(session.scalars(select(FormerUser.key).where(FormerUser.key.in_(keys))))
            at = now(session)

        def holds(row: SharedLink) -> bool:
            maker = known.get(key := users.key_of(row.created_by))
            if maker is None:  # who came by the server's token, or under its account, is no user
                return key not in former
            return not maker.disabled and maker.role.reaches(UserRole.RESEARCHER)

        found = [row for row in rows if holds(row)]
        for row in found:
            self._followed.note(row.id, at)
        return found

    def write_followed(self) -> None:
        """When links were last followed; what cannot be written now is kept for the next time."""
        self._followed.write()


def _are_there(change: Change, things: Sequence[str]) -> bool:
    """Whether all are, and stay until the end of the transaction."""
    held = {
        id_
        for model in (Experiment, Report, Sweep)
        for id_ in change.session.scalars(
            select(model.id).where(model.id.in_(things)).with_for_update(read=True, key_share=True)
        )
    }
    return held >= set(things)


def end_links_to(change: Change, thing: str) -> None:
    """To be called by what deletes an experiment, a report or a sweep: another one may have its address next."""
    change.session.execute(delete(SharedLink).where(cast(SharedLink.things, String).contains(thing)))


def end_links_of(change: Change, name: str) -> None:
    """Those that a user has made, who is removed."""
    change.session.execute(delete(SharedLink).where(SharedLink.created_by == name))
