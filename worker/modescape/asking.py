"""What a list is asked for, by API, pages and clients alike: a query string as typed conditions and as a sentence.

    asked = read(EXPERIMENTS, [("dataset", "cifar10"), ("accuracy__gte", "0.6")])
    asked.words        # "Experiments where dataset is cifar10 and accuracy is at least 0.6, newest first"
    asked.query        # ListQuery(conditions=(Condition("dataset", "eq", "cifar10"), ...), sort="-created")

`field=value` asks for equality, `field=a,b` for one of several, `field__op=value` for any operator of OPERATORS;
conditions are joined by *and*. `q` is the line of the search box (`modescape.searched`), in which the same fields have
the same values. `sort=-field`, `limit`, `cursor` and `fields` belong to every list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from modescape import stored_values
from modescape.askable import Askable, Asking, Values, say
from modescape.columns import EXPERIMENTS, Kind
from modescape.errors import InvalidInput
from modescape.listing import MAX_LIMIT, Clause, Condition, ListQuery
from modescape.names import meant
from modescape.searched import UNSAID, Line
from modescape.searching import Fault


@dataclass(frozen=True)
class Operator:
    """says: the words between field and value; kinds: the fields it makes sense for; store: the store's name for it."""

    says: str
    kinds: tuple[Kind, ...]
    store: str = ""


_NUMBERS = (Kind.NUMBER, Kind.WHOLE)
_VALUES = (Kind.TEXT, Kind.LIST, *_NUMBERS)
OPERATORS: dict[str, Operator] = {
    "eq": Operator("is", (*_VALUES, Kind.FLAG)),
    "ne": Operator("is not", _VALUES),
    "in": Operator("is one of", _VALUES),
    "gt": Operator("is more than", _NUMBERS),
    "gte": Operator("is at least", _NUMBERS),
    "lt": Operator("is less than", _NUMBERS),
    "lte": Operator("is at most", _NUMBERS),
    "contains": Operator("contains", (Kind.TEXT,)),
    "null": Operator("has", (*_VALUES, Kind.TIME)),
    "before": Operator("is before", (Kind.TIME,), "lt"),
    "after": Operator("is after", (Kind.TIME,), "gte"),
}

_LIST_WORDS = {"eq": "include", "ne": "do not include", "in": "include one of"}

# Not conditions. From `columns` on they are the list page's alone (the API has `fields`): one address serves both.
CONTROLS = ("sort", "limit", "cursor", "fields", "format", "columns", "group", "open", "view")
DEFAULT_LIMIT = 50
MOST_VALUES = 500  # that one field may be compared with: databases refuse questions of thousands
MOST_PAIRS = 500  # parameters of one question, wherever it stands: an address, a form, a view


def pairs(query: str) -> list[tuple[str, str]]:
    """The parameters of a query string that is no request's own, as those are read. Raises InvalidInput."""
    _check_count(query.count("&") + 1)
    return parse_qsl(query.removeprefix("?"))


def _check_count(count: int) -> None:
    if count > MOST_PAIRS:
        raise InvalidInput(f"{count} of them are too many", field="parameters", allowed=f"at most {MOST_PAIRS}")


def operators_of(field: Asking) -> list[str]:
    return [name for name, operator in OPERATORS.items() if field.kind in operator.kinds]


@dataclass(frozen=True)
class Chip:
    """One condition as the page shows it, with the query string that is left when it is taken away."""

    text: str
    without: str


@dataclass(frozen=True)
class Asked:
    """What a query string asks for: for the store, in words, and as chips; notices: what was ignored (lenient only);
    faults: what of `search` was not understood (lenient only)."""

    query: ListQuery
    search: str
    words: str
    chips: tuple[Chip, ...]
    notices: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()

    def values(self, column: str) -> tuple[Any, ...]:
        """What equality asks of a column, for facets to show as ticked."""
        found: list[Any] = []
        for condition in self.query.conditions:
            if isinstance(condition, Condition) and condition.field == column and condition.operator in ("eq", "in"):
                found += condition.value if isinstance(condition.value, tuple) else [condition.value]
        return tuple(found)


