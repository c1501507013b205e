"""Sweeps: their cells, each an ordinary experiment, made in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, defer

from modescape import names
from modescape.acting import actor, own
from modescape.errors import Conflict, NotFound
from modescape.records import EventKind, Json, PlannedStage
from modescape.spec import ExperimentSpec
from modescape.store.creating import add_experiment, checked_priority, checked_tags, free_slug
from modescape.store.links import end_links_to
from modescape.store.quotas import afford
from modescape.store.transaction import LOOKS_LOCK, Change, Subject
from modescape.tables import Experiment, Sweep, SweepCell, Turn


@dataclass(frozen=True)
class NewCell:
    """What a cell becomes: an experiment of this name, spec and stages. varied: its values by field; bytes: that it
    will keep."""

    name: str
    varied: Mapping[str, Any]
    spec: ExperimentSpec
    stages: Sequence[PlannedStage]
    bytes: float = 0.0


@dataclass(frozen=True)
class KeptCell:
    """A cell as it is now. experiment: None once it was purged."""

    number: int
    varied: Mapping[str, Any]
    experiment: Experiment | None


@dataclass(frozen=True)
class KeptSweep:
    row: Sweep
    cells: tuple[KeptCell, ...]

    @property
    def experiments(self) -> list[Experiment]:
        return [cell.experiment for cell in self.cells if cell.experiment is not None]


class Sweeps(Subject):
    """By id or slug; archived ones are found too."""

    def create(
        self,
        *,
        name: str,
        document: Json,
        cells: Sequence[NewCell],
        preset: str | None = None,
        notes: str = "",
        tags: Sequence[str] = (),
        fresh: bool = False,
        priority: int = 0,
        idempotency: tuple[str, str] | None = None,
    ) -> Sweep:
        """All cells with their stages and the record that holds them together, or nothing.

        Stages of a later cell are claimed after those of earlier ones, so that what cells have in common is there when
        the next one comes to it. Idempotency as of `Experiments.create`. Raises InvalidInput, Conflict.
        """
        name, tags, priority = names.checked(name, field="name"), checked_tags(tags), checked_priority(priority)
        with self.database.writing() as change:
            change.lock(LOOKS_LOCK)  # of a request that comes twice at once the second sees what the first has stored
            if (known := _known(change, idempotency)) is not None:
                return known
            key, digest = (own(idempotency[0]), idempotency[1]) if idempotency else (None, None)
            sweep = Sweep(
                id=str(uuid.uuid4()), slug=free_slug(change.session, Sweep.slug, name), name=name, document=document,
                created_at=change.now, created_by=actor().name, request_key=key, request=digest,
            )  # fmt: skip
            change.session.add(sweep)
            change.session.flush()
            before = 0
            for number, cell in enumerate(cells):
                row = add_experiment(
                    change, cell.name, cell.spec, cell.stages, list(tags), first_ordinal=before, turn=sweep.id,
                    bytes=cell.bytes,
                )  # fmt: skip
                row.preset, row.notes, row.fresh, row.priority = preset, notes, fresh, priority
                change.event(EventKind.CREATED, row.id, name=row.name, slug=row.slug)
                kept = SweepCell(sweep_id=sweep.id, number=number, experiment_id=row.id, varied=dict(cell.varied))
                change.session.add(kept)
                before += len(cell.stages)
            _theirs(change, "launch", sweep, cells=len(cells))
            afford(change)
            return sweep

    def has_answered(self, idempotency: tuple[str, str] | None) -> bool:
        """Whether this request made a sweep before. Raises Conflict as `create` does."""
        with self.database.writing() as change:
            return _known(change, idempotency) is not None

    def get(self, reference: str) -> KeptSweep:
        """By id or slug, its experiments without spec and notes. Raises NotFound."""
        with self.database.reading() as session:
            return _kept(session, _find(session, reference))

    def all(self, *, archived: bool = False) -> list[KeptSweep]:
        """Newest first."""
        shown = Sweep.archived_at.is_not(None) if archived else Sweep.archived_at.is_(None)
        with self.database.reading() as session:
            rows = session.scalars(select(Sweep).where(shown).order_by(Sweep.created_at.desc(), Sweep.id))
            return [_kept(session, row) for row in rows]

    def holding(self, experiment_id: str) -> list[Sweep]:
        """The sweeps an experiment is a cell of."""
        of_it = select(Sweep).join(SweepCell, SweepCell.sweep_id == Sweep.id)
        return self.found(of_it.where(SweepCell.experiment_id == experiment_id))

    def archive(self, reference: str, *, archived: bool = True) -> None:
        """Out of the list, or back in it; its experiments have their own. Raises NotFound."""
        with self.database.writing() as change:
            sweep = _find(change.session, reference)
            if (sweep.archived_at is not None) != archived:
                _theirs(change, "archive" if archived else "restore", sweep)
                sweep.archived_at = change.now if archived else None

    def forget(self, reference: str) -> None:
        """Delete the record; experiments that are left stay. Raises NotFound, Conflict."""
        with self.database.writing() as change:
            sweep = _find(change.session, reference)
            if sweep.archived_at is None:
                raise Conflict(f"{sweep.slug} is not archived; archive it first, then purge")
            _theirs(change, "purge", sweep)
            change.session.execute(delete(Sweep).where(Sweep.id == sweep.id))
            change.session.execute(delete(Turn).where(Turn.name == sweep.id))
            end_links_to(change, sweep.id)


def _theirs(change: Change, verb: str, sweep: Sweep, **details: Any) -> None:
    actor().check_owner(sweep.created_by, f"the sweep {sweep.slug}")
    change.deed(verb, "sweep", sweep.id, sweep.name, **details)


def _known(change: Change, idempotency: tuple[str, str] | None) -> Sweep | None:
    if idempotency is None:
        return None
    key, digest = idempotency
    known = change.session.scalar(select(Sweep).where(Sweep.request_key == own(key)))
    if known is not None and known.request != digest:
        raise Conflict(f"the Idempotency-Key {key[:80]!r} was used for another request; use a new key")
    return known


def _find(session: Session, reference: str) -> Sweep:
    found = session.scalar(select(Sweep).where((Sweep.id == reference) | (Sweep.slug == reference)))
    if found is None:
        raise NotFound(f"there is no sweep {reference[:80]!r}")
    return found


def _kept(session: Session, row: Sweep) -> KeptSweep:
    light = (defer(Experiment.spec, raiseload=True), defer(Experiment.notes, raiseload=True))
    asked = (
        select(SweepCell, Experiment).outerjoin(Experiment, Experiment.id == SweepCell.experiment_id).options(*light)
    )
    found = session.execute(asked.where(SweepCell.sweep_id == row.id).order_by(SweepCell.number))
    return KeptSweep(row, tuple(KeptCell(cell.number, cell.varied, experiment) for cell, experiment in found))
