"""Experiments: making and finding them, what lists show of them, and what users want done with them."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from threading import Lock
from typing import Any, Unpack

import numpy as np
from cachetools import TTLCache
from sqlalchemy import ColumnElement, String, cast, delete, exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, defer

from modescape import columns, names, stored_values
from modescape.acting import own
from modescape.claims.repeated_looks import Look
from modescape.errors import Conflict, InvalidInput, NotFound
from modescape.listing import Listing, ListQuery, Page
from modescape.records import About, ArtifactInfo, EventKind, PlannedStage, StageState, Status, Wish
from modescape.spec import ExperimentSpec
from modescape.store import in_memory
from modescape.store.creating import (
    add_experiment,
    checked_priority,
    checked_project,
    checked_tags,
    having_trainings,
    known_request,
)
from modescape.store.groups import GROUP_NUMBERS, Columns, Group, grouped, number_of
from modescape.store.links import end_links_to
from modescape.store.lookup import batches, find_experiment, ids_of
from modescape.store.outputs import forget_files, name_files
from modescape.store.quotas import Used, afford, used
from modescape.store.transaction import PURGE_LOCK, Change, Database, Subject, now
from modescape.store.transitions import AFRESH, graph_of, move, refresh, settle, waiting_for
from modescape.tables import Artifact, ArtifactUse, Event, Experiment, Idempotency, Measurement, Stage, Turn

Counts = dict[str, list[tuple[str, int]]]

EXPERIMENTS = Listing(columns.EXPERIMENTS)
_NUMBERS = (columns.Kind.NUMBER, columns.Kind.WHOLE)
_COMPUTED = 100  # columns of one statement: databases refuse thousands
GROUPED = (columns.Kind.TEXT, columns.Kind.LIST, *_NUMBERS)  # kinds of fields
_HEAVY = (Experiment.spec, Experiment.notes, Experiment.folded)  # never read for lists


def give(change: Change, experiment: Experiment, files: Mapping[str, ArtifactInfo]) -> None:
    """Files that nobody here has made belong to the stages that read them. files: by digest."""
    of_it = select(Stage).where(Stage.experiment_id == experiment.id)
    stages, named = list(change.session.scalars(of_it)) if files else [], set[str]()
    for stage in stages:
        read = dict.fromkeys(stage.params.get("given", {}).values())
        name_files(change, stage.id, [files[digest] for digest in read])
        named.update(read)
    if stages:  # what no stage reads is kept all the same, to go out as it came in
        name_files(change, stages[0].id, [info for digest, info in files.items() if digest not in named])


@dataclass(frozen=True)
class Purged:
    """What a purge freed, the files nothing names any more (and when each was first named), the stages gone. at: when
    it began, by the store's clock as all of these."""

    at: datetime
    bytes: int
    files: dict[str, datetime]
    stages: list[str]


@dataclass(frozen=True)
class Along:
    """Values of many experiments: how many there are in all, and of those that were read, one behind the other, slugs,
    names, states and the values of each field asked for."""

    total: int
    slugs: tuple[str, ...]
    names: tuple[str, ...]
    states: tuple[Status, ...]
    values: Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Remade:
    """What is done again because of files: how many stages, of which experiments; given: files no stage can make."""

    stages: int
    experiments: tuple[str, ...]
    given: tuple[str, ...]


