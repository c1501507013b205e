"""Values of many experiments along axes: numbers, times and words, what has none, and the part that was picked.

    axis = lay(field, values)                    # values: one an experiment, None where it has none
    axis.kind, axis.is_log, axis.without         # Scale.NUMBER, False, 12
    axis.places                                  # of each 0 to 1 along the axis, None where there is no value
    part = picked(field, low="90%", high="")     # typed or dragged
    part.line                                    # "accuracy>=0.9", for the search box
    part.condition                               # the same for the store

A parallel plot and a scatter of any two fields are made of these (`/plots`, `/api/axes`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from modescape import names
from modescape.askable import Values
from modescape.columns import EXPERIMENTS, Field, Kind
from modescape.drawing.ticks import even
from modescape.drawing.words import duration, percent
from modescape.errors import InvalidInput
from modescape.listing import AllOf, AnyOf, Clause, Condition
from modescape.searching import quoted

MOST_WORDS = 24  # along one axis; rarer ones share the last place
OTHERS = "other"
# Chosen or spread by factors: a step of these means "so many times", not "so much more".
_LOG = frozenset({
    "learning_rate", "lr", "weight_decay", "batch_size", "train_images", "epochs", "seconds", "rate", "noise",
    "temperature", "p",
})  # fmt: skip
_SHARES = frozenset({"accuracy", "ensemble_accuracy"})  # told in percent
_FEW = 7  # different numbers that many share: each has a tick
_ZERO = 0.06  # how much of a log axis lies below its numbers where some are 0
_TICKS = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATIONS = tuple(unit * many for unit in (1.0, 60.0, 3600.0, 86400.0) for many in (1, 2, 5, 10, 20))  # s
_STEPS = (60, 300, 900, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 2592000, 7776000, 31536000)  # s


class Scale(StrEnum):
    """What an axis has."""

    NUMBER = "number"
    TIME = "time"
    WORDS = "words"


@dataclass(frozen=True)
class Tick:
    """place: 0 to 1; n: how many experiments have the word, 0 of numbers and times."""

    place: float
    label: str
    value: str = ""
    n: int = 0


@dataclass(frozen=True)
class Axis:
    """One field of every experiment. low, high: the ends (of times seconds since 1970); is_log: equal steps are equal
    factors, 0 has a place of its own below; without: how many have no value; left_out: how many different words share
    the last place."""

    field: Field
    kind: Scale
    is_log: bool
    low: float
    high: float
    ticks: tuple[Tick, ...]
    values: tuple[Any, ...]
    places: tuple[float | None, ...]
    without: int
    left_out: int = 0
    floor: float = 0.0

    @property
    def name(self) -> str:
        return self.field.name

    @property
    def title(self) -> str:
        return title_of(self.field)

    @property
    def words(self) -> str:
        """Its title inside a sentence."""
        return words_of(self.field)

    def told(self, i: int) -> str:
        """The value of an experiment as people read it."""
        value = self.values[i]
        return "no value" if value is None else told(self.field, value)

    def place(self, value: float) -> float:
        """Of a number on it, or of seconds since 1970."""
        return _place(value, self.low, self.high, is_log=self.is_log, floor=self.floor)


def can_be_axis(field: Field | None) -> bool:
    """Whether every experiment has at most one value of it."""
    return field is not None and field.kind not in (Kind.LIST, Kind.FLAG, Kind.DOCUMENT) and field.name != "error"


def axis_field(name: str, *, of: str = "axes") -> Field:
    """A column of the list, a field of the spec or a number of the finding. Raises InvalidInput."""
    field = EXPERIMENTS.find(name)
    if field is None or not can_be_axis(field):
        found = [one.name for one in EXPERIMENTS.asked.values() if can_be_axis(one)]
        raise InvalidInput(
            f"nothing is laid along {name[:60]!r}", field=of,
            allowed=f"{', '.join(found)}, spec.<path>, result.<path>; lists, such as tags, have many values each",
        )  # fmt: skip
    return field


def words_of(field: Field) -> str:
    return "cost" if field.name == "seconds" else field.words or field.name


def title_of(field: Field) -> str:
    words = words_of(field)
    return f"{words[:1].upper()}{words[1:]}"


def told(field: Field, value: Any) -> str:
    """One value as people read it: shares of images in percent, seconds as a duration, words by the title that facets
    have of them."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
    if isinstance(value, str):
        return field.facet.label(value) if field.facet is not None else value
    if field.name == "seconds":
        return duration(value)
    if _is_share(field):
        return f"{percent(value)} %"
    return f"{value:.4g}".replace("-", "−")


def _is_share(field: Field) -> bool:
    return field.name.removeprefix("result.") in _SHARES


