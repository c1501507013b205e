"""The stages of an experiment as rows: asking for them, and adding one later."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session, defer

from modescape.errors import Conflict, NotFound
from modescape.records import Json, Need, PlannedStage, StageState
from modescape.store.lookup import batches, find_experiment, row_id
from modescape.store.quotas import afford
from modescape.store.transaction import Subject
from modescape.store.transitions import AFRESH, move, settle
from modescape.tables import Experiment, Run, Stage, StageNeed


@dataclass(frozen=True)
class Standing:
    """needs: the stages it waits for, in the order of the plan; firm: ids of those it cannot do without; failed: of
    each run of its experiment that has failed, why."""

    needs: list[Stage]
    firm: set[str]
    failed: dict[int, str]


class Stages(Subject):
    """By experiment or by id."""

    def add(self, reference: str, planned: PlannedStage) -> Stage:
        """A stage asked for later, such as `materialise`. The same kind and key again returns the one there is (ready
        again if it had failed or been cancelled). Raises NotFound when a stage it needs does not exist, Conflict for an
        archived experiment, Forbidden for somebody else's, and InvalidInput for more than one user may have."""
        with self.database.writing() as change:
            session = change.session
            experiment = find_experiment(session, reference, lock=True)
            id_ = row_id(experiment.id, "stage", planned.kind, planned.key)
            stage = session.get(Stage, id_)
            if stage is None or stage.state in (StageState.FAILED, StageState.CANCELLED):
                change.theirs("add to", experiment, stage=f"{planned.kind}/{planned.key}")
                if experiment.archived_at is not None:
                    raise Conflict(f"{experiment.slug} is archived; restore it first")
            if stage is None:
                _append(session, experiment, planned)
                # it is taken for one of the plan, of which one keeps about as much as another
                experiment.planned_bytes += experiment.planned_bytes // max(1, experiment.stages_total)
            elif stage.state in (StageState.FAILED, StageState.CANCELLED):
                move(change, Stage.id == id_, error={}, **AFRESH)
            else:
                return stage
            settle(change, experiment)
            afford(change)
            return session.get_one(Stage, id_, populate_existing=True)

    def of(self, reference: str, kind: str | None = None) -> list[Stage]:
        """All stages of an experiment, or those of a kind, in the order of the plan. Raises NotFound."""
        with self.database.reading() as session:
            statement = select(Stage).where(Stage.experiment_id == find_experiment(session, reference).id)
            if kind is not None:
                statement = statement.where(Stage.kind == kind)
            return list(session.scalars(statement.order_by(Stage.ordinal)))

    def failures(self, reference: str, kinds: Collection[str]) -> list[tuple[Json, str]]:
        """(parameters, why) of the stages of those kinds whose result says that what they made has failed, in the
        order of the plan, without reading their results. Raises NotFound."""
        with self.database.reading() as session:
            why = Stage.result[("extra", "failed")].as_string()
            of_it = Stage.experiment_id == find_experiment(session, reference).id
            told = select(Stage.params, why).where(of_it, Stage.kind.in_(kinds), why.is_not(None))
            return [(params, text) for params, text in session.execute(told.order_by(Stage.ordinal)) if text]

    def without_results(self, reference: str) -> list[Stage]:
        """`stages` without `result` and `partial`, which can be large: what pages and the API show."""
        with self.database.reading() as session:
            experiment = find_experiment(session, reference)
            light = (defer(Stage.result, raiseload=True), defer(Stage.partial, raiseload=True))
            statement = select(Stage).options(*light).where(Stage.experiment_id == experiment.id)
            return list(session.scalars(statement.order_by(Stage.ordinal)))

    def get(self, stage_id: str) -> Stage:
        """Raises NotFound."""
        with self.database.reading() as session:
            found = session.get(Stage, stage_id)
        if found is None:
            raise NotFound(f"there is no stage {stage_id[:80]!r}")
        return found

    def needs(self, stage_id: str) -> list[Stage]:
        """The stages a stage waits for, in the order of the plan."""
        arrow = (StageNeed.needs_id == Stage.id) & (StageNeed.stage_id == stage_id)
        return self.found(select(Stage).join(StageNeed, arrow).order_by(Stage.ordinal))

    def standing(self, stage: Stage) -> Standing:
        """What a stage stands on at this moment."""
        with self.database.reading() as session:
            return standing_of(session, stage)

    def arrows(self, reference: str) -> list[tuple[str, str]]:
        """(stage id, id of a stage it needs) for the whole experiment."""
        with self.database.reading() as session:
            of_it = Stage.experiment_id == find_experiment(session, reference).id
            arrows = select(StageNeed.stage_id, StageNeed.needs_id).join(Stage, Stage.id == StageNeed.stage_id)
            return [(stage, need) for stage, need in session.execute(arrows.where(of_it))]

    def unfinished(self) -> set[str]:
        """Ids of those that may go on from what they have kept for themselves."""
        return set(self.found(select(Stage.id).where(Stage.state != StageState.SUCCEEDED)))

    def oldest_running(self) -> datetime | None:
        """When the oldest stage that is running now was claimed; None when none runs."""
        with self.database.reading() as session:
            return session.scalar(select(func.min(Stage.claimed_at)).where(Stage.state == StageState.RUNNING))

    def here_already(self, memos: Collection[str]) -> set[str]:
        """Those of the stage keys under which a stage has succeeded."""
        found: set[str] = set()
        with self.database.reading() as session:
            for some in batches(sorted(memos)):
                statement = (
                    select(Stage.memo).where(Stage.memo.in_(some), Stage.state == StageState.SUCCEEDED).distinct()
                )
                found |= {memo for memo in session.scalars(statement) if memo is not None}
        return found