class Experiments(Subject):
    """By id or slug; archived ones are found too."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._held = in_memory.InMemory()
        self._counted: TTLCache[str, Counts] = TTLCache(maxsize=64, ttl=2.0)
        self._lock = Lock()

    def create(
        self,
        *,
        name: str,
        spec: ExperimentSpec,
        stages: Sequence[PlannedStage],
        given: Iterable[ArtifactInfo] = (),
        bytes: float = 0.0,
        **about: Unpack[About],
    ) -> Experiment:
        """Store an experiment and its stages, those without needs ready to be claimed, in one transaction.

        given: files that its stages read and no stage has made, which belong to them from now on; bytes: that its plan
        keeps, these too.
        idempotency: the same pair again returns the experiment made the first time;
        the same key with another digest raises Conflict. Raises InvalidInput for a name or tags that do not fit, and
        for more than one user may have.
        """
        given = list(given)
        name, tags = names.checked(name, field="name"), checked_tags(about.get("tags", ()))
        idempotency = about.get("idempotency")
        for last in (False, True):
            try:
                with self.database.writing() as change:
                    known = known_request(change, idempotency)
                    if known is not None:
                        return known
                    more = max(0.0, bytes - sum(info.bytes for info in given))
                    experiment = add_experiment(change, name, spec, stages, tags, bytes=more)
                    give(change, experiment, {info.digest: info for info in given})
                    experiment.preset, experiment.notes = about.get("preset"), about.get("notes", "")
                    experiment.fresh = about.get("fresh", False)
                    experiment.project = checked_project(about.get("project", ""))
                    experiment.parent = about.get("parent")
                    experiment.provenance = about.get("provenance")
                    experiment.priority = checked_priority(about.get("priority", 0))
                    if idempotency is not None:
                        key, digest = idempotency
                        row = Idempotency(key=own(key), request=digest, experiment_id=experiment.id, at=change.now)
                        change.session.add(row)
                    change.event(EventKind.CREATED, experiment.id, name=name, slug=experiment.slug)
                    change.theirs("launch", experiment)
                    afford(change)
                return experiment
            except IntegrityError:  # another process took the slug or the key in the same moment
                if last:
                    raise
        raise AssertionError("unreachable")

    def of_request(self, idempotency: tuple[str, str] | None) -> Experiment | None:
        """The experiment that this request made before; None where none has. Raises Conflict as `create` does."""
        with self.database.writing() as change:
            return known_request(change, idempotency)

    def having_trainings(self, spec: ExperimentSpec) -> list[Experiment]:
        """Experiments whose trainings one of this spec would share, oldest first, without `spec` and `notes`."""
        with self.database.reading() as session:
            return having_trainings(session, spec.recipe())

    def judged(self, ids: Sequence[str]) -> dict[str, bool]:
        """Of those experiments that there are: whether any claim has been judged."""
        found: dict[str, bool] = {}
        for some in batches(ids):
            with self.database.reading() as session:
                rows = session.execute(select(Experiment.id, Experiment.finding).where(Experiment.id.in_(some)))
                found |= {id_: bool(finding.get("claims")) for id_, finding in rows}
        return found

    def look(self, row: Experiment) -> Look:
        """Which look at its trainings an experiment is."""
        return self.looks([row])[row.id]

    def looks(self, rows: Sequence[Experiment]) -> dict[str, Look]:
        """The same of several, by id."""
        judged = self.judged(sorted({one["id"] for row in rows for one in row.earlier}))
        return {row.id: Look.of(row, judged) for row in rows}

    def get(self, reference: str) -> Experiment:
        """By id or slug. Raises NotFound."""
        with self.database.reading() as session:
            return find_experiment(session, reference)

    def named(self, references: Iterable[str]) -> dict[str, Experiment]:
        """Those of these slugs and ids that there are, by what they were named by."""
        with self.database.reading() as session:
            ids = ids_of(session, references)
        rows = {row.id: row for row in self.of_ids(set(ids.values()))}
        return {one: rows[id_] for one, id_ in ids.items() if id_ in rows}

    def computed(self, ids: Collection[str], names: Iterable[str]) -> dict[str, dict[str, float | str | None]]:
        """Values that are read off their documents (`stored_values`), by id and name; None where there is none such."""
        found = [one for one in map(stored_values.find, dict.fromkeys(names)) if one is not None]
        values: dict[str, dict[str, float | str | None]] = {id_: {} for id_ in ids}
        with self.database.reading() as session:
            for asked, some in product(batches(found, _COMPUTED), batches(sorted(ids))):
                statement = select(Experiment.id, *(one.expression for one in asked)).where(Experiment.id.in_(some))
                for id_, *told in session.execute(statement):
                    values[id_] |= zip((one.name for one in asked), told, strict=True)
        return values

    def of_ids(self, ids: Collection[str]) -> list[Experiment]:
        """Those of them that there are, in any order."""
        return [
            row
            for some in batches(sorted(ids))
            for row in self.found(select(Experiment).where(Experiment.id.in_(some)))
        ]

    def page(self, query: ListQuery = ListQuery()) -> Page[Experiment]:
        """A page of experiments with what lists show; `spec` and `notes` are not read. Raises InvalidInput."""
        statement = select(Experiment).options(*(defer(column, raiseload=True) for column in _HEAVY))
        with self.database.reading() as session:
            found, began = self._held.find(session, query), time.monotonic()
            page = EXPERIMENTS.page(
                session, statement, among=_archived(query.archived), conditions=query.conditions, sort=query.sort,
                cursor=query.cursor, limit=query.limit, show=query.show, counted=query.counted, found=found,
            )  # fmt: skip
            self._held.took(session, time.monotonic() - began)
            return page

    def facets(self, query: ListQuery = ListQuery()) -> Counts:
        """For each facet the values among the experiments `query` finds, with counts, most frequent first.

        One pass: distinct combinations are few, so grouping by all of them and adding up here costs one index scan
        where a query per facet would cost six. What took long to count is told again for two seconds, until something
        happens.
        """
        with self.database.reading() as session:
            if (counted := self._held.counts(session, query)) is not None:
                return _most_first(counted)
            last = session.scalar(select(func.max(Event.id)))
        asked = repr((last, query.archived, query.conditions))
        with self._lock:
            kept = self._counted.get(asked)
        if kept is None:
            began = time.monotonic()
            kept = self._count(query)
            took = time.monotonic() - began
            if took > in_memory.LONG:  # what is counted sooner is counted every time
                with self._lock:
                    self._counted[asked] = kept
                with self.database.reading() as session:
                    self._held.took(session, took)
        return kept

    def values_of(self, name: str) -> list[str]:
        """What there is of a facet among all that are not archived, most frequent first; [] of what is no facet."""
        return [value for value, _ in self.facets().get(name, [])]

    def groups(self, query: ListQuery, by: str, numbers: Sequence[str]) -> list[Group]:
        """Those that the query finds by the values of a field, with mean and spread of other fields that are numbers.
        Raises InvalidInput."""
        field = columns.EXPERIMENTS.find(by)
        if field is None or field.kind not in GROUPED:
            raise InvalidInput(
                f"nothing is grouped by {by[:60]!r}", field="group", allowed="a text, a list or a number"
            )
        for name in numbers:
            if (one := columns.EXPERIMENTS.find(name)) is None or one.kind not in _NUMBERS:
                raise InvalidInput(f"{name[:60]!r} is no number", field="numbers", allowed=", ".join(GROUP_NUMBERS))
        with self.database.reading() as session:
            held = self._held.columns(session, query, field, numbers)
            if held is None:
                began = time.monotonic()
                held = self._columns(session, query, field, numbers)
                self._held.took(session, time.monotonic() - began)
        return grouped(held)

    def along(self, query: ListQuery, names: Sequence[str], most: int) -> Along:
        """What a plot needs of the experiments that a query finds: their values of some fields, in the list's order;
        of more than `most` as many, evenly from its first to its last. Raises InvalidInput."""
        written = {field.name: field.column for field in columns.EXPERIMENTS.all if field.folded is not None}
        asked = [written[name] if name in written else EXPERIMENTS.column(name, "axes") for name in names]
        about = (Experiment.id, Experiment.slug, Experiment.name, Experiment.status)
        with self.database.reading() as session:
            found, began = self._held.spread(session, query, most), time.monotonic()
            ids, total = EXPERIMENTS.spread(session, query, _archived(query.archived), most) if found is None else found
            self._held.took(session, time.monotonic() - began)
            rows: dict[str, Any] = {}
            for some in batches(ids):
                rows |= {row[0]: row for row in session.execute(
                    select(*about, *asked).where(Experiment.id.in_(some))
                )}  # fmt: skip
        there = [rows[one] for one in ids if one in rows]  # some may have gone meanwhile
        of_each = tuple(tuple(row[i] for row in there) for i in range(len(about), len(about) + len(names)))
        return Along(
            total, tuple(row[1] for row in there), tuple(row[2] for row in there), tuple(row[3] for row in there),
            dict(zip(names, of_each, strict=True)),
        )  # fmt: skip

    def _columns(self, session: Session, query: ListQuery, by: columns.Field, numbers: Sequence[str]) -> Columns:
        asked = [EXPERIMENTS.column(name) for name in numbers]
        where = (*_archived(query.archived), *EXPERIMENTS.where(query.conditions, session))
        found = session.execute(select(by.column, *asked).where(*where)).all()
        places: dict[Any, int] = {}
        values = [json.dumps(row[0]) if isinstance(row[0], list) else row[0] for row in found]
        codes = np.array([places.setdefault(value, len(places)) for value in values], dtype=np.intp)
        of_rows = {
            name: np.array([number_of(row[i]) for row in found], dtype=np.float64) for i, name in enumerate(numbers, 1)
        }
        return in_memory.labelled(by, [*places] or [None], codes, of_rows)

    def _count(self, query: ListQuery) -> Counts:
        faceted = [field for field, _ in columns.EXPERIMENTS.facets]
        stored = [field.column for field in faceted]
        texts: list[dict[str, int]] = [{} for _ in faceted]  # values as stored, each read once, not in every row
        with self.database.reading() as session:
            where = (*_archived(query.archived), *EXPERIMENTS.where(query.conditions, session))
            as_texts = (cast(column, String) for column in stored)
            rows = session.execute(select(*as_texts, func.count()).where(*where).group_by(*stored)).all()
        for *values, count in rows:
            for found, value in zip(texts, values, strict=True):
                found[value] = found.get(value, 0) + count
        counts: dict[str, dict[str, int]] = {field.name: {} for field in faceted}
        for field, found in zip(faceted, texts, strict=True):
            for value, count in found.items():
                for item in json.loads(value) if field.kind == columns.Kind.LIST else [value]:
                    if item:  # an experiment of no preset is in no project
                        counts[field.name][item] = counts[field.name].get(item, 0) + count
        return _most_first(counts)

    def patch(
        self,
        reference: str,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        tag: Sequence[str] = (),
        untag: Sequence[str] = (),
        notes: str | None = None,
        priority: int | None = None,
        project: str | None = None,
    ) -> Experiment:
        """Change what is not part of the promise. tags: instead of those it has; tag and untag: beside and out of them.
        project: "" takes it out of its project. Raises NotFound, InvalidInput."""
        tagged = tags if tags is not None else (*tag, *untag) or None
        said = {"name": name, "tags": tagged, "notes": notes, "project": project}
        with self._changing(reference) as (change, experiment):
            change.theirs("change", experiment, fields=[key for key, value in said.items() if value is not None])
            if name is not None:
                experiment.name = names.checked(name, field="name")
            if tagged is not None:
                gone = {names.folded(one) for one in untag}
                kept = [one for one in (experiment.tags if tags is None else tags) if names.folded(one) not in gone]
                experiment.tags = checked_tags([*kept, *tag])
            if notes is not None:
                experiment.notes = notes
            if project is not None:
                experiment.project = checked_project(project)
            if priority is not None:
                experiment.priority = checked_priority(priority)
            change.event(EventKind.CHANGED, experiment.id, name=experiment.name, tags=experiment.tags)
            return experiment

    def several(self, slugs: Sequence[str]) -> list[Experiment]:
        """Those of them that are here, in any order."""
        return self.found(select(Experiment).where(Experiment.slug.in_(slugs)))

    def measured(self, metric: str, subject: str, *, limit: int = 200) -> list[str]:
        """Ids of the experiments, newest first and none archived, with that metric of a subject that starts so."""
        found = exists().where(
            Measurement.experiment_id == Experiment.id,
            Measurement.metric == metric,
            Measurement.subject.startswith(subject, autoescape=True),
        )
        statement = select(Experiment.id).where(Experiment.archived_at.is_(None), found)
        return self.found(statement.order_by(Experiment.created_at.desc(), Experiment.id).limit(limit))

    def bytes_of(self, *references: str) -> int:
        """Bytes that purging these experiments would free: files only their stages name. Raises NotFound."""
        with self.database.reading() as session:
            known = ids_of(session, references)
            ids = [known.get(one) or find_experiment(session, one).id for one in references]
            named = dict[str, int]()
            for some in batches(ids):
                mine = select(ArtifactUse.digest).join(Stage, Stage.id == ArtifactUse.stage_id)
                of_them = select(Artifact.digest, Artifact.bytes).where(
                    Artifact.digest.in_(mine.where(Stage.experiment_id.in_(some)))
                )
                named |= {row.digest: row.bytes for row in session.execute(of_them)}
            there, shared = set(ids), set[str]()
            for some in batches(sorted(named)):
                users = select(ArtifactUse.digest, Stage.experiment_id).join(Stage, Stage.id == ArtifactUse.stage_id)
                found = session.execute(users.where(ArtifactUse.digest.in_(some)))
                shared |= {digest for digest, of in found if of not in there}
        return sum(size for digest, size in named.items() if digest not in shared)

    def archived_before(self, age: timedelta, *, limit: int) -> list[str]:
        """Ids of experiments that were archived longer ago than that, the oldest first."""
        with self.database.reading() as session:
            old = select(Experiment.id).where(Experiment.archived_at < now(session) - age)
            return list(session.scalars(old.order_by(Experiment.archived_at).limit(limit)))

    def forget_requests(self, age: timedelta) -> int:
        """Keys of requests older than that: one that is repeated later makes another experiment; how many."""
        with self.database.writing() as change:
            result = change.session.execute(delete(Idempotency).where(Idempotency.at < change.now - age))
            return int(result.rowcount)  # type: ignore[attr-defined]

    def used_by(self, name: str) -> Used:
        """What somebody's experiments keep, and have still to write and to compute."""
        with self.database.reading() as session:
            return used(session, name)

    def recompute_list_columns(self) -> int:
        """Derive every experiment's list columns again; how many experiments were wrong."""
        repaired = 0
        for id_ in self.found(select(Experiment.id).order_by(Experiment.created_at)):
            with self.database.writing() as change:
                experiment = change.session.get(Experiment, id_)
                if experiment is None:
                    continue
                experiment = find_experiment(change.session, id_, lock=True)
                before = _derived(experiment)
                refresh(change, experiment)
                repaired += before != _derived(experiment)
        return repaired

    # --- what users want ---

    @contextmanager
    def _changing(self, reference: str) -> Iterator[tuple[Change, Experiment]]:
        """A transaction with the experiment, which nobody else changes until its end. Raises NotFound."""
        with self.database.writing() as change:
            yield change, find_experiment(change.session, reference, lock=True)

    def cancel(self, reference: str) -> Experiment:
        """Stop everything unfinished; running stages notice at their next step. Conflict once it has ended."""
        with self._changing(reference) as (change, experiment):
            if experiment.status is not Status.CANCELLED:
                _refuse(experiment, "cancelled")
                change.theirs("cancel", experiment)
                _cancel(change, experiment)
            return experiment

    def pause(self, reference: str) -> Experiment:
        """Hold everything unfinished; running stages save and stop at their next step. Conflict once it has ended."""
        with self._changing(reference) as (change, experiment):
            _refuse(experiment, "paused")
            change.theirs("pause", experiment)
            of_it = Stage.experiment_id == experiment.id
            paused = move(change, of_it, Stage.state == StageState.READY, state=StageState.PAUSED)
            asked = move(change, of_it, Stage.state == StageState.RUNNING, Stage.wish.is_(None), wish=Wish.PAUSE)
            if paused or asked:
                change.event(EventKind.PAUSED, experiment.id, stages=paused, running=asked)
            refresh(change, experiment)
            return experiment

    def resume(self, reference: str) -> Experiment:
        """Undo `pause`; each stage goes on from its last saved state. Conflict once it has ended."""
        with self._changing(reference) as (change, experiment):
            _refuse(experiment, "resumed", "; use retry" if experiment.status is not Status.SUCCEEDED else "")
            change.theirs("resume", experiment)
            of_it = Stage.experiment_id == experiment.id
            resumed = move(change, of_it, Stage.state == StageState.PAUSED, state=StageState.READY, rung_at=None)
            kept = move(change, of_it, Stage.state == StageState.RUNNING, Stage.wish == Wish.PAUSE, wish=None)
            if resumed or kept:
                change.event(EventKind.RESUMED, experiment.id, stages=resumed, running=kept)
            refresh(change, experiment)
            return experiment

    def retry(self, reference: str, stage_id: str | None = None) -> Experiment:
        """Give failed and cancelled stages (or one of them, with what hangs on it) another chance, from their last
        saved state. Conflict when there is nothing to retry; NotFound for a stage of another experiment; InvalidInput
        for more than one user may have."""
        with self._changing(reference) as (change, experiment):
            session = change.session
            of_it = Stage.experiment_id == experiment.id
            states = {row.id: row.state for row in session.execute(select(Stage.id, Stage.state).where(of_it))}
            if stage_id is not None and stage_id not in states:
                raise NotFound(f"experiment {experiment.slug} has no stage {stage_id[:80]!r}")
            again = [id_ for id_, state in states.items() if state in (StageState.FAILED, StageState.CANCELLED)]
            if stage_id is not None:
                near = graph_of(session, experiment.id).relatives(stage_id) if stage_id in again else set()
                again = [id_ for id_ in again if id_ in near]
            stopping = [Stage.state == StageState.RUNNING, Stage.wish == Wish.CANCEL]
            kept = move(change, of_it, *stopping, wish=None) if stage_id is None else 0  # it had not seen it yet
            if not again and not kept:
                done = states[stage_id] is StageState.SUCCEEDED if stage_id else experiment.status is Status.SUCCEEDED
                if done:
                    raise Conflict("it has succeeded; there is nothing to retry")
                return experiment
            change.theirs("retry", experiment, stages=len(again) + kept)
            move(change, Stage.id.in_(again), error={}, **AFRESH)
            move(change, waiting_for(again), Stage.state == StageState.READY, state=StageState.BLOCKED)
            experiment.error = None
            experiment.archived_at = None
            change.event(EventKind.RETRIED, experiment.id, stages=len(again) + kept)
            settle(change, experiment)
            afford(change)
            return experiment

    def make_again(self, digests: Collection[str]) -> Remade:
        """Have the stages done again that made or took over these files, which are gone or damaged, and later what
        stood on them; of an archived experiment once it is retried. What a stage was given, none can make."""
        stages, slugs, given = 0, list[str](), set[str]()
        naming = select(Stage.experiment_id).join(ArtifactUse, ArtifactUse.stage_id == Stage.id)
        found: set[str] = set()
        for some in batches(sorted(digests)):
            found.update(self.found(naming.where(ArtifactUse.digest.in_(some))))
        for id_ in sorted(found):
            with self.database.writing() as change:
                experiment = find_experiment(change.session, id_, lock=True)
                made, brought = _makers(change, experiment, digests)
                given |= brought
                if not made:
                    continue
                archived = experiment.archived_at is not None
                state = {"state": StageState.CANCELLED} if archived else {}
                move(change, Stage.id.in_(made), error={}, step=0, **AFRESH | state)
                move(change, waiting_for(made), Stage.state == StageState.READY, state=StageState.BLOCKED)
                for some in batches(sorted(digests)):
                    of_them = ArtifactUse.stage_id.in_(made) & ArtifactUse.digest.in_(some)
                    change.session.execute(delete(ArtifactUse).where(of_them))
                change.event(EventKind.RETRIED, experiment.id, stages=len(made))
                settle(change, experiment)
                stages += len(made)
                slugs.append(experiment.slug)
        with self.database.writing() as change:
            forget_files(change.session, set(digests) - given)
        return Remade(stages, tuple(slugs), tuple(sorted(given)))

    def archive(self, reference: str) -> Experiment:
        """Take it out of the lists and stop what still runs of it; `purge` frees its bytes. Raises NotFound."""
        with self._changing(reference) as (change, experiment):
            if experiment.archived_at is None:
                change.theirs("archive", experiment)
                if not experiment.status.has_ended:
                    _cancel(change, experiment)
                experiment.archived_at = change.now
                change.event(EventKind.ARCHIVED, experiment.id)
            return experiment

    def restore(self, reference: str) -> Experiment:
        """Undo `archive`; what was stopped by it can be retried. Raises NotFound, and InvalidInput while its owner has
        more than one user may: what is archived counts, and can be purged."""
        with self._changing(reference) as (change, experiment):
            if experiment.archived_at is not None:
                change.theirs("restore", experiment)
                experiment.archived_at = None
                change.event(EventKind.RESTORED, experiment.id)
                afford(change)
            return experiment

    def purge(self, reference: str) -> Purged:
        """Delete an archived experiment's rows; says which files nothing names any more. Raises NotFound, Conflict.

        The caller deletes the files: rows first, so that a crash between leaves files without rows, which `sweep`
        finds, never rows without files. A file written again after it was first named, and since `oldest_running` or
        since this began, may be wanted by somebody who has not named it yet; it is left for `sweep` too.
        """
        with self.database.writing() as change:
            session = change.session
            change.lock(PURGE_LOCK)  # nobody reuses a stage while its files are counted
            experiment = find_experiment(session, reference, lock=True)
            if experiment.archived_at is None:
                raise Conflict(f"{experiment.slug} is not archived; archive it first, then purge")
            change.theirs("purge", experiment)
            stages = list(session.scalars(select(Stage.id).where(Stage.experiment_id == experiment.id)))
            of_it = select(Stage.id).where(Stage.experiment_id == experiment.id)
            named = set(session.scalars(select(ArtifactUse.digest).where(ArtifactUse.stage_id.in_(of_it))))
            for child in session.scalars(select(Experiment).where(Experiment.parent == experiment.slug)):
                child.parent = None  # another may have the address later
            session.execute(delete(Experiment).where(Experiment.id == experiment.id))
            session.execute(delete(Event).where(Event.experiment_id == experiment.id))
            session.execute(delete(Turn).where(Turn.name == experiment.id))
            end_links_to(change, experiment.id)
            rows = forget_files(session, named)
            freed = sum(row.bytes for row in rows)
            change.event(EventKind.PURGED, experiment.id, slug=experiment.slug, bytes=freed)
            return Purged(change.now, freed, {row.digest: row.created_at for row in rows}, stages)


