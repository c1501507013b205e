"""What lists ask of experiments, held in memory where there are many: which a question finds, in their order, how many.

    held = InMemory()                       # one a process
    held.took(seconds)                      # from the first question on that took long among many, it answers
    found = held.find(session, query)       # Found(keys of the page, how many in all), or None: ask the database
    held.counts(session, query)

A database reads every row for a filter that most rows meet, for a count and for a sort without an index, and the whole
document of each for a field of a spec. Here a column is read once, when it is first asked for, and is an array from
then on: numbers and times as they are, texts as numbers of their words. Rows that are shown are always read from the
database. What changes is known from the events: every transaction that changes what a list shows writes one, and their
ids become visible in order, so that what lies behind the last one seen is all there is to read again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import String, cast, func, select
from sqlalchemy.orm import Session

from modescape import names
from modescape.columns import EXPERIMENTS, Field, Kind
from modescape.listing import AllOf, AnyOf, Clause, Found, Listing, ListQuery, Not, normal
from modescape.store.groups import Columns
from modescape.store.lookup import batches
from modescape.tables import Event, Experiment

MANY = 10_000  # experiments; fewer are read again as fast
LONG = 0.02  # seconds that a question takes
_MOST_CHANGED = 2_000  # rows; where more have changed, everything is read again
_MOST_COLUMNS = 64  # held; those that were not asked for longest are read again

Mask = NDArray[np.bool_]
_LISTING = Listing(EXPERIMENTS)
_AS_WRITTEN = " as written"  # behind the name of a field whose own values are wanted, not those it is compared by
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Unknown(Exception):
    """The database has to be asked."""


class _Numbers:
    """Of every row a number, NaN where it has none. Times are microseconds, which float64 holds exactly until 2255."""

    def __init__(self, *, times: bool) -> None:
        self.values: NDArray[np.float64] = np.empty(0)
        self._times = times

    def read(self, given: Sequence[Any]) -> NDArray[np.float64]:
        return np.array([_number(value) for value in given] if self._times else given, dtype=np.float64)

    def mask(self, operator: str, value: Any) -> Mask:
        values = self.values
        if operator == "null":
            return np.asarray(np.isnan(values) == bool(value))
        if operator in ("in", "notin"):
            found = np.isin(values, [_number(one) for one in value])
            return found if operator == "in" else ~found
        compare = {"eq": np.equal, "ne": np.not_equal, "gt": np.greater, "gte": np.greater_equal, "lt": np.less,
                   "lte": np.less_equal}[operator]  # fmt: skip
        return np.asarray(compare(values, _number(value)))

    def key(self, value: Any) -> float:
        return _number(value)

    def ordered(self, session: Session) -> NDArray[np.float64]:
        return self.values


class _Words:
    """Of every row the number of its word, -1 where it has none. column: as the database orders it."""

    def __init__(self, column: Any, *, plain: bool) -> None:
        self.values: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self.words: list[str] = []
        self.column = column
        self._plain = plain  # ordered by code points
        self._numbers: dict[str, int] = {}
        self._ranks: NDArray[np.float64] = np.empty(0)

    def read(self, given: Sequence[Any]) -> NDArray[np.int32]:
        numbers, words = self._numbers, self.words
        found = np.empty(len(given), dtype=np.int32)
        for i, value in enumerate(given):
            if value is None:
                found[i] = -1
                continue
            number = numbers.get(value)
            if number is None:
                number = numbers[str(value)] = len(words)
                words.append(str(value))
            found[i] = number
        return found

    def of_words(self, wanted: Iterable[bool], *, none: bool) -> Mask:
        """Rows whose word is wanted."""
        table = np.fromiter(wanted, dtype=bool, count=len(self.words))
        return np.append(table, none)[self.values]  # -1 is the last

    def mask(self, operator: str, value: Any) -> Mask:
        if operator == "null":
            return np.asarray((self.values < 0) == bool(value))
        if operator not in ("eq", "ne", "in", "notin"):
            raise _Unknown
        wanted = value if operator in ("in", "notin") else [value]
        numbers = [self._numbers[str(one)] for one in wanted if str(one) in self._numbers]
        found = np.isin(self.values, numbers)
        return found if operator in ("eq", "in") else ~found

    def containing(self, part: str, *, folded: bool) -> Mask:
        """folded: both are; else whatever the case of ASCII's letters, as the database compares."""
        if folded:
            return self.of_words((part in word for word in self.words), none=False)
        part = _ascii_lower(part)
        return self.of_words((part in _ascii_lower(word) for word in self.words), none=False)

    def key(self, value: Any) -> float:
        if value is None:
            return math.nan
        if (number := self._numbers.get(str(value))) is None:
            raise _Unknown
        if self._ranks[number] < 0:  # nobody has that word any more, so nobody knows its place
            raise _Unknown
        return float(self._ranks[number])

    def ordered(self, session: Session) -> NDArray[np.float64]:
        """Numbers that are ordered as the database orders the words."""
        held = self.values[self.values >= 0]
        if len(self._ranks) < len(self.words) or (self._ranks[held] < 0).any():  # new words, and one that has come back
            if self._plain:
                places = {word: rank for rank, word in enumerate(sorted(self.words))}
            else:
                in_order = select(self.column).where(self.column.is_not(None)).distinct().order_by(self.column)
                places = {str(word): rank for rank, word in enumerate(session.scalars(in_order))}
            self._ranks = np.array([places.get(word, -1) for word in self.words], dtype=np.float64)
        return np.append(self._ranks, math.nan)[self.values]


