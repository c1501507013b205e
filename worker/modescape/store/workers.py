"""Who computes, how fast, and what finished stages took: what prices are made of."""

from __future__ import annotations

import platform
from datetime import timedelta

from sqlalchemy import delete, select, update

from modescape.prices import Finished, Work
from modescape.records import EventKind, Json
from modescape.store.transaction import Subject, now
from modescape.tables import Stage, Throughput, Worker

REMEMBERED = 0.98  # of what earlier stages of a kind say about its speed, at each new one: the last fifty or so


class Workers(Subject):
    """The processes that compute, by their names."""

    def register(self, name: str, *, device: str, numerics: str, queue: str, pid: int) -> None:
        """A worker starts; what is known of its speed under the same numerics, on the same device, stays."""
        with self.database.writing() as change:
            worker = change.session.get(Worker, name)
            same = worker is not None and (worker.numerics, worker.device) == (numerics, device)
            speed, calibration = (worker.speed, worker.calibration) if worker is not None and same else ({}, None)
            tally = {} if worker is None else worker.tally
            change.session.merge(
                Worker(name=name, device=device, numerics=numerics, queue=queue, speed=speed, calibration=calibration,
                       stage_id=None, readings={}, tally=tally, pid=pid, started_at=change.now, seen_at=change.now,
                       stopped_at=None)
            )  # fmt: skip
            change.event(EventKind.WORKER, None, name=name, state="started")

    def seen(self, name: str, *, stage_id: str | None, readings: Json | None = None) -> None:
        """It lives, and works on `stage_id`. readings: what it reads of itself."""
        with self.database.writing() as change:
            told = {} if readings is None else {"readings": readings}
            values = {"seen_at": change.now, "stage_id": stage_id, "stopped_at": None, **told}
            change.session.execute(update(Worker).where(Worker.name == name).values(**values))

    def stopped(self, name: str) -> None:
        with self.database.writing() as change:
            values = {"stopped_at": change.now, "stage_id": None}
            change.session.execute(update(Worker).where(Worker.name == name).values(**values))
            change.event(EventKind.WORKER, None, name=name, state="stopped")

    def keep_speed(self, name: str, architecture: str, images_per_second: float) -> None:
        """Remember how fast a training went."""
        with self.database.writing() as change:
            worker = change.session.get(Worker, name)
            if worker is not None:
                worker.speed = {**worker.speed, architecture: images_per_second}

    def calibration(self, name: str) -> Json | None:
        """What a worker of that name measured under its present arithmetic; None before it has."""
        with self.database.reading() as session:
            return session.scalar(select(Worker.calibration).where(Worker.name == name))

    def calibrated(self, name: str, calibration: Json) -> None:
        with self.database.writing() as change:
            change.session.execute(update(Worker).where(Worker.name == name).values(calibration=calibration))

    def all(self) -> list[Worker]:
        return self.found(select(Worker).order_by(Worker.name))

    def heard_of(self, name: str = "", *, lease_seconds: float) -> tuple[bool, str]:
        """Whether a worker answers, and a sentence that says so; without a name, all that this machine began and did
        not end."""
        with self.database.reading() as session:
            at, rows = now(session), session.scalars(select(Worker).order_by(Worker.name)).all()
        asked = [row for row in rows if row.name == name] if name else [
            row for row in rows if row.stopped_at is None and row.name.startswith(f"{platform.node()}-")
        ]  # fmt: skip
        if not asked:
            return False, f"there is no worker {name}" if name else f"no worker runs on {platform.node()}"
        said = []
        for row in asked:
            silent = (at - row.seen_at).total_seconds()
            if row.stopped_at is not None:
                said.append((False, f"{row.name} has stopped"))
            elif silent > 2 * lease_seconds:
                said.append((False, f"{row.name} has not been heard of for {silent:.0f} s"))
            elif not row.readings.get("hears_queue", True):
                said.append((True, f"{row.name} looks for work by itself, for it does not hear its queue"))
            else:
                said.append((True, f"{row.name} is at work" if row.stage_id else f"{row.name} waits for work"))
        return all(answers for answers, _ in said), "; ".join(words for _, words in said)

    def living(self) -> list[Worker]:
        """Those that have not said that they stopped."""
        return self.found(select(Worker).where(Worker.stopped_at.is_(None)).order_by(Worker.name))

    def forget(self, age: timedelta) -> int:
        """Workers that were not heard of for that long, but of each arithmetic the last: its speed prices what comes;
        how many."""
        with self.database.writing() as change:
            rows = list(change.session.scalars(select(Worker).order_by(Worker.seen_at.desc(), Worker.name)))
            last = {row.numerics: row.name for row in reversed(rows)}.values()
            old = [row.name for row in rows if row.seen_at < change.now - age and row.name not in last]
            change.session.execute(delete(Worker).where(Worker.name.in_(old)))
            return len(old)

    def learn(self, stage: Stage, numerics: str, seconds: float) -> None:
        """Remember how long a stage took, done in one go; older ones of its kind and shape count less each time."""
        work = stage.work or {}
        if not work.get("shape"):
            return  # planned before work was written down
        key = {"kind": stage.kind, "shape": work["shape"], "numerics": numerics}
        new = {name: work[name] for name in ("trained", "predicted", "other")} | {"stages": 1.0, "seconds": seconds}
        with self.database.writing() as change:
            change.insert_missing(Throughput, [key | dict.fromkeys(new, 0.0) | {"at": change.now}])
            same = [getattr(Throughput, name) == value for name, value in key.items()]
            grown = {name: getattr(Throughput, name) * REMEMBERED + value for name, value in new.items()}
            change.session.execute(update(Throughput).where(*same).values(**grown, at=change.now))

    def finished_work(self, numerics: str) -> list[Finished]:
        """What finished stages of each kind and shape amount to under an arithmetic, the latest first."""
        statement = select(Throughput).where(Throughput.numerics == numerics).order_by(Throughput.at.desc()).limit(500)
        with self.database.reading() as session:
            return [
                Finished(row.kind, row.shape, row.stages, Work(row.trained, row.predicted, row.other), row.seconds)
                for row in session.scalars(statement)
            ]
