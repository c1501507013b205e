"""The columns of the list of experiments as somebody has chosen them: which, in what order, how wide, in the address.

columns=name:240,accuracy,spec.training.epochs     # a width in pixels behind a colon
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request

from modescape.columns import EXPERIMENTS, Cell, Field, Kind, Shows
from modescape_api.http.query import MOST_COMPUTED
from modescape_api.pages.rendering import address

NARROWEST, WIDEST = 48, 800  # pixels
_STEP, _BEGIN = 48, 144  # pixels: a press in the menu, and what the first begins with
MOST = 40
_CELLS = {name: pair for pair in EXPERIMENTS.cells for name in (pair[0].name, pair[0].key, pair[0].also) if name}
_USUAL = [pair for pair in EXPERIMENTS.cells if pair[1].usual]


@dataclass(frozen=True)
class Column:
    """width: in pixels; None is as the browser finds. is_asked: somebody has chosen it, or it is there unless others
    are; else it is there because the list is put in order or filtered by it."""

    field: Field
    cell: Cell
    width: int | None = None
    is_asked: bool = True

    @property
    def is_computed(self) -> bool:
        return self.field not in EXPERIMENTS.all

    @property
    def is_number(self) -> bool:
        return self.field.kind in (Kind.NUMBER, Kind.WHOLE)

    def __str__(self) -> str:
        return f"{self.field.name}:{self.width}" if self.width else self.field.name


def shown(given: Iterable[str], beside: Iterable[str] = ()) -> list[Column]:
    """given: values of `columns=`; unknown names are left out, a name is always there. beside: computed columns that
    the list is asked by."""
    parts = [part.strip() for value in given for part in value.split(",") if part.strip()]
    asked: dict[str, Column] = {}
    for part in parts[:MOST]:
        if (column := _column(part)) is not None:
            asked.setdefault(column.field.name, column)
    if not asked:
        asked = {field.name: Column(field, cell) for field, cell in _USUAL}
    if "name" not in asked:
        asked = {"name": Column(*_CELLS["name"]), **asked}
    for name in beside:
        if name not in asked and (found := EXPERIMENTS.beside(name)) is not None and found.cell:
            asked[name] = Column(found, found.cell, is_asked=False)
    computed = [name for name, column in asked.items() if column.is_computed]
    return [column for name, column in asked.items() if name not in computed[MOST_COMPUTED:]]


def _column(part: str) -> Column | None:
    name, colon, text = part.rpartition(":")
    width: int | None = None
    if colon and text.isascii() and text.isdecimal() and len(text) < 5:
        width = min(WIDEST, max(NARROWEST, int(text)))
    else:
        name = part
    if name in _CELLS:
        return Column(*_CELLS[name], width)
    field = EXPERIMENTS.find(name)
    if field is None:
        return None
    if field.cell is not None:
        return Column(field, field.cell, width)
    shows = Shows.WHEN if field.kind in (Kind.TIME, Kind.FLAG) else Shows.PLAIN
    css = "num opt" if field.kind in (Kind.NUMBER, Kind.WHOLE, Kind.TIME) else "opt"
    return Column(field, Cell(f"{field.words[:1].upper()}{field.words[1:]}", shows, css), width)


def head(request: Request, column: Column) -> dict[str, Any]:
    """A heading, which is a link where the list can be put in order by it."""
    field, cell = column.field, column.cell
    about = {
        "label": cell.heading,
        "css": cell.css,
        "name": field.name,
        "width": column.width,
        "sort": None,
        "url": None,
    }
    if not (field.words and field.sortable):
        return about
    given = request.query_params.get("sort", EXPERIMENTS.sort)
    current = given if given.removeprefix("-") == field.name else ""
    first = field.name if field.kind == Kind.TEXT else "-" + field.name
    turned = field.name if current.startswith("-") else "-" + field.name
    about["sort"] = {"": None, "-": "descending"}.get(current[:1], "ascending")
    about["url"] = address(request, sort=turned if current else first, cursor=None)
    return about


def _wider(column: Column, by: int) -> Column:
    """One that nobody has given a width begins where a column of words does."""
    return replace(column, width=min(WIDEST, max(NARROWEST, (column.width or _BEGIN) + by)))


def menu(request: Request, columns: Sequence[Column]) -> dict[str, Any]:
    """What can be done with the columns, each a link: moved, made wider, left out, put in."""
    asked = [column for column in columns if column.is_asked]

    def link(chosen: Sequence[Column]) -> str:
        return address(request, changes={"columns": ",".join(map(str, chosen)), "cursor": None})

    rows = []
    for i, column in enumerate(asked):
        left, right = asked[:i], asked[i + 1 :]
        rows.append(
            {
                "name": column.field.name,
                "label": column.cell.heading,
                "up": link([*left[:-1], column, left[-1], *right]) if left else None,
                "down": link([*left, right[0], column, *right[1:]]) if right else None,
                "out": link([*left, *right]) if column.field.name != "name" else None,
                "width": column.width,
                "free": link([*left, replace(column, width=None), *right]) if column.width else None,
                "narrower": link([*left, _wider(column, -_STEP), *right]),
                "wider": link([*left, _wider(column, _STEP), *right]),
            }
        )
    names = {column.field.name for column in columns}
    more = [
        {"label": cell.heading, "url": link([*asked, Column(field, cell)])}
        for field, cell in EXPERIMENTS.cells
        if field.name not in names
    ]
    is_usual = [column.field for column in asked] == [field for field, _ in _USUAL] and not any(c.width for c in asked)
    usual = None if is_usual else address(request, changes={"columns": None, "cursor": None})
    return {"rows": rows, "more": more, "usual": usual, "names": ",".join(map(str, asked))}


def put_in(given: Mapping[str, str], name: str) -> str:
    """The `columns=` of an address with one more."""
    asked = [column for column in shown([given.get("columns", "")]) if column.is_asked]
    return ",".join([*map(str, asked), name])
