"""What a finished stage leaves: its rows, and the files they name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import orjson
from sqlalchemy import ColumnElement, delete, exists, insert, select, update
from sqlalchemy.orm import Session

from modescape.errors import NotFound
from modescape.records import ArtifactInfo, StageOutput, told_of
from modescape.store.lookup import batches, row_id
from modescape.store.transaction import Change, Subject
from modescape.tables import Artifact, ArtifactUse, Gathering, Matrix, Measurement, Run, Solution, Stage

_DETAILS = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY


class Outputs(Subject):
    """The files that rows name."""

    def artifact(self, digest: str) -> Artifact:
        """Raises NotFound."""
        with self.database.reading() as session:
            found = session.get(Artifact, digest)
        if found is None:
            raise NotFound(f"there is no artifact {digest[:64]!r}")
        return found

    def is_named(self, digest: str) -> bool:
        """Whether some row names this file."""
        return bool(self.found(select(Artifact.digest).where(Artifact.digest == digest)))

    def digests(self) -> list[str]:
        """Every file some row names."""
        return self.found(select(Artifact.digest).order_by(Artifact.digest))


def write_rows(session: Session, stage: Stage, output: StageOutput) -> None:
    """Instead of all rows that the stage has made before."""
    if stage.result:  # it has succeeded before
        for model in (Solution, Measurement, Matrix):
            session.execute(delete(model).where(model.stage_id == stage.id))
    for m in output.matrices:  # a later stage may give the same matrix over more solutions
        named = (Matrix.experiment_id == stage.experiment_id, Matrix.name == m.name, Matrix.split == m.split)
        session.execute(delete(Matrix).where(*named))
    common = {"experiment_id": stage.experiment_id, "stage_id": stage.id}
    solutions = [{"id": row_id(stage.id, "solution", s.number), **common, **asdict(s)} for s in output.solutions]
    measurements = [
        {"id": row_id(stage.id, "measurement", m.solution, m.subject, m.metric, m.split, m.corruption, m.intensity,
                   *([orjson.dumps(m.details, option=_DETAILS)] if m.details else [])),
         **common, **asdict(m)}
        for m in output.measurements
    ]  # fmt: skip
    matrices = [{"id": row_id(stage.id, "matrix", m.name, m.split), **common, **asdict(m)} for m in output.matrices]
    for table, rows in ((Solution, solutions), (Measurement, measurements), (Matrix, matrices)):
        if rows:
            session.execute(insert(table), rows)
    of_it = Solution.experiment_id == stage.experiment_id
    for number, digest in output.weights.items():
        session.execute(update(Solution).where(of_it, Solution.number == number).values(weights=digest))
    for number, outcome in output.runs.items():
        mine = (Run.experiment_id == stage.experiment_id, Run.number == number)
        session.execute(update(Run).where(*mine).values(**told_of(outcome)))


def name_files(change: Change, stage_id: str, infos: Iterable[ArtifactInfo]) -> None:
    """Rows for new files, and that this stage uses them; saying it again changes nothing."""
    session, wanted = change.session, {info.digest: info for info in infos}
    uses = set(session.scalars(select(ArtifactUse.digest).where(ArtifactUse.stage_id == stage_id)))
    new = {digest: info for digest, info in wanted.items() if digest not in uses}
    if not new:
        return
    rows = [asdict(info) | {"shape": list(info.shape), "created_at": change.now} for info in new.values()]
    change.insert_missing(Artifact, rows)
    session.execute(insert(ArtifactUse), [{"stage_id": stage_id, "digest": digest} for digest in new])


def files_of(session: Session, stage_id: str) -> list[ArtifactInfo]:
    used = select(Artifact).join(ArtifactUse, ArtifactUse.digest == Artifact.digest)
    rows = session.scalars(used.where(ArtifactUse.stage_id == stage_id).order_by(Artifact.kind, Artifact.digest))
    return [ArtifactInfo(row.digest, row.kind, row.dtype, tuple(row.shape), row.bytes) for row in rows]


def declared_files(session: Session, *of: ColumnElement[bool]) -> set[str]:
    """Files of labels that imports, those of these conditions, have declared: until a member comes no stage names
    them."""
    found = session.scalars(select(Gathering.declared["labels"]).where(*of))
    return {one["file"]["digest"] for labels in found for one in labels or ()}


def forget_files(session: Session, digests: Iterable[str]) -> list[Artifact]:
    """Delete the artifact rows among `digests` that no stage names and no import declares, and return them."""
    unused = ~exists().where(ArtifactUse.digest == Artifact.digest)
    gone: list[Artifact] = []
    for some in batches(sorted(set(digests) - declared_files(session))):
        rows = session.scalars(select(Artifact).where(Artifact.digest.in_(some), unused)).all()
        session.execute(delete(Artifact).where(Artifact.digest.in_([row.digest for row in rows])))
        gone += rows
    return gone
