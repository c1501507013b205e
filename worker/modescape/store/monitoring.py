"""What monitoring asks of a laboratory: a few counts, each by an index or of few rows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from modescape.records import StageState
from modescape.store.transaction import Subject, now
from modescape.tables import Event, Experiment, Notice, Stage


@dataclass(frozen=True)
class Waiting:
    """Stages of a queue that could be worked on. seconds: how long the oldest of them could."""

    queue: str
    stages: int
    seconds: float


class Monitoring(Subject):
    def experiments(self) -> dict[str, int]:
        """Those that are not archived, by status."""
        with self.database.reading() as session:
            shown = select(Experiment.status, func.count()).where(Experiment.archived_at.is_(None))
            return {str(status): count for status, count in session.execute(shown.group_by(Experiment.status))}

    def waiting(self) -> list[Waiting]:
        """By queue."""
        since = func.min(func.coalesce(Stage.ready_at, Experiment.created_at))
        with self.database.reading() as session:
            at = now(session)
            ready = select(Stage.queue, func.count(), since).join(Experiment, Experiment.id == Stage.experiment_id)
            rows = session.execute(ready.where(Stage.state == StageState.READY).group_by(Stage.queue))
            return [Waiting(queue, count, (at - oldest).total_seconds()) for queue, count, oldest in rows]

    def running(self) -> int:
        with self.database.reading() as session:
            now_ = select(func.count()).select_from(Stage).where(Stage.state == StageState.RUNNING)
            return session.scalar(now_) or 0

    def events(self) -> int:
        """How many there ever were."""
        with self.database.reading() as session:
            return session.scalar(select(func.max(Event.id))) or 0

    def untold(self) -> int:
        """Messages to addresses that have still to be sent."""
        with self.database.reading() as session:
            open_ = select(func.count()).select_from(Notice).where(Notice.next_at.is_not(None))
            return session.scalar(open_) or 0
