"""What a source answers: records of the REST interface's documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from modescape.claims.telling import AtLook, fragile, in_a_line
from modescape.errors import Problem
from modescape.finding import Unanswered
from modescape.outage import megabytes
from modescape.records import Json, StageState, Status
from modescape.science.confidence import Word
from modescape.voice import Voice, voice_of


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of the paper as an experiment answers it.

    effect, interval: in words, of the method that decides (`decides`, "" of a claim that is not over methods); value,
    low, high: the same in the estimand's unit, None where there is none; confidence: of the interval; p: None of what
    was not tested; survives: the word stands with Holm's correction for all claims that were tested; n: of `unit`;
    look: which at these trainings; at_look: of a later one, the word and the interval at the level that is left for it;
    rests_on: units without which the word would be another.
    """

    letter: str
    title: str
    word: Word | None
    glyph: str
    because: str
    effect: str
    interval: str
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    p: float | None
    survives: bool
    tested: int
    n: int
    unit: str
    decides: str
    qualifier: str
    note: str
    look: int
    at_look: str
    rests_on: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, told: Json) -> Self:
        names = ("title", "because", "effect", "interval", "low", "high", "confidence", "p", "survives",
                 "tested", "n", "unit", "decides", "qualifier", "note")  # fmt: skip
        return cls(
            letter=told["id"],
            word=None if told["word"] is None else Word(told["word"]),
            glyph=told["glyph"] or "",
            value=told["estimate"],
            look=told["at_look"]["look"],
            at_look=AtLook.words(told["at_look"]),
            rests_on=tuple(told.get("rests_on", ())),
            **{name: told[name] for name in names},
        )

    @property
    def is_fragile(self) -> bool:
        """Whether its word does not stand with all tests at once, or rests on single units."""
        return fragile(self.word, survives=self.survives, tested=self.tested, rests_on=self.rests_on)

    def __str__(self) -> str:
        return in_a_line(
            self.letter, self.title, self.word, survives=self.survives, is_fragile=self.is_fragile,
            effect="" if self.value is None else self.effect, interval=self.interval, because=self.because,
            look=self.look, at_look=self.at_look,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One piece of an experiment's work. error: its message, "" without; waits: what it waits for, "" where nothing
    keeps it; seconds: spent, None before it began."""

    kind: str
    key: str
    state: StageState
    step: int
    steps: int | None
    seconds: float | None
    worker: str | None
    error: str
    waits: str = ""

    @classmethod
    def from_json(cls, told: Json) -> Self:
        names = ("kind", "key", "step", "steps", "seconds", "worker")
        return cls(
            state=StageState(told["state"]), error=str((told["error"] or {}).get("message", "")),
            waits=told.get("waits") or "",
            **{name: told[name] for name in names},
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Detail:
    """One experiment as it stands. sentence: what it says of its question, "" while nothing is known; unanswered: the
    claims it does not answer, with what they would need; odd: what was noticed of an ensemble made elsewhere when it
    came in; spec: as it is stored; waits: what keeps it from going on, until that passes by itself, "" where nothing
    does; row: its line in the list."""

    slug: str
    name: str
    status: Status
    created: datetime
    notes: str
    sentence: str
    error: str
    spec: Json
    claims: tuple[Claim, ...]
    unanswered: tuple[Unanswered, ...]
    stages: tuple[Stage, ...]
    odd: tuple[str, ...]
    row: Json = field(repr=False)
    waits: str = ""

    @classmethod
    def from_json(cls, told: Json, row: Json) -> Self:
        return cls(
            slug=told["slug"], name=told["name"], status=Status(told["status"]), notes=told["notes"],
            created=datetime.fromisoformat(told["created_at"]), sentence=told["verdict"] or "",
            error=told["error"] or "", spec=told["spec"],
            claims=tuple(Claim.from_json(one) for one in told["findings"].get("claims", ())),
            unanswered=tuple(Unanswered(**one) for one in told.get("unanswered", ())),
            stages=tuple(Stage.from_json(one) for one in told["stages"]),
            odd=_odd(told.get("odd", ())), row=row, waits=told.get("waits") or "",
        )  # fmt: skip

    @property
    def voice(self) -> Voice:
        """How its runs are called: members, where they were made elsewhere."""
        return voice_of(None, self.spec)

    @property
    def progress(self) -> Progress:
        running = tuple(f"{one.kind}/{one.key}" for one in self.stages if one.state == StageState.RUNNING)
        failed = tuple(f"{one.kind}/{one.key}" for one in self.stages if one.state == StageState.FAILED)
        done = sum(one.state == StageState.SUCCEEDED for one in self.stages)
        return Progress(self.slug, self.status, done, len(self.stages), running, failed, self.waits)


def _odd(told: Sequence[Json]) -> tuple[str, ...]:
    if not told:
        return ()
    from modescape.imported.saying import said

    return tuple(said(one["level"], one["sentence"]) for one in told)


@dataclass(frozen=True)
class Progress:
    """How far an experiment is. done, of: stages; running, failed: which, as kind/key; waits: as of `Detail`."""

    slug: str
    status: Status
    done: int
    of: int
    running: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    waits: str = ""

    def __str__(self) -> str:
        parts = [f"{self.slug}: {self.status}, {self.done} of {self.of} stages"]
        parts += [f"running {', '.join(self.running)}"] if self.running else []
        parts += [f"failed {', '.join(self.failed)}"] if self.failed else []
        parts += [f"waits: {self.waits}"] if self.waits else []
        return "; ".join(parts)


@dataclass(frozen=True)
class SweepCell:
    """One cell of a sweep as it stands. number: from 1; varied: field -> its value; experiment, status: None once it
    was purged; done, of: stages."""

    number: int
    varied: Json
    experiment: str | None
    status: Status | None
    done: int = 0
    of: int = 0

    @classmethod
    def from_json(cls, told: Json) -> Self:
        row = told["experiment"]
        if row is None:
            return cls(told["number"], told["varied"], None, None)
        return cls(told["number"], told["varied"], row["slug"], Status(row["status"]), row["stages_done"],
                   row["stages_total"])  # fmt: skip


@dataclass(frozen=True)
class SweepProgress:
    """How far a sweep is. ended, cells: how many experiments; done, of: stages of all; running, failed: slugs of
    experiments."""

    slug: str
    ended: int
    cells: int
    done: int
    of: int
    running: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @classmethod
    def of_cells(cls, slug: str, cells: Sequence[SweepCell]) -> Self:
        there = [one for one in cells if one.experiment is not None and one.status is not None]

        def those(*states: Status) -> tuple[str, ...]:
            return tuple(str(one.experiment) for one in there if one.status in states)

        return cls(
            slug, len(cells) - sum(not one.status.has_ended for one in there if one.status), len(cells),
            sum(one.done for one in there), sum(one.of for one in there), those(Status.RUNNING),
            those(Status.FAILED, Status.CANCELLED),
        )  # fmt: skip

    @property
    def has_ended(self) -> bool:
        return self.ended == self.cells

    def __str__(self) -> str:
        parts = [f"{self.slug}: {self.ended} of {self.cells} cells ended, {self.done} of {self.of} stages"]
        parts += [f"running {', '.join(self.running)}"] if self.running else []
        parts += [f"failed or cancelled {', '.join(self.failed)}"] if self.failed else []
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a launch would do and cost, while nothing is stored. cells: 1 of an experiment; stages, of them here: there
    already, shared: done once for several cells; seconds, between low and high: wall-clock on `workers` workers; bytes:
    on disk, free_bytes: what is free there; refused: why a launch is, which costs more than one may; basis: what prices
    are from; missing: data sets to be got first, in words; warnings: sentences."""

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
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    free_bytes: int | None = field(default=None, compare=False)  # another at the next moment
    refused: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, told: Json) -> Self:
        """Of what the API says of an experiment, or of a sweep."""
        names = ("here", "seconds", "low", "high", "bytes", "workers", "basis")
        stages = told["stages"]
        return cls(
            cells=told.get("cells", 1), stages=stages if isinstance(stages, int) else len(stages),
            shared=told.get("shared", 0), warnings=tuple(told["warnings"]), free_bytes=told.get("free_bytes"),
            refused=tuple(str(Problem(**one)) for one in told.get("refused", ())),
            missing=tuple(dict.fromkeys(f"{one['title']}: {one['how']}" for one in told["missing"])),
            **{name: told[name] for name in names},
        )  # fmt: skip

    def __str__(self) -> str:
        from modescape.drawing.words import price

        cells = f"{self.cells} cells, " if self.cells > 1 else ""
        parts = [f"{self.here} here already"] if self.here else []
        parts += [f"{self.shared} done once for several cells"] if self.shared else []
        around = f" ({', '.join(parts)})" if parts else ""
        cost = f"{price(self.seconds, self.low, self.high)} on {self.workers} worker{'s'[: self.workers != 1]}"
        free = ", what is free is not known" if self.free_bytes is None else f" of {megabytes(self.free_bytes)} free"
        lines = [f"{cells}{self.stages} stages{around}, {cost}, {megabytes(self.bytes)}{free} ({self.basis})"]
        refused = (f"a launch is refused: {one}" for one in self.refused)
        return "\n".join([*lines, *refused, *(f"missing: {one}" for one in self.missing), *self.warnings])


