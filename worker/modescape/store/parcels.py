"""Archives of experiments on their way to somebody: how far each is, and which are there."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import delete, func, select, update

from modescape.acting import actor
from modescape.errors import Busy, NotFound
from modescape.records import EventKind
from modescape.store.lookup import find_experiment
from modescape.store.transaction import Change, Subject, now
from modescape.tables import Artifact, ArtifactUse, Event, Parcel, Stage

KEPT = timedelta(days=1)  # of an archive that was made, at most
_SILENT = timedelta(minutes=2)  # after which whoever makes one has ended
MOST, MOST_OF_ONE = 16, 4  # archives that are made or wait for it, of all and of one person: each waits in a thread


class ParcelState(StrEnum):
    MAKING = "making"
    READY = "ready"
    FAILED = "failed"


class Parcels(Subject):
    def sizes(self, experiment_id: str) -> dict[str, int]:
        """Bytes of an experiment's files by their kind (weights, predictions, matrix, ...), each file once."""
        with self.database.reading() as session:
            own = select(Stage.id).where(Stage.experiment_id == experiment_id)
            mine = select(ArtifactUse.digest).where(ArtifactUse.stage_id.in_(own))
            found = select(Artifact.kind, func.sum(Artifact.bytes)).where(Artifact.digest.in_(mine))
            return {kind: int(total) for kind, total in session.execute(found.group_by(Artifact.kind))}

    def files(self, experiment_id: str) -> dict[str, tuple[int, list[int]]]:
        """Bytes and shape of each file that the stages of an experiment name, by its digest."""
        with self.database.reading() as session:
            named = select(Artifact.digest, Artifact.bytes, Artifact.shape).join(
                ArtifactUse, ArtifactUse.digest == Artifact.digest
            ).join(Stage, Stage.id == ArtifactUse.stage_id)  # fmt: skip
            rows = session.execute(named.where(Stage.experiment_id == experiment_id))
            return {digest: (size, list(shape)) for digest, size, shape in rows}

    def create(self, reference: str, parts: Sequence[str], total: int) -> tuple[Parcel, bool]:
        """One that is to be made, or that is being made with the same parts; whether it is new. Raises NotFound, and
        Busy where as many are being made as may be."""
        with self.database.writing() as change:
            experiment = find_experiment(change.session, reference)
            speaks = Parcel.heard_at > change.now - _SILENT
            under_way = list(change.session.scalars(select(Parcel).where(Parcel.state == ParcelState.MAKING, speaks)))
            for row in under_way:
                if row.experiment_id == experiment.id and sorted(row.parts) == sorted(parts):
                    return row, False
            mine = sum(row.created_by == actor().name for row in under_way)
            if len(under_way) >= MOST or mine >= MOST_OF_ONE:
                whose, count = ("yours", mine) if mine >= MOST_OF_ONE else ("everybody's", len(under_way))
                raise Busy(f"{count} archives of {whose} are being made; try again when one is done")
            row = Parcel(
                id=str(uuid.uuid4()), experiment_id=experiment.id, parts=list(parts), state=ParcelState.MAKING,
                total_bytes=total, created_by=actor().name, created_at=change.now, heard_at=change.now,
                done_bytes=0, files=0,
            )  # fmt: skip
            change.session.add(row)
            _tell(change, row)
            return row, True

    def unchanged(self, reference: str, parts: Sequence[str]) -> list[Parcel]:
        """Those of the same parts that are ready, the newest first, since which nothing has happened to the experiment
        but that archives of it were made. Raises NotFound."""
        with self.database.reading() as session:
            experiment = find_experiment(session, reference)
            of_it = Event.experiment_id == experiment.id
            rows = select(Parcel).where(Parcel.experiment_id == experiment.id, Parcel.state == ParcelState.READY)
            last = session.scalar(select(func.max(Event.id)).where(of_it, Event.kind != EventKind.PARCEL)) or 0
            found = []
            for row in session.scalars(rows.order_by(Parcel.created_at.desc(), Parcel.id)):
                if sorted(row.parts) == sorted(parts):
                    begun = select(func.min(Event.id)).where(of_it, Event.payload["id"].as_string() == row.id)
                    if (session.scalar(begun.where(Event.kind == EventKind.PARCEL)) or 0) > last:
                        found.append(row)
            return found

    def kept(self) -> list[Parcel]:
        """Of all experiments: those that are ready, and those that are being made."""
        with self.database.reading() as session:
            speaks = Parcel.heard_at > now(session) - _SILENT
            is_made = (Parcel.state == ParcelState.MAKING) & speaks
            return list(session.scalars(select(Parcel).where((Parcel.state == ParcelState.READY) | is_made)))

    def drop(self, ids: Sequence[str]) -> None:
        """Rows of archives whose files are gone."""
        if not ids:
            return
        with self.database.writing() as change:
            for row in list(change.session.scalars(select(Parcel).where(Parcel.id.in_(ids)).order_by(Parcel.id))):
                change.session.delete(row)
                _tell(change, row)

    def of(self, experiment_id: str) -> list[Parcel]:
        """The newest first. One of which nobody has heard for two minutes has failed."""
        with self.database.reading() as session:
            of_it = select(Parcel).where(Parcel.experiment_id == experiment_id)
            rows = list(session.scalars(of_it.order_by(Parcel.created_at.desc(), Parcel.id)))
            at = now(session)
        for row in rows:
            if row.state == ParcelState.MAKING and row.heard_at < at - _SILENT:
                row.state, row.error = ParcelState.FAILED, "whoever made it has ended"
        return rows

    def get(self, reference: str, id_: str) -> Parcel:
        """Of an experiment. Raises NotFound."""
        with self.database.reading() as session:
            experiment = find_experiment(session, reference)
        found = next((row for row in self.of(experiment.id) if row.id == id_), None)
        if found is None:
            raise NotFound(f"{experiment.slug} has no archive {id_[:80]!r}")
        return found

    def heard(self, id_: str, done: int, total: int) -> None:
        """How far it is."""
        self._set(id_, done_bytes=done, total_bytes=total)

    def ready(self, id_: str, files: int, size: int) -> None:
        self._set(id_, state=ParcelState.READY, files=files, done_bytes=size, total_bytes=size, is_over=True)

    def failed(self, id_: str, why: str) -> None:
        self._set(id_, state=ParcelState.FAILED, error=why[:500], is_over=True)

    def _set(self, id_: str, *, is_over: bool = False, **values: object) -> None:
        with self.database.writing() as change:
            row = change.session.get(Parcel, id_)
            if row is None:
                return  # its experiment is gone
            over = {"finished_at": change.now} if is_over else {}
            change.session.execute(update(Parcel).where(Parcel.id == id_).values(**values, **over, heard_at=change.now))
            _tell(change, row)

    def forget(self) -> list[str]:
        """Rows of archives that are older than a day; their ids."""
        with self.database.writing() as change:
            old = select(Parcel.id).where(Parcel.created_at < change.now - KEPT)
            ids = list(change.session.scalars(old))
            change.session.execute(delete(Parcel).where(Parcel.id.in_(ids)))
            return ids


def _tell(change: Change, row: Parcel) -> None:
    change.event(EventKind.PARCEL, row.experiment_id, id=row.id)
