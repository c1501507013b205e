"""The log of an experiment: who worked on what and when, a lane for each worker, where the time went; and the stages
that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from modescape.drawing.words import duration
from modescape.records import StageState
from modescape.tables import Stage, utcnow

MOST = 400  # bars: of more, the longest
MOST_LANES = 24


@dataclass(frozen=True)
class Bar:
    """left, width: in percent of the whole; title: stage, seconds and state."""

    left: float
    width: float
    kind: str
    state: str
    title: str


@dataclass(frozen=True)
class Lane:
    worker: str
    bars: tuple[Bar, ...]
    busy: str  # how long it worked


@dataclass(frozen=True)
class Spent:
    """Where the time went: a kind of stage. share: of all that was worked, in percent."""

    kind: str
    stages: int
    seconds: float
    share: float


@dataclass(frozen=True)
class Timeline:
    """began: when the first stage began; length: of the whole, in words; left_out: bars that are not drawn."""

    began: datetime
    length: str
    lanes: tuple[Lane, ...]
    spent: tuple[Spent, ...]
    reused: int
    left_out: int


def of(stages: Sequence[Stage]) -> Timeline | None:
    """None before any stage has begun here."""
    begun = [(stage, at) for stage in stages if (at := stage.claimed_at or stage.started_at) and not stage.reused_from]
    if not begun:
        return None
    now = utcnow()
    ends = {stage.id: stage.finished_at or now for stage, _ in begun}
    first, last = min(at for _, at in begun), max(ends.values())
    whole = max((last - first).total_seconds(), 1e-3)
    longest = sorted(begun, key=lambda one: ends[one[0].id] - one[1], reverse=True)[:MOST]
    by_worker: dict[str, list[tuple[Stage, datetime]]] = {}
    for stage, at in sorted(longest, key=lambda one: one[1]):
        by_worker.setdefault(stage.worker or "not known", []).append((stage, at))
    lanes = []
    for worker, mine in sorted(by_worker.items())[:MOST_LANES]:
        bars = tuple(_bar(stage, (at - first).total_seconds(), ends[stage.id], at, whole) for stage, at in mine)
        lanes.append(Lane(worker, bars, duration(sum((ends[stage.id] - at).total_seconds() for stage, at in mine))))
    shown = sum(len(lane.bars) for lane in lanes)
    reused = sum(bool(stage.reused_from) for stage in stages)
    return Timeline(first, duration(whole), tuple(lanes), _spent(stages), reused, len(begun) - shown)


def _bar(stage: Stage, after: float, end: datetime, at: datetime, whole: float) -> Bar:
    seconds = (end - at).total_seconds()
    left = 100 * after / whole
    width = min(max(100 * seconds / whole, 0.15), 100 - left)
    title = f"{stage.kind} {stage.key}: {duration(seconds)}, {stage.state}, attempt {stage.attempt}"
    return Bar(round(left, 3), round(width, 3), stage.kind, str(stage.state), title)


def _spent(stages: Sequence[Stage]) -> tuple[Spent, ...]:
    """By kind, the longest first."""
    seconds: dict[str, float] = {}
    count: dict[str, int] = {}
    for stage in stages:
        if stage.seconds and not stage.reused_from and stage.state != StageState.CANCELLED:
            seconds[stage.kind] = seconds.get(stage.kind, 0.0) + stage.seconds
            count[stage.kind] = count.get(stage.kind, 0) + 1
    total = sum(seconds.values()) or 1.0
    found = (Spent(kind, count[kind], spent, round(100 * spent / total, 1)) for kind, spent in seconds.items())
    return tuple(sorted(found, key=lambda one: -one.seconds))


# -- the stages, one a line -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Logged:
    """Stages that are asked for, the last ended first, of `total`; kinds, states, workers: that can be asked for, and
    which are. more: that fit and are not shown."""

    shown: tuple[Stage, ...]
    more: int
    total: int
    choices: Mapping[str, Sequence[str]]
    asked: Mapping[str, str]

    @property
    def is_filtered(self) -> bool:
        return any(self.asked.values())


def logged(stages: Sequence[Stage], asked: Mapping[str, str], most: int) -> Logged:
    """asked: a query string's `stage`, `state` and `worker`; what no stage has is left aside."""
    read: dict[str, Callable[[Stage], str]] = {
        "stage": lambda one: one.kind, "state": lambda one: str(one.state), "worker": lambda one: one.worker or "",
    }  # fmt: skip
    choices = {name: sorted({get(one) for one in stages} - {""}) for name, get in read.items()}
    wanted = {name: asked.get(name, "") for name in read}
    wanted = {name: value if value in choices[name] else "" for name, value in wanted.items()}
    fits = [one for one in stages if all(not value or read[name](one) == value for name, value in wanted.items())]
    ordered = sorted(fits, key=lambda one: (one.finished_at is None, one.finished_at or utcnow()))[-most:][::-1]
    return Logged(tuple(ordered), max(0, len(fits) - most), len(stages), choices, wanted)
