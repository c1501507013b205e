"""What stages found: runs, solutions, measurements and matrices, and sets of solutions that somebody chose."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import delete, func, select

from modescape import columns
from modescape.errors import InvalidInput, NotFound
from modescape.listing import AnyOf, Condition, Listing, Page
from modescape.store.lookup import find_experiment
from modescape.store.transaction import Subject
from modescape.tables import Matrix, Measurement, Run, Selection, Solution

SOLUTIONS = Listing(columns.SOLUTIONS)
MEASUREMENTS = Listing(columns.MEASUREMENTS)
MOST_SELECTIONS = 500  # of one experiment: anybody who reads it may make them


class Results(Subject):
    """Of one experiment each, asked for by its id."""

    def runs(self, reference: str) -> list[Run]:
        with self.database.reading() as session:
            experiment = find_experiment(session, reference)
            return list(session.scalars(select(Run).where(Run.experiment_id == experiment.id).order_by(Run.number)))

    def solutions(
        self,
        experiment_id: str,
        conditions: Sequence[Condition | AnyOf] = (),
        **asked: Any,
    ) -> Page[Solution]:
        """Solutions that meet all conditions, and have `field=value` for each further argument but `sort`, `cursor` and
        `limit` (None: all)."""
        return self._page(SOLUTIONS, Solution, experiment_id, conditions, **asked)

    def all_solutions(self, experiment_id: str) -> list[Solution]:
        """Every solution, by number."""
        return self.solutions(experiment_id).items

    def solution(self, experiment_id: str, number: int) -> Solution:
        """Raises NotFound."""
        with self.database.reading() as session:
            mine = (Solution.experiment_id == experiment_id, Solution.number == number)
            found = session.scalars(select(Solution).where(*mine)).one_or_none()
        if found is None:
            raise NotFound(f"this experiment has no solution {number} (yet)")
        return found

    def measurements(
        self,
        experiment_id: str,
        conditions: Sequence[Condition | AnyOf] = (),
        **asked: Any,
    ) -> Page[Measurement]:
        """Measurements, asked for as `solutions` are; by solution where no other order is asked for."""
        asked["sort"] = asked.get("sort") or "solution"
        return self._page(MEASUREMENTS, Measurement, experiment_id, conditions, **asked)

    def _page(
        self,
        rows: Listing[Any],
        table: type[Solution | Measurement],
        experiment_id: str,
        conditions: Sequence[Condition | AnyOf],
        *,
        sort: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        **equal: Any,
    ) -> Page[Any]:
        conditions = [*conditions, *(Condition(name, "eq", value) for name, value in equal.items())]
        with self.database.reading() as session:
            statement = select(table).where(table.experiment_id == experiment_id)
            return rows.page(session, statement, conditions=conditions, sort=sort, cursor=cursor, limit=limit)

    def group_measurements(self, experiment_id: str, *, shifted: bool = True) -> list[Measurement]:
        """Measurements of groups, not of single solutions. shifted: also those by intensity of corruption."""
        conditions = [Condition("solution", "null", True)]
        if not shifted:
            conditions.append(Condition("intensity", "null", True))
        return self.measurements(experiment_id, conditions, sort="subject").items

    def matrices(self, experiment_id: str) -> list[Matrix]:
        statement = select(Matrix).where(Matrix.experiment_id == experiment_id)
        return self.found(statement.order_by(Matrix.name, Matrix.split))

    def matrix(self, experiment_id: str, name: str, split: str) -> Matrix | None:
        with self.database.reading() as session:
            mine = (Matrix.experiment_id == experiment_id, Matrix.name == name, Matrix.split == split)
            return session.scalars(select(Matrix).where(*mine)).one_or_none()

    def put_selection(self, experiment_id: str, numbers: Iterable[int]) -> str:
        """A short key for a set of solutions; the same set has the same key. An experiment has so many selections; of
        more, those that were made longest ago are forgotten. Raises InvalidInput for numbers that are no solution's."""
        chosen = sorted(set(numbers))
        key = hashlib.sha256(orjson.dumps([experiment_id, chosen])).hexdigest()[:12]
        mine = Selection.experiment_id == experiment_id
        with self.database.writing() as change:
            session = change.session
            last = session.scalar(select(func.max(Solution.number)).where(Solution.experiment_id == experiment_id))
            if chosen and (last is None or chosen[-1] > last):
                allowed = "none: there are no solutions yet" if last is None else f"0 to {last}"
                raise InvalidInput(f"there is no solution {chosen[-1]}", field="numbers", allowed=allowed)
            row = {"key": key, "experiment_id": experiment_id, "numbers": chosen, "at": change.now}
            change.insert_missing(Selection, [row])
            kept = select(Selection.key).where(mine).order_by(Selection.at.desc(), Selection.key).limit(MOST_SELECTIONS)
            session.execute(delete(Selection).where(mine, Selection.key.not_in(session.scalars(kept).all())))
        return key

    def forget_selections(self, age: timedelta) -> int:
        """Those that were made longer ago; how many."""
        with self.database.writing() as change:
            result = change.session.execute(delete(Selection).where(Selection.at < change.now - age))
            return int(result.rowcount)  # type: ignore[attr-defined]

    def selection(self, key: str) -> Selection:
        """Raises NotFound."""
        with self.database.reading() as session:
            found = session.get(Selection, key)
        if found is None:
            raise NotFound(f"there is no selection {key[:16]!r}")
        return found