def _most_first(counts: Mapping[str, Mapping[str, int]]) -> Counts:
    """What is compared alike counts together, under the spelling that most have."""
    together: Counts = {}
    for name, found in counts.items():
        values = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
        if name in columns.EXPERIMENTS.folds:
            spelled: dict[str, str] = {}
            alike: dict[str, int] = {}
            for value, count in values:
                first = spelled.setdefault(names.folded(value), value)
                alike[first] = alike.get(first, 0) + count
            values = sorted(alike.items(), key=lambda pair: (-pair[1], pair[0]))
        together[name] = values
    return together


def _makers(change: Change, experiment: Experiment, digests: Collection[str]) -> tuple[list[str], set[str]]:
    """Ids of the stages of an experiment that have made one of these files and could again, and the files of which a
    stage was given one."""
    session, lost, given = change.session, set(digests), set[str]()
    of_it = Stage.experiment_id == experiment.id
    for params in session.scalars(select(Stage.params).where(of_it)):
        given |= lost & set((params.get("given") or {}).values())
    named = select(ArtifactUse.stage_id, ArtifactUse.digest).join(Stage, Stage.id == ArtifactUse.stage_id)
    rows = session.execute(named.where(of_it, Stage.state == StageState.SUCCEEDED)).all()
    return sorted({stage for stage, digest in rows if digest in lost - given}), given


