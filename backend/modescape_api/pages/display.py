"""How things are said on a page: numbers, times and sizes as text, and what an experiment's stages amount to.

Accuracy in percent with one decimal, rates as .312, thousands parted by thin spaces, times relative with the absolute
beside them. Missing is an en dash.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup, escape

from modescape.drawing.words import duration, percent, rate, thousands
from modescape.records import StageState, Status
from modescape.tables import Experiment, Stage, utcnow
from modescape_api.resources.experiments import not_known

GLYPHS: dict[str, str] = {
    Status.SUCCEEDED: "✓", Status.RUNNING: "◐", Status.FAILED: "✗", Status.CANCELLED: "⊘", Status.PAUSED: "‖",
}  # fmt: skip


# -- numbers and times ------------------------------------------------------------------------------------------------


def size(count: float | None) -> str:
    if count is None:
        return "–"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.{1 if count < 10 * scale else 0}f} {unit}"
    return f"{count:.0f} B"


def ago(moment: datetime) -> str:
    seconds = (utcnow() - moment).total_seconds()
    if seconds < 86400:
        return f"{duration(max(0.0, seconds))} ago"
    return f"{moment:%a}" if seconds < 6 * 86400 else f"{moment.day} {moment:%b %Y}"


def since(moment: datetime) -> str:
    """Time since a moment, on a clock that goes on in the page (app.js)."""
    return duration((utcnow() - moment).total_seconds())


def absolute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def crumbs(field: str) -> str:
    """`methods.low-rank.options.rank` as people say it: `Methods › low-rank › rank`."""
    parts = [part.replace("_", " ") for part in field.split(".") if part not in ("options", "on")]
    return " › ".join([parts[0].capitalize(), *parts[1:]]) if parts[0] else "The spec"


def cell(value: object) -> str:
    """One cell of a data table."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return str(value)


def counted(count: int, noun: str) -> str:
    """ "1 run", "5 runs" """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def dotted(*parts: str) -> str:
    """Those that say something, on one line."""
    return " · ".join(filter(None, parts))


def not_loaded(name: str) -> str:
    """Instead of the title of what this process does not know."""
    return f"{name}, not loaded here"


def said_not_known(*rows: Experiment) -> str:
    """In a sentence; "" where everything is known."""
    names = list(dict.fromkeys(name for row in rows for name in not_known(row)))
    if not names:
        return ""
    return (
        f"This server does not know {', '.join(names)}: of a worker’s plug-in, or of a later version. What was "
        "computed is shown; clone and launch it where that is known."
    )


_BY_NAME: tuple[Callable[..., str], ...] = (
    duration, size, ago, since, absolute, iso, crumbs, cell, percent, rate, thousands,
)  # fmt: skip
FILTERS: dict[str, Callable[..., str]] = {
    **{one.__name__: one for one in _BY_NAME},
    "coded": lambda text: Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text)))),
    "last_part": lambda text: text.rsplit(".", 1)[-1],
    "sentence": lambda text: f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}",
}


# -- what stages amount to --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KindProgress:
    """All stages of one kind. skipped: of the done ones those that had nothing to do; value: done plus the shares of
    running ones; estimate: seconds as planned, in all; seconds: of machine time, of those that are done; ended: whether
    none of them will do any more."""

    kind: str
    total: int
    done: int
    running: int
    failed: int
    cancelled: int
    skipped: int
    value: float
    estimate: float
    seconds: float
    waits_for: str
    ended: bool

    @property
    def note(self) -> str:
        counts = ((self.failed, "failed"), (self.cancelled, "cancelled"), (self.skipped, "skipped"))
        if any(count for count, _ in counts):
            return ", ".join(f"{count} {word}" for count, word in counts if count)
        if self.running:
            return f"{self.running} running"
        if self.done < self.total and self.waits_for:
            return f"waits for {self.waits_for}"
        return ""

    @property
    def lacks(self) -> str:
        """What a figure that needs one of them waits for, or why it never comes."""
        if not self.ended:
            return f"Waits for {self.kind}: {self.words}"
        return f"Not made: {self.kind} {'has failed' if self.failed else 'was cancelled'}"

    @property
    def words(self) -> str:
        return f"{self.done} of {self.total}" + (f" · {self.note}" if self.note else "")

    @property
    def time(self) -> str:
        """What it took once all are done, else what was planned."""
        if self.done == self.total:
            return duration(self.seconds) if self.seconds else "here already"
        return f"≈ {duration(self.estimate)} planned"

    @property
    def state(self) -> Status | None:
        """None of those that all had nothing to do."""
        if self.done == self.total:
            return None if self.skipped == self.total else Status.SUCCEEDED
        if self.failed or (self.cancelled and self.ended):
            return Status.FAILED if self.failed else Status.CANCELLED
        return Status.RUNNING if self.running or self.done else Status.QUEUED

    @property
    def glyph(self) -> str:
        return "–" if self.state is None else GLYPHS.get(self.state, "○")

    @property
    def weight(self) -> float:
        """Width of its bar: what it costs, but never too thin to see."""
        return math.sqrt(max(1.0, self.estimate))


@dataclass(frozen=True)
class Spark:
    """A small curve in a box of 100 x 18: its points, and where it ends."""

    points: str
    x: float
    y: float


@dataclass(frozen=True)
class Training:
    """A run that trains now."""

    run: int
    epoch_words: str
    words: str
    loss: str
    spark: Spark | None