@dataclass(frozen=True)
class MatrixEntry:
    """A matrix there is. split: which images it is over, "" in weight space; rows: solution numbers; columns: the same,
    or names of coordinates."""

    name: str
    split: str
    rows: tuple[int, ...]
    columns: tuple[int | str, ...]

    @classmethod
    def from_json(cls, told: Json) -> Self:
        return cls(told["name"], told["split"], tuple(told["rows"]), tuple(told["columns"]))


@dataclass(frozen=True, eq=False, repr=False)
class Matrix:
    """values [len(rows), len(columns)] float64. rows: solution numbers; columns: the same, or names of coordinates;
    names: what each row is, in words."""

    name: str
    split: str
    values: NDArray[np.float64]
    rows: tuple[int, ...]
    columns: tuple[int | str, ...]
    names: tuple[str, ...]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype=dtype) if copy else np.asarray(self.values, dtype=dtype)

    def __repr__(self) -> str:
        over = f" on {self.split}" if self.split else ""
        shape = " x ".join(map(str, self.values.shape))
        shown = ", ".join(self.names[:4]) + (", ..." if len(self.names) > 4 else "")
        return f"{self.name}{over}, {shape}: {shown}\n{self.values}"


@dataclass(frozen=True)
class FigureEntry:
    """A figure and how far it is: ready, partial, waiting, failed or not-planned."""

    name: str
    title: str
    question: str
    state: str


