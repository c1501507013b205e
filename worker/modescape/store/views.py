"""Views of the list of experiments that people have given a name: everybody's to open, their maker's to change."""

from __future__ import annotations

import uuid
from urllib.parse import urlencode

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from modescape import asking, names
from modescape.acting import UserRole, actor
from modescape.errors import InvalidInput, NotFound
from modescape.store.creating import free_slug
from modescape.store.transaction import QUOTA_LOCK, Subject
from modescape.tables import SavedView

LONGEST = 4000  # characters of an address
MOST, MOST_OF_ONE = 500, 100  # views of a home, and of one user
_PASSING = ("cursor", "view", "open", "limit", "format")  # of one look, not of the view


def of_a_view(query: str) -> str:
    """What a view keeps of an address of the list. Raises InvalidInput."""
    pairs = [(key, value) for key, value in asking.pairs(query) if key not in _PASSING]
    kept = urlencode(pairs)
    if len(kept) > LONGEST:
        raise InvalidInput(f"has {len(kept)} characters", field="query", allowed=f"at most {LONGEST}")
    return kept


class Views(Subject):
    """By slug or id."""

    def all(self) -> list[SavedView]:
        """By their names."""
        rows = self.found(select(SavedView))
        return sorted(rows, key=lambda row: (names.folded(row.name), row.slug))

    def get(self, reference: str) -> SavedView:
        """Raises NotFound."""
        with self.database.reading() as session:
            return _find(session, reference)

    def add(self, name: str, query: str) -> SavedView:
        """Raises InvalidInput, Forbidden."""
        actor().check(UserRole.RESEARCHER, "keeping a view")
        name, query = names.checked(name, field="name", longest=100), of_a_view(query)
        with self.database.writing() as change:
            change.lock(QUOTA_LOCK)  # of two at once the second meets the first
            every, own = select(func.count()).select_from(SavedView), SavedView.created_by == actor().name
            for most, counted, whose in ((MOST, every, "there are"), (MOST_OF_ONE, every.where(own), "you have")):
                if (change.session.scalar(counted) or 0) >= most:
                    raise InvalidInput(
                        f"{whose} {most} views already", field="name", allowed="another once one is removed"
                    )
            row = SavedView(
                id=str(uuid.uuid4()), slug=free_slug(change.session, SavedView.slug, name), name=name, query=query,
                created_by=actor().name, created_at=change.now,
            )  # fmt: skip
            change.session.add(row)
            change.deed("add", "view", row.id, row.name)
            return row

    def change(self, reference: str, *, name: str | None = None, query: str | None = None) -> SavedView:
        """Another name, or another address; the slug stays. Raises NotFound, InvalidInput, Forbidden."""
        with self.database.writing() as change:
            row = _find(change.session, reference)
            actor().check_owner(row.created_by, f"the view {row.slug}")
            if name is not None:
                row.name = names.checked(name, field="name", longest=100)
            if query is not None:
                row.query = of_a_view(query)
            change.deed("change", "view", row.id, row.name)
            return row

    def remove(self, reference: str) -> None:
        """Raises NotFound, Forbidden."""
        with self.database.writing() as change:
            row = _find(change.session, reference)
            actor().check_owner(row.created_by, f"the view {row.slug}")
            change.deed("remove", "view", row.id, row.name)
            change.session.delete(row)


def _find(session: Session, reference: str) -> SavedView:
    of_it = select(SavedView).where(or_(SavedView.slug == reference, SavedView.id == reference))
    if (row := session.scalars(of_it).one_or_none()) is None:
        raise NotFound(f"there is no view {reference[:80]!r}")
    return row
