"""What has happened, as every live view reads it: the id of an event is the cursor."""

from __future__ import annotations

from sqlalchemy import delete, func, select

from modescape.store.transaction import Subject
from modescape.tables import Event


class Events(Subject):
    """Ids grow in the order in which events become visible: everything after an id never misses one."""

    def after(self, after: int = 0, *, experiment_id: str | None = None, limit: int = 500) -> list[Event]:
        """Events with an id above `after`, oldest first."""
        statement = select(Event).where(Event.id > after)
        if experiment_id is not None:
            statement = statement.where(Event.experiment_id == experiment_id)
        return self.found(statement.order_by(Event.id).limit(limit))

    def last_id(self) -> int:
        """0 when nothing has happened yet."""
        with self.database.reading() as session:
            return session.scalar(select(func.max(Event.id))) or 0

    def first_id(self) -> int:
        """The oldest event kept; 0 when there is none. A reader further back must load everything again."""
        with self.database.reading() as session:
            return session.scalar(select(func.min(Event.id))) or 0

    def prune(self, keep: int) -> int:
        """Forget all but about the last `keep` events; how many were forgotten."""
        with self.database.writing() as change:
            last = change.session.scalar(select(func.max(Event.id))) or 0
            result = change.session.execute(delete(Event).where(Event.id <= last - keep))
            return int(result.rowcount)  # type: ignore[attr-defined]
