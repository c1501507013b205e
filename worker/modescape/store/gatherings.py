"""Ensembles made elsewhere that come in pieces: opened, added to, sealed, reopened.

Every change names the revision it was planned on; who planned on another one gets Outrun and plans again. An experiment
is there from the first piece on. Until it is sealed its plan grows with every piece; what is sealed stays as it is, and
reopened it goes on as another experiment, which is the next look at the same members.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from modescape import names
from modescape.acting import actor, own
from modescape.errors import Conflict, ModescapeError, NotFound
from modescape.records import ArtifactInfo, EventKind, Json, Need, PlannedStage
from modescape.spec import ExperimentSpec
from modescape.store.creating import add_experiment, checked_tags, plan_again
from modescape.store.experiments import give
from modescape.store.logged import forget, points_of
from modescape.store.lookup import find_experiment
from modescape.store.outputs import declared_files, forget_files
from modescape.store.quotas import afford
from modescape.store.transaction import PURGE_LOCK, Change, Subject
from modescape.store.transitions import settle
from modescape.tables import Artifact, Experiment, Gathered, Gathering


class Outrun(ModescapeError):
    """The gathering was changed since it was read."""


@dataclass(frozen=True)
class NewPiece:
    """What is added. request: digest of what was sent; files: name, sha256 and bytes of each; logged: points that were
    logged of it before, which it has as its curves."""

    request: str
    members: Sequence[str]
    piece: Json
    files: Sequence[Json]
    logged: int = 0


@dataclass(frozen=True)
class Whole:
    """The plan of all pieces. stays: stages that are the same as in the plan before; given: the arrays they read;
    bytes: that it keeps, those too."""

    spec: ExperimentSpec
    stages: Sequence[PlannedStage]
    given: Sequence[ArtifactInfo]
    provenance: Json
    stays: Collection[Need] = ()
    bytes: float = 0.0


class Gatherings(Subject):
    """By id."""

    def open(
        self, *, name: str, planned: int, declared: Json, request: str, key: str | None, kept: Sequence[ArtifactInfo]
    ) -> Gathering:
        """key: of the request, which may be repeated: then the one made the first time. kept: files that were declared.
        Raises Conflict for the same key with another request, InvalidInput for a name or tags that do not fit and for
        more than one user may have."""
        name = names.checked(name, field="name")
        declared = {**declared, "tags": checked_tags(declared.get("tags", ()))}
        for last in (False, True):
            try:
                with self.database.writing() as change:
                    if (known := _known(change.session, key, request)) is not None:
                        return known
                    row = Gathering(
                        id=str(uuid.uuid4()), name=name, planned=planned, sealed=False, declared=declared,
                        key=None if key is None else own(key),
                        request=request, revision=0, looks=[], created_by=actor().name, created_at=change.now,
                        changed_at=change.now,
                    )  # fmt: skip
                    change.session.add(row)
                    _remember(change, kept)
                    _theirs(change, "open", row)
                    afford(change)
                return row
            except IntegrityError:  # another process took the key in the same moment
                if last:
                    raise
        raise AssertionError("unreachable")

    def by_key(self, key: str, request: str | None = None) -> Gathering | None:
        """The one that this request opened before. Raises Conflict when another request had its key; None: whatever
        the request was."""
        with self.database.reading() as session:
            return _known(session, key, request)

    def get(self, id_: str) -> Gathering:
        """Raises NotFound."""
        with self.database.reading() as session:
            return _find(session, id_)

    def own(self, id_: str) -> Gathering:
        """One that whoever asks may add to. Raises NotFound, Forbidden."""
        row = self.get(id_)
        _check_owner(row)
        return row

    def all(self, limit: int = 200) -> list[Gathering]:
        """The newest first."""
        return self.found(select(Gathering).order_by(Gathering.created_at.desc(), Gathering.id).limit(limit))

    def of_experiment(self, experiment_id: str) -> Gathering | None:
        """That of which an experiment is the present state, or was an earlier look."""
        with self.database.reading() as session:
            found = session.scalars(select(Gathering).where(Gathering.experiment_id == experiment_id)).first()
            if found is None:
                recipe = session.scalar(select(Experiment.recipe).where(Experiment.id == experiment_id))
                same = select(Gathering).join(Experiment, Experiment.id == Gathering.experiment_id)
                found = session.scalars(same.where(Experiment.recipe == recipe)).first()
        return found

    def pieces(self, id_: str) -> list[Gathered]:
        """In the order in which they came."""
        return self.found(select(Gathered).where(Gathered.gathering_id == id_).order_by(Gathered.number))

    def add(self, id_: str, revision: int, new: NewPiece, whole: Whole, *, seal: bool = False) -> Gathering:
        """Add a piece, with the plan of all. seal: nothing more is awaited. Raises NotFound, Outrun, InvalidInput for
        more than one user may have."""
        with self.database.writing() as change:
            row = _find(change.session, id_, lock=True)
            _check(row, revision)
            _theirs(change, "seal" if seal else "add to", row, members=list(new.members)[:100])
            last = change.session.scalars(
                select(Gathered.number).where(Gathered.gathering_id == id_).order_by(Gathered.number.desc())
            ).first()
            change.session.add(
                Gathered(
                    gathering_id=id_,
                    number=0 if last is None else last + 1,
                    request=new.request,
                    members=list(new.members),
                    piece=new.piece,
                    files=list(new.files),
                    at=change.now,
                )
            )
            if points_of(change.session, id_, new.members) != new.logged:
                raise Outrun("more of its points have come since they were read")
            forget(change.session, id_, new.members)
            self._plan(change, row, whole, seal=seal)
            afford(change)
            return row

    def plan(self, id_: str, revision: int, whole: Whole, *, seal: bool) -> Gathering:
        """The plan of what is there, as it is to be sealed. Raises NotFound, Outrun."""
        with self.database.writing() as change:
            row = _find(change.session, id_, lock=True)
            _check(row, revision)
            _theirs(change, "seal" if seal else "plan", row)
            self._plan(change, row, whole, seal=seal)
            return row

    def reopen(self, id_: str, revision: int, planned: int) -> Gathering:
        """Wait for more members. What was sealed stays; the next piece begins another. Raises NotFound, Outrun."""
        with self.database.writing() as change:
            row = _find(change.session, id_, lock=True)
            _check(row, revision)
            _theirs(change, "reopen", row)
            row.sealed, row.planned = False, planned
            row.revision += 1
            row.changed_at = change.now
            _tell(change, row)
            return row

    def forget(self, id_: str) -> dict[str, datetime]:
        """One of which there is no experiment yet; files that nothing names any more, which the caller deletes, and
        since when they were named. Raises NotFound, Conflict."""
        with self.database.writing() as change:
            change.lock(PURGE_LOCK)  # nobody reuses a stage while its files are counted
            row = _find(change.session, id_, lock=True)
            if row.experiment_id is not None:
                raise Conflict("it is an experiment already; archive and purge that one")
            _theirs(change, "forget", row)
            declared = declared_files(change.session, Gathering.id == id_)
            change.session.execute(delete(Gathering).where(Gathering.id == id_))
            return {one.digest: one.created_at for one in forget_files(change.session, declared)}

    def _plan(self, change: Change, row: Gathering, whole: Whole, *, seal: bool) -> None:
        session, given = change.session, {info.digest: info for info in whole.given}
        if row.experiment_id is None or row.experiment_id in row.looks:
            experiment = add_experiment(
                change, row.name, whole.spec, whole.stages, list(row.declared.get("tags", [])),
                recipe=_recipe(row), planned=row.planned,
            )  # fmt: skip
            experiment.created_by = row.created_by
            experiment.notes = row.declared.get("notes", "")
            change.event(EventKind.CREATED, experiment.id, name=row.name, slug=experiment.slug)
        else:
            experiment = find_experiment(session, row.experiment_id, lock=True)
            plan_again(change, experiment, whole.spec, whole.stages, whole.stays)
        experiment.planned_bytes = max(0, int(whole.bytes) - sum(info.bytes for info in given.values()))
        experiment.provenance = whole.provenance
        session.flush()
        give(change, experiment, given)
        settle(change, experiment)
        row.experiment_id, row.sealed = experiment.id, seal
        row.revision += 1
        row.changed_at = change.now
        _tell(change, row)
        if seal:
            row.looks = [*row.looks, experiment.id]


def _theirs(change: Change, verb: str, row: Gathering, **details: object) -> None:
    """Whoever asks does this to an import of their own. Raises Forbidden."""
    _check_owner(row)
    change.deed(verb, "import", row.id, row.name, **details)


def _check_owner(row: Gathering) -> None:
    actor().check_owner(row.created_by, f"the import {row.name!r}")


def _tell(change: Change, row: Gathering) -> None:
    """Pages of what it is, and of what it was sealed as before, say how it stands."""
    for id_ in dict.fromkeys([*row.looks, *([row.experiment_id] if row.experiment_id else [])]):
        if (one := change.session.get(Experiment, id_)) is not None:  # it may be purged since
            change.event(EventKind.CHANGED, one.id, name=one.name, tags=one.tags)


def _recipe(row: Gathering) -> str:
    """What all experiments of one gathering share: their members."""
    return hashlib.sha256(f"gathering {row.id}".encode()).hexdigest()


def _known(session: Session, key: str | None, request: str | None) -> Gathering | None:
    found = None if key is None else session.scalars(select(Gathering).where(Gathering.key == own(key))).one_or_none()
    if found is not None and request is not None and found.request != request:
        raise Conflict(f"the Idempotency-Key {(key or '')[:80]!r} was used for another request; use a new key")
    return found


def _find(session: Session, id_: str, *, lock: bool = False) -> Gathering:
    statement = select(Gathering).where(Gathering.id == id_)
    found = session.scalars(statement.with_for_update(key_share=True) if lock else statement).one_or_none()
    if found is None:
        raise NotFound(f"there is no import {id_[:80]!r}")
    return found


def _check(row: Gathering, revision: int) -> None:
    if row.revision != revision:
        raise Outrun(f"the import was changed meanwhile: it is at {row.revision}, not at {revision}")


def _remember(change: Change, files: Sequence[ArtifactInfo]) -> None:
    """Rows for files that no stage reads yet, so that no sweep takes them."""
    rows = [asdict(info) | {"shape": list(info.shape), "created_at": change.now} for info in files]
    if rows:
        change.insert_missing(Artifact, rows)