def standing_of(session: Session, stage: Stage) -> Standing:
    arrows = select(Stage, StageNeed.optional).join(StageNeed, StageNeed.needs_id == Stage.id)
    rows = session.execute(arrows.where(StageNeed.stage_id == stage.id).order_by(Stage.ordinal)).all()
    runs = select(Run.number, Run.failed).where(Run.experiment_id == stage.experiment_id, Run.failed.is_not(None))
    failed = {number: why for number, why in session.execute(runs) if why}
    return Standing([need for need, _ in rows], {need.id for need, optional in rows if not optional}, failed)


def add_stages(
    session: Session,
    experiment_id: str,
    stages: Sequence[PlannedStage],
    *,
    first: int = 0,
    there: Collection[Need] = (),
) -> None:
    """The rows of a whole plan. first: ordinal of the first; there: those of which there are rows already, without
    needs. Raises ValueError for two of the same kind and key."""
    ids = {(one.kind, one.key): row_id(experiment_id, "stage", one.kind, one.key) for one in stages}
    if len(ids) < len(stages):
        raise ValueError("two planned stages have the same kind and key")
    for i, one in enumerate(stages, first):
        if (one.kind, one.key) in there:
            session.execute(update(Stage).where(Stage.id == ids[one.kind, one.key]).values(ordinal=i))
    rows = [
        _stage_row(experiment_id, ids[one.kind, one.key], i, one)
        for i, one in enumerate(stages, first)
        if (one.kind, one.key) not in there
    ]
    if rows:
        session.execute(insert(Stage), rows)
    new = [one for one in stages if (one.kind, one.key) not in there]
    needs = [row for one in new for row in _need_rows(ids[one.kind, one.key], one, ids.__getitem__)]
    if needs:
        session.execute(insert(StageNeed), needs)


def _append(session: Session, experiment: Experiment, planned: PlannedStage) -> None:
    """The rows of one stage after all there are, blocked. Raises NotFound when a stage it needs does not exist."""
    id_ = row_id(experiment.id, "stage", planned.kind, planned.key)
    ids = {need: row_id(experiment.id, "stage", *need) for need in (*planned.needs, *planned.wants)}
    found = set(session.scalars(select(Stage.id).where(Stage.id.in_(ids.values()))))
    for (kind, key), needed in ids.items():
        if needed not in found:
            raise NotFound(f"experiment {experiment.slug} has no stage {kind}/{key}")
    last = session.scalar(select(func.max(Stage.ordinal)).where(Stage.experiment_id == experiment.id))
    row = _stage_row(experiment.id, id_, 0 if last is None else last + 1, planned)
    session.execute(insert(Stage), [row | {"state": StageState.BLOCKED}])
    if ids:
        session.execute(insert(StageNeed), _need_rows(id_, planned, ids.__getitem__))


def _stage_row(experiment_id: str, id_: str, ordinal: int, planned: PlannedStage) -> Json:
    return {
        "id": id_, "experiment_id": experiment_id, "ordinal": ordinal, "kind": planned.kind, "key": planned.key,
        "queue": planned.queue, "params": planned.params, "estimate": planned.estimate, "optional": planned.optional,
        "work": {"shape": planned.shape, **asdict(planned.work)},
        "state": StageState.BLOCKED if planned.needs or planned.wants else StageState.READY,
        "attempt": 0, "losses": 0, "step": 0, "steps": 0,
        "progress": {}, "partial": {}, "result": {}, "error": {}, "history": [], "seconds": 0.0,
    }  # fmt: skip


def _need_rows(stage_id: str, planned: PlannedStage, id_of: Callable[[Need], str]) -> list[Json]:
    wanted = [need for need in planned.wants if need not in planned.needs]
    return [
        {"stage_id": stage_id, "needs_id": id_of(need), "optional": optional}
        for needs, optional in ((planned.needs, False), (wanted, True))
        for need in needs
    ]