_Column = _Numbers | _Words


@dataclass
class _Rows:
    """last: the last event that is in. number: of each id its place in all arrays; high, low: the halves of the UUID
    that it is; there: whether it is still there."""

    last: int
    ids: list[str] = field(default_factory=list)
    number: dict[str, int] = field(default_factory=dict)
    high: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    low: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    there: Mask = field(default_factory=lambda: np.empty(0, dtype=bool))
    columns: dict[str, _Column] = field(default_factory=dict)
    places: dict[str, NDArray[np.intp]] = field(default_factory=dict)  # by sort: of every row its place
    masks: dict[Hashable, Mask] = field(default_factory=dict)  # of conditions, until something changes


class InMemory:
    """All experiments, from the moment when asking the database took long."""

    def __init__(self) -> None:
        self._rows: _Rows | None = None
        self._is_wanted = False
        self._lock = Lock()

    def took(self, session: Session, seconds: float) -> None:
        """How long a question took that the database answered."""
        if seconds > LONG and not self._is_wanted:
            self._is_wanted = (session.scalar(select(func.count()).select_from(Experiment)) or 0) >= MANY

    def find(self, session: Session, query: ListQuery) -> Found | None:
        """None where the database has to be asked. Raises InvalidInput as `Listing.page` does."""
        if not self._is_wanted or query.limit is None:
            return None
        sort, mark = _LISTING.checked(session, query.conditions, query.sort, query.cursor, query.limit)
        with self._lock:
            try:
                rows = self._current(session)
                found = self._mask(rows, session, query)
                total = int(np.count_nonzero(found))
                places = self._places(rows, session, sort)
                if mark is not None:
                    found = found & self._beyond(rows, session, sort, *mark)
                numbers = np.flatnonzero(found)
                order = places[numbers]
                if len(order) > query.limit + 1:
                    first = np.argpartition(order, query.limit)[: query.limit + 1]
                    numbers, order = numbers[first], order[first]
                return Found([rows.ids[i] for i in numbers[np.argsort(order)]], total)
            except _Unknown:
                return None

    def spread(self, session: Session, query: ListQuery, most: int) -> tuple[list[str], int] | None:
        """What `Listing.spread` gives. None where the database has to be asked. Raises InvalidInput."""
        if not self._is_wanted:
            return None
        sort, _ = _LISTING.checked(session, query.conditions, query.sort)
        with self._lock:
            try:
                rows = self._current(session)
                numbers = np.flatnonzero(self._mask(rows, session, query))
                numbers = numbers[np.argsort(self._places(rows, session, sort)[numbers])]
                total = len(numbers)
                if total > most:
                    numbers = numbers[np.arange(total) * most % total < most]
                return [rows.ids[i] for i in numbers], total
            except _Unknown:
                return None

    def counts(self, session: Session, query: ListQuery) -> dict[str, dict[str, int]] | None:
        """Of every facet, how many experiments have each value. None where the database has to be asked."""
        if not self._is_wanted:
            return None
        _LISTING.checked(session, query.conditions)
        with self._lock:
            try:
                rows = self._current(session)
                found = self._mask(rows, session, query)
                counted: dict[str, dict[str, int]] = {}
                for one, _ in EXPERIMENTS.facets:
                    column = self._column(rows, session, f"{one.name}{_AS_WRITTEN}")
                    assert isinstance(column, _Words), "facets are of texts"
                    held = column.values[found]
                    numbers = np.bincount(held[held >= 0], minlength=len(column.words))
                    counts: dict[str, int] = counted.setdefault(one.name, {})
                    for i in np.flatnonzero(numbers):
                        word = column.words[i]
                        for value in filter(None, json.loads(word) if one.kind == Kind.LIST else [word]):
                            counts[value] = counts.get(value, 0) + int(numbers[i])
                return counted
            except _Unknown:
                return None

    def columns(self, session: Session, query: ListQuery, by: Field, numbers: Sequence[str]) -> Columns | None:
        """What groups are made of. None where the database has to be asked."""
        if not self._is_wanted:
            return None
        _LISTING.checked(session, query.conditions)
        with self._lock:
            try:
                rows = self._current(session)
                found = np.flatnonzero(self._mask(rows, session, query))
                written = by.folded is not None or by.kind == Kind.LIST
                column = self._column(rows, session, f"{by.name}{_AS_WRITTEN}" if written else by.name)
                of_rows = {name: self._column(rows, session, name).values[found].astype(np.float64) for name in numbers}
                if isinstance(column, _Words):
                    values: list[Any] = [*column.words, None]
                    codes = column.values[found].astype(np.intp)
                else:
                    known, codes = np.unique(column.values[found], return_inverse=True)
                    values = [None if math.isnan(one) else one for one in known.tolist()]
                return labelled(by, values, codes, of_rows)
            except _Unknown:
                return None

    # --- what is held ---

    def _current(self, session: Session) -> _Rows:
        """With everything that has been committed before."""
        last = session.scalar(select(func.max(Event.id))) or 0
        rows = self._rows
        self._rows = None  # what fails on the way is read again
        if rows is None or last < rows.last or not self._caught_up(rows, session, last):
            rows = self._read(session, last)
        self._rows = rows
        return rows

    def _read(self, session: Session, last: int) -> _Rows:
        rows = _Rows(last)
        self._add(rows, list(session.scalars(select(Experiment.id))))
        return rows

    def _add(self, rows: _Rows, ids: Sequence[str]) -> None:
        if not ids:
            return
        try:
            halves = [divmod(int(one.replace("-", ""), 16), 2**64) for one in ids]
            new = np.array(halves, dtype=np.uint64).reshape(-1, 2)
        except (ValueError, OverflowError):
            raise _Unknown from None  # not ours: ordered otherwise than as a number
        rows.number |= {one: i for i, one in enumerate(ids, len(rows.ids))}
        rows.ids += ids
        rows.high, rows.low = np.append(rows.high, new[:, 0]), np.append(rows.low, new[:, 1])
        rows.there = np.append(rows.there, np.ones(len(ids), dtype=bool))
        rows.places.clear()

    def _caught_up(self, rows: _Rows, session: Session, last: int) -> bool:
        """Read again what has changed; False where too much has, or nobody knows what."""
        if last == rows.last:
            return True
        if (session.scalar(select(func.min(Event.id))) or 0) > rows.last + 1:
            return False  # events have been forgotten
        since = (Event.id > rows.last) & (Event.id <= last) & Event.experiment_id.is_not(None)
        changed = [one for one in session.scalars(select(Event.experiment_id).where(since).distinct()) if one]
        if len(changed) > _MOST_CHANGED or np.count_nonzero(~rows.there) > len(rows.ids) // 2:
            return False
        expressions = [_expression(name).label(f"c{i}") for i, name in enumerate(rows.columns)]
        read: dict[str, Sequence[Any]] = {}
        for some in batches(changed):
            of_them = select(Experiment.id, *expressions).where(Experiment.id.in_(some))
            read |= {row[0]: row[1:] for row in session.execute(of_them)}
        new = [one for one in read if one not in rows.number]
        self._add(rows, new)
        numbers = np.array([rows.number[one] for one in read], dtype=np.intp)
        for place, (name, column) in enumerate(rows.columns.items()):
            values: Any = column.read([row[place] for row in read.values()])
            grown: Any = np.append(column.values, np.empty(len(new), dtype=column.values.dtype))
            if not np.array_equal(grown[numbers], values, equal_nan=True):
                rows.places.pop(name, None)
                rows.places.pop(f"-{name}", None)
            grown[numbers] = values
            column.values = grown
        gone = [rows.number[one] for one in changed if one not in read and one in rows.number]
        rows.there[gone] = False
        rows.there[numbers] = True
        rows.masks.clear()
        rows.last = last
        return True

    def _column(self, rows: _Rows, session: Session, name: str) -> _Column:
        column = rows.columns.pop(name, None)
        if column is None:
            column = _empty(name, plain=session.get_bind().dialect.name == "sqlite")
            of_all = select(Experiment.id, _expression(name))
            found: dict[str, Any] = dict(map(tuple, session.execute(of_all)))
            column.values = column.read([found.get(one) for one in rows.ids])  # who came meanwhile has an event
        rows.columns[name] = column  # the last is the one asked for last
        for oldest in [*rows.columns][:-_MOST_COLUMNS]:
            del rows.columns[oldest]
            rows.places.pop(oldest, None)
            rows.places.pop(f"-{oldest}", None)
        return column

    # --- conditions ---

    def _mask(self, rows: _Rows, session: Session, query: ListQuery) -> Mask:
        asked = repr((query.archived, query.conditions))
        found = rows.masks.get(asked)
        if found is None:
            found = rows.there.copy()
            if query.archived is not None:
                found &= self._column(rows, session, "archived").mask("null", not query.archived)
            for one in query.conditions:
                found &= self._one(rows, session, one)
            if len(rows.masks) > 20:
                rows.masks.clear()
            rows.masks[asked] = found
        return found

    def _one(self, rows: _Rows, session: Session, condition: Clause) -> Mask:
        """The rules of `Listing.where`."""
        if isinstance(condition, AnyOf | AllOf):
            found = np.full(len(rows.ids), isinstance(condition, AllOf))
            for part in condition.conditions:
                mask = self._one(rows, session, part)
                found = found & mask if isinstance(condition, AllOf) else found | mask
            return found
        if isinstance(condition, Not):
            return ~self._one(rows, session, condition.condition)
        name, operator = condition.field, condition.operator
        folded = name == "text" or name in EXPERIMENTS.folds
        value = normal(condition.value, folded=folded)
        if operator == "null" and name in EXPERIMENTS.folds and name not in EXPERIMENTS.lists:
            operator, value = ("eq" if value else "ne"), ""
        if name in EXPERIMENTS.lists:
            return _of_list(self._words(rows, session, name), operator, value)
        if operator in ("contains", "notcontains") or name == "text":
            having = self._words(rows, session, name).containing(str(value), folded=folded)
            return ~having if operator == "notcontains" else having
        return self._column(rows, session, name).mask(operator, value)

    def _words(self, rows: _Rows, session: Session, name: str) -> _Words:
        column = self._column(rows, session, name)
        if not isinstance(column, _Words):
            raise _Unknown
        return column

    # --- order ---

    def _places(self, rows: _Rows, session: Session, sort: str) -> NDArray[np.intp]:
        """Of every row its place in the order of `sort`: rows without a value last, equal ones by their ids."""
        places = rows.places.get(sort)
        if places is None:
            values = self._column(rows, session, sort.removeprefix("-")).ordered(session)
            high, low = rows.high, rows.low
            empty = np.isnan(values)
            if sort.startswith("-"):
                values, high, low = -values, ~high, ~low
            order = np.lexsort((low, high, np.where(empty, 0.0, values), empty))
            places = np.empty(len(order), dtype=np.intp)
            places[order] = np.arange(len(order))
            rows.places[sort] = places
        return places

    def _beyond(self, rows: _Rows, session: Session, sort: str, value: Any, key: str) -> Mask:
        """Rows behind the one with that value and id, whether or not it is still there."""
        column = self._column(rows, session, sort.removeprefix("-"))
        values, last = column.ordered(session), column.key(value)
        try:
            high, low = (np.uint64(half) for half in divmod(int(key.replace("-", ""), 16), 2**64))
        except (ValueError, OverflowError):
            raise _Unknown from None
        empty, beyond = np.isnan(values), np.less if sort.startswith("-") else np.greater
        later = beyond(rows.high, high) | ((rows.high == high) & beyond(rows.low, low))
        if math.isnan(last):
            return np.asarray(empty & later)
        return np.asarray(empty | beyond(values, last) | ((values == last) & later))


