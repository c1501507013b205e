"""Every query and every change of state in the project. The database is the truth; the queue is only a doorbell.

    store = Store("sqlite:////tmp/lab/modescape.db")             # after `upgrade(url)`
    lease = store.claim("gpu0", lease_seconds=30)                # a stage to work on, or None
    store.finish(lease, StageOutput(...), memo)

What the store promises:

* Each transition is one conditional UPDATE and one event in one transaction, together with the columns lists and
  facets read. Whoever comes second changes nothing.
* Every write of a worker names its lease's token. A worker that lost its stage gets LeaseLost and changes nothing.
* Rows are returned detached: they hold what was true when they were read, belong to the caller and never change.
* All methods may be called from any thread and any process. Users' verbs (cancel, pause, ...) may be repeated.
* Event ids grow in the order in which events become visible, so "everything after id n" never misses one.

A stage is blocked, ready, running, paused, succeeded, failed or cancelled (see `tables.Stage` and docs of the graph in
`plan`). It becomes ready when what it needs has succeeded and what it wants has ended; without what it wants and did
not get it does what it can, and does it again when that succeeds after all. An experiment's status follows from its
stages: queued until one starts, running while one runs or may run, paused while one is paused and none runs, and at the
end succeeded, cancelled, or failed (when a stage failed that is not optional).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import URL, ColumnElement, delete, exists, func, insert, inspect, or_, select, text, update
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, aliased, defer

from modescape import names, own
from modescape.artifacts import ArtifactInfo
from modescape.errors import Conflict, InvalidInput, LeaseLost, NotFound
from modescape.listing import AnyOf, Condition, Listing, ListQuery, Page
from modescape.prices import Finished, Work
from modescape.schema import check_schema, downgrade, open_database, schema_state, upgrade
from modescape.spec import DataSpec, ExperimentSpec
from modescape.tables import (
    Artifact,
    ArtifactUse,
    Base,
    Catalogue,
    Chunk,
    Event,
    Experiment,
    Fact,
    Idempotency,
    Matrix,
    Measurement,
    Run,
    Selection,
    Series,
    Solution,
    Stage,
    StageNeed,
    Throughput,
    Worker,
    utcnow,
)

Json = dict[str, Any]
Point = tuple[int, float, float]  # step, value, Unix time
Need = tuple[str, str]  # kind, key

ACTIVE = ("blocked", "ready", "running", "paused")
ENDED = ("succeeded", "failed", "cancelled")
UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeout)  # the database does not answer, or is busy for too long
MAX_LOSSES = 3  # lost leases without progress before a stage counts as poisonous
CHUNK_POINTS = 1000
HISTORY = 50
TAG_BYTES = 1000  # with sixteen methods they stay below the 2,704 bytes PostgreSQL takes in an index row
TOLD = ("failed", "skipped")  # of a result's extra, and with the progress, so that pages need not read results
RING_AT_ONCE = 16  # a wake-up makes a worker go on until nothing is ready, so a few are enough

REMEMBERED = 0.98  # of what earlier stages of a kind say about its speed, at each new one: the last fifty or so
_EVENT_LOCK = 0x6D6F6465_01
_PURGE_LOCK = 0x6D6F6465_02
_LOOKS_LOCK = 0x6D6F6465_03
_IDS = uuid.UUID("0b1c6a4e-6d2f-5f0e-9c0a-7f6d6f646573")


# --- what stages leave behind -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlannedStage:
    """A stage as the plan has it.

    needs: (kind, key) of stages that must succeed first; wants: of those that must end first, and whose results it can
    do without; params: what the stage function gets besides the spec ("run" where it belongs to one, "first_number"
    where it makes solutions); work: what there is to do, shape: on what (see `prices`); estimate: seconds that takes on
    the workers there are; optional: the experiment succeeds even if this one fails.
    """

    kind: str
    key: str
    needs: tuple[Need, ...] = ()
    params: Json = field(default_factory=dict)
    estimate: float = 0.0
    queue: str = "cpu"
    wants: tuple[Need, ...] = ()
    optional: bool = False
    work: Work = field(default_factory=Work)
    shape: str = ""


@dataclass(frozen=True, kw_only=True)
class NewSolution:
    """A row of `tables.Solution`, before it has an id."""

    number: int
    run: int
    role: str
    index: int
    method: str | None = None
    sample_set: str | None = None
    epoch: float | None = None
    seed: int | None = None
    attempt: int | None = None
    strength: float | None = None
    relative: float | None = None
    norm: float | None = None
    cosine: float | None = None
    distance: float | None = None
    accuracy: float | None = None
    diversity: float | None = None
    disagreement: float | None = None
    weights: str | None = None
    predictions: Json = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NewMeasurement:
    """A row of `tables.Measurement`, before it has an id."""

    metric: str
    value: float | None
    solution: int | None = None
    subject: str = ""
    split: str | None = None
    corruption: str | None = None
    intensity: int | None = None
    n: int | None = None
    details: Json = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NewMatrix:
    """A row of `tables.Matrix`, before it has an id."""

    name: str
    split: str
    rows: list[int]
    columns: list[Any]
    artifact: str
    details: Json = field(default_factory=dict)


@dataclass
class StageOutput:
    """All that a finished stage leaves: rows, files, and what its dependants need. Kept whole as `stage.result`.

    runs: run number -> {"accuracy": …, "best_accuracy": …, "arithmetic": …, "failed": why, or ""}; experiment: list
    columns to set (accuracy, ensemble_accuracy, disagreement, finding); weights: solution number -> digest, for weights
    made again; extra: JSON for the stages that need this one; "failed" in it says that what the stage made has failed
    (a training that diverged), "skipped" why it made nothing. A finding joins what other stages have found: its keys
    replace theirs, and the claims under its key "claims" (letter -> claim) replace those of the same letter.
    """

    solutions: list[NewSolution] = field(default_factory=list)
    measurements: list[NewMeasurement] = field(default_factory=list)
    matrices: list[NewMatrix] = field(default_factory=list)
    artifacts: list[ArtifactInfo] = field(default_factory=list)
    runs: dict[int, Json] = field(default_factory=dict)
    experiment: Json = field(default_factory=dict)
    weights: dict[int, str] = field(default_factory=dict)
    extra: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        """Plain JSON: numpy numbers become Python's, NaN and infinity become null."""
        option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        plain: Json = orjson.loads(orjson.dumps(asdict(self), option=option))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StageOutput:
        return cls(
            solutions=[NewSolution(**item) for item in data["solutions"]],
            measurements=[NewMeasurement(**item) for item in data["measurements"]],
            matrices=[NewMatrix(**item) for item in data["matrices"]],
            artifacts=[ArtifactInfo(**{**item, "shape": tuple(item["shape"])}) for item in data["artifacts"]],
            runs={int(number): values for number, values in data["runs"].items()},
            experiment=data["experiment"],
            weights={int(number): digest for number, digest in data["weights"].items()},
            extra=data["extra"],
        )

    def moved(self, source: Json, target: Json) -> StageOutput | None:
        """The same output for a stage with other params: own solution numbers and the run change, nothing else.

        None when it speaks of solutions it did not make and the numbers differ: those cannot be told here.
        """
        shift = target.get("first_number", 0) - source.get("first_number", 0)
        old_run, new_run = source.get("run"), target.get("run")
        if shift == 0 and old_run == new_run:
            return self
        own = {solution.number for solution in self.solutions} | set(self.weights)
        named = {m.solution for m in self.measurements if m.solution is not None}
        for matrix in self.matrices:
            named |= {*matrix.rows, *(column for column in matrix.columns if isinstance(column, int))}
        if not named <= own:
            return None

        def run(number: int) -> int:
            return new_run if new_run is not None and number == old_run else number

        def shifted(items: list[Any]) -> list[Any]:
            return [item + shift if isinstance(item, int) else item for item in items]

        return replace(
            self,
            solutions=[replace(s, number=s.number + shift, run=run(s.run)) for s in self.solutions],
            measurements=[
                m if m.solution is None else replace(m, solution=m.solution + shift) for m in self.measurements
            ],
            matrices=[replace(m, rows=shifted(m.rows), columns=shifted(m.columns)) for m in self.matrices],
            runs={run(number): values for number, values in self.runs.items()},
            weights={number + shift: digest for number, digest in self.weights.items()},
        )


@dataclass(frozen=True)
class Lease:
    """The right to work on a stage until it expires unless beaten; stage and experiment are as they were claimed."""

    token: str
    owner: str
    seconds: float
    stage: Stage
    experiment: Experiment

    @property
    def stage_id(self) -> str:
        return self.stage.id

    @property
    def experiment_id(self) -> str:
        return self.experiment.id

    @property
    def kind(self) -> str:
        return self.stage.kind

    @property
    def key(self) -> str:
        return self.stage.key

    @property
    def params(self) -> Json:
        return self.stage.params

    @property
    def partial(self) -> Json:
        return self.stage.partial

    @property
    def attempt(self) -> int:
        return self.stage.attempt

    @property
    def spec(self) -> Json:
        return self.experiment.spec


