"""Changes of stages' states inside a transaction that holds their experiment, by the rules of `stage_graph`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from modescape import stage_graph
from modescape.records import EventKind, Json, StageState
from modescape.stage_graph import Arrow, Graph
from modescape.store.notices import notify
from modescape.store.transaction import Change
from modescape.tables import Experiment, Stage, StageNeed

NO_WAIT: Json = {"waits": None, "waits_until": None, "room": None}
# A stage that is to be done again goes back to these, and keeps what it has saved.
AFRESH: Json = {"state": StageState.BLOCKED, "wish": None, "losses": 0, "lost_at_step": None, "finished_at": None,
                "rung_at": None, **NO_WAIT}  # fmt: skip

NEEDED = aliased(Stage)  # once: the columns of a new alias cost more than most statements


def move(change: Change, *where: ColumnElement[bool], **values: Any) -> int:
    """One conditional UPDATE of stages; how many rows it changed."""
    change.session.flush()
    if values.get("state") is StageState.READY:
        values["ready_at"] = change.now
    result = change.session.execute(
        update(Stage).where(*where).values(**values).execution_options(synchronize_session="fetch")
    )
    return int(result.rowcount)  # type: ignore[attr-defined]


def make_again(change: Change, stage: Stage) -> None:
    """succeeded -> blocked, where what stood on `stage` was made without its result, or from an earlier one; and
    so is `stage` itself when that happened to it while it ran. A stage that is retried thus changes nothing until
    it has succeeded."""
    earlier = waiting_for([stage.id]) & (Stage.state == StageState.SUCCEEDED)
    since = exists().where(
        StageNeed.stage_id == stage.id, StageNeed.needs_id == NEEDED.id, NEEDED.state == StageState.SUCCEEDED,
        NEEDED.finished_at > stage.claimed_at,
    )  # fmt: skip
    late = (Stage.id == stage.id) & since
    move(change, or_(earlier, late), step=0, **AFRESH)
    change.session.refresh(stage)


def waiting_for(ids: Sequence[str]) -> ColumnElement[bool]:
    """Stages with an arrow to one of these."""
    return Stage.id.in_(select(StageNeed.stage_id).where(StageNeed.needs_id.in_(ids)))


def graph_of(session: Session, experiment_id: str, *which: ColumnElement[bool]) -> Graph:
    """The stages of an experiment with the arrows of those that meet all conditions."""
    of_it = Stage.experiment_id == experiment_id
    states = session.execute(select(Stage.id, Stage.state).where(of_it).order_by(Stage.ordinal))
    arrows = select(StageNeed.stage_id, StageNeed.needs_id, StageNeed.optional)
    rows = session.execute(arrows.join(Stage, Stage.id == StageNeed.stage_id).where(of_it, *which))
    return Graph({row.id: row.state for row in states}, [Arrow(*row) for row in rows])


def settle(change: Change, experiment: Experiment, *, pausing: bool = False) -> None:
    """blocked -> ready (paused while the experiment is), failed or cancelled, wherever waiting is over; then the list
    columns."""
    session = change.session
    session.flush()
    held = select(Stage.id).where(Stage.experiment_id == experiment.id, Stage.state == StageState.PAUSED).exists()
    paused = pausing or bool(session.scalar(select(held)))
    for one in graph_of(session, experiment.id, Stage.state == StageState.BLOCKED).settle(paused=paused):
        told = {} if one.state in (StageState.READY, StageState.PAUSED) else {"how": "need"}
        move(change, Stage.id == one.stage, state=one.state, **_left_by(change, one))
        change.event(EventKind.of(one.state), experiment.id, session.get_one(Stage, one.stage), **told)
    refresh(change, experiment)


def _left_by(change: Change, one: stage_graph.Move) -> Json:
    """What else a move writes."""
    if one.state is StageState.CANCELLED:
        return {"error": {}, "finished_at": change.now}
    if one.because is not None:
        return {"error": _taken_along(change.session.get_one(Stage, one.because)), "finished_at": change.now}
    return {"rung_at": None}


def _taken_along(failed: Stage) -> Json:
    """The error of a stage that a failed one took along: it names the first of all."""
    if failed.error.get("type") == "NeedFailed":
        return dict(failed.error)
    message = f"needs {failed.kind}/{failed.key}, which failed"
    return {"type": "NeedFailed", "message": message, "traceback": "", "cause": failed.id}


def refresh(change: Change, experiment: Experiment) -> None:
    """The list columns that follow from the stages."""
    session = change.session
    session.flush()
    rows = session.execute(
        select(Stage.state, Stage.optional, func.count(), func.sum(Stage.seconds))
        .where(Stage.experiment_id == experiment.id)
        .group_by(Stage.state, Stage.optional)
    ).all()
    counts: Counter[StageState] = Counter()
    for state, _, count, _ in rows:
        counts[state] += count
    experiment.stages_total = counts.total()
    experiment.stages_done = counts[StageState.SUCCEEDED]
    experiment.seconds = float(sum(seconds or 0.0 for *_, seconds in rows))
    now = stage_graph.status(
        ((state, optional) for state, optional, *_ in rows), started=experiment.started_at is not None
    )
    if not now.has_ended:
        experiment.finished_at = None
    elif experiment.finished_at is None:
        experiment.finished_at = change.now
    if now != experiment.status:
        experiment.status = now
        change.event(EventKind.STATUS, experiment.id, status=now, stages_done=experiment.stages_done,
                     stages_total=experiment.stages_total)  # fmt: skip
        if now.has_ended:
            notify(change, experiment)