def _cancel(change: Change, experiment: Experiment) -> None:
    of_it = Stage.experiment_id == experiment.id
    waiting = Stage.state.in_((StageState.BLOCKED, StageState.READY, StageState.PAUSED))
    cancelled = move(change, of_it, waiting, state=StageState.CANCELLED, wish=None, finished_at=change.now)
    asked = move(change, of_it, Stage.state == StageState.RUNNING, wish=Wish.CANCEL)
    if cancelled or asked:
        change.event(EventKind.CANCELLED, experiment.id, stages=cancelled, running=asked)
    refresh(change, experiment)


_ENDED_WORDS = {
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELLED: "been cancelled",
}


def _refuse(experiment: Experiment, verb: str, hint: str = "") -> None:
    """Raises Conflict when it has ended."""
    if experiment.status.has_ended:
        raise Conflict(f"{experiment.slug} has {_ENDED_WORDS[experiment.status]}; it cannot be {verb}{hint}")


def _derived(experiment: Experiment) -> tuple[str, int, int, float]:
    return experiment.status, experiment.stages_total, experiment.stages_done, round(experiment.seconds, 6)


def _archived(archived: bool | None) -> tuple[ColumnElement[bool], ...]:
    if archived is None:
        return ()
    return (Experiment.archived_at.is_not(None) if archived else Experiment.archived_at.is_(None),)