@dataclass(frozen=True)
class SeriesPoints:
    """One curve: steps int64 [n], values float64 [n], times float64 [n] (Unix seconds)."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.float64]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter((self.steps, self.values, self.times))


@dataclass(frozen=True)
class Purged:
    """What a purge freed, the files nothing names any more (and when each was first named), the stages gone."""

    bytes: int
    files: dict[str, datetime]
    stages: list[str]


# --- what can be listed -----------------------------------------------------------------------------------------------

EXPERIMENTS = Listing(
    model=Experiment,
    key=Experiment.id,
    fields={
        "id": Experiment.id, "slug": Experiment.slug, "name": Experiment.name, "status": Experiment.status,
        "dataset": Experiment.dataset, "input_scale": Experiment.input_scale, "architecture": Experiment.architecture,
        "preset": Experiment.preset, "digest": Experiment.digest, "created_by": Experiment.created_by,
        "created": Experiment.created_at, "started": Experiment.started_at, "finished": Experiment.finished_at,
        "runs": Experiment.runs, "stages_total": Experiment.stages_total, "stages_done": Experiment.stages_done,
        "seconds": Experiment.seconds, "accuracy": Experiment.accuracy,
        "ensemble_accuracy": Experiment.ensemble_accuracy, "disagreement": Experiment.disagreement,
    },
    sort="-created",
    lists={"method": Experiment.methods, "tag": Experiment.tags},
    texts=(Experiment.name, Experiment.slug, Experiment.notes),
)  # fmt: skip

SOLUTIONS = Listing(
    model=Solution,
    key=Solution.number,
    fields={
        "number": Solution.number, "run": Solution.run, "role": Solution.role, "method": Solution.method,
        "sample_set": Solution.sample_set, "index": Solution.index, "epoch": Solution.epoch, "seed": Solution.seed,
        "attempt": Solution.attempt, "strength": Solution.strength, "relative": Solution.relative,
        "norm": Solution.norm, "cosine": Solution.cosine, "distance": Solution.distance,
        "accuracy": Solution.accuracy, "diversity": Solution.diversity, "disagreement": Solution.disagreement,
        "weights": Solution.weights,
    },
    sort="number",
    lists={},
)  # fmt: skip

MEASUREMENTS = Listing(
    model=Measurement,
    key=Measurement.id,
    fields={
        "solution": Measurement.solution, "subject": Measurement.subject, "metric": Measurement.metric,
        "split": Measurement.split, "corruption": Measurement.corruption, "intensity": Measurement.intensity,
        "value": Measurement.value, "n": Measurement.n,
    },
    sort="solution",
    lists={},
)  # fmt: skip

FACETS = ("status", "dataset", "input_scale", "architecture", "method", "tag")
_HEAVY = (Experiment.spec, Experiment.notes)  # never read for lists


class _Change:
    """One writing transaction. Events wait until its end: their ids are given under a lock that is then held briefly,
    and always last, so that transactions cannot wait for each other in a circle."""

    def __init__(self, session: Session, now: datetime) -> None:
        self.session = session
        self.now = now
        self._events: list[Json] = []

    def event(self, kind: str, experiment_id: str | None, stage: Stage | None = None, **payload: Any) -> None:
        self._events.append(
            {
                "kind": kind, "experiment_id": experiment_id, "stage_id": stage.id if stage else None, "at": self.now,
                "payload": ({"kind": stage.kind, "key": stage.key} if stage else {}) | payload,
            }
        )  # fmt: skip

    def write_events(self) -> None:
        if not self._events:
            return
        self.session.flush()
        self.lock("pg_advisory_xact_lock", _EVENT_LOCK)
        self.session.execute(insert(Event), self._events)

    def lock(self, function: str, number: int) -> None:
        """Take one of PostgreSQL's advisory locks until the end; on SQLite writers are alone anyway."""
        if self.session.get_bind().dialect.name == "postgresql":
            self.session.execute(text(f"SELECT {function}({number})"))


