"""Checking, pricing and storing a sweep, and what users want done with all of its cells at once.

prepared = prepare(laboratory, asked)         # every cell checked, and the price of the whole
sweep = create(laboratory, prepared, name="widths")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from modescape import names, own_sets
from modescape.errors import Conflict, DataCorrupt, DataMissing, InvalidInput, NotFound, Problem
from modescape.laboratory import Laboratory, purge
from modescape.plan import Missing, Prepared
from modescape.records import Json
from modescape.store.sweeps import KeptSweep, NewCell
from modescape.sweeps.asked import Asked, Cell, SweepDocument, read, said
from modescape.tables import Experiment, Sweep

MOST_PROBLEMS = 40  # told at once
MOST_STAGES = 50_000  # of all cells: to plan them twice costs ten seconds


@dataclass(frozen=True)
class Price:
    """Of all cells together, with what they have in common counted once. seconds, low, high: wall-clock; here: stages
    that are here already; shared: stages that a later cell takes over from an earlier one."""

    cells: int
    stages: int
    here: int
    shared: int
    seconds: float
    low: float
    high: float
    bytes: int
    workers: int
    basis: str


@dataclass(frozen=True)
class PreparedCell:
    cell: Cell
    prepared: Prepared


@dataclass(frozen=True)
class PreparedSweep:
    """All cells checked. missing: public sets that are not here, where they are planned as published."""

    asked: Asked
    cells: tuple[PreparedCell, ...]
    price: Price

    @property
    def missing(self) -> tuple[Missing, ...]:
        return tuple(dict.fromkeys(one for cell in self.cells for one in cell.prepared.missing))


def prepare(
    laboratory: Laboratory,
    document: object,
    *,
    as_published: bool = False,
    fresh: bool = False,
    resolve: Callable[[Json], Json] | None = None,
) -> PreparedSweep:
    """Check every cell before anything starts. resolve: finds a user's own data in a cell's spec.

    Raises InvalidInput, DataMissing or DataCorrupt with the field and the value of each problem: `over.<field>` of a
    varied field, else `base.<field>`.
    """
    asked = read(document)
    known = _Known(laboratory.store.stages.here_already)
    make = laboratory.preparing(fresh=fresh)
    resolve = resolve or partial(own_sets.named, sets=laboratory.store.own_sets.all())
    found: list[PreparedCell] = []
    problems: dict[Problem, None] = {}
    missing: list[Problem] = []
    stages = 0
    for cell in asked.cells():
        if stages > MOST_STAGES:
            raise InvalidInput(
                f"these cells have more than {MOST_STAGES:,} stages", field="over", allowed="fewer cells"
            )
        try:
            spec = resolve(cell.document)
            if not fresh:
                make(spec, as_published=as_published, done=known.remember)  # learns the keys of all its stages
            prepared = make(spec, as_published=as_published, **({} if fresh else {"done": known}))
            known.end_cell(prepared)
            found.append(PreparedCell(cell, prepared))
            stages += len(prepared.plan.stages)
        except DataMissing as error:
            missing += _placed(cell, error.problems)
        except (InvalidInput, DataCorrupt) as error:
            given = error.problems or (Problem(str(error), "data.path"),)
            problems |= dict.fromkeys(_placed(cell, given))
        if len(problems) >= MOST_PROBLEMS:
            break
    if problems:
        once = _once(problems, sum(1 for _ in asked.cells()))
        raise InvalidInput("; ".join(map(str, once)), problems=once)
    if missing:
        raise DataMissing("; ".join(dict.fromkeys(p.message for p in missing)), problems=[*dict.fromkeys(missing)])
    _refuse_equal(found)
    return PreparedSweep(asked, tuple(found), _price(found, known.shared))


class _Known:
    """Which stage keys are here, or will be once the cells before have been done (science r.4)."""

    def __init__(self, done: Callable[[Collection[str]], set[str]]) -> None:
        self._done = done
        self._before: set[str] = set()
        self._cell: set[str] = set()
        self._really: set[str] = set()
        self.shared = 0

    def remember(self, keys: Collection[str]) -> set[str]:
        """As if all were here: so every key of the cell is asked for."""
        self._cell |= set(keys)
        return set(keys)

    def __call__(self, keys: Collection[str]) -> set[str]:
        self._really |= (really := self._done(keys))
        return really | (self._before & set(keys))

    def end_cell(self, prepared: Prepared) -> None:
        self.shared += len((self._cell & self._before) - self._really)
        self._before |= self._cell
        self._cell = set()


def _placed(cell: Cell, problems: Sequence[Problem]) -> Iterator[Problem]:
    """Problems of a cell's spec, seen from the sweep."""
    for problem in problems:
        problem = replace(problem, field=problem.field.removeprefix("spec."))  # of who finds the user's own data
        fields = [f for f in cell.varied if _meets(problem.field, f, cell)]
        if fields:
            field = max(fields, key=len)
            yield Problem(f"value {said(cell.varied[field])}: {problem.message}", f"over.{field}", problem.allowed)
        else:
            place = "runs" if problem.field == "ensemble.runs" else f"base.{problem.field}".rstrip(".")
            yield Problem(
                f"in cell {cell.number + 1} ({cell.label}){_IN_CELL}{problem.message}", place, problem.allowed
            )