def is_log_by_nature(field: Field) -> bool:
    """Whether people choose or compare its values by factors."""
    return field.kind in (Kind.NUMBER, Kind.WHOLE) and field.name.rpartition(".")[2] in _LOG


def lay(field: Field, values: Sequence[Any], *, log: bool | None = None) -> Axis:
    """log: None is as the field is by nature. A field with negative values has no log axis."""
    if field.kind == Kind.TEXT:
        return _words(field, values)
    if field.kind == Kind.TIME:
        seconds = [None if one is None else (one - _EPOCH).total_seconds() for one in values]
        return _numbers(field, Scale.TIME, values, seconds, is_log=False)
    there = [None if one is None or not math.isfinite(one) else float(one) for one in values]
    wanted = is_log_by_nature(field) if log is None else log
    is_log = wanted and any(one for one in there) and all(one is None or one >= 0 for one in there)
    return _numbers(field, Scale.NUMBER, values, there, is_log=is_log)


def _numbers(
    field: Field, kind: Scale, values: Sequence[Any], numbers: Sequence[float | None], *, is_log: bool
) -> Axis:
    there = [one for one in numbers if one is not None]
    inside = [one for one in there if one > 0] if is_log else there
    low, high = (min(inside), max(inside)) if inside else (0.0, 1.0)
    if low == high and not is_log:
        around = abs(low) * 0.1 or 0.5
        low, high = low - around, high + around
    elif low == high:
        low, high = low / 2, high * 2
    has_zero = is_log and len(inside) < len(there)
    floor = _ZERO if has_zero else 0.0

    def at(value: float) -> float:
        return _place(value, low, high, is_log=is_log, floor=floor)

    few = sorted(set(inside))
    is_of_few = kind is Scale.NUMBER and len(few) <= _FEW and len(inside) >= 3 * len(few)  # such as batch sizes
    found = few if is_of_few else _ticks(field, kind, low, high, is_log=is_log)
    ticks = [Tick(at(one), _tick(field, kind, one, high - low), f"{one:.10g}") for one in found]
    ticks = [Tick(0.0, "0", "0"), *ticks] if has_zero else ticks
    places = tuple(None if one is None else at(one) for one in numbers)
    without = sum(one is None for one in numbers)
    return Axis(field, kind, is_log, low, high, tuple(ticks), tuple(values), places, without, floor=floor)


def _place(value: float, low: float, high: float, *, is_log: bool, floor: float = 0.0) -> float:
    if not is_log:
        return (value - low) / (high - low)
    if value <= 0:
        return 0.0
    return floor + (1 - floor) * math.log(value / low) / math.log(high / low)


def _words(field: Field, values: Sequence[Any]) -> Axis:
    """In alphabetical order; texts that are compared folded are one word."""

    def key(text: str) -> str:
        return names.folded(text) if field.folded is not None else text

    texts = [None if one is None or one == "" else str(one) for one in values]
    spelt: dict[str, Counter[str]] = {}
    for text in texts:
        if text is not None:
            spelt.setdefault(key(text), Counter())[text] += 1
    counts = {one: found.total() for one, found in spelt.items()}
    kept = sorted(counts, key=lambda one: (-counts[one], one))
    if len(kept) > MOST_WORDS:
        kept = kept[: MOST_WORDS - 1]
    left_out = len(counts) - len(kept)
    in_order = sorted(kept, key=lambda one: (one.casefold(), one))
    places = {one: (i + 0.5) / (len(kept) + bool(left_out)) for i, one in enumerate(in_order)}
    labels = {one: spelt[one].most_common(1)[0][0] for one in in_order}
    ticks = [Tick(places[one], told(field, labels[one]), labels[one], counts[one]) for one in in_order]
    last = 1 - 0.5 / (len(kept) + 1)
    if left_out:
        rest = sum(count for one, count in counts.items() if one not in places)
        ticks.append(Tick(last, f"{OTHERS} ({left_out})", "", rest))
    return Axis(
        field, Scale.WORDS, False, 0.0, 1.0, tuple(ticks),
        tuple(None if text is None else labels.get(key(text), text) for text in texts),
        tuple(None if text is None else places.get(key(text), last) for text in texts),
        sum(text is None for text in texts), left_out,
    )  # fmt: skip


# ---- ticks ----