class Store:
    """One database. Raises ConfigurationError for a URL that cannot be opened; the tables must exist (`upgrade`)."""

    def __init__(self, url: str | URL) -> None:
        self.url = url
        self._engine = open_database(url)
        self._writer = self._engine.execution_options(sqlite_begin="IMMEDIATE")
        self._postgres = self._engine.dialect.name == "postgresql"

    def close(self) -> None:
        self._engine.dispose()

    def ping(self) -> None:
        """Raises when the database does not answer."""
        with self._reading() as session:
            session.execute(text("SELECT 1"))

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def _writing(self) -> Iterator[_Change]:
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            change = _Change(session, self._now(session))
            yield change
            change.write_events()

    def _now(self, session: Session) -> datetime:
        """The database's clock where there is one, so that workers on several machines agree."""
        if not self._postgres:
            return utcnow()
        now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        return now

    # --- experiments: making and finding -----------------------------------------------------------------------------

    def create_experiment(
        self,
        *,
        name: str,
        spec: ExperimentSpec,
        stages: Sequence[PlannedStage],
        preset: str | None = None,
        notes: str = "",
        tags: Sequence[str] = (),
        created_by: str = "",
        fresh: bool = False,
        idempotency: tuple[str, str] | None = None,
    ) -> Experiment:
        """Store an experiment and its stages, those without needs ready to be claimed, in one transaction.

        idempotency: (key, digest of the request). The same pair again returns the experiment made the first time;
        the same key with another digest raises Conflict. Raises InvalidInput for a name or tags that do not fit.
        """
        name, tags = names.checked(name, field="name"), _checked_tags(tags)
        for last in (False, True):
            try:
                with self._writing() as change:
                    known = self._known_request(change, idempotency)
                    if known is not None:
                        return known
                    experiment = self._add_experiment(change, name, spec, stages, tags)
                    experiment.preset, experiment.notes, experiment.created_by = preset, notes, created_by
                    experiment.fresh = fresh
                    if idempotency is not None:
                        key, digest = idempotency
                        row = Idempotency(key=key, request=digest, experiment_id=experiment.id, at=change.now)
                        change.session.add(row)
                    change.event("created", experiment.id, name=name, slug=experiment.slug)
                return experiment
            except IntegrityError:  # another process took the slug or the key in the same moment
                if last:
                    raise
        raise AssertionError("unreachable")

    def _known_request(self, change: _Change, idempotency: tuple[str, str] | None) -> Experiment | None:
        if idempotency is None:
            return None
        key, digest = idempotency
        row = change.session.get(Idempotency, key)
        if row is None:
            return None
        experiment = change.session.get(Experiment, row.experiment_id)
        if experiment is None:  # purged since: the key is free again
            change.session.delete(row)
            change.session.flush()
        elif row.request != digest:
            raise Conflict(f"the Idempotency-Key {key[:80]!r} was used for another request; use a new key")
        return experiment

    def _add_experiment(
        self, change: _Change, name: str, spec: ExperimentSpec, stages: Sequence[PlannedStage], tags: list[str]
    ) -> Experiment:
        session = change.session
        change.lock("pg_advisory_xact_lock", _LOOKS_LOCK)  # of two launched at once, one is the earlier
        earlier = self._having_trainings(session, spec.recipe())
        experiment = Experiment(
            id=str(uuid.uuid4()), slug=self._free_slug(session, name), name=name, tags=tags,
            recipe=spec.recipe(), planned_runs=earlier[0].planned_runs if earlier else spec.ensemble.runs,
            earlier=[{k: getattr(row, k) for k in ("id", "slug", "name", "digest", "runs")} for row in earlier],
            spec=spec.model_dump(mode="json"), digest=spec.digest(), created_at=change.now, status="queued",
            dataset=own.shown_as(spec.data, _registered(session)), input_scale=spec.data.input_scale,
            architecture=spec.network.architecture,
            methods=[chosen.method for chosen in spec.methods], runs=spec.ensemble.runs, stages_total=len(stages),
            stages_done=0, seconds=0.0, finding={},
        )  # fmt: skip
        session.add(experiment)
        session.flush()
        seeds = {s.params["run"]: s.params.get("seeds", {}) for s in stages if s.kind == "train" and "run" in s.params}
        runs = [
            {
                "id": _id(experiment.id, "run", i),
                "experiment_id": experiment.id,
                "number": i,
                "seeds": seeds.get(i, {}),
                "arithmetic": {},
            }
            for i in range(spec.ensemble.runs)
        ]
        session.execute(insert(Run), runs)
        ids = {(s.kind, s.key): _id(experiment.id, "stage", s.kind, s.key) for s in stages}
        if len(ids) < len(stages):
            raise ValueError("two planned stages have the same kind and key")
        rows = [_stage_row(experiment.id, ids[s.kind, s.key], i, s) for i, s in enumerate(stages)]
        if rows:
            session.execute(insert(Stage), rows)
        needs = [row for s in stages for row in _need_rows(ids[s.kind, s.key], s, lambda need: ids[need])]
        if needs:
            session.execute(insert(StageNeed), needs)
        return experiment

    def _having_trainings(self, session: Session, recipe: str) -> list[Experiment]:
        """Experiments that share trainings with one of this recipe, oldest first; archived ones too."""
        light = (defer(Experiment.spec, raiseload=True), defer(Experiment.notes, raiseload=True))
        of_it = select(Experiment).options(*light).where(Experiment.recipe == recipe)
        return list(session.scalars(of_it.order_by(Experiment.created_at, Experiment.id)))

    def having_trainings(self, spec: ExperimentSpec) -> list[Experiment]:
        """Experiments whose trainings one of this spec would share, oldest first, without `spec` and `notes`."""
        with self._reading() as session:
            return self._having_trainings(session, spec.recipe())

    def judged(self, ids: Sequence[str]) -> dict[str, bool]:
        """Of those experiments that there are: whether any claim has been judged."""
        if not ids:
            return {}
        with self._reading() as session:
            rows = session.execute(select(Experiment.id, Experiment.finding).where(Experiment.id.in_(ids)))
            return {id_: bool(found.get("claims")) for id_, found in rows}

    def _free_slug(self, session: Session, name: str) -> str:
        base = _slug(name)
        taken = set(session.scalars(select(Experiment.slug).where(Experiment.slug.startswith(base, autoescape=True))))
        if base not in taken and not _looks_like_id(base):
            return base
        number = 2
        while f"{base}-{number}" in taken:
            number += 1
        return f"{base}-{number}"

    def experiment(self, reference: str) -> Experiment:
        """By id or slug. Raises NotFound."""
        with self._reading() as session:
            return self._experiment(session, reference)

    def _experiment(self, session: Session, reference: str, *, lock: bool = False) -> Experiment:
        statement = select(Experiment).where(or_(Experiment.id == reference, Experiment.slug == reference))
        found = session.scalars(statement.with_for_update() if lock else statement).one_or_none()
        if found is None:
            raise NotFound(f"there is no experiment {reference[:80]!r}; the list shows what there is")
        return found

    def experiments(self, query: ListQuery = ListQuery()) -> Page[Experiment]:
        """A page of experiments with what lists show; `spec` and `notes` are not read. Raises InvalidInput."""
        statement = select(Experiment).options(*(defer(column, raiseload=True) for column in _HEAVY))
        with self._reading() as session:
            return EXPERIMENTS.page(
                session, statement.where(*_archived(query.archived)), conditions=query.conditions, sort=query.sort,
                cursor=query.cursor, limit=query.limit,
            )  # fmt: skip

    def facets(self, query: ListQuery = ListQuery()) -> dict[str, list[tuple[str, int]]]:
        """For each facet the values among the experiments `query` finds, with counts, most frequent first.

        One pass: distinct combinations are few, so grouping by all of them and adding up here costs one index scan
        where a query per facet would cost six.
        """
        columns = (
            Experiment.status, Experiment.dataset, Experiment.input_scale, Experiment.architecture, Experiment.methods,
            Experiment.tags,
        )  # fmt: skip
        counts: dict[str, dict[str, int]] = {name: {} for name in FACETS}
        with self._reading() as session:
            where = (*_archived(query.archived), *EXPERIMENTS.where(query.conditions, session))
            rows = session.execute(select(*columns, func.count()).where(*where).group_by(*columns)).all()
        for *values, count in rows:
            for name, value in zip(FACETS, values, strict=True):
                for item in value if isinstance(value, list) else [value]:
                    counts[name][item] = counts[name].get(item, 0) + count
        return {name: sorted(found.items(), key=lambda pair: (-pair[1], pair[0])) for name, found in counts.items()}

    def patch(
        self, reference: str, *, name: str | None = None, tags: Sequence[str] | None = None, notes: str | None = None
    ) -> Experiment:
        """Change what is not part of the promise. Raises NotFound, InvalidInput."""
        with self._writing() as change:
            experiment = self._experiment(change.session, reference, lock=True)
            if name is not None:
                experiment.name = names.checked(name, field="name")
            if tags is not None:
                experiment.tags = _checked_tags(tags)
            if notes is not None:
                experiment.notes = notes
            change.event("changed", experiment.id, name=experiment.name, tags=experiment.tags)
            return experiment

    # --- experiments: users' verbs -----------------------------------------------------------------------------------

    def cancel(self, reference: str) -> Experiment:
        """Stop everything unfinished; running stages notice at their next step. Conflict once it has ended."""
        with self._writing() as change:
            experiment = self._experiment(change.session, reference, lock=True)
            if experiment.status != "cancelled":
                self._refuse(experiment, ("succeeded", "failed"), "cancelled")
                self._cancel(change, experiment)
            return experiment

    def _cancel(self, change: _Change, experiment: Experiment) -> None:
        of_it = Stage.experiment_id == experiment.id
        cancelled = self._bulk(change, of_it, Stage.state.in_(("blocked", "ready", "paused")), state="cancelled",
                               wish=None, finished_at=change.now)  # fmt: skip
        asked = self._bulk(change, of_it, Stage.state == "running", wish="cancel")
        if cancelled or asked:
            change.event("cancelled", experiment.id, stages=cancelled, running=asked)
        self._refresh(change, experiment)

    def pause(self, reference: str) -> Experiment:
        """Hold everything unfinished; running stages save and stop at their next step. Conflict once it has ended."""
        with self._writing() as change:
            experiment = self._experiment(change.session, reference, lock=True)
            self._refuse(experiment, ENDED, "paused")
            of_it = Stage.experiment_id == experiment.id
            paused = self._bulk(change, of_it, Stage.state == "ready", state="paused")
            asked = self._bulk(change, of_it, Stage.state == "running", Stage.wish.is_(None), wish="pause")
            if paused or asked:
                change.event("paused", experiment.id, stages=paused, running=asked)
            self._refresh(change, experiment)
            return experiment

    def resume(self, reference: str) -> Experiment:
        """Undo `pause`; each stage goes on from its last saved state. Conflict once it has ended."""
        with self._writing() as change:
            experiment = self._experiment(change.session, reference, lock=True)
            self._refuse(experiment, ENDED, "resumed", "; use retry" if experiment.status != "succeeded" else "")
            of_it = Stage.experiment_id == experiment.id
            resumed = self._bulk(change, of_it, Stage.state == "paused", state="ready", rung_at=None)
            kept = self._bulk(change, of_it, Stage.state == "running", Stage.wish == "pause", wish=None)
            if resumed or kept:
                change.event("resumed", experiment.id, stages=resumed, running=kept)
            self._refresh(change, experiment)
            return experiment

    def retry(self, reference: str, stage_id: str | None = None) -> Experiment:
        """Give failed and cancelled stages (or one of them, with what hangs on it) another chance, from their last
        saved state. Conflict when there is nothing to retry; NotFound for a stage of another experiment."""
        with self._writing() as change:
            session = change.session
            experiment = self._experiment(session, reference, lock=True)
            of_it = Stage.experiment_id == experiment.id
            states = {row.id: row.state for row in session.execute(select(Stage.id, Stage.state).where(of_it))}
            if stage_id is not None and stage_id not in states:
                raise NotFound(f"experiment {experiment.slug} has no stage {stage_id[:80]!r}")
            again = [id_ for id_, state in states.items() if state in ("failed", "cancelled")]
            if stage_id is not None:
                again = _with_relatives(stage_id, again, self._arrows(session, experiment.id))
            if not again:
                done = states[stage_id] == "succeeded" if stage_id else experiment.status == "succeeded"
                if done:
                    raise Conflict("it has succeeded; there is nothing to retry")
                return experiment
            self._bulk(change, Stage.id.in_(again), state="blocked", wish=None, error={}, losses=0, lost_at_step=None,
                       finished_at=None, rung_at=None)  # fmt: skip
            self._bulk(change, _waiting_for(again), Stage.state == "ready", state="blocked")
            experiment.error = None
            experiment.archived_at = None
            self._unblock(change, experiment.id, Stage.id.in_(again))
            change.event("retried", experiment.id, stages=len(again))
            self._refresh(change, experiment)
            return experiment

    def archive(self, reference: str) -> Experiment:
        """Take it out of the lists and stop what still runs of it; `purge` frees its bytes. Raises NotFound."""
        with self._writing() as change:
            experiment = self._experiment(change.session, reference, lock=True)
            if experiment.archived_at is None:
                if experiment.status not in ENDED:
                    self._cancel(change, experiment)
                experiment.archived_at = change.now
                change.event("archived", experiment.id)
            return experiment

    def restore(self, reference: str) -> Experiment:
        """Undo `archive`; what was stopped by it can be retried. Raises NotFound."""
        with self._writing() as change:
            experiment = self._experiment(change.session, reference, lock=True)
            if experiment.archived_at is not None:
                experiment.archived_at = None
                change.event("restored", experiment.id)
            return experiment

    def purge(self, reference: str) -> Purged:
        """Delete an archived experiment's rows; says which files nothing names any more. Raises NotFound, Conflict.

        The caller deletes the files: rows first, so that a crash between leaves files without rows, which `sweep`
        finds, never rows without files. A file written again after it was first named, and since `oldest_running`,
        may be wanted by a stage that has not named it yet; it is left for `sweep` too.
        """
        with self._writing() as change:
            session = change.session
            change.lock("pg_advisory_xact_lock", _PURGE_LOCK)  # nobody reuses a stage while its files are counted
            experiment = self._experiment(session, reference, lock=True)
            if experiment.archived_at is None:
                raise Conflict(f"{experiment.slug} is not archived; archive it first, then purge")
            stages = list(session.scalars(select(Stage.id).where(Stage.experiment_id == experiment.id)))
            of_it = select(Stage.id).where(Stage.experiment_id == experiment.id)
            named = set(session.scalars(select(ArtifactUse.digest).where(ArtifactUse.stage_id.in_(of_it))))
            session.execute(delete(Experiment).where(Experiment.id == experiment.id))
            session.execute(delete(Event).where(Event.experiment_id == experiment.id))
            rows = self._forget_files(session, named)
            freed = sum(row.bytes for row in rows)
            change.event("purged", experiment.id, slug=experiment.slug, bytes=freed)
            return Purged(freed, {row.digest: row.created_at for row in rows}, stages)

    def _forget_files(self, session: Session, digests: Iterable[str]) -> list[Artifact]:
        """Delete the artifact rows among `digests` that no stage names, and return them."""
        unused = ~exists().where(ArtifactUse.digest == Artifact.digest)
        gone: list[Artifact] = []
        for some in _batches(sorted(digests)):
            rows = session.scalars(select(Artifact).where(Artifact.digest.in_(some), unused)).all()
            session.execute(delete(Artifact).where(Artifact.digest.in_([row.digest for row in rows])))
            gone += rows
        return gone

    def oldest_running(self) -> datetime | None:
        """When the oldest stage that is running now was claimed; None when none runs."""
        with self._reading() as session:
            return session.scalar(select(func.min(Stage.claimed_at)).where(Stage.state == "running"))

    def _refuse(self, experiment: Experiment, states: Sequence[str], verb: str, hint: str = "") -> None:
        if experiment.status in states:
            raise Conflict(f"{experiment.slug} has {_ENDED_WORDS[experiment.status]}; it cannot be {verb}{hint}")

    # --- stages ------------------------------------------------------------------------------------------------------

    def add_stage(self, reference: str, planned: PlannedStage) -> Stage:
        """A stage asked for later, such as `materialise`. The same kind and key again returns the one there is (ready
        again if it had failed or been cancelled). Raises NotFound when a stage it needs does not exist."""
        with self._writing() as change:
            session = change.session
            experiment = self._experiment(session, reference, lock=True)
            id_ = _id(experiment.id, "stage", planned.kind, planned.key)
            stage = session.get(Stage, id_)
            if stage is None:
                last = session.scalar(select(func.max(Stage.ordinal)).where(Stage.experiment_id == experiment.id))
                ids = {need: _id(experiment.id, "stage", *need) for need in (*planned.needs, *planned.wants)}
                found = set(session.scalars(select(Stage.id).where(Stage.id.in_(ids.values()))))
                for need, needed in ids.items():
                    if needed not in found:
                        raise NotFound(f"experiment {experiment.slug} has no stage {need[0]}/{need[1]}")
                row = _stage_row(experiment.id, id_, (last if last is not None else -1) + 1, planned)
                session.execute(insert(Stage), [row | {"state": "blocked"}])
                if ids:
                    session.execute(insert(StageNeed), _need_rows(id_, planned, ids.__getitem__))
            elif stage.state in ("failed", "cancelled"):
                self._bulk(change, Stage.id == id_, state="blocked", wish=None, error={}, losses=0, lost_at_step=None,
                           finished_at=None, rung_at=None)  # fmt: skip
            else:
                return stage
            self._unblock(change, experiment.id, Stage.id == id_)
            self._refresh(change, experiment)
            return session.get_one(Stage, id_, populate_existing=True)

    def stages(self, reference: str) -> list[Stage]:
        """All stages of an experiment, in the order of the plan. Raises NotFound."""
        with self._reading() as session:
            experiment = self._experiment(session, reference)
            statement = select(Stage).where(Stage.experiment_id == experiment.id).order_by(Stage.ordinal)
            return list(session.scalars(statement))

    def stage_rows(self, reference: str) -> list[Stage]:
        """`stages` without `result` and `partial`, which can be large: what pages and the API show."""
        with self._reading() as session:
            experiment = self._experiment(session, reference)
            light = (defer(Stage.result, raiseload=True), defer(Stage.partial, raiseload=True))
            statement = select(Stage).options(*light).where(Stage.experiment_id == experiment.id)
            return list(session.scalars(statement.order_by(Stage.ordinal)))

    def stage(self, stage_id: str) -> Stage:
        """Raises NotFound."""
        with self._reading() as session:
            found = session.get(Stage, stage_id)
        if found is None:
            raise NotFound(f"there is no stage {stage_id[:80]!r}")
        return found

    def needs(self, stage_id: str, *, optional: bool | None = None) -> list[Stage]:
        """The stages a stage waits for, in the order of the plan; optional: only those it can do without, or (False)
        cannot."""
        with self._reading() as session:
            arrow = (StageNeed.needs_id == Stage.id) & (StageNeed.stage_id == stage_id)
            if optional is not None:
                arrow &= StageNeed.optional == optional
            return list(session.scalars(select(Stage).join(StageNeed, arrow).order_by(Stage.ordinal)))

    def arrows(self, reference: str) -> list[tuple[str, str]]:
        """(stage id, id of a stage it needs) for the whole experiment."""
        with self._reading() as session:
            return self._arrows(session, self._experiment(session, reference).id)

    def _arrows(self, session: Session, experiment_id: str) -> list[tuple[str, str]]:
        statement = select(StageNeed.stage_id, StageNeed.needs_id).join(Stage, Stage.id == StageNeed.stage_id)
        return [(a, b) for a, b in session.execute(statement.where(Stage.experiment_id == experiment_id))]

    # --- leases: what workers do -------------------------------------------------------------------------------------

    def claim(
        self,
        owner: str,
        *,
        stage_id: str | None = None,
        queues: Sequence[str] = ("cpu",),
        experiment_id: str | None = None,
        lease_seconds: float = 30.0,
    ) -> Lease | None:
        """The right to work on a ready stage: the named one if it is, else the first by place in its plan.

        experiment_id narrows to one experiment. None when nothing is ready.
        """
        if stage_id is not None:
            lease = self._claim_one(owner, stage_id, queues, lease_seconds)
            if lease is not None:
                return lease
        ready = select(Stage.id).where(Stage.state == "ready", Stage.queue.in_(queues))
        if experiment_id is not None:
            ready = ready.where(Stage.experiment_id == experiment_id)
        while True:
            with self._reading() as session:
                found = list(session.scalars(ready.order_by(Stage.ordinal, Stage.id).limit(8)))
            if not found:
                return None
            for candidate in found:
                lease = self._claim_one(owner, candidate, queues, lease_seconds)
                if lease is not None:
                    return lease

    def _claim_one(self, owner: str, stage_id: str, queues: Sequence[str], seconds: float) -> Lease | None:
        with self._writing() as change:
            session = change.session
            experiment = self._lock_of(session, stage_id)
            if experiment is None:
                return None
            token = str(uuid.uuid4())
            claimed = self._bulk(
                change, Stage.id == stage_id, Stage.state == "ready", Stage.queue.in_(queues), state="running",
                wish=None, attempt=Stage.attempt + 1, lease_token=token, lease_owner=owner, worker=owner,
                lease_expires=change.now + timedelta(seconds=seconds), claimed_at=change.now, finished_at=None,
                started_at=func.coalesce(Stage.started_at, change.now), error={},
            )  # fmt: skip
            if not claimed:
                return None
            stage = session.get_one(Stage, stage_id, populate_existing=True)
            entry = {"attempt": stage.attempt, "worker": owner, "from_step": stage.step, "at": change.now.isoformat()}
            stage.history = [*stage.history, entry][-HISTORY:]
            if experiment.started_at is None:
                experiment.started_at = change.now
            change.event("stage-running", experiment.id, stage, worker=owner, attempt=stage.attempt)
            self._refresh(change, experiment)
            return Lease(token, owner, seconds, stage, experiment)

    def beat(
        self, lease: Lease, *, step: int | None = None, steps: int | None = None, progress: Json | None = None
    ) -> str | None:
        """Keep the stage for another lease and tell how far it is; returns the user's wish: pause, cancel or None.

        With progress there is an event too, so call that about once a second at most. Raises LeaseLost.
        """
        with self._writing() as change:
            stage = self._touch(change, lease, step, steps, progress)
            return stage.wish

    def wish(self, lease: Lease) -> str | None:
        """What the user wants of a running stage: pause, cancel or None. Only reads. Raises LeaseLost."""
        with self._reading() as session:
            row = session.execute(select(Stage.wish).where(*_fenced(lease.stage_id, lease.token))).one_or_none()
        if row is None:
            raise _lost(lease)
        wish: str | None = row[0]
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
        steps: int | None = None,
        progress: Json | None = None,
    ) -> str | None:
        """What a later attempt resumes from, new curve points of `run` and files, in one transaction; the user's wish.

        drop_after_step: first forget points beyond that step (a resumed attempt draws them again; -1 forgets all).
        Points at or before a curve's last step are known already and left out. Files must be on disk before. Raises
        LeaseLost.
        """
        with self._writing() as change:
            stage = self._touch(change, lease, step, steps, progress)
            stage.partial = partial
            self._name_files(change, stage.id, artifacts)
            if run is not None and drop_after_step is not None:
                self._drop_points(change.session, stage.id, drop_after_step)
            for name, batch in (points or {}).items():
                if run is None:
                    raise ValueError("curve points need their run's number")
                self._add_points(change.session, stage, run, name, batch)
            if points and progress is None:
                change.event("points", lease.experiment_id, stage, run=run, names=sorted(points), step=stage.step)
            return stage.wish

    def note(self, lease: Lease, kind: str, payload: Json) -> None:
        """An event of the stage's own. Raises LeaseLost."""
        with self._writing() as change:
            stage = self._touch(change, lease, None, None, None)
            change.event(kind, lease.experiment_id, stage, **payload)

    def finish(self, lease: Lease, output: StageOutput, memo: str) -> Stage:
        """running -> succeeded: the output's rows, the list columns, and the stages that waited. Raises LeaseLost."""
        with self._writing() as change:
            experiment, stage = self._owned(change, lease)
            self._succeed(change, experiment, stage, lease, output, memo, reused_from=None)
            return stage

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
        same = select(Stage).where(Stage.memo == memo, Stage.state == "succeeded", Stage.id != lease.stage_id)
        with self._reading() as session:
            if session.scalar(select(same.exists())) is not True:
                return False
        with self._writing() as change:
            change.lock("pg_advisory_xact_lock_shared", _PURGE_LOCK)
            experiment, stage = self._owned(change, lease)
            for source in change.session.scalars(same.order_by(Stage.finished_at, Stage.id).limit(4)):
                output = StageOutput.from_json(source.result).moved(source.params, stage.params)
                if output is None or not all(exists(info.digest) for info in output.artifacts):
                    continue
                self._drop_points(change.session, stage.id, -1)
                self._copy_points(change.session, source, stage)
                self._succeed(change, experiment, stage, lease, renew(output), memo, reused_from=source.id)
                return True
        return False

    def fail(self, lease: Lease, error: Json) -> None:
        """running -> failed, and so are the stages that cannot do without it. error: type, message, traceback.
        LeaseLost."""
        with self._writing() as change:
            experiment, stage = self._owned(change, lease)
            self._fail(change, experiment, stage, lease.token, error)

    def give_back(self, lease: Lease) -> str:
        """Stop working on it: running -> paused or cancelled as the user wishes, else ready; which. LeaseLost."""
        with self._writing() as change:
            experiment, stage = self._owned(change, lease)
            state = self._hand_back(change, experiment, stage, lease.token, "given back")
            self._refresh(change, experiment)
            return state

    def release_owner(self, owner: str) -> list[str]:
        """Free at once what a worker of this name held before it was killed; the stages' ids. Call at worker start."""
        return self._lose(Stage.lease_owner == owner)

    def reap(self, now: datetime | None = None) -> list[str]:
        """Free the stages whose lease has expired, settle what a crash left half done; ids of the stages freed."""
        with self._reading() as session:
            now = now or self._now(session)
        lost = self._lose(Stage.lease_expires < now)
        self._settle_waiting()
        return lost

    def _lose(self, *where: ColumnElement[bool]) -> list[str]:
        with self._reading() as session:
            suspects = list(session.scalars(select(Stage.id).where(Stage.state == "running", *where)))
        freed = []
        for stage_id in suspects:
            with self._writing() as change:
                experiment = self._lock_of(change.session, stage_id)
                statement = select(Stage).where(Stage.id == stage_id, Stage.state == "running", *where)
                stage = change.session.scalars(statement.with_for_update()).one_or_none()
                if experiment is None or stage is None or stage.lease_token is None:
                    continue  # somebody else was first, or it has beaten again
                self._count_loss(change, experiment, stage, stage.lease_token)
                freed.append(stage_id)
        return freed

    def _count_loss(self, change: _Change, experiment: Experiment, stage: Stage, token: str) -> None:
        """Three lost leases at the same step fail the stage; those after progress, or on the way there, do not count.

        A poisonous stage dies at one step and was last heard of a little before it (within two steps, or 1 % of all).
        A worker killed while it still repeats what an earlier attempt had done says nothing about the stage.
        """
        furthest = stage.lost_at_step
        if furthest is not None and abs(stage.step - furthest) <= max(2, stage.steps // 100):
            stage.losses += 1
            stage.lost_at_step = max(furthest, stage.step)
        elif furthest is None or stage.step > furthest:
            stage.losses, stage.lost_at_step = 1, stage.step
        if stage.losses >= MAX_LOSSES and stage.wish is None:
            tries = ", ".join(f"{h['worker']} at {h['at']}" for h in stage.history[-MAX_LOSSES:])
            message = f"{stage.losses} workers in a row stopped answering at step {stage.step} ({tries})"
            error = {"type": "WorkerLost", "message": message, "traceback": "", "history": stage.history}
            self._fail(change, experiment, stage, token, error, how="lost")
            return
        self._hand_back(change, experiment, stage, token, "lost")
        self._refresh(change, experiment)

    def _settle_waiting(self) -> None:
        """Blocked stages whose needs have all ended: a repair, since every transition does this itself."""
        needed = aliased(Stage)
        open_need = exists().where(
            StageNeed.stage_id == Stage.id, StageNeed.needs_id == needed.id, needed.state.in_(ACTIVE)
        )
        with self._reading() as session:
            statement = select(Stage.experiment_id).where(Stage.state == "blocked", ~open_need).distinct()
            stuck = list(session.scalars(statement))
        for experiment_id in stuck:
            with self._writing() as change:
                experiment = self._experiment(change.session, experiment_id, lock=True)
                self._unblock(change, experiment_id, Stage.experiment_id == experiment_id)
                self._refresh(change, experiment)

    def to_ring(
        self, *, experiment_id: str | None = None, older_than_seconds: float | None = None
    ) -> list[tuple[str, str]]:
        """(id, queue) of ready stages nobody was told of, or (with older_than_seconds) so long ago that the wake-up
        may be lost. Not all of them at once: a worker that is woken goes on until nothing is ready."""
        with self._reading() as session:
            due: ColumnElement[bool] = Stage.rung_at.is_(None)
            if older_than_seconds is not None:
                due = or_(due, Stage.rung_at < self._now(session) - timedelta(seconds=older_than_seconds))
            statement = select(Stage.id, Stage.queue).where(Stage.state == "ready", due)
            if experiment_id is not None:
                statement = statement.where(Stage.experiment_id == experiment_id)
            rows = session.execute(statement.order_by(Stage.ordinal, Stage.id).limit(RING_AT_ONCE))
            return [(stage_id, queue) for stage_id, queue in rows]

    def mark_rung(self, stage_ids: Sequence[str]) -> None:
        with self._writing() as change:
            self._bulk(change, Stage.id.in_(stage_ids), Stage.state == "ready", rung_at=change.now)

    # --- transitions, inside a transaction that holds the experiment -------------------------------------------------

    def _lock_of(self, session: Session, stage_id: str) -> Experiment | None:
        """The stage's experiment, locked: transitions of one experiment happen one after another."""
        of_it = select(Stage.experiment_id).where(Stage.id == stage_id).scalar_subquery()
        return session.scalars(select(Experiment).where(Experiment.id == of_it).with_for_update()).one_or_none()

    def _owned(self, change: _Change, lease: Lease) -> tuple[Experiment, Stage]:
        session = change.session
        experiment = self._lock_of(session, lease.stage_id)
        statement = select(Stage).where(*_fenced(lease.stage_id, lease.token)).with_for_update()
        stage = session.scalars(statement).one_or_none()
        if experiment is None or stage is None:
            raise _lost(lease)
        return experiment, stage

    def _touch(
        self, change: _Change, lease: Lease, step: int | None, steps: int | None, progress: Json | None
    ) -> Stage:
        told = {"step": step, "steps": steps, "progress": progress}
        values = {name: value for name, value in told.items() if value is not None}
        expires = change.now + timedelta(seconds=lease.seconds)
        if not self._bulk(change, *_fenced(lease.stage_id, lease.token), lease_expires=expires, **values):
            raise _lost(lease)
        stage = change.session.get_one(Stage, lease.stage_id)
        if progress is not None:
            told = {**progress, "step": stage.step, "steps": stage.steps}
            change.event("progress", stage.experiment_id, stage, **told)
        return stage

    def _leave(self, change: _Change, stage: Stage, token: str, state: str, how: str, **values: Any) -> None:
        """running -> `state`, fenced by the token; ends the attempt in the history and adds its time."""
        ended = min(change.now, stage.lease_expires) if how == "lost" and stage.lease_expires else change.now
        worked = max(0.0, (ended - (stage.claimed_at or ended)).total_seconds())
        last = {**stage.history[-1], "step": stage.step, "ended": ended.isoformat(), "how": how}
        history = [*stage.history[:-1], last]
        moved = self._bulk(
            change, *_fenced(stage.id, token), state=state, wish=None, lease_token=None, lease_owner=None,
            lease_expires=None, rung_at=None, seconds=stage.seconds + worked, history=history, **values,
        )  # fmt: skip
        assert moved == 1, "the row is locked, and was ours a moment ago"
        change.session.refresh(stage)
        change.event(
            f"stage-{state}", stage.experiment_id, stage, how=how, step=stage.step, steps=stage.steps,
            seconds=stage.seconds, attempt=stage.attempt,
            **({"error": stage.error.get("message", "")} if state == "failed" else {}),
        )  # fmt: skip

    def _hand_back(self, change: _Change, experiment: Experiment, stage: Stage, token: str, how: str) -> str:
        state = {"pause": "paused", "cancel": "cancelled"}.get(stage.wish or "", "ready")
        ended = {"finished_at": change.now} if state == "cancelled" else {}
        self._leave(change, stage, token, state, how, **ended)
        if state == "cancelled":
            self._unblock(change, experiment.id, _waiting_for([stage.id]))
        return state

    def _fail(
        self, change: _Change, experiment: Experiment, stage: Stage, token: str, error: Json, how: str = "failed"
    ) -> None:
        error = {"attempt": stage.attempt, **error}
        self._leave(change, stage, token, "failed", how, error=error, finished_at=change.now)
        if experiment.error is None:
            experiment.error = f"{stage.kind}/{stage.key}: {error.get('message', 'failed')}"
        self._unblock(change, experiment.id, _waiting_for([stage.id]))
        self._refresh(change, experiment)

    def _succeed(
        self, change: _Change, experiment: Experiment, stage: Stage, lease: Lease, output: StageOutput, memo: str,
        *, reused_from: str | None,
    ) -> None:  # fmt: skip
        session = change.session
        pausing = stage.wish == "pause"
        self._name_files(change, stage.id, output.artifacts)
        output = replace(output, artifacts=self._files_of(session, stage.id))
        result = output.to_json()
        output = StageOutput.from_json(result)  # plain numbers only, also in the columns
        self._write_rows(session, stage, output)
        for name, value in output.experiment.items():
            if name not in ("accuracy", "ensemble_accuracy", "disagreement", "finding"):
                raise ValueError(f"{name!r} is not a list column that a stage sets")
            setattr(experiment, name, _found_together(experiment.finding, value) if name == "finding" else value)
        steps = stage.steps or stage.step
        told = {name: value for name in TOLD if (value := output.extra.get(name))}
        progress = {**{name: value for name, value in stage.progress.items() if name not in TOLD}, **told}
        self._leave(change, stage, lease.token, "succeeded", "reused" if reused_from else "succeeded", memo=memo,
                    reused_from=reused_from, result=result, partial={}, error={}, step=steps, steps=steps,
                    progress=progress, finished_at=change.now)  # fmt: skip
        self._make_again(change, stage)
        self._unblock(change, experiment.id, _waiting_for([stage.id]) | (Stage.id == stage.id), pausing=pausing)
        self._refresh(change, experiment)

    def _make_again(self, change: _Change, stage: Stage) -> None:
        """succeeded -> blocked, where what stood on `stage` was made without its result, or from an earlier one; and
        so is `stage` itself when that happened to it while it ran. A stage that is retried thus changes nothing until
        it has succeeded."""
        earlier = _waiting_for([stage.id]) & (Stage.state == "succeeded")
        needed = aliased(Stage)
        since = exists().where(
            StageNeed.stage_id == stage.id, StageNeed.needs_id == needed.id, needed.state == "succeeded",
            needed.finished_at > stage.claimed_at,
        )  # fmt: skip
        late = (Stage.id == stage.id) & since
        self._bulk(change, or_(earlier, late), state="blocked", wish=None, step=0, losses=0, lost_at_step=None,
                   finished_at=None, rung_at=None)  # fmt: skip
        change.session.refresh(stage)

    def _unblock(
        self, change: _Change, experiment_id: str, which: ColumnElement[bool], *, pausing: bool = False
    ) -> None:
        """blocked -> ready (paused while the experiment is) where every need has succeeded and every want has ended;
        blocked -> failed or cancelled where it cannot be, and on to what waits for those."""
        while True:
            fallen = self._cancel_blocked(change, experiment_id, which) + self._fail_blocked(change, which)
            self._free_blocked(change, experiment_id, which, pausing=pausing)
            if not fallen:
                return
            which = _waiting_for(fallen)

    def _cancel_blocked(self, change: _Change, experiment_id: str, which: ColumnElement[bool]) -> list[str]:
        hit = change.session.scalars(select(Stage).where(which, Stage.state == "blocked", _needs("cancelled"))).all()
        ids = [stage.id for stage in hit]
        if ids:
            self._bulk(change, Stage.id.in_(ids), state="cancelled", error={}, finished_at=change.now)
        for stage in hit:
            change.event("stage-cancelled", experiment_id, stage, how="need")
        return ids

    def _fail_blocked(self, change: _Change, which: ColumnElement[bool]) -> list[str]:
        """Where a stage that must succeed has failed, or everything it waits for; each says which failure caused it."""
        hopeless = or_(
            _needs("failed", optional=False), _needs("failed") & ~_needs("failed", negated=True)
        )  # fmt: skip
        hit = change.session.scalars(select(Stage).where(which, Stage.state == "blocked", hopeless)).all()
        for stage in hit:
            error = self._because(change.session, stage)
            self._bulk(change, Stage.id == stage.id, state="failed", error=error, finished_at=change.now)
            change.event("stage-failed", stage.experiment_id, stage, how="need")
        return [stage.id for stage in hit]

    def _because(self, session: Session, stage: Stage) -> Json:
        """The error of a stage that another one took along: the first in the plan, or what took that one along."""
        needed = aliased(Stage)
        arrow = (StageNeed.needs_id == needed.id) & (StageNeed.stage_id == stage.id)
        failed = select(needed).join(StageNeed, arrow).where(needed.state == "failed")
        first = session.scalars(failed.order_by(StageNeed.optional, needed.ordinal).limit(1)).one()
        if first.error.get("type") == "NeedFailed":
            return dict(first.error)
        message = f"needs {first.kind}/{first.key}, which failed"
        return {"type": "NeedFailed", "message": message, "traceback": "", "cause": first.id}

    def _free_blocked(
        self, change: _Change, experiment_id: str, which: ColumnElement[bool], *, pausing: bool
    ) -> None:  # fmt: skip
        session = change.session
        paused = select(Stage.id).where(Stage.experiment_id == experiment_id, Stage.state == "paused").exists()
        target = "paused" if pausing or session.scalar(select(paused)) else "ready"
        undone = or_(_needs("succeeded", optional=False, negated=True), _needs(*ACTIVE, "cancelled"))
        for stage in session.scalars(select(Stage).where(which, Stage.state == "blocked", ~undone)).all():
            if self._bulk(change, Stage.id == stage.id, Stage.state == "blocked", state=target, rung_at=None):
                change.event(f"stage-{target}", experiment_id, stage)

    def _refresh(self, change: _Change, experiment: Experiment) -> None:
        """The list columns that follow from the stages."""
        session = change.session
        session.flush()
        rows = session.execute(
            select(Stage.state, Stage.optional, func.count(), func.sum(Stage.seconds))
            .where(Stage.experiment_id == experiment.id)
            .group_by(Stage.state, Stage.optional)
        ).all()
        counts: Counter[str] = Counter()
        for state, optional, count, _ in rows:
            counts["done without" if state == "failed" and optional else state] += count
        experiment.stages_total = counts.total()
        experiment.stages_done = counts["succeeded"]
        experiment.seconds = float(sum(seconds or 0.0 for *_, seconds in rows))
        status = _status(counts, started=experiment.started_at is not None)
        if status in ENDED and experiment.finished_at is None:
            experiment.finished_at = change.now
        elif status not in ENDED:
            experiment.finished_at = None
        if status != experiment.status:
            experiment.status = status
            change.event("status", experiment.id, status=status, stages_done=experiment.stages_done,
                         stages_total=experiment.stages_total)  # fmt: skip

    def _bulk(self, change: _Change, *where: ColumnElement[bool], **values: Any) -> int:
        """One conditional UPDATE of stages; how many rows it changed."""
        change.session.flush()
        result = change.session.execute(
            update(Stage).where(*where).values(**values).execution_options(synchronize_session="fetch")
        )
        return int(result.rowcount)  # type: ignore[attr-defined]

    # --- rows a stage makes ------------------------------------------------------------------------------------------

    def _name_files(self, change: _Change, stage_id: str, infos: Iterable[ArtifactInfo]) -> None:
        """Rows for new files, and that this stage uses them; saying it again changes nothing."""
        session, wanted = change.session, {info.digest: info for info in infos}
        uses = set(session.scalars(select(ArtifactUse.digest).where(ArtifactUse.stage_id == stage_id)))
        new = {digest: info for digest, info in wanted.items() if digest not in uses}
        if not new:
            return
        rows = [asdict(info) | {"shape": list(info.shape), "created_at": change.now} for info in new.values()]
        self._insert_missing(session, Artifact, rows)
        session.execute(insert(ArtifactUse), [{"stage_id": stage_id, "digest": digest} for digest in new])

    def _insert_missing(self, session: Session, model: type[Base], rows: list[Json]) -> int:
        """INSERT … ON CONFLICT DO NOTHING; how many rows were new."""
        if self._postgres:
            from sqlalchemy.dialects.postgresql import insert as upsert
        else:
            from sqlalchemy.dialects.sqlite import insert as upsert  # type: ignore[assignment]
        rows = sorted(rows, key=lambda row: str(next(iter(row.values()))))  # one order, so that no two writers cross
        primary, inserted = inspect(model).primary_key, 0
        for some in _batches(rows):
            statement = upsert(model).values(some).on_conflict_do_nothing().returning(*primary)
            inserted += len(session.execute(statement).all())
        return inserted

    def _files_of(self, session: Session, stage_id: str) -> list[ArtifactInfo]:
        used = select(Artifact).join(ArtifactUse, ArtifactUse.digest == Artifact.digest)
        rows = session.scalars(used.where(ArtifactUse.stage_id == stage_id).order_by(Artifact.kind, Artifact.digest))
        return [ArtifactInfo(row.digest, row.kind, row.dtype, tuple(row.shape), row.bytes) for row in rows]

    def _write_rows(self, session: Session, stage: Stage, output: StageOutput) -> None:
        for model in (Solution, Measurement, Matrix):
            session.execute(delete(model).where(model.stage_id == stage.id))
        for m in output.matrices:  # a later stage may give the same matrix over more solutions
            named = (Matrix.experiment_id == stage.experiment_id, Matrix.name == m.name, Matrix.split == m.split)
            session.execute(delete(Matrix).where(*named))
        common = {"experiment_id": stage.experiment_id, "stage_id": stage.id}
        solutions = [{"id": _id(stage.id, "solution", s.number), **common, **asdict(s)} for s in output.solutions]
        measurements = [
            {"id": _id(stage.id, "measurement", m.solution, m.subject, m.metric, m.split, m.corruption, m.intensity,
                       *([orjson.dumps(m.details, option=_DETAILS)] if m.details else [])),
             **common, **asdict(m)}
            for m in output.measurements
        ]  # fmt: skip
        matrices = [{"id": _id(stage.id, "matrix", m.name, m.split), **common, **asdict(m)} for m in output.matrices]
        for table, rows in ((Solution, solutions), (Measurement, measurements), (Matrix, matrices)):
            if rows:
                session.execute(insert(table), rows)
        of_it = Solution.experiment_id == stage.experiment_id
        for number, digest in output.weights.items():
            session.execute(update(Solution).where(of_it, Solution.number == number).values(weights=digest))
        for number, values in output.runs.items():
            names = ("accuracy", "best_accuracy", "arithmetic", "failed")
            known = {name: values[name] for name in names if name in values}
            mine = (Run.experiment_id == stage.experiment_id, Run.number == number)
            session.execute(update(Run).where(*mine).values(**known))

    # --- curves ------------------------------------------------------------------------------------------------------

    def _add_points(self, session: Session, stage: Stage, run: int, name: str, points: Sequence[Point]) -> None:
        series_id = _id(stage.experiment_id, "series", run, name)
        series = session.get(Series, series_id)
        if series is None:
            series = Series(id=series_id, experiment_id=stage.experiment_id, stage_id=stage.id, run=run, name=name, n=0)
            session.add(series)
            session.flush()
        fresh = [p for p in points if series.last_step is None or p[0] > series.last_step]
        if not fresh:
            return
        new = _curve(np.array([p[0] for p in fresh]), np.array([p[1] for p in fresh]), np.array([p[2] for p in fresh]))
        tail = session.scalars(
            select(Chunk).where(Chunk.series_id == series_id).order_by(Chunk.sequence.desc()).limit(1)
        ).one_or_none()
        sequence = 0
        if tail is not None:
            sequence = tail.sequence + 1
            if tail.n < CHUNK_POINTS:
                new, sequence = _joined([_unpack(tail.points), new]), tail.sequence
                session.delete(tail)
                session.flush()
        self._write_chunks(session, series_id, sequence, new)
        _count_points(series, [p[0] for p in fresh], [p[1] for p in fresh])

    def _write_chunks(self, session: Session, series_id: str, sequence: int, curve: SeriesPoints) -> None:
        rows = []
        for i, start in enumerate(range(0, len(curve.steps), CHUNK_POINTS)):
            part = _curve(*(column[start : start + CHUNK_POINTS] for column in curve))
            rows.append(
                {"series_id": series_id, "sequence": sequence + i, "n": len(part.steps),
                 "first_step": int(part.steps[0]), "last_step": int(part.steps[-1]), "points": _pack(part)}
            )  # fmt: skip
        if rows:
            session.execute(insert(Chunk), rows)

    def _drop_points(self, session: Session, stage_id: str, after_step: int) -> None:
        """Forget the points of the stage's curves beyond `after_step`."""
        beyond = select(Series).where(Series.stage_id == stage_id, Series.last_step > after_step)
        for series in session.scalars(beyond).all():
            kept = self._curve_of(session, series.id)
            keep = kept.steps <= after_step
            kept = _curve(kept.steps[keep], kept.values[keep], kept.times[keep])
            session.execute(delete(Chunk).where(Chunk.series_id == series.id))
            self._write_chunks(session, series.id, 0, kept)
            series.n, series.last, series.last_step = 0, None, None
            series.smallest = series.smallest_step = series.largest = series.largest_step = None
            _count_points(series, kept.steps.tolist(), kept.values.tolist())
        session.flush()

    def _copy_points(self, session: Session, source: Stage, target: Stage) -> None:
        run = target.params.get("run")
        for series in session.scalars(select(Series).where(Series.stage_id == source.id)).all():
            number = run if run is not None else series.run
            values = {c.key: getattr(series, c.key) for c in Series.__table__.columns}
            own = _id(target.experiment_id, "series", number, series.name)
            session.execute(delete(Series).where(Series.id == own))
            values |= {"id": own, "experiment_id": target.experiment_id, "stage_id": target.id, "run": number}
            session.execute(insert(Series), [values])
            self._write_chunks(session, own, 0, self._curve_of(session, series.id))

    def _curve_of(self, session: Session, series_id: str) -> SeriesPoints:
        chunks = session.scalars(select(Chunk.points).where(Chunk.series_id == series_id).order_by(Chunk.sequence))
        return _joined([_unpack(points) for points in chunks])

    def series(self, reference: str, run: int | None = None) -> list[Series]:
        """The curves of an experiment: last, smallest and largest value of each, without their points."""
        with self._reading() as session:
            statement = select(Series).where(Series.experiment_id == self._experiment(session, reference).id)
            if run is not None:
                statement = statement.where(Series.run == run)
            return list(session.scalars(statement.order_by(Series.run, Series.name)))

    def points(self, experiment_id: str, run: int, name: str) -> SeriesPoints:
        """One curve, whole; empty arrays when there is none."""
        with self._reading() as session:
            return self._curve_of(session, _id(experiment_id, "series", run, name))

    # --- results -----------------------------------------------------------------------------------------------------

    def runs(self, reference: str) -> list[Run]:
        with self._reading() as session:
            experiment = self._experiment(session, reference)
            return list(session.scalars(select(Run).where(Run.experiment_id == experiment.id).order_by(Run.number)))

    def solutions(
        self,
        experiment_id: str,
        conditions: Sequence[Condition | AnyOf] = (),
        *,
        sort: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        **equal: Any,
    ) -> Page[Solution]:
        """Solutions that meet all conditions, and have `field=value` for each further argument. limit None: all."""
        conditions = [*conditions, *(Condition(name, "eq", value) for name, value in equal.items())]
        with self._reading() as session:
            statement = select(Solution).where(Solution.experiment_id == experiment_id)
            return SOLUTIONS.page(session, statement, conditions=conditions, sort=sort, cursor=cursor, limit=limit)

    def all_solutions(self, experiment_id: str) -> list[Solution]:
        """Every solution, by number."""
        return self.solutions(experiment_id).items

    def solution(self, experiment_id: str, number: int) -> Solution:
        """Raises NotFound."""
        with self._reading() as session:
            mine = (Solution.experiment_id == experiment_id, Solution.number == number)
            found = session.scalars(select(Solution).where(*mine)).one_or_none()
        if found is None:
            raise NotFound(f"this experiment has no solution {number} (yet)")
        return found

    def measurements(
        self,
        experiment_id: str,
        conditions: Sequence[Condition | AnyOf] = (),
        *,
        sort: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        **equal: Any,
    ) -> Page[Measurement]:
        """Measurements, asked for as `solutions` are."""
        conditions = [*conditions, *(Condition(name, "eq", value) for name, value in equal.items())]
        with self._reading() as session:
            statement = select(Measurement).where(Measurement.experiment_id == experiment_id)
            return MEASUREMENTS.page(session, statement, conditions=conditions, sort=sort, cursor=cursor, limit=limit)

    def group_measurements(self, experiment_id: str, *, shifted: bool = True) -> list[Measurement]:
        """Measurements of groups, not of single solutions. shifted: also those by intensity of corruption."""
        conditions = [Condition("solution", "null", True)]
        if not shifted:
            conditions.append(Condition("intensity", "null", True))
        return self.measurements(experiment_id, conditions, sort="subject").items

    def measured(self, metric: str, subject: str, *, limit: int = 200) -> list[str]:
        """Ids of the experiments, newest first and none archived, with that metric of a subject that starts so."""
        found = exists().where(
            Measurement.experiment_id == Experiment.id,
            Measurement.metric == metric,
            Measurement.subject.startswith(subject, autoescape=True),
        )
        statement = select(Experiment.id).where(Experiment.archived_at.is_(None), found)
        with self._reading() as session:
            return list(session.scalars(statement.order_by(Experiment.created_at.desc(), Experiment.id).limit(limit)))

    def matrices(self, experiment_id: str) -> list[Matrix]:
        with self._reading() as session:
            statement = select(Matrix).where(Matrix.experiment_id == experiment_id)
            return list(session.scalars(statement.order_by(Matrix.name, Matrix.split)))

    def matrix(self, experiment_id: str, name: str, split: str) -> Matrix | None:
        with self._reading() as session:
            mine = (Matrix.experiment_id == experiment_id, Matrix.name == name, Matrix.split == split)
            return session.scalars(select(Matrix).where(*mine)).one_or_none()

    def artifact(self, digest: str) -> Artifact:
        """Raises NotFound."""
        with self._reading() as session:
            found = session.get(Artifact, digest)
        if found is None:
            raise NotFound(f"there is no artifact {digest[:64]!r}")
        return found

    def artifact_digests(self) -> list[str]:
        """Every file some row names."""
        with self._reading() as session:
            return list(session.scalars(select(Artifact.digest).order_by(Artifact.digest)))

    def stage_ids(self) -> set[str]:
        with self._reading() as session:
            return set(session.scalars(select(Stage.id)))

    def bytes_of(self, reference: str) -> int:
        """Bytes that purging the experiment would free: files only its stages name."""
        with self._reading() as session:
            experiment = self._experiment(session, reference)
            own = select(Stage.id).where(Stage.experiment_id == experiment.id)
            mine = select(ArtifactUse.digest).where(ArtifactUse.stage_id.in_(own))
            others = select(ArtifactUse.digest).where(ArtifactUse.stage_id.not_in(own))
            statement = select(func.sum(Artifact.bytes))
            freed = session.scalar(statement.where(Artifact.digest.in_(mine), Artifact.digest.not_in(others)))
        return int(freed or 0)

    def recompute_list_columns(self) -> int:
        """Derive every experiment's list columns again; how many experiments were wrong."""
        repaired = 0
        with self._reading() as session:
            ids = list(session.scalars(select(Experiment.id).order_by(Experiment.created_at)))
        for id_ in ids:
            with self._writing() as change:
                experiment = change.session.get(Experiment, id_)
                if experiment is None:
                    continue
                experiment = self._experiment(change.session, id_, lock=True)
                before = _derived(experiment)
                self._refresh(change, experiment)
                repaired += before != _derived(experiment)
        return repaired

    # --- events ------------------------------------------------------------------------------------------------------

    def events(self, after: int = 0, *, experiment_id: str | None = None, limit: int = 500) -> list[Event]:
        """Events with an id above `after`, oldest first."""
        with self._reading() as session:
            statement = select(Event).where(Event.id > after)
            if experiment_id is not None:
                statement = statement.where(Event.experiment_id == experiment_id)
            return list(session.scalars(statement.order_by(Event.id).limit(limit)))

    def last_event_id(self) -> int:
        """0 when nothing has happened yet."""
        with self._reading() as session:
            return session.scalar(select(func.max(Event.id))) or 0

    def first_event_id(self) -> int:
        """The oldest event kept; 0 when there is none. A reader further back must load everything again."""
        with self._reading() as session:
            return session.scalar(select(func.min(Event.id))) or 0

    def prune_events(self, keep: int) -> int:
        """Forget all but about the last `keep` events; how many were forgotten."""
        with self._writing() as change:
            last = change.session.scalar(select(func.max(Event.id))) or 0
            result = change.session.execute(delete(Event).where(Event.id <= last - keep))
            return int(result.rowcount)  # type: ignore[attr-defined]

    # --- workers -----------------------------------------------------------------------------------------------------

    def register_worker(self, name: str, *, device: str, numerics: str, queue: str, pid: int) -> None:
        """A worker starts; what is known of its speed under the same numerics, on the same device, stays."""
        with self._writing() as change:
            worker = change.session.get(Worker, name)
            same = worker is not None and (worker.numerics, worker.device) == (numerics, device)
            speed, calibration = (worker.speed, worker.calibration) if worker is not None and same else ({}, None)
            change.session.merge(
                Worker(name=name, device=device, numerics=numerics, queue=queue, speed=speed, calibration=calibration,
                       stage_id=None, pid=pid, started_at=change.now, seen_at=change.now, stopped_at=None)
            )  # fmt: skip
            change.event("worker", None, name=name, state="started")

    def worker_seen(self, name: str, *, stage_id: str | None) -> None:
        """It lives, and works on `stage_id`."""
        with self._writing() as change:
            change.session.execute(
                update(Worker).where(Worker.name == name).values(seen_at=change.now, stage_id=stage_id, stopped_at=None)
            )

    def worker_stopped(self, name: str) -> None:
        with self._writing() as change:
            values = {"stopped_at": change.now, "stage_id": None}
            change.session.execute(update(Worker).where(Worker.name == name).values(**values))
            change.event("worker", None, name=name, state="stopped")

    def worker_speed(self, name: str, architecture: str, images_per_second: float) -> None:
        """Remember how fast a training went."""
        with self._writing() as change:
            worker = change.session.get(Worker, name)
            if worker is not None:
                worker.speed = {**worker.speed, architecture: images_per_second}

    def worker_calibration(self, name: str) -> Json | None:
        """What a worker of that name measured under its present arithmetic; None before it has."""
        with self._reading() as session:
            return session.scalar(select(Worker.calibration).where(Worker.name == name))

    def worker_calibrated(self, name: str, calibration: Json) -> None:
        with self._writing() as change:
            change.session.execute(update(Worker).where(Worker.name == name).values(calibration=calibration))

    def workers(self) -> list[Worker]:
        with self._reading() as session:
            return list(session.scalars(select(Worker).order_by(Worker.name)))

    def learn(self, stage: Stage, numerics: str, seconds: float) -> None:
        """Remember how long a stage took, done in one go; older ones of its kind and shape count less each time."""
        work = stage.work or {}
        if not work.get("shape"):
            return  # planned before work was written down
        key = {"kind": stage.kind, "shape": work["shape"], "numerics": numerics}
        new = {name: work[name] for name in ("trained", "predicted", "other")} | {"stages": 1.0, "seconds": seconds}
        with self._writing() as change:
            self._insert_missing(change.session, Throughput, [key | dict.fromkeys(new, 0.0) | {"at": change.now}])
            same = [getattr(Throughput, name) == value for name, value in key.items()]
            grown = {name: getattr(Throughput, name) * REMEMBERED + value for name, value in new.items()}
            change.session.execute(update(Throughput).where(*same).values(**grown, at=change.now))

    def finished_work(self, numerics: str) -> list[Finished]:
        """What finished stages of each kind and shape amount to under an arithmetic, the latest first."""
        statement = select(Throughput).where(Throughput.numerics == numerics).order_by(Throughput.at.desc()).limit(500)
        with self._reading() as session:
            return [
                Finished(row.kind, row.shape, row.stages, Work(row.trained, row.predicted, row.other), row.seconds)
                for row in session.scalars(statement)
            ]

    def here_already(self, memos: Collection[str]) -> set[str]:
        """Those of the stage keys under which a stage has succeeded."""
        found: set[str] = set()
        with self._reading() as session:
            for some in _batches(sorted(memos)):
                statement = select(Stage.memo).where(Stage.memo.in_(some), Stage.state == "succeeded").distinct()
                found |= {memo for memo in session.scalars(statement) if memo is not None}
        return found

    # --- small things ------------------------------------------------------------------------------------------------

    def fact(self, name: str) -> str | None:
        with self._reading() as session:
            return session.scalar(select(Fact.value).where(Fact.name == name))

    def set_fact_once(self, name: str, value: str) -> bool:
        """True for the one caller that sets it first."""
        with self._writing() as change:
            row = {"name": name, "value": value, "at": change.now}
            return self._insert_missing(change.session, Fact, [row]) == 1

    def catalogue(self, kind: str | None = None) -> list[Catalogue]:
        with self._reading() as session:
            statement = select(Catalogue).order_by(Catalogue.kind, Catalogue.name)
            return list(session.scalars(statement if kind is None else statement.where(Catalogue.kind == kind)))

    def catalogue_entry(self, kind: str, name: str) -> Catalogue | None:
        with self._reading() as session:
            return session.get(Catalogue, (kind, name))

    def put_catalogue(self, kind: str, name: str, details: Json) -> None:
        with self._writing() as change:
            change.session.merge(Catalogue(kind=kind, name=name, details=details, at=change.now))

    def own_sets(self) -> dict[str, Json]:
        """The data sets users registered, by name (`own`)."""
        with self._reading() as session:
            return _registered(session)

    def check_set_name(self, name: str, where: str, *, replace: bool = False) -> None:
        """Raises InvalidInput (`name`), and Conflict when another place has the name, unless it is to be replaced."""
        known = self.own_sets().get(own.checked_name(name), {"where": where})["where"]
        if known != where and not replace:
            raise _taken(name, known)

    def register_set(self, name: str, details: Json, *, replace: bool = False) -> None:
        """Remember a user's own set under a name, and show the experiments on that place under it.

        Raises InvalidInput (`name`), and Conflict when another place has the name, unless it is to be replaced.
        """
        name = own.checked_name(name)
        with self._writing() as change:
            known = change.session.get(Catalogue, ("data", name))
            before = details["where"] if known is None else known.details["where"]
            if before != details["where"] and not replace:
                raise _taken(name, before)
            change.session.merge(Catalogue(kind="data", name=name, details=details, at=change.now))
            for where in {before, details["where"]}:
                self._show_as(change, where)

    def unregister_set(self, name: str) -> None:
        """Forget the name; files and experiments stay. Raises NotFound."""
        with self._writing() as change:
            known = change.session.get(Catalogue, ("data", unicodedata.normalize("NFC", name)))
            if known is None:
                raise NotFound(f"no data set is registered as {name[:80]!r}")
            change.session.delete(known)
            self._show_as(change, known.details["where"])

    def _show_as(self, change: _Change, where: str) -> None:
        """Experiments on that place get the name it has now."""
        change.session.flush()
        place = Experiment.spec["data"]["path"].as_string()
        sets = _registered(change.session)
        for experiment in change.session.scalars(select(Experiment).where(place == where)):
            experiment.dataset = own.shown_as(DataSpec.model_validate(experiment.spec["data"]), sets)

    def put_selection(self, experiment_id: str, numbers: Iterable[int]) -> str:
        """A short key for a set of solutions; the same set has the same key."""
        chosen = sorted(set(numbers))
        key = hashlib.sha256(orjson.dumps([experiment_id, chosen])).hexdigest()[:12]
        with self._writing() as change:
            row = {"key": key, "experiment_id": experiment_id, "numbers": chosen, "at": change.now}
            self._insert_missing(change.session, Selection, [row])
        return key

    def selection(self, key: str) -> Selection:
        """Raises NotFound."""
        with self._reading() as session:
            found = session.get(Selection, key)
        if found is None:
            raise NotFound(f"there is no selection {key[:16]!r}")
        return found


def _taken(name: str, where: str) -> Conflict:
    return Conflict(f"{name!r} is registered for {where}; choose another name, replace it, or unregister it first")


def _registered(session: Session) -> dict[str, Json]:
    rows = session.scalars(select(Catalogue).where(Catalogue.kind == "data").order_by(Catalogue.at))
    return {row.name: row.details for row in rows}


_ENDED_WORDS = {"succeeded": "succeeded", "failed": "failed", "cancelled": "been cancelled"}


def _found_together(known: Json, new: Json) -> Json:
    """What all stages have found. The experiment's row is locked and was read in this transaction: none is lost."""
    claims = known.get("claims", {})
    if isinstance(claims, list):  # from a version in which one stage judged them all
        claims = {claim["id"]: claim for claim in claims}
    together = {**claims, **new.get("claims", {})}
    return {**known, **new, **({"claims": together} if together else {})}


def _status(counts: Mapping[str, int], *, started: bool) -> str:
    if counts.get("running"):
        return "running"
    if counts.get("paused"):
        return "paused"
    if counts.get("ready") or counts.get("blocked"):
        return "running" if started else "queued"
    if counts.get("cancelled"):
        return "cancelled"
    return "failed" if counts.get("failed") else "succeeded"


def _derived(experiment: Experiment) -> tuple[str, int, int, float]:
    return experiment.status, experiment.stages_total, experiment.stages_done, round(experiment.seconds, 6)


_DETAILS = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY


def _id(*parts: object) -> str:
    """The same parts give the same id, so that a stage that runs again updates its rows."""
    return str(uuid.uuid5(_IDS, "/".join(map(str, parts))))


def _stage_row(experiment_id: str, id_: str, ordinal: int, planned: PlannedStage) -> Json:
    return {
        "id": id_, "experiment_id": experiment_id, "ordinal": ordinal, "kind": planned.kind, "key": planned.key,
        "queue": planned.queue, "params": planned.params, "estimate": planned.estimate, "optional": planned.optional,
        "work": {"shape": planned.shape, **asdict(planned.work)},
        "state": "blocked" if planned.needs or planned.wants else "ready", "attempt": 0, "losses": 0, "step": 0,
        "steps": 0, "progress": {}, "partial": {}, "result": {}, "error": {}, "history": [], "seconds": 0.0,
    }  # fmt: skip


def _need_rows(stage_id: str, planned: PlannedStage, id_of: Callable[[Need], str]) -> list[Json]:
    wanted = [need for need in planned.wants if need not in planned.needs]
    return [
        {"stage_id": stage_id, "needs_id": id_of(need), "optional": optional}
        for needs, optional in ((planned.needs, False), (wanted, True))
        for need in needs
    ]


def _waiting_for(ids: Sequence[str]) -> ColumnElement[bool]:
    """Stages with an arrow to one of these."""
    return Stage.id.in_(select(StageNeed.stage_id).where(StageNeed.needs_id.in_(ids)))


def _needs(*states: str, optional: bool | None = None, negated: bool = False) -> ColumnElement[bool]:
    """A stage has an arrow to one in these states (negated: in any other); optional: an arrow of that kind."""
    needed = aliased(Stage)
    arrow = [StageNeed.stage_id == Stage.id, StageNeed.needs_id == needed.id]
    if optional is not None:
        arrow.append(StageNeed.optional == optional)
    return exists().where(*arrow, needed.state.not_in(states) if negated else needed.state.in_(states))


def _fenced(stage_id: str, token: str) -> tuple[ColumnElement[bool], ...]:
    return Stage.id == stage_id, Stage.lease_token == token, Stage.state == "running"


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"stage {lease.kind}/{lease.key} of {lease.experiment.slug} belongs to another worker now")