def by_kind(stages: Sequence[Stage]) -> list[KindProgress]:
    found = []
    kinds = dict.fromkeys(stage.kind for stage in stages)
    unfinished = [kind for kind in kinds if any(s.kind == kind and s.state != StageState.SUCCEEDED for s in stages)]
    for kind in kinds:
        mine = [stage for stage in stages if stage.kind == kind]
        states = [stage.state for stage in mine]
        running = [stage for stage in mine if stage.state == StageState.RUNNING]
        done = states.count(StageState.SUCCEEDED)
        value = done + sum(min(1.0, stage.step / stage.steps) for stage in running if stage.steps)
        blocked = bool(mine) and all(state in (StageState.BLOCKED, StageState.SUCCEEDED) for state in states)
        before = [other for other in unfinished if other != kind][:1]
        waits = before[0] if blocked and before and list(kinds).index(before[0]) < list(kinds).index(kind) else ""
        estimate = sum(stage.estimate for stage in mine)
        took = sum(stage.seconds for stage in mine if stage.state == StageState.SUCCEEDED and stage.reused_from is None)
        failed, cancelled = states.count(StageState.FAILED), states.count(StageState.CANCELLED)
        skipped = sum(stage.state == StageState.SUCCEEDED and "skipped" in stage.progress for stage in mine)
        found.append(KindProgress(
            kind, len(mine), done, len(running), failed, cancelled, skipped, value, estimate, took, waits,
            ended=all(state.has_ended for state in states),
        ))  # fmt: skip
    return found


def share_done(kinds: Sequence[KindProgress]) -> float:
    """Of all work, as it was planned: 0 to 1."""
    planned = [max(kind.estimate, 0.1) for kind in kinds]
    return sum(p * kind.value / kind.total for p, kind in zip(planned, kinds, strict=True)) / (sum(planned) or 1.0)


def stages_in_words(kinds: Sequence[KindProgress]) -> str:
    """What runs now, else how many stages are done: "train 2 of 5, predict 1 of 5; 3 of 99 stages done" """
    running = ", ".join(f"{kind.kind} {kind.done} of {kind.total}" for kind in kinds if kind.running)
    done = f"{sum(kind.done for kind in kinds)} of {sum(kind.total for kind in kinds)} stages done"
    if skipped := sum(kind.skipped for kind in kinds):
        done += f", {skipped} of them skipped"
    return f"{running}; {done}" if running else done


_OVERDUE = 0.25  # of the time that a stage has taken beyond what it should: as long will it take at least


def seconds_left(stages: Sequence[Stage], workers: int) -> float | None:
    """What the open stages were planned to cost, corrected by what the finished ones of their kind did, else those of
    all kinds; None when none is open."""
    open_ = [stage for stage in stages if not stage.state.has_ended]
    if not open_:
        return None
    worked = [stage for stage in stages if stage.state == StageState.SUCCEEDED and stage.reused_from is None]
    overall = _measured(worked, 1.0)
    factors = {kind: _measured([s for s in worked if s.kind == kind], overall) for kind in {s.kind for s in open_}}
    left, longest, now = 0.0, 0.0, utcnow()
    for stage in open_:
        is_running = stage.state == StageState.RUNNING
        told = stage.progress.get("seconds_left") if is_running else None
        whole = factors[stage.kind] * stage.estimate
        if told is not None:
            mine = float(told)
        elif is_running and stage.steps:
            mine = whole * (1 - min(1.0, stage.step / stage.steps))
        elif is_running and stage.claimed_at is not None:  # it tells no steps: what is left of what it should take
            spent = (now - stage.claimed_at).total_seconds()
            mine = max(0.1 * whole, whole - spent, _OVERDUE * (spent - whole))
        else:
            mine = whole
        left += mine
        longest = max(longest, mine)
    return max(longest, left / max(1, workers))


def _measured(worked: Sequence[Stage], otherwise: float) -> float:
    """Seconds that stages took for each that was planned."""
    planned = sum(stage.estimate for stage in worked)
    return sum(stage.seconds for stage in worked) / planned if planned > 0.1 else otherwise


def spark(values: Sequence[float]) -> Spark | None:
    """The last sixty values, scaled into the box; None for fewer than two."""
    known = [value for value in values if math.isfinite(value)]
    if len(known) < 2:
        return None
    step = max(1, len(known) // 60)
    known = [*known[:-1:step], known[-1]]
    low, high = min(known), max(known)
    height = [17 - 16 * (value - low) / ((high - low) or 1.0) for value in known]
    across = [100 * i / (len(known) - 1) for i in range(len(known))]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, height, strict=True))
    return Spark(points, round(across[-1], 1), round(height[-1], 1))


def training(stage: Stage, losses: Sequence[float]) -> Training:
    told = stage.progress
    epoch = f"epoch {told['epoch']:.3g}" if told.get("epoch") is not None else "starting"
    loss = f"loss {rate(float(told['loss']))}" if told.get("loss") is not None else ""
    words = [loss] if loss else []
    if told.get("accuracy") is not None:
        words.append(f"accuracy {percent(float(told['accuracy']))} %")
    if told.get("images_per_second"):
        words.append(f"{thousands(round(told['images_per_second']))} images/s")
    return Training(int(stage.params.get("run", 0)), epoch, " · ".join(words), loss, spark(losses))