def labelled(by: Field, values: Sequence[Any], codes: NDArray[np.intp], numbers: Mapping[str, Any]) -> Columns:
    """Memberships of rows, whose values are numbers of `values`: what is compared alike is one label, under the
    spelling that most have; of a list each of its texts is one, and none is a value."""
    used = np.bincount(codes % len(values), minlength=len(values)) if len(codes) else np.zeros(len(values), dtype=int)
    spelled: dict[Any, Any] = {}
    labels: dict[Any, int] = {}
    of_value: list[list[int]] = [[] for _ in values]
    for i in sorted(np.flatnonzero(used).tolist(), key=lambda i: -used[i]):
        parts = values[i]
        if by.kind == Kind.LIST:
            parts = json.loads(parts) if isinstance(parts, str) else parts
        for part in (parts or [None]) if by.kind == Kind.LIST else [parts]:
            part = None if part == "" else part
            if by.kind in (Kind.NUMBER, Kind.WHOLE) and part is not None:
                part = int(part) if by.kind == Kind.WHOLE else float(part)
            key = names.folded(part) if by.folded is not None and part is not None else part
            first = spelled.setdefault(key, part)
            of_value[i].append(labels.setdefault(first, len(labels)))
    several = np.array([len(one) for one in of_value], dtype=np.intp)
    flat = np.array([one for found in of_value for one in found], dtype=np.intp)
    of_row, first = several[codes], np.cumsum(several) - several
    row = np.repeat(np.arange(len(codes), dtype=np.intp), of_row)
    within = np.arange(len(row), dtype=np.intp) - np.repeat(
        np.cumsum(of_row) - of_row, of_row
    )  # its first, second, ...
    label = flat[np.repeat(first[codes], of_row) + within]
    return Columns([*labels], label, row, numbers)


