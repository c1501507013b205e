"""Asking for rows: conditions, sorting and pages by keyset, the same for experiments, solutions and measurements.

    ListQuery(conditions=(Condition("accuracy", "gte", 0.6), Condition("method", "eq", "dropout")), sort="-created")

A page is found by the last row of the one before (`next` is a cursor), never by counting rows, so page 200 costs what
page 1 costs. Rows without a value come last in either direction.
"""

from __future__ import annotations

import base64
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

import orjson
from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    cast,
    exists,
    false,
    func,
    inspect,
    literal,
    not_,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from modescape import names
from modescape.columns import Attribute, Fields, Row
from modescape.errors import InvalidInput

T = TypeVar("T")

MAX_LIMIT = 1000
LETTERS = 3  # that SQLite's index of texts is made of
_FEW = 1000


@dataclass(frozen=True)
class Condition:
    """`field operator value`. Operators: eq ne gt gte lt lte in notin contains notcontains null.

    in and notin take a sequence; null takes True (has no value) or False; on lists (method, tag) eq and in mean
    "has it"; contains is part of a text, whatever the case of its letters. What people write as they like (a name, a
    tag) is compared as `names.folded` has it, with every operator.
    """

    field: str
    operator: str = "eq"
    value: Any = None


@dataclass(frozen=True)
class AnyOf:
    """True when any of its parts is."""

    conditions: tuple[Clause, ...]


@dataclass(frozen=True)
class AllOf:
    """True when each of its parts is."""

    conditions: tuple[Clause, ...]


@dataclass(frozen=True)
class Not:
    """True when what is inside is not; of a row that has no value to compare, too."""

    condition: Clause


Clause = Condition | AnyOf | AllOf | Not


@dataclass(frozen=True)
class ListQuery:
    """What a list shows. archived: False leaves archived ones out, True shows only those, None shows all."""

    conditions: Sequence[Clause] = ()
    sort: str | None = None  # a field, with "-" before it for largest first
    cursor: str | None = None
    limit: int | None = 50
    archived: bool | None = False
    show: tuple[str, ...] = ()  # computed columns whose values are wanted beside the rows
    counted: bool = True  # whether anybody asks how many there are


@dataclass(frozen=True)
class Page(Sequence[T], Generic[T]):
    """Some rows, the cursor of the next page (None: this was the last) and how many rows there are in all (0: nobody
    asked)."""

    items: list[T]
    next: str | None
    total: int
    shown: tuple[tuple[Any, ...], ...] = ()  # of each row, the values of the computed columns asked for

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self.items[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Found:
    """What a question finds, where that is known before: keys of the rows of the page, in its order and one more where
    there are more, and how many rows there are in all."""

    keys: Sequence[Any]
    total: int


_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le,
}  # fmt: skip
OPERATORS = ("eq", "ne", *_COMPARISONS, "in", "notin", "contains", "notcontains", "null")