def read(fields: Askable, parameters: Iterable[tuple[str, str]], *, lenient: bool = False) -> Asked:
    """Raises InvalidInput naming every field and what is allowed; lenient ignores what is wrong, with a notice, but for
    too many parameters."""
    reader = _Reader(fields, parameters)
    asked = reader.read()
    if reader.problems and not lenient:
        raise InvalidInput("; ".join(str(p) for p in reader.problems), problems=reader.problems)
    placed = (Fault(one.message, one.allowed, *one.at) for one in reader.problems if one.at is not None)
    faults = tuple(sorted(placed, key=lambda one: one.start))
    notices = tuple(f"Ignored: {problem}" for problem in reader.problems if problem.at is None)
    return replace(asked, notices=notices, faults=faults)


class _Reader(Values):
    def __init__(self, fields: Askable, parameters: Iterable[tuple[str, str]]) -> None:
        super().__init__()
        self.fields = fields
        self.pairs = [(key, value) for key, value in parameters if value != ""]
        _check_count(len(self.pairs))
        self.written = [(key, urlencode([(key, value)])) for key, value in self.pairs]  # once, and not for every chip

    def read(self) -> Asked:
        conditions: list[Clause] = []
        says: list[str] = []
        chips: list[Chip] = []
        search = ""
        archived: bool | None = False
        sort, limit, cursor = self.fields.sort, DEFAULT_LIMIT, None
        for key, values in self._grouped():
            last = values[-1]
            if key == "q" and self.fields.searchable:
                search = last
                found_archived, parts = Line(self.fields, self).read(last)
                archived = archived if found_archived is UNSAID else found_archived
                for clause, words, without in parts:
                    conditions += [clause] if clause is not None else []
                    says.append(words)
                    chips.append(Chip(words, self._with("q", without)))
            elif key == "sel" and self.fields.selectable:
                numbers = self._ranges(last)
                conditions.append(Condition("number", "in", numbers))
                says.append(f"number is one of {last}")
                chips.append(Chip(f"number is one of {last}", self._without(key)))
            elif key == "sort":
                sort = self._sort(last) or sort
            elif key == "limit":
                limit = self._limit(last) or limit
            elif key == "cursor":
                cursor = self._cursor(last)
            elif key in CONTROLS:
                continue
            elif (found := self._condition(key, values)) is not None:
                condition, words = found
                if condition.field == "archived":
                    archived = bool(condition.value)
                else:
                    conditions.append(condition)
                says.append(words)
                chips.append(Chip(words, self._without(key)))
        descending = sort.startswith("-")
        name = sort.removeprefix("-")
        query = ListQuery(tuple(conditions), sort, cursor, limit, archived)
        where = f" where {' and '.join(says)}" if says else ""
        named = self.fields.find(name)
        by = f"by {named.words if named else name}" + (", largest first" if descending else "")
        order = self.fields.sort_words.get(sort, by)
        words = f"{self.fields.noun}{where}, {order}"
        return Asked(query, search, words, tuple(chips))

    def _grouped(self) -> Iterator[tuple[str, list[str]]]:
        """Repeated parameters together, in the order they first appear."""
        together: dict[str, list[str]] = {}
        for key, value in self.pairs:
            together.setdefault(key, []).append(value)
        yield from together.items()

    def _without(self, key: str) -> str:
        return "&".join(text for name, text in self.written if name not in (key, "cursor"))

    def _with(self, key: str, text: str) -> str:
        return "&".join(filter(None, (self._without(key), urlencode([(key, text)]) if text else "")))

    def _cursor(self, text: str) -> str | None:
        if len(text) > 500 or not text.isascii() or not text.isprintable():
            self.wrong("cursor", "this cursor was not given by this list", "the `next` of an earlier answer")
            return None
        return text

    def _condition(self, key: str, values: Sequence[str]) -> tuple[Condition, str] | None:
        name, _, operator = key.partition("__")
        field = self.fields.find(name)
        if field is None:
            more = [*["q"] * bool(self.fields.searchable), *["sel"] * bool(self.fields.selectable)]
            names = [*more, *self.fields.asked, *CONTROLS]
            self.wrong(key, f"there is no field {name[:60]!r} to filter by", ", ".join(names))
            return None
        name = field.name
        operator = operator or ("after" if field.kind == Kind.TIME else "eq")
        if operator not in operators_of(field):
            self.wrong(
                key,
                f"{name} cannot be compared with {operator[:40]!r}",
                ", ".join(f"{name}__{o}" for o in operators_of(field)),
            )
            return None
        if operator == "null":
            empty = self.flag(key, values[-1])
            if empty is None:
                return None
            return Condition(name, "null", empty), f"{field.words} has {'no' if empty else 'a'} value"
        parts = (
            [part.strip() for value in values for part in value.split(",")]
            if operator in ("eq", "ne", "in")
            else [values[-1]]
        )
        if operator in ("eq", "in"):
            operator = "in" if len(parts) > 1 else "eq"
        if len(parts) > MOST_VALUES:
            self.wrong(key, f"has {len(parts)} values", f"at most {MOST_VALUES}")
            return None
        typed = [self.value(field, key, part) for part in parts if part]
        if not typed or any(value is None for value in typed):
            return None
        if operator == "ne" and len(typed) > 1:
            return Condition(name, "notin", tuple(typed)), f"{field.words} is not {say(tuple(typed))}"
        value = tuple(typed) if operator == "in" else typed[0]
        if field.kind == Kind.FLAG:
            return Condition(name, "eq", bool(value)), f"{field.words} is {'true' if value else 'false'}"
        said = (_LIST_WORDS if field.kind == Kind.LIST else {}).get(operator) or OPERATORS[operator].says
        return Condition(name, OPERATORS[operator].store or operator, value), f"{field.words} {said} {say(value)}"

    def _sorted_by(self, text: str) -> list[str]:
        """What somebody may have meant to sort by."""
        named = [field.name for field in self.fields.asked.values() if field.sortable]
        return [*named, *(stored_values.known() if self.fields is EXPERIMENTS and "." in text else ())]

    def _sort(self, text: str) -> str | None:
        allowed = self._sorted_by("")
        found = self.fields.find(text.removeprefix("-"))
        if found is None or not found.sortable:
            self.wrong(
                "sort",
                f"cannot sort by {text[:60]!r}{meant(text.removeprefix('-'), self._sorted_by(text))}",
                ", ".join(allowed) + "; with - before it for descending",
            )
            return None
        return text

    def _ranges(self, text: str) -> tuple[int, ...]:
        try:
            return ranges(text)
        except InvalidInput as error:
            self.problems += error.problems
            return ()

    def _limit(self, text: str) -> int | None:
        if not (text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= MAX_LIMIT):
            self.wrong("limit", f"is not a number of rows: {text[:40]!r}", f"1 to {MAX_LIMIT}")
            return None
        return int(text)


def ranges(text: str, *, biggest: int = 2**31 - 1) -> tuple[int, ...]:
    """Solution numbers written as `12-40,77`. Raises InvalidInput naming the field `sel`."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdecimal() and len(end) <= 10 for end in ends):
            raise InvalidInput(f"{part[:40]!r} is not a number or a range", field="sel", allowed="such as 12-40,77")
        low, high = int(ends[0]), int(ends[1])
        if low > high or high > biggest or len(found) + high - low >= 100_000:
            raise InvalidInput(
                f"{part[:40]!r} is not a range of at most 100000", field="sel", allowed="such as 12-40,77"
            )
        found += range(low, high + 1)
    return tuple(dict.fromkeys(found))
