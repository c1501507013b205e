"""How rows are found and named."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ScalarSelect, or_, select
from sqlalchemy.orm import Session

from modescape.errors import NotFound
from modescape.tables import Experiment, Stage

_IDS = uuid.UUID("0b1c6a4e-6d2f-5f0e-9c0a-7f6d6f646573")


def row_id(*parts: object) -> str:
    """The same parts give the same id, so that a stage that runs again updates its rows."""
    return str(uuid.uuid5(_IDS, "/".join(map(str, parts))))


def find_experiment(session: Session, reference: str, *, lock: bool = False) -> Experiment:
    """By id or slug; lock: its transitions happen one after another. Raises NotFound."""
    statement = select(Experiment).where(or_(Experiment.id == reference, Experiment.slug == reference))
    found = session.scalars(statement.with_for_update(key_share=True) if lock else statement).one_or_none()
    if found is None:
        raise NotFound(f"there is no experiment {reference[:80]!r}; the list shows what there is")
    return found


def ids_of(session: Session, references: Iterable[str]) -> dict[str, str]:
    """Ids of those of these slugs and ids that there are, by what they were named by."""
    asked, known = list(dict.fromkeys(references)), dict[str, str]()
    for some in batches(asked):
        of_them = or_(Experiment.id.in_(some), Experiment.slug.in_(some))
        for id_, slug in session.execute(select(Experiment.id, Experiment.slug).where(of_them)):
            known |= {id_: id_, slug: id_}
    return {one: known[one] for one in asked if one in known}


def lock_experiment_of(session: Session, stage_id: str) -> Experiment | None:
    """A stage's experiment, locked: transitions of one experiment happen one after another.

    Its key is left to rows that refer to it, as every lock here leaves it (`key_share`): who writes points of a stage
    would wait for who waits for the stage.
    """
    of_it = select(Stage.experiment_id).where(Stage.id == stage_id).scalar_subquery()
    return lock_experiment(session, of_it)


def lock_experiment(session: Session, id_: str | ScalarSelect[str]) -> Experiment | None:
    return session.scalars(select(Experiment).where(Experiment.id == id_).with_for_update(key_share=True)).one_or_none()


def batches(items: Sequence[Any], size: int = 500) -> Iterator[Sequence[Any]]:
    """Few enough at a time for the parameters of one statement."""
    return (items[start : start + size] for start in range(0, len(items), size))