@dataclass(frozen=True)
class Event:
    """Something that happened to an experiment (`records.EventKind`)."""

    id: int
    kind: str
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Draft:
    """What is to be launched: a spec, or a preset by name, or a sweep's document. parent: what it is a clone of; a
    sweep has none, nor a project."""

    document: Json | None
    preset: str | None
    name: str | None
    fresh: bool = False
    priority: int = 0
    notes: str = ""
    project: str = ""
    parent: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Launched:
    """What a launch made."""

    kind: Literal["experiment", "sweep"]
    slug: str


@dataclass(frozen=True)
class ViewEntry:
    """A way to look at the list of experiments that has a name. query: what stands behind the question mark of the
    list's address."""

    slug: str
    name: str
    query: str
    created_by: str
    created_at: datetime

    @classmethod
    def from_json(cls, found: Json) -> ViewEntry:
        created = datetime.fromisoformat(found["created_at"])
        return cls(found["slug"], found["name"], found["query"], found["created_by"], created)


@dataclass(frozen=True)
class RevisionEntry:
    """What a report was once. by: who saved it."""

    revision: int
    name: str
    by: str
    at: datetime

    @classmethod
    def from_json(cls, found: Json) -> RevisionEntry:
        return cls(found["revision"], found["name"], found["by"], datetime.fromisoformat(found["at"]))


@dataclass(frozen=True)
class ReportEntry:
    """A report. blocks: as the API gives them; () in a list of all."""

    slug: str
    name: str
    revision: int
    created_by: str
    changed_at: datetime
    blocks: tuple[Json, ...] = ()

    @classmethod
    def from_json(cls, found: Json) -> ReportEntry:
        changed = datetime.fromisoformat(found["changed_at"])
        blocks = tuple(found.get("blocks", ()))
        return cls(found["slug"], found["name"], found["revision"], found["created_by"], changed, blocks)
