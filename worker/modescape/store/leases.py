"""The right to work on a stage: claiming it, keeping it, telling how far it is, and how it ended."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    Select,
    String,
    and_,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session, aliased

from modescape.errors import LeaseLost
from modescape.records import ArtifactInfo, EventKind, Json, Point, Progress, Queue, StageOutput, StageState, Wish
from modescape.store.attempts import Attempt, running_under
from modescape.store.curves import add_points, copy_points, drop_points
from modescape.store.lookup import find_experiment, lock_experiment, lock_experiment_of
from modescape.store.outputs import name_files
from modescape.store.stages import Standing, standing_of
from modescape.store.transaction import PURGE_LOCK, SAME_WORK_LOCK, Change, Subject, now
from modescape.store.transitions import NEEDED, NO_WAIT, move, refresh, settle
from modescape.tables import Experiment, Stage, StageNeed, Turn

HISTORY = 50
NOTIFIED_AT_ONCE = 16  # a wake-up makes a worker go on until nothing is ready, so a few are enough
WAITED = "no room"  # how an attempt ended that waits
WAIT_SECONDS = (5.0, 60.0)  # before it is tried again: at first, and at most
_OWNER = "by "  # before the name, in the table of turns
_OFFERED = 8  # experiments that are tried before it is looked again
# Not a bound value: the index of ready stages is of those words.
_READY = Stage.state == literal_column("'ready'", String)

_other = aliased(Stage)
_SAME_WORK_RUNS = exists().where(
    _other.memo == Stage.memo, _other.state == StageState.RUNNING, _other.id != Stage.id
)  # fmt: skip


# Of a ready stage the same, asked once for all of them.
_running = select(_other.memo).where(_other.state == StageState.RUNNING, _other.memo.is_not(None))
_NOBODY_DOES_IT = or_(Stage.memo.is_(None), Stage.memo.not_in(_running))


@dataclass(frozen=True)
class Lease:
    """The right to work on a stage until it expires unless beaten; stage, experiment and what the stage stands on are
    as they were when it was claimed."""

    token: str
    owner: str
    seconds: float
    stage: Stage
    experiment: Experiment
    standing: Standing

    @property
    def name(self) -> str:
        return f"{self.stage.kind}/{self.stage.key}"


class Leases(Subject):
    """What workers do. A worker that has lost its lease gets LeaseLost and changes nothing."""

    def claim(
        self,
        owner: str,
        *,
        stage_id: str | None = None,
        queues: Sequence[str] = tuple(Queue),
        experiment_id: str | None = None,
        kind: str | None = None,
        lease_seconds: float = 30.0,
        room: int | None = None,
    ) -> Lease | None:
        """The right to work on a ready stage: the named one if it is, else the first in its plan of whose turn it is.

        Of experiments of the highest priority owners take turns, whoever had none for longest first, and so does what
        each of them has: sweeps, and experiments that are in none; a new one comes behind those that wait.
        experiment_id narrows to one experiment, kind to stages of that kind, which go along with one that is claimed
        already and take no turn of their own; room: bytes that are free, None where nobody looked. None when nothing is
        ready.
        """
        served = Stage.queue.in_(queues)
        if stage_id is not None:
            of_it = select(Stage.experiment_id).where(Stage.id == stage_id).scalar_subquery()
            named = [Stage.id == stage_id, Stage.state == StageState.READY, served, _NOBODY_DOES_IT]
            lease = self._claim_first(owner, of_it, named, lease_seconds, is_turn=True)
            if lease is not None:
                return lease
        among = [_READY, served, _NOBODY_DOES_IT]
        among += [Stage.experiment_id == experiment_id] if experiment_id is not None else []
        among += [Stage.kind == kind] if kind is not None else []
        while True:
            with self.database.reading() as session:
                now_ = [*among, _may_be_tried(now(session), room)]
                found = _next(session, now_, experiment_id)
            if not found:
                return None
            for candidate in found:
                lease = self._claim_first(owner, candidate, now_, lease_seconds, is_turn=kind is None)
                if lease is not None:
                    return lease

    def ready(self, experiment_id: str, kind: str) -> int:
        """How many stages of that kind wait for somebody."""
        same = (Stage.experiment_id == experiment_id, Stage.kind == kind, Stage.state == StageState.READY)
        with self.database.reading() as session:
            return session.scalar(select(func.count()).select_from(Stage).where(*same)) or 0

    def _claim_first(
        self, owner: str, experiment_id: str | ScalarSelect[str], among: Sequence[ColumnElement[bool]], seconds: float,
        *, is_turn: bool,
    ) -> Lease | None:  # fmt: skip
        """Of one experiment's stages the first in its plan. Looked for once the experiment is locked: of those who come
        for them at once each gets another, and nobody comes again for one that somebody else has got."""
        with self.database.writing() as change:
            session = change.session
            experiment = lock_experiment(session, experiment_id)
            if experiment is None or (stage_id := session.scalar(_first(experiment.id, among))) is None:
                return None
            token = str(uuid.uuid4())
            claimed = move(
                change, Stage.id == stage_id, *among,
                state=StageState.RUNNING, wish=None, attempt=Stage.attempt + 1, lease_token=token, lease_owner=owner,
                worker=owner, lease_expires=change.now + timedelta(seconds=seconds), claimed_at=change.now,
                finished_at=None, started_at=func.coalesce(Stage.started_at, change.now), error={}, **NO_WAIT,
            )  # fmt: skip
            if not claimed:
                return None
            stage = session.get_one(Stage, stage_id, populate_existing=True)
            entry = {"attempt": stage.attempt, "worker": owner, "from_step": stage.step, "at": change.now.isoformat()}
            stage.history = [*stage.history, entry][-HISTORY:]
            if experiment.started_at is None:
                experiment.started_at = change.now
            if is_turn:
                _take_turn(change, experiment)
            change.event(EventKind.STAGE_RUNNING, experiment.id, stage, worker=owner, attempt=stage.attempt)
            refresh(change, experiment)
        with self.database.reading() as session:  # after the lock: results can be large
            return Lease(token, owner, seconds, stage, experiment, standing_of(session, stage))

    def beat(self, lease: Lease, progress: Progress | None = None) -> Wish | None:
        """Keep the stage for another lease and tell how far it is; what the user wants of it.

        With progress there is an event too, so call that about once a second at most. Raises LeaseLost.
        """
        with self.database.writing() as change:
            return _beat(change, lease, progress)

    def beat_all(self, told: Sequence[tuple[Lease, Progress | None]]) -> list[Wish | LeaseLost | None]:
        """`beat` of several leases of one experiment, in one transaction; LeaseLost in the place of a lost one."""
        with self.database.writing() as change:
            lock_experiment_of(change.session, told[0][0].stage.id)  # who stops them all locks them in another order
            return [_beat_or_lost(change, lease, progress) for lease, progress in told]

    def wish(self, lease: Lease) -> Wish | None:
        """What the user wants of a running stage. Only reads. Raises LeaseLost."""
        with self.database.reading() as session:
            row = session.execute(select(Stage.wish).where(*running_under(lease.stage.id, lease.token))).one_or_none()
        if row is None:
            raise _lost(lease)
        wish: Wish | None = row[0]
        return wish

    def save_partial(
        self,
        lease: Lease,
        partial: Json,
        *,
        points: Mapping[str, Sequence[Point]] | None = None,
        run: int | None = None,
        drop_after_step: int | None = None,
        artifacts: Iterable[ArtifactInfo] = (),
        step: int | None = None,
    ) -> Wish | None:
        """What a later attempt resumes from, new curve points of `run` and files, in one transaction; the user's wish.

        drop_after_step: first forget points beyond that step (a resumed attempt draws them again; -1 forgets all).
        Points at or before a curve's last step are known already and left out. Files must be on disk before. Raises
        LeaseLost.
        """
        with self.database.writing() as change:
            stage = _touch(change, lease, **({} if step is None else {"step": step}))
            stage.partial = partial
            name_files(change, stage.id, artifacts)
            if run is not None and drop_after_step is not None:
                drop_points(change.session, stage.id, drop_after_step)
            if points:
                if run is None:
                    raise ValueError("curve points need their run's number")
                add_points(change.session, stage, run, points)
                change.event(
                    EventKind.POINTS, lease.experiment.id, stage, run=run, names=sorted(points), step=stage.step
                )
            return stage.wish

    def note(self, lease: Lease, kind: str, payload: Json) -> None:
        """An event of the stage's own. Raises LeaseLost."""
        with self.database.writing() as change:
            stage = _touch(change, lease)
            change.event(kind, lease.experiment.id, stage, **payload)

    def finish(self, lease: Lease, output: StageOutput, memo: str, progress: Progress | None = None) -> Stage:
        """running -> succeeded: the output's rows, the list columns, and the stages that waited. progress: how far it
        came in the end. Raises LeaseLost."""
        with self.database.writing() as change:
            attempt = _attempt(change, lease)
            if progress is not None:
                attempt.tell(progress)
            attempt.succeed(output, memo)
            return attempt.stage

    def reuse(
        self,
        lease: Lease,
        memo: str,
        *,
        exists: Callable[[str], bool] = lambda digest: True,
        renew: Callable[[StageOutput], StageOutput] = lambda output: output,
    ) -> bool:
        """Take over what an equal stage made before, if there is one and the experiment is not `fresh`.

        exists: whether a file is really there; renew: adds what the code of that time did not tell. Raises LeaseLost.
        """
        if lease.experiment.fresh:
            return False
        same = select(Stage).where(Stage.memo == memo, Stage.state == StageState.SUCCEEDED, Stage.id != lease.stage.id)
        for source in self.found(same.order_by(Stage.finished_at, Stage.id).limit(4)):
            output = StageOutput.from_json(source.result).moved(source.params, lease.stage.params)
            if output is None or not all(exists(info.digest) for info in output.artifacts):
                continue
            output = renew(output)
            with self.database.writing() as change:  # only now: files may be far away, and others wait for it
                change.lock(PURGE_LOCK, shared=True)
                attempt = _attempt(change, lease)
                if change.session.scalar(same.where(Stage.id == source.id)) is None:  # purged in this moment
                    continue
                drop_points(change.session, attempt.stage.id, -1)
                copy_points(change.session, source, attempt.stage)
                attempt.succeed(output, memo, reused_from=source.id)
                return True
        return False

    def begin(self, lease: Lease, memo: str) -> bool:
        """Say which work it is; False, and the stage waits, while another worker does the same for an experiment that
        this one may take over from. It is offered again when that one has ended. Raises LeaseLost."""
        with self.database.writing() as change:
            change.lock(SAME_WORK_LOCK)  # of two workers that begin at once, one sees the other
            attempt = _attempt(change, lease)
            attempt.stage.memo = memo
            change.session.flush()
            waits = select(_SAME_WORK_RUNS.where(Stage.id == lease.stage.id))
            if lease.experiment.fresh or not change.session.scalar(waits):
                return True
            attempt.give_back("waits for the same work elsewhere")
            return False

    def fail(self, lease: Lease, error: Json) -> None:
        """running -> failed, and so are the stages that cannot do without it. error: type, message, traceback.
        LeaseLost."""
        with self.database.writing() as change:
            _attempt(change, lease).fail(error)

    def wait(self, lease: Lease, why: str, *, room: int | None = None) -> StageState:
        """Work on it later, because of something that nobody here can change (no room on the disk): as `give_back`, and
        a stage that is ready says why it waits. It is offered again after a while, longer each time, and where `room`
        bytes are free. That counts for nothing: neither as a failure nor as a loss. Raises LeaseLost."""
        with self.database.writing() as change:
            attempt = _attempt(change, lease)
            tries = len(list(takewhile(lambda one: one.get("how") == WAITED, reversed(attempt.stage.history[:-1]))))
            pause = min(WAIT_SECONDS[1], WAIT_SECONDS[0] * 2.0 ** min(tries, 10))
            until = change.now + timedelta(seconds=pause)
            return attempt.give_back(WAITED, waits=why, waits_until=until, room=room)

    def hang(self, lease: Lease, message: str) -> StageState:
        """End what makes no step any more: running -> ready, or failed where that has happened before; which. message:
        how it was, as it goes on after "for the second time". Raises LeaseLost."""
        with self.database.writing() as change:
            return _attempt(change, lease).hang(message)

    def give_back(self, lease: Lease) -> StageState:
        """Stop working on it: running -> paused or cancelled as the user wishes, else ready; which. LeaseLost."""
        with self.database.writing() as change:
            return _attempt(change, lease).give_back("given back")

    def release_owner(self, owner: str) -> list[str]:
        """Free at once what a worker of this name held before it was killed; the stages' ids. Call at worker start."""
        return self._lose(Stage.lease_owner == owner)

    def clock(self) -> datetime:
        """The time by which leases expire."""
        with self.database.reading() as session:
            return now(session)

    def reap(self, at: datetime | None = None) -> list[str]:
        """Free the stages whose lease has expired, settle what a crash left half done; ids of the stages freed."""
        lost = self._lose(Stage.lease_expires < (at or self.clock()))
        self._settle_waiting()
        return lost

    def outlived(self, lease: Lease) -> None:
        """A worker that has lost its lease lives: it slept, or could not reach the database. What its stage was charged
        with is taken back, for only those that are gone say something about a stage."""
        with self.database.writing() as change:
            experiment = lock_experiment_of(change.session, lease.stage.id)
            if experiment is None:
                return
            stage = change.session.get_one(Stage, lease.stage.id, populate_existing=True)
            attempt = {"attempt": lease.stage.attempt, "how": "lost"}
            told = [{**one, "how": "outlived"} if attempt.items() <= one.items() else one for one in stage.history]
            if told != stage.history:
                stage.history, stage.losses = told, max(0, stage.losses - 1)

    def _lose(self, *where: ColumnElement[bool]) -> list[str]:
        with self.database.reading() as session:
            suspects = list(session.scalars(select(Stage.id).where(Stage.state == StageState.RUNNING, *where)))
        freed = []
        for stage_id in suspects:
            with self.database.writing() as change:
                experiment = lock_experiment_of(change.session, stage_id)
                statement = select(Stage).where(Stage.id == stage_id, Stage.state == StageState.RUNNING, *where)
                stage = change.session.scalars(statement.with_for_update(key_share=True)).one_or_none()
                if experiment is None or stage is None or stage.lease_token is None:
                    continue  # somebody else was first, or it has beaten again
                Attempt(change, experiment, stage, stage.lease_token).lose()
                freed.append(stage_id)
        return freed

    def _settle_waiting(self) -> None:
        """Blocked stages whose needs have all ended: a repair, since every transition does this itself."""
        waits = exists().where(
            StageNeed.stage_id == Stage.id, StageNeed.needs_id == NEEDED.id,
            NEEDED.state.not_in([state for state in StageState if state.has_ended]),
        )  # fmt: skip
        with self.database.reading() as session:
            statement = select(Stage.experiment_id).where(Stage.state == StageState.BLOCKED, ~waits).distinct()
            stuck = list(session.scalars(statement))
        for experiment_id in stuck:
            with self.database.writing() as change:
                settle(change, find_experiment(change.session, experiment_id, lock=True))

    def unnotified(
        self, *, experiment_id: str | None = None, older_than_seconds: float | None = None
    ) -> list[tuple[str, str]]:
        """(id, queue) of ready stages nobody was told of, or (with older_than_seconds) so long ago that the wake-up
        may be lost. Not all of them at once: a worker that is woken goes on until nothing is ready."""
        with self.database.reading() as session:
            at = now(session)
            due: ColumnElement[bool] = or_(Stage.rung_at.is_(None), Stage.rung_at < Stage.waits_until)
            if older_than_seconds is not None:
                due = or_(due, Stage.rung_at < at - timedelta(seconds=older_than_seconds))
            statement = select(Stage.id, Stage.queue).where(_READY, due, _may_be_tried(at, None))
            if experiment_id is not None:
                statement = statement.where(Stage.experiment_id == experiment_id)
            rows = session.execute(statement.order_by(Stage.ordinal, Stage.id).limit(NOTIFIED_AT_ONCE))
            return [(stage_id, queue) for stage_id, queue in rows]

    def mark_notified(self, stage_ids: Sequence[str]) -> None:
        with self.database.writing() as change:
            move(change, Stage.id.in_(stage_ids), Stage.state == StageState.READY, rung_at=change.now)