@dataclass(frozen=True)
class Listing(Generic[Row]):
    """Rows of one table, asked for by the fields of its list."""

    fields: Fields[Row]

    def page(
        self,
        session: Session,
        statement: Select[Any],
        *,
        conditions: Sequence[Clause],
        sort: str | None,
        cursor: str | None,
        limit: int | None,
        show: Sequence[str] = (),
        counted: bool = True,
        among: Sequence[ColumnElement[bool]] = (),
        found: Found | None = None,
    ) -> Page[Row]:
        """The rows of `statement` that meet all conditions. among: which rows the table's indexes hold at all, one that
        holds every column of the list; found: what was found out before. Raises InvalidInput naming the field."""
        sort, column = self._sort(sort, limit)
        name, descending = sort.removeprefix("-"), sort.startswith("-")
        asked, is_stored = {*asked_names(conditions)}, name in self.fields.columns
        nulls_last = [column.is_(None)] if _may_be_null(column) else []
        ordered = [c.desc() if descending else c.asc() for c in dict.fromkeys((column, self.fields.key))]
        if found is not None:
            total = found.total
            statement = statement.where(*among, self.fields.key.in_(found.keys))
        else:
            held = asked <= {*self.fields.columns, *self.fields.lists}
            # Rows that must be read whole are read as they lie: from index to row and back takes three times as long.
            in_order, all_of = [one.is_(True) for one in among], statement
            wanted = self.where(conditions, session)
            keys = statement.where(*(among if held else in_order), *wanted).with_only_columns(self.fields.key)
            total = session.scalar(select(func.count()).select_from(keys.subquery())) or 0 if counted else 0
            statement = statement.where(*(among if is_stored else in_order), *wanted)
            if cursor is not None:
                statement = statement.where(self._after(*self._mark(cursor, sort, column), column, descending))
            sought = held and (asked or name != self.fields.sort.removeprefix("-"))
            if limit is not None and (sought or not is_stored):
                # The index knows which rows these are, and only they are read.
                first = statement.with_only_columns(self.fields.key).order_by(*nulls_last, *ordered).limit(limit + 1)
                chosen = first.subquery()
                statement = all_of.join(chosen, chosen.c[0] == self.fields.key)
        statement = statement.order_by(*nulls_last, *ordered)
        computed = [self.column(one, "columns") for one in show]
        if computed or not is_stored:
            statement = statement.add_columns(column, *computed)
        read = [tuple(row) for row in session.execute(statement if limit is None else statement.limit(limit + 1))]
        more = limit is not None and len(read if found is None else found.keys) > limit
        read = read[:limit]
        rows, shown = [row[0] for row in read], tuple(row[2:] for row in read)
        mark = None
        if more and read:  # of what was found before, rows may have gone
            last = read[-1][1] if len(read[-1]) > 1 else getattr(rows[-1], column.key)
            mark = self._cursor(sort, last, rows[-1])
        return Page(rows, mark, total, shown)

    def spread(
        self, session: Session, query: ListQuery, among: Sequence[ColumnElement[bool]], most: int
    ) -> tuple[list[Any], int]:
        """Keys of what a query finds, in its order, and how many there are; of more than `most` as many, evenly from
        the first to the last. Raises InvalidInput naming the field."""
        sort, column = self._sort(query.sort, None)
        ordered = [c.desc() if sort.startswith("-") else c.asc() for c in dict.fromkeys((column, self.fields.key))]
        ordered = [*([column.is_(None)] if _may_be_null(column) else []), *ordered]
        wanted = (*among, *self.where(query.conditions, session))
        number = func.row_number().over(order_by=ordered) - 1
        every = select(self.fields.key.label("key"), number.label("number"), func.count().over().label("total"))
        numbered = every.where(*wanted).subquery()
        place, total = numbered.c.number, numbered.c.total
        # The k-th of `most` equal parts begins where k most/total passes a whole number.
        is_first = (place * most) % total < most
        chosen = select(numbered.c.key, total).where(or_(total <= most, is_first)).order_by(place).limit(most)
        found = session.execute(chosen).all()
        return [row[0] for row in found], found[0][1] if found else 0

    def checked(
        self,
        session: Session,
        conditions: Sequence[Clause],
        sort: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> tuple[str, tuple[Any, str] | None]:
        """The order, and value and key of the row that a cursor stands behind, of a question that makes sense. Raises
        InvalidInput as `page` does; asks no rows."""
        for one in conditions:
            self._one(one, session, asks_rows=False)
        sort, column = self._sort(sort, limit)
        return sort, self._mark(cursor, sort, column) if cursor is not None else None

    def _sort(self, sort: str | None, limit: int | None) -> tuple[str, Any]:
        """The order asked for and its column. Raises InvalidInput."""
        sort = sort or self.fields.sort
        column = self.column(sort.removeprefix("-"), "sort")
        if limit is not None and not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput(f"a page of {limit} rows was asked for", field="limit", allowed=f"1 to {MAX_LIMIT}")
        return sort, column

    def where(self, conditions: Sequence[Clause], session: Session) -> list[ColumnElement[bool]]:
        return [self._one(condition, session) for condition in conditions]

    def _one(self, condition: Clause, session: Session, *, asks_rows: bool = True) -> ColumnElement[bool]:
        """asks_rows: False where nobody will run it: whether it makes sense is all that is wanted."""
        postgres = session.get_bind().dialect.name == "postgresql"
        if isinstance(condition, AnyOf | AllOf):
            parts = (self._one(part, session, asks_rows=asks_rows) for part in condition.conditions)
            return or_(false(), *parts) if isinstance(condition, AnyOf) else and_(true(), *parts)
        if isinstance(condition, Not):
            return not_(func.coalesce(self._one(condition.condition, session, asks_rows=asks_rows), false()))
        name, value = condition.field, condition.value
        if condition.operator not in OPERATORS:
            raise InvalidInput(
                f"there is no operator {condition.operator!r}", field=name, allowed="one of " + ", ".join(OPERATORS)
            )
        if name == "text" and self.fields.text is not None:
            return self._text(condition, session, asks_rows=asks_rows)
        value = normal(value, folded=name in self.fields.folds)
        if name in self.fields.lists:
            return self._in_list(condition, value, postgres)
        column = self.column(name, name)
        if condition.operator == "null":
            empty: ColumnElement[bool] = column.is_(None) if value else column.is_not(None)
            if name in self.fields.folds:  # what nobody has given is an empty text
                return column == "" if value else column != ""  # type: ignore[no-any-return]
            return empty
        if condition.operator in ("in", "notin"):
            values = [_checked(column, name, item) for item in value]
            return column.in_(values) if condition.operator == "in" else or_(column.not_in(values), column.is_(None))
        if condition.operator in ("contains", "notcontains"):
            if column.type.python_type is not str:
                allowed = "eq, ne, gt, gte, lt, lte, in, notin, null"
                raise InvalidInput(f"{name} is not a text", field=name, allowed=allowed)
            found = _contains(column, str(value), postgres, folded=name in self.fields.folds)
            return found if condition.operator == "contains" else or_(not_(found), column.is_(None))
        value = _checked(column, name, value)
        if condition.operator == "eq":
            same: ColumnElement[bool] = column == value
            return same
        if condition.operator == "ne":
            return or_(column != value, column.is_(None))
        compared: ColumnElement[bool] = _COMPARISONS[condition.operator](column, value)
        return compared

    def _text(self, condition: Condition, session: Session, *, asks_rows: bool) -> ColumnElement[bool]:
        if condition.operator not in ("eq", "contains", "notcontains"):
            raise InvalidInput("text can only be searched", field="text", allowed="contains, notcontains")
        said = names.folded(str(condition.value))
        postgres = session.get_bind().dialect.name == "postgresql"
        keys = None if postgres or not asks_rows else self._by_index(said, session)
        if keys is None:
            found = _contains(self.fields.text, said, postgres, folded=True)
        else:
            found = self.fields.key.in_(keys)
        return not_(found) if condition.operator == "notcontains" else found

    def _by_index(self, said: str, session: Session) -> list[str] | None:
        """Keys of the rows with that text, by SQLite's index of three letters each. None: it has no such index, the
        text is shorter, or so many rows have it that reading them in the list's order is faster."""
        index = self.fields.text_index
        if len(said) < LETTERS or not index or not inspect(session.connection()).has_table(index):
            return None
        phrase = '"' + said.replace('"', '""') + '"'
        rows = text(f"SELECT rowid FROM {index} WHERE {index} MATCH :phrase LIMIT :most")
        numbers = session.scalars(rows, {"phrase": phrase, "most": _FEW + 1}).all()
        if len(numbers) > _FEW:
            return None
        numbered = text(f"SELECT id FROM {index}_row WHERE row IN :numbers")
        return list(session.scalars(numbered.bindparams(bindparam("numbers", numbers, expanding=True))))

    def _in_list(self, condition: Condition, value: Any, postgres: bool) -> ColumnElement[bool]:
        column = self.fields.lists[condition.field]
        if condition.operator == "null":
            empty = func.jsonb_array_length(column) if postgres else func.json_array_length(column)
            return (empty == 0) if value else (empty > 0)
        if condition.operator not in ("eq", "contains", "ne", "notcontains", "in", "notin"):
            raise InvalidInput(f"{condition.field} is a list", field=condition.field, allowed="eq, ne, in, notin, null")
        values = value if condition.operator in ("in", "notin") else [value]
        found = or_(false(), *(_holds(column, str(one), postgres) for one in values))
        return not_(found) if condition.operator in ("ne", "notcontains", "notin") else found

    def column(self, name: str, field: str = "") -> Any:
        """What the store compares by. Raises InvalidInput."""
        if name not in self.fields.columns:
            if (beside := self.fields.beside(name)) is not None:
                return beside.column
            allowed = "one of " + ", ".join(self.fields.columns)
            raise InvalidInput(f"there is no field {name[:80]!r}", field=field, allowed=allowed)
        return self.fields.columns[name]

    def _mark(self, cursor: str, sort: str, column: Any) -> tuple[Any, str]:
        """Value and key of the row that a cursor stands behind. Raises InvalidInput."""
        try:
            made_for, value, key = orjson.loads(base64.urlsafe_b64decode(cursor.encode() + b"=="))
            if value is not None and column.type.python_type is datetime:
                value = datetime.fromisoformat(value)
                made_for = made_for if value.tzinfo else None
            value = value if value is None else _checked(column, "cursor", value)
            key = _checked(self.fields.key, "cursor", key)
        except (ValueError, TypeError, OverflowError):  # not ours; whatever a stranger put there is not looked at
            made_for, value, key = None, None, None
        if made_for != sort:
            raise InvalidInput("this cursor belongs to another list", field="cursor", allowed="its own `next`")
        return value, key

    def _after(self, value: Any, key: str, column: Any, descending: bool) -> ColumnElement[bool]:
        beyond = operator.lt if descending else operator.gt
        if column is self.fields.key:
            after: ColumnElement[bool] = beyond(self.fields.key, key)
            return after
        same = column.is_(None) if value is None else column == value
        later = [and_(same, beyond(self.fields.key, key))]
        if value is not None:
            later.append(beyond(column, value))
            if _may_be_null(column):
                later.append(column.is_(None))
        return or_(*later)

    def _cursor(self, sort: str, value: Any, row: Row) -> str:
        mark = [sort, value, getattr(row, self.fields.key.key)]
        return base64.urlsafe_b64encode(orjson.dumps(mark)).decode().rstrip("=")


def asked_names(conditions: Sequence[Clause]) -> Iterator[str]:
    """Fields that conditions compare."""
    for one in conditions:
        match one:
            case AnyOf() | AllOf():
                yield from asked_names(one.conditions)
            case Not():
                yield from asked_names([one.condition])
            case Condition():
                yield one.field


def _may_be_null(column: Any) -> bool:
    """Whether rows may have no value; of a computed column they always may."""
    return bool(getattr(column, "nullable", True))


def _contains(column: Any, part: str, postgres: bool, *, folded: bool) -> ColumnElement[bool]:
    """folded: both are; else whatever the case of ASCII's letters, which is all that SQLite's LIKE knows of case."""
    if folded or not postgres:
        found: ColumnElement[bool] = column.contains(part, autoescape=True)
        return found
    for special in ("/", "%", "_"):
        part = part.replace(special, f"/{special}")
    like: ColumnElement[bool] = column.collate("C").ilike(f"%{part}%", escape="/")
    return like


def _holds(column: Attribute, value: str, postgres: bool) -> ColumnElement[bool]:
    if postgres:
        found: ColumnElement[bool] = cast(column, JSONB).contains(cast(literal([value], JSONB), JSONB))
        return found
    items = func.json_each(column).table_valued("value")
    return exists(select(literal(1)).select_from(items).where(items.c.value == value))


def normal(value: Any, *, folded: bool = False) -> Any:
    """Texts, also several of them, in the form that they are compared in."""
    if isinstance(value, str):
        return names.folded(value) if folded else names.normal(value)
    return [normal(item, folded=folded) for item in value] if isinstance(value, list | tuple) else value


def _checked(column: Any, name: str, value: Any) -> Any:
    """A value the column can be compared with: databases differ in what they make of the wrong type."""
    wanted = column.type.python_type
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        words = {float: "a number", int: "a whole number", str: "a text", datetime: "a time", bool: "true or false"}
        raise InvalidInput(f"{str(value)[:80]!r} does not fit", field=name, allowed=words.get(wanted, wanted.__name__))
    return value
