"""The rows of a new experiment: its runs, its stages and their arrows, under a slug that is free."""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, delete, insert, select
from sqlalchemy.orm import InstrumentedAttribute, Session, defer

from modescape import names, own_sets
from modescape.acting import actor, own
from modescape.errors import Conflict, InvalidInput
from modescape.records import PRIORITIES, PlannedStage, StageKind, StageState, Status
from modescape.spec import ExperimentSpec
from modescape.store.lookup import row_id
from modescape.store.own_sets import registered
from modescape.store.stages import add_stages
from modescape.store.transaction import LOOKS_LOCK, Change
from modescape.tables import Experiment, Idempotency, Run, Stage

TAG_BYTES = 1000  # with sixteen methods they stay below the 2,704 bytes PostgreSQL takes in an index row


def add_experiment(
    change: Change,
    name: str,
    spec: ExperimentSpec,
    stages: Sequence[PlannedStage],
    tags: list[str],
    *,
    recipe: str | None = None,
    planned: int | None = None,
    first_ordinal: int = 0,
    turn: str | None = None,
    bytes: float = 0.0,
) -> Experiment:
    """The experiment with all its rows. bytes: that it will keep; recipe: what it shares with others that have its
    runs, where that is not the spec's own; planned: runs promised, where they are not all here; turn: id of the sweep
    with which it takes turns, first_ordinal: place of its first stage among that one's. Raises ValueError for two
    stages of the same kind and key."""
    session = change.session
    change.lock(LOOKS_LOCK)  # of two launched at once, one is the earlier
    recipe = recipe or spec.recipe()
    earlier = having_trainings(session, recipe)
    id_ = str(uuid.uuid4())
    experiment = Experiment(
        id=id_, turn=turn or id_, slug=free_slug(session, Experiment.slug, name), name=name, tags=tags,
        created_by=actor().name,
        recipe=recipe, planned_runs=earlier[0].planned_runs if earlier else planned or spec.ensemble.runs,
        earlier=[{k: getattr(row, k) for k in ("id", "slug", "name", "digest", "runs")} for row in earlier],
        spec=spec.model_dump(mode="json"), digest=spec.digest(), created_at=change.now, status=Status.QUEUED,
        dataset=own_sets.shown_as(spec.data, registered(session)),
        input_scale=spec.data.input_scale if spec.imported is None else spec.source,
        architecture=spec.network.architecture,
        methods=[chosen.method for chosen in spec.methods], runs=spec.ensemble.runs, stages_total=len(stages),
        stages_done=0, seconds=0.0, finding={}, planned_bytes=int(bytes),
    )  # fmt: skip
    session.add(experiment)
    session.flush()
    _add_runs(session, experiment, stages)
    add_stages(session, experiment.id, stages, first=first_ordinal)
    return experiment


def plan_again(
    change: Change,
    experiment: Experiment,
    spec: ExperimentSpec,
    stages: Sequence[PlannedStage],
    stays: Collection[tuple[str, str]],
) -> None:
    """Another promise in place of the one there was, for an experiment that is growing: its stages are those of the new
    plan. stays: (kind, key) of stages that are the same in both and are not done again where they have succeeded.

    A worker that is doing another one loses it: stages of the new plan have no lease.
    """
    session = change.session
    before = {(row.kind, row.key): row for row in session.scalars(_stages_of(experiment))}
    kept = {name for name in stays if name in before and before[name].state is StageState.SUCCEEDED}
    session.execute(delete(Stage).where(Stage.id.in_([row.id for name, row in before.items() if name not in kept])))
    session.execute(delete(Run).where(Run.experiment_id == experiment.id, Run.number >= spec.ensemble.runs))
    known = set(session.scalars(select(Run.number).where(Run.experiment_id == experiment.id)))
    experiment.spec, experiment.digest = spec.model_dump(mode="json"), spec.digest()
    experiment.dataset = own_sets.shown_as(spec.data, registered(session))
    experiment.methods, experiment.runs = [chosen.method for chosen in spec.methods], spec.ensemble.runs
    experiment.finding, experiment.error = {}, None
    experiment.accuracy = experiment.ensemble_accuracy = experiment.disagreement = None
    _add_runs(session, experiment, stages, known)
    add_stages(session, experiment.id, stages, there=kept)