_IN_CELL = ": "


def _once(problems: Iterable[Problem], cells: int) -> list[Problem]:
    """What is wrong with the base in every cell is said once."""
    found: dict[tuple[str, str], list[Problem]] = {}
    for one in problems:
        is_of_cell = one.message.startswith("in cell ")
        found.setdefault((one.field, one.message.partition(_IN_CELL)[2] if is_of_cell else one.message), []).append(one)
    return [
        one
        for (_, message), some in found.items()
        for one in ([replace(some[0], message=f"in every cell: {message}")] if len(some) == cells > 1 else some)
    ]


def _meets(place: str, field: str, cell: Cell) -> bool:
    """Whether a problem at `place` of a spec is one of a varied field: at it, in it, or at an unknown part of it."""
    steps = field.split(".")
    if steps[0] == "methods" and len(steps) > 1 and not steps[1].isdecimal():
        names_ = [one.get("method") for one in cell.document.get("methods", []) if isinstance(one, dict)]
        steps[1] = str(names_.index(steps[1])) if steps[1] in names_ else steps[1]
    field = ".".join(steps)
    return place == field or place.startswith(f"{field}.") or (bool(place) and field.startswith(f"{place}."))


def _refuse_equal(cells: Sequence[PreparedCell]) -> None:
    """Raises InvalidInput where two cells are the same experiment, seed apart."""
    seen: dict[str, Cell] = {}
    for one in cells:
        spec = one.prepared.spec
        ensemble = spec.ensemble.model_copy(update={"seed": 0})
        digest = spec.model_copy(update={"ensemble": ensemble}).digest()
        if digest in seen:
            raise InvalidInput(
                f"cells {seen[digest].number + 1} ({seen[digest].label}) and {one.cell.number + 1} ({one.cell.label}) "
                "are the same experiment", field="over", allowed="values that make different specs",
            )  # fmt: skip
        seen[digest] = one.cell


def _price(cells: Sequence[PreparedCell], shared: int) -> Price:
    plans = [one.prepared.plan for one in cells]
    return Price(
        cells=len(plans),
        stages=sum(len(plan.stages) for plan in plans),
        here=sum(plan.here for plan in plans) - shared,
        shared=shared,
        seconds=sum(plan.seconds for plan in plans),
        low=sum(plan.low for plan in plans),
        high=sum(plan.high for plan in plans),
        bytes=sum(plan.bytes for plan in plans),
        workers=plans[0].workers,
        basis=plans[0].basis,
    )