def _may_be_tried(at: datetime, room: int | None) -> ColumnElement[bool]:
    """Nothing is known for which it would have to wait."""
    over = or_(Stage.waits_until.is_(None), Stage.waits_until <= at)
    return over if room is None else and_(over, or_(Stage.room.is_(None), Stage.room <= room))


def _first(experiment_id: str, among: Sequence[ColumnElement[bool]]) -> Select[str]:
    """Of an experiment's stages the one that is to be claimed."""
    of_it = select(Stage.id).where(Stage.experiment_id == experiment_id, *among)
    return of_it.order_by(Stage.ordinal, Stage.id).limit(1)


def _next(session: Session, among: Sequence[ColumnElement[bool]], experiment_id: str | None) -> list[str]:
    """Ids of experiments of which stages may be claimed, in the order in which they are."""
    if experiment_id is not None:
        return [experiment_id] if session.scalar(_first(experiment_id, among)) is not None else []
    places = func.min(Stage.ordinal).label("ordinal")
    waiting = select(Stage.experiment_id, places).where(*among).group_by(Stage.experiment_id).subquery()
    owner, own = aliased(Turn), aliased(Turn)
    ordered = (
        select(waiting.c.experiment_id)
        .join(Experiment, Experiment.id == waiting.c.experiment_id)
        .outerjoin(owner, owner.name == literal(_OWNER) + Experiment.created_by)
        .outerjoin(own, own.name == Experiment.turn)
        .order_by(
            Experiment.priority.desc(), owner.at.asc().nulls_first(), func.coalesce(own.at, Experiment.created_at),
            waiting.c.ordinal, Experiment.id,
        )
        .limit(_OFFERED)
    )  # fmt: skip
    return list(session.scalars(ordered))


