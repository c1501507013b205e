"""What experiments of one user may keep and need together, asked in the transaction that adds to it.

    with database.writing() as change:
        ...                              # what is to be stored
        afford(change)                   # InvalidInput, and nothing is stored, where it is more than one user may have

What is under way counts with what its plan will still keep, so that many launches at once cannot pass by one another.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import case, func, or_, select
from sqlalchemy.orm import Session

from modescape.acting import UserRole, actor
from modescape.errors import InvalidInput, Problem
from modescape.outage import megabytes
from modescape.records import StageState
from modescape.store.outputs import declared_files
from modescape.store.transaction import QUOTA_LOCK, Change, Quota
from modescape.tables import Artifact, ArtifactUse, Experiment, Gathering, Stage

_OPEN = [state for state in StageState if not state.has_ended]


@dataclass(frozen=True)
class Used:
    """kept: bytes of files that stages of somebody's experiments name, or their imports declare, also where others
    name them too; awaited: bytes that those which have not ended should still write; seconds: what they should still
    take, on one worker."""

    who: str
    kept: int
    awaited: int
    seconds: float

    @property
    def bytes(self) -> int:
        return self.kept + self.awaited

    def of_bytes(self, quota: Quota) -> str:
        more = f", and {megabytes(self.awaited)} more are under way," if self.awaited else ""
        return (
            f"{self.who} keeps {megabytes(self.kept)}{more} of the {megabytes(quota.bytes or 0)} that one user may "
            "(MODESCAPE_USER_GIGABYTES)"
        )

    def of_seconds(self, quota: Quota) -> str:
        return (
            f"what {self.who} has launched needs {self.seconds / 86_400:.3g} of the {(quota.seconds or 0) / 86_400:g} "
            "days of machine time that one user may have waiting (MODESCAPE_USER_MACHINE_DAYS)"
        )


def used(session: Session, name: str) -> Used:
    of_it = select(ArtifactUse.digest).join(Stage, Stage.id == ArtifactUse.stage_id)
    of_it = of_it.join(Experiment, Experiment.id == Stage.experiment_id).where(Experiment.created_by == name)
    declared = declared_files(session, Gathering.created_by == name)
    is_kept = or_(Artifact.digest.in_(of_it), Artifact.digest.in_(declared))
    kept = session.scalar(select(func.sum(Artifact.bytes)).where(is_kept)) or 0
    is_open = case((Stage.state.in_(_OPEN), 1), else_=0)
    left = case((Stage.state.in_(_OPEN), Stage.estimate), else_=0.0)
    under_way = session.execute(
        select(Experiment.planned_bytes, func.count(), func.sum(is_open), func.sum(left))
        .join(Stage, Stage.experiment_id == Experiment.id)
        .where(Experiment.created_by == name)
        .group_by(Experiment.id)
        .having(func.sum(is_open) > 0)
    ).all()
    awaited = sum(planned * int(open_) // stages for planned, stages, open_, _ in under_way)
    return Used(name, int(kept), awaited, float(sum(seconds or 0.0 for *_, seconds in under_way)))


def asked_of(quota: Quota | None) -> Quota | None:
    """What whoever asks may have: an admin everything."""
    return None if quota is None or actor().may(UserRole.ADMIN) else quota


def afford(change: Change) -> None:
    """To be asked last, when all is there. Raises InvalidInput where whoever asks has more by now than one user may."""
    quota = asked_of(change.quota)
    if quota is None:
        return
    change.session.flush()
    change.lock(QUOTA_LOCK)  # of two at once, one sees what the other has added
    found = used(change.session, actor().name)
    said = []
    if quota.bytes is not None and found.bytes > quota.bytes:
        said.append(f"with this, {found.of_bytes(quota)}")
    if quota.seconds is not None and found.seconds > quota.seconds:
        said.append(f"with this, {found.of_seconds(quota)}")
    if said:
        allowed = "what costs less, once less is kept (purge what is archived) and what is under way has ended"
        raise InvalidInput("; ".join(said), problems=[Problem(one, "", allowed) for one in said])