def too_much(laboratory: Laboratory, prepared: PreparedSweep) -> list[Problem]:
    """Why all cells together cost more than one launch may, with what to change; [] where they do not."""
    limits, plans = laboratory.limits, [one.prepared.plan for one in prepared.cells]
    bytes, seconds = sum(plan.new_bytes for plan in plans), sum(plan.machine_seconds for plan in plans)
    if not (said := limits.exceeded(bytes, seconds)):
        return []
    share = max(bytes / (limits.bytes or math.inf), seconds / (limits.machine_seconds or math.inf))
    most = int(len(plans) / share)
    if most:
        message = f"{len(plans):,} cells are too many together: {'; '.join(said)}"
        return [Problem(message, "over", f"about {most:,} cells of this kind, or cells that cost less")]
    largest = max(prepared.cells, key=lambda one: one.prepared.plan.machine_seconds)
    alone = list(_placed(largest.cell, laboratory.too_much(largest.prepared)))
    return alone or [Problem("; ".join(said), "base", "what costs less")]


def create(
    laboratory: Laboratory,
    prepared: PreparedSweep,
    *,
    name: str,
    notes: str = "",
    tags: Sequence[str] = (),
    fresh: bool = False,
    priority: int = 0,
    idempotency: tuple[str, str] | None = None,
) -> Sweep:
    """Store all cells in one transaction, ready to be claimed. Raises InvalidInput, also where they cost more than one
    launch may, and Conflict."""
    name = names.checked(name, field="name")
    if (problems := too_much(laboratory, prepared)) and not laboratory.store.sweeps.has_answered(idempotency):
        raise InvalidInput("; ".join(map(str, problems)), problems=problems)
    cells = [
        NewCell(_named(name, one.cell), one.cell.varied, one.prepared.spec, plan.stages, plan.new_bytes)
        for one in prepared.cells
        for plan in (one.prepared.plan,)
    ]
    return laboratory.store.sweeps.create(
        name=name, document=prepared.asked.document.model_dump(mode="json"), cells=cells, preset=prepared.asked.preset,
        notes=notes, tags=tags, fresh=fresh, priority=priority, idempotency=idempotency,
    )  # fmt: skip


def _named(name: str, cell: Cell) -> str:
    return f"{name}: {cell.label}"[: names.LONGEST].strip()


class Verb(StrEnum):
    """What can be done with all cells at once; each may be repeated, and goes on where it was interrupted."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    ARCHIVE = "archive"
    RESTORE = "restore"


def act(laboratory: Laboratory, reference: str, verb: Verb) -> list[Experiment]:
    """Do it with every cell that it makes sense for; these. Raises NotFound."""
    sweep = laboratory.store.sweeps.get(reference)
    if verb in (Verb.ARCHIVE, Verb.RESTORE):
        laboratory.store.sweeps.archive(sweep.row.id, archived=verb is Verb.ARCHIVE)
    done = []
    for row in sweep.experiments:
        try:
            done.append(getattr(laboratory.store.experiments, verb.value)(row.id))
        except (Conflict, NotFound):  # it has ended, or somebody purged it meanwhile
            continue
    return done


def delete(laboratory: Laboratory, reference: str) -> int:
    """Purge an archived sweep with its archived experiments, and the files only they name; bytes freed. A cell that was
    restored on its own stays as an experiment. Raises NotFound, Conflict."""
    sweep = laboratory.store.sweeps.get(reference)
    if sweep.row.archived_at is None:
        raise Conflict(f"{sweep.row.slug} is not archived; archive it first, then purge")
    freed = 0
    for row in sweep.experiments:
        if row.archived_at is not None:
            freed += purge(laboratory, row.id)
    laboratory.store.sweeps.forget(sweep.row.id)
    return freed


def is_paired(sweep: KeptSweep) -> bool:
    return SweepDocument.model_validate(sweep.row.document).paired