def _stages_of(experiment: Experiment) -> Select[Any]:
    heavy = (defer(Stage.result), defer(Stage.partial))
    return select(Stage).options(*heavy).where(Stage.experiment_id == experiment.id)


def _add_runs(
    session: Session, experiment: Experiment, stages: Sequence[PlannedStage], known: Collection[int] = ()
) -> None:
    trained = {one.params["run"]: one for one in stages if one.kind == StageKind.TRAIN and "run" in one.params}
    rows = [
        {"id": row_id(experiment.id, "run", number), "experiment_id": experiment.id, "number": number,
         "seeds": trained[number].params.get("seeds", {}) if number in trained else {}, "arithmetic": {}}
        for number in range(experiment.runs)
        if number not in known
    ]  # fmt: skip
    if rows:
        session.execute(insert(Run), rows)


def having_trainings(session: Session, recipe: str) -> list[Experiment]:
    """Experiments that share trainings with one of this recipe, oldest first; archived ones too."""
    light = (defer(Experiment.spec, raiseload=True), defer(Experiment.notes, raiseload=True))
    of_it = select(Experiment).options(*light).where(Experiment.recipe == recipe)
    return list(session.scalars(of_it.order_by(Experiment.created_at, Experiment.id)))


def known_request(change: Change, idempotency: tuple[str, str] | None) -> Experiment | None:
    """The experiment that this request made before. Raises Conflict when another request had its key."""
    if idempotency is None:
        return None
    key, digest = idempotency
    row = change.session.get(Idempotency, own(key))
    if row is None:
        return None
    experiment = change.session.get(Experiment, row.experiment_id)
    if experiment is None:  # purged since: the key is free again
        change.session.delete(row)
        change.session.flush()
    elif row.request != digest:
        raise Conflict(f"the Idempotency-Key {key[:80]!r} was used for another request; use a new key")
    return experiment


def checked_tags(tags: Sequence[str]) -> list[str]:
    """Each once, whatever its case, in their normal form. Raises InvalidInput."""
    alike: dict[str, str] = {}
    for tag in (names.normal(" ".join(tag.split())) for tag in tags):
        alike.setdefault(names.folded(tag), tag)
    clean = list(alike.values())
    if any(not 1 <= len(tag) <= 40 for tag in clean) or len(clean) > 20 or len("".join(clean).encode()) > TAG_BYTES:
        raise InvalidInput(
            "these tags do not fit",
            field="tags", allowed=f"at most 20, each 1 to 40 characters, together {TAG_BYTES:,} bytes of UTF-8",
        )  # fmt: skip
    return clean


def checked_new_tags(tags: Sequence[str]) -> list[str]:
    """As `checked_tags`, and none that reads as several: forms, filters and tables write commas and semicolons between
    tags. Those that experiments have already stay theirs. Raises InvalidInput."""
    for tag in tags:
        if "," in tag or ";" in tag:
            raise InvalidInput(f"{tag[:60]!r} reads as several", field="tag", allowed="no comma and no semicolon")
    return checked_tags(tags)


def checked_project(project: str) -> str:
    """In its normal form; "" is none. Raises InvalidInput."""
    return names.checked(project, field="project", longest=100) if project.strip() else ""


def checked_priority(priority: int) -> int:
    """Raises InvalidInput."""
    if priority not in PRIORITIES.values():
        allowed = ", ".join(f"{value} ({word})" for word, value in PRIORITIES.items())
        raise InvalidInput(f"{priority} is no priority", field="priority", allowed=allowed)
    return priority


def free_slug(session: Session, column: InstrumentedAttribute[str], name: str) -> str:
    """For an address, one that no row of that table has."""
    base = _slug(name)
    taken = set(session.scalars(select(column).where(column.startswith(base, autoescape=True))))
    if base not in taken and not _looks_like_id(base):
        return base
    number = 2
    while f"{base}-{number}" in taken:
        number += 1
    return f"{base}-{number}"


def _slug(name: str) -> str:
    ascii_ = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_).strip("-")[:60].rstrip("-") or "experiment"


def _looks_like_id(slug: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", slug) is not None