def _archived(archived: bool | None) -> tuple[ColumnElement[bool], ...]:
    if archived is None:
        return ()
    return (Experiment.archived_at.is_not(None) if archived else Experiment.archived_at.is_(None),)


def _with_relatives(stage_id: str, candidates: Sequence[str], arrows: Sequence[tuple[str, str]]) -> list[str]:
    """Of the candidates: the stage, what it needs and what waits for it, directly or not."""
    if stage_id not in candidates:
        return []
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for stage, need in arrows:
        above.setdefault(stage, []).append(need)
        below.setdefault(need, []).append(stage)
    chosen = {stage_id}
    for neighbours in (above, below):
        waiting = [stage_id]
        while waiting:
            new = [other for other in neighbours.get(waiting.pop(), []) if other not in chosen]
            chosen.update(new)
            waiting += new
    return [id_ for id_ in candidates if id_ in chosen]


def _batches(items: Sequence[Any], size: int = 500) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _checked_tags(tags: Sequence[str]) -> list[str]:
    clean = list(dict.fromkeys(names.normal(" ".join(tag.split())) for tag in tags))
    if any(not 1 <= len(tag) <= 40 for tag in clean) or len(clean) > 20 or len("".join(clean).encode()) > TAG_BYTES:
        raise InvalidInput(
            "these tags do not fit",
            field="tags", allowed=f"at most 20, each 1 to 40 characters, together {TAG_BYTES:,} bytes of UTF-8",
        )  # fmt: skip
    return clean