def _ticks(field: Field, kind: Scale, low: float, high: float, *, is_log: bool) -> list[float]:
    if kind is Scale.TIME:
        step = next((one for one in _STEPS if (high - low) / one <= _TICKS), _STEPS[-1])
        return [float(i * step) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    if not is_log:
        return even(low, high, _TICKS, whole=field.kind == Kind.WHOLE)
    if field.name == "seconds" and (found := [one for one in _DURATIONS if low <= one <= high]):
        return found[:: -(-len(found) // (_TICKS + 2))]
    return _factors(low, high)


def _tick(field: Field, kind: Scale, value: float, wide: float) -> str:
    if kind is Scale.TIME:
        moment = _EPOCH + timedelta(seconds=value)
        return f"{moment:%H:%M}" if wide < 4 * 86400 and moment.hour + moment.minute else f"{moment:%-d %b %Y}"
    return f"{100 * value:.4g} %" if _is_share(field) else told(field, value)


def _factors(low: float, high: float) -> list[float]:
    """Powers of ten; also twice and five times of them where they are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1,), (1, 2, 5), tuple(range(1, 10))):
        found = [float(f"{part}e{power}") for power in decades for part in parts]
        found = [one for one in found if low * (1 - 1e-9) <= one <= high * (1 + 1e-9)]
        if len(found) > 1:
            break
    every = -(-len(found) // (_TICKS + 2))
    return found[::every] if len(found) > 1 else [low, high]


# ---- a part of an axis ----


@dataclass(frozen=True)
class Part:
    """What was picked of a field: from low to high, both within, or some words; without: also those without a value.
    An empty part picks nothing out: it says nothing of the field."""

    field: Field
    low: float | datetime | None = None
    high: float | datetime | None = None
    words: tuple[str, ...] = ()
    without: bool = False

    @property
    def is_empty(self) -> bool:
        return self.low is None and self.high is None and not self.words and not self.without

    @property
    def has_values(self) -> bool:
        return self.low is not None or self.high is not None or bool(self.words)

    def holds(self, value: Any) -> bool:
        """As the store compares."""
        if value is None or value == "":
            return self.without
        if not self.has_values:
            return False
        if self.words:
            return self._key(str(value)) in {self._key(one) for one in self.words}
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def _key(self, text: str) -> str:
        return names.folded(text) if self.field.folded is not None else names.normal(text)

    @property
    def condition(self) -> Clause:
        name = self.field.name
        ends = [("gte", self.low), ("lte", self.high)]
        inside: list[Clause] = [Condition(name, how, end) for how, end in ends if end is not None]
        if self.words:
            inside = [Condition(name, "in", self.words)]
        if not self.without:
            return AllOf(tuple(inside))
        return AnyOf((AllOf(tuple(inside)), self._empty)) if inside else self._empty

    @property
    def _empty(self) -> Clause:
        return Condition(self.field.name, "null", True)

    @property
    def line(self) -> str:
        """For the search box."""
        name = self.field.name
        said = [f"{name}{how}{written(end)}" for how, end in ((">=", self.low), ("<=", self.high)) if end is not None]
        if self.words:
            said = [f"{name}={','.join(map(quoted, self.words))}"]
        inside = " ".join(said)
        if not self.without:
            return inside
        return f"({inside} or -has:{name})" if inside else f"-has:{name}"


def written(value: float | datetime | None) -> str:
    """A number or a moment as it is typed."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return f"{value:.12g}"


def picked(field: Field, *, low: str = "", high: str = "", words: Sequence[str] = (), without: bool = False) -> Part:
    """Of what was typed: "0.9", "90%", "2026-11-22", of seconds "2h". Raises InvalidInput, of the fields `from.<name>`
    and `to.<name>`."""
    if field.kind == Kind.TEXT:
        return Part(field, words=tuple(dict.fromkeys(filter(None, words))), without=without)
    values = Values()
    ends = [_end(values, field, low, f"from.{field.name}"), _end(values, field, high, f"to.{field.name}", is_last=True)]
    if values.problems:
        raise InvalidInput("; ".join(map(str, values.problems)), problems=values.problems)
    return Part(field, ends[0], ends[1], without=without)


_UNITS: Mapping[str, float] = {"ms": 0.001, "min": 60.0, "s": 1.0, "h": 3600.0, "d": 86400.0}  # longer names first


def _end(values: Values, field: Field, text: str, key: str, *, is_last: bool = False) -> Any:
    text = text.strip().replace("−", "-")
    if not text:
        return None
    if field.kind == Kind.TIME:
        found = values.time(key, text)
        is_day = found is not None and len(text) == len("2026-11-22")
        return found + timedelta(days=1, microseconds=-1) if found is not None and is_day and is_last else found
    units = _UNITS if field.name == "seconds" else {"%": 0.01}
    for unit, factor in units.items():
        if text.endswith(unit):
            number = values.number(field, key, text.removesuffix(unit).strip())
            return None if number is None else round(number * factor, 12)
    if field.kind == Kind.WHOLE:  # an end may lie between
        try:
            number = float(text)
        except ValueError:
            return values.number(field, key, text)
        return (math.floor(number) if is_last else math.ceil(number)) if math.isfinite(number) else None
    return values.number(field, key, text)