def _expression(name: str) -> Any:
    """What is read of a row for a column; lists as the text that the database has of them."""
    if name.endswith(_AS_WRITTEN):
        [written] = [one.column for one in EXPERIMENTS.all if one.name == name.removesuffix(_AS_WRITTEN)]
        return cast(written, String)
    if name in EXPERIMENTS.lists:
        return cast(EXPERIMENTS.lists[name], String)
    if (known := EXPERIMENTS.columns.get(name)) is not None:
        return known
    if (beside := EXPERIMENTS.beside(name)) is not None:
        return beside.column
    return {"text": EXPERIMENTS.text, "archived": Experiment.archived_at}[name]


def _empty(name: str, *, plain: bool) -> _Column:
    expression = _expression(name)
    if expression.type.python_type is str:
        return _Words(expression, plain=plain or name in EXPERIMENTS.folds or EXPERIMENTS.beside(name) is not None)
    return _Numbers(times=expression.type.python_type is datetime)


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, datetime):
        since = value - _EPOCH
        return float((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)
    return float(value)


def _of_list(column: _Words, operator: str, value: Any) -> Mask:
    lists = [json.loads(word) for word in column.words]
    if operator == "null":
        return column.of_words((bool(one) != bool(value) for one in lists), none=False)
    wanted = set(map(str, value)) if operator in ("in", "notin") else {str(value)}
    found = column.of_words((not wanted.isdisjoint(one) for one in lists), none=False)
    return ~found if operator in ("ne", "notcontains", "notin") else found


_ASCII: Mapping[int, int] = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _ascii_lower(text: str) -> str:
    """As databases, to which other letters have one case here."""
    return text.lower() if text.isascii() else text.translate(_ASCII)