def _take_turn(change: Change, experiment: Experiment) -> None:
    """Behind all others that wait. What it is of before whose it is: everybody locks them in that order."""
    for name in (experiment.turn, _OWNER + experiment.created_by):
        of_it = update(Turn).where(Turn.name == name).values(at=change.now)
        if not change.session.execute(of_it).rowcount:  # type: ignore[attr-defined]
            change.insert_missing(Turn, [{"name": name, "at": change.now}])


def _attempt(change: Change, lease: Lease) -> Attempt:
    session = change.session
    experiment = lock_experiment_of(session, lease.stage.id)
    statement = select(Stage).where(*running_under(lease.stage.id, lease.token)).with_for_update(key_share=True)
    stage = session.scalars(statement).one_or_none()
    if experiment is None or stage is None:
        raise _lost(lease)
    return Attempt(change, experiment, stage, lease.token)


def _beat(change: Change, lease: Lease, progress: Progress | None) -> Wish | None:
    if progress is None:
        return _touch(change, lease).wish
    step = {"step": progress.step, "steps": progress.steps}
    stage = _touch(change, lease, progress=progress.numbers, **step)
    change.event(EventKind.PROGRESS, stage.experiment_id, stage, **progress.numbers, **step)
    return stage.wish


def _beat_or_lost(change: Change, lease: Lease, progress: Progress | None) -> Wish | LeaseLost | None:
    try:
        return _beat(change, lease, progress)
    except LeaseLost as lost:  # which has changed nothing
        return lost


def _touch(change: Change, lease: Lease, **values: Any) -> Stage:
    """Keep the stage for another lease."""
    expires = change.now + timedelta(seconds=lease.seconds)
    if not move(change, *running_under(lease.stage.id, lease.token), lease_expires=expires, **values):
        raise _lost(lease)
    return change.session.get_one(Stage, lease.stage.id)


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"stage {lease.name} of {lease.experiment.slug} belongs to another worker now")
