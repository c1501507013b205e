"""What a source answers: records of the REST interface's documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from modescape.records import Json, StageState, Status
from modescape.science.confidence import Word


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of the paper as an experiment answers it.

    effect, interval: in words, of the method that decides (`decides`, "" of a claim that is not over methods); value,
    low, high: the same in the estimand's unit, None where there is none; confidence: of the interval; p: None of what
    was not tested; survives: the word stands with Holm's correction for all claims that were tested; n: of `unit`.
    """

    letter: str
    title: str
    word: Word
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

    @classmethod
    def from_json(cls, told: Json) -> Self:
        names = ("title", "glyph", "because", "effect", "interval", "low", "high", "confidence", "p", "survives",
                 "tested", "n", "unit", "decides", "qualifier", "note")  # fmt: skip
        return cls(
            letter=told["id"], word=Word(told["word"]), value=told["estimate"], **{name: told[name] for name in names}
        )

    def __str__(self) -> str:
        around = f" ({self.interval})" if self.interval else ""
        stands = " *" if self.survives else ""
        return f"({self.letter}) {self.title}: {self.glyph} {self.word}{stands}, {self.effect}{around}"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One piece of an experiment's work. error: its message, "" without; seconds: spent, None before it began."""

    kind: str
    key: str
    state: StageState
    step: int
    steps: int | None
    seconds: float | None
    worker: str | None
    error: str

    @classmethod
    def from_json(cls, told: Json) -> Self:
        names = ("kind", "key", "step", "steps", "seconds", "worker")
        return cls(
            state=StageState(told["state"]), error=str((told["error"] or {}).get("message", "")),
            **{name: told[name] for name in names},
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Detail:
    """One experiment as it stands. sentence: what it says of its question, "" while nothing is known; spec: as it is
    stored; row: its line in the list."""

    slug: str
    name: str
    status: Status
    created: datetime
    notes: str
    sentence: str
    error: str
    spec: Json
    claims: tuple[Claim, ...]
    stages: tuple[Stage, ...]
    row: Json = field(repr=False)

    @classmethod
    def from_json(cls, told: Json, row: Json) -> Self:
        return cls(
            slug=told["slug"], name=told["name"], status=Status(told["status"]), notes=told["notes"],
            created=datetime.fromisoformat(told["created_at"]), sentence=told["verdict"] or "",
            error=told["error"] or "", spec=told["spec"],
            claims=tuple(Claim.from_json(one) for one in told["findings"].get("claims", ())),
            stages=tuple(Stage.from_json(one) for one in told["stages"]), row=row,
        )  # fmt: skip

    @property
    def progress(self) -> Progress:
        running = tuple(f"{one.kind}/{one.key}" for one in self.stages if one.state == StageState.RUNNING)
        failed = tuple(f"{one.kind}/{one.key}" for one in self.stages if one.state == StageState.FAILED)
        done = sum(one.state == StageState.SUCCEEDED for one in self.stages)
        return Progress(self.slug, self.status, done, len(self.stages), running, failed)


@dataclass(frozen=True)
class Progress:
    """How far an experiment is. done, of: stages; running, failed: which, as kind/key."""

    slug: str
    status: Status
    done: int
    of: int
    running: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.slug}: {self.status}, {self.done} of {self.of} stages"]
        parts += [f"running {', '.join(self.running)}"] if self.running else []
        parts += [f"failed {', '.join(self.failed)}"] if self.failed else []
        return "; ".join(parts)


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
    """What is to be launched: a spec, or a preset by name, or a sweep's document."""

    document: Json | None
    preset: str | None
    name: str | None
    fresh: bool = False


@dataclass(frozen=True)
class Launched:
    """What a launch made."""

    kind: Literal["experiment", "sweep"]
    slug: str