def _slug(name: str) -> str:
    ascii_ = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_).strip("-")[:60].rstrip("-") or "experiment"


def _looks_like_id(slug: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", slug) is not None


def _curve(steps: NDArray[Any], values: NDArray[Any], times: NDArray[Any]) -> SeriesPoints:
    return SeriesPoints(steps.astype("<i8"), values.astype("<f8"), times.astype("<f8"))


def _pack(curve: SeriesPoints) -> bytes:
    return curve.steps.tobytes() + curve.values.tobytes() + curve.times.tobytes()


def _unpack(points: bytes) -> SeriesPoints:
    n = len(points) // 24
    return SeriesPoints(
        np.frombuffer(points, "<i8", n), np.frombuffer(points, "<f8", n, 8 * n), np.frombuffer(points, "<f8", n, 16 * n)
    )


def _joined(parts: Sequence[SeriesPoints]) -> SeriesPoints:
    if not parts:
        return _curve(np.zeros(0), np.zeros(0), np.zeros(0))
    return SeriesPoints(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("steps", "values", "times")))


def _count_points(series: Series, steps: Sequence[int], values: Sequence[float]) -> None:
    """Bring last, smallest and largest up to date with points that follow what is there."""
    series.n += len(steps)
    for step, value in zip(steps, values, strict=True):
        number = float(value) if np.isfinite(value) else None
        series.last, series.last_step = number, int(step)
        if number is None:
            continue
        if series.smallest is None or number < series.smallest:
            series.smallest, series.smallest_step = number, int(step)
        if series.largest is None or number > series.largest:
            series.largest, series.largest_step = number, int(step)


__all__ = [
    "EXPERIMENTS",
    "FACETS",
    "MEASUREMENTS",
    "SOLUTIONS",
    "UNAVAILABLE",
    "AnyOf",
    "Condition",
    "Lease",
    "ListQuery",
    "Listing",
    "NewMatrix",
    "NewMeasurement",
    "NewSolution",
    "Page",
    "PlannedStage",
    "Purged",
    "SeriesPoints",
    "StageOutput",
    "Store",
    "check_schema",
    "downgrade",
    "schema_state",
    "upgrade",
]  # fmt: skip
