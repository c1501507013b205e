"""A table as lists answer it: rows by column, and the same as a data frame of whichever library is there.

found = workspace.experiments(dataset="digits", sort="-accuracy")
found["accuracy"], found[0]["slug"], len(found)
found.to_pandas()                      # or to_polars(), to_arrow(); each library is asked for only here
"""

from __future__ import annotations

import html
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, overload

from modescape.client.nearest import Suggesting, raise_unknown
from modescape.columns import Columns, Kind
from modescape.errors import ConfigurationError
from modescape.records import Json

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Row = Mapping[str, Any]  # column -> text, number, time, flag, list of texts or None
_SHOWN = 20  # rows of a table that is only looked at


@dataclass(frozen=True, repr=False)
class Table(Suggesting, Sequence[Row]):
    """Rows in the order asked for. title: what they are, as a sentence; total: how many there are, of which `rows` may
    be the first."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    title: str = ""
    total: int = 0

    @classmethod
    def of(cls, fields: Columns[Any], documents: Sequence[Json], *, title: str, total: int | None = None,
           more: Sequence[str] = ()) -> Table:  # fmt: skip
        """Documents as the API gives them; more: computed columns behind those of the list."""
        times = [
            key for key, field in zip(fields.keys, fields.all, strict=True) if field.kind in (Kind.TIME, Kind.FLAG)
        ]
        rows = tuple({**one, **{key: _time(one[key]) for key in times if key in one}} for one in documents)
        return cls((*fields.keys, *more), rows, title, len(rows) if total is None else total)

    def select(self, *columns: str) -> Table:
        """Some of the columns, in that order. Raises NotFound with the nearest names."""
        for name in columns:
            if name not in self.columns:
                raise_unknown("column", name, self.columns)
        return Table(columns, tuple({name: row[name] for name in columns} for row in self.rows), self.title, self.total)

    def column(self, name: str) -> list[Any]:
        """Its values, a row each. Raises NotFound with the nearest names."""
        if name not in self.columns:
            raise_unknown("column", name, self.columns)
        return [row[name] for row in self.rows]

    @overload
    def __getitem__(self, index: str) -> list[Any]: ...
    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, index: str | int | slice) -> list[Any] | Row | tuple[Row, ...]:
        return self.column(index) if isinstance(index, str) else self.rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_dict(self) -> dict[str, list[Any]]:
        """Column -> values."""
        return {name: self.column(name) for name in self.columns}

    def to_pandas(self) -> pandas.DataFrame:
        """Raises ConfigurationError with the line that installs pandas where it is missing."""
        found: pandas.DataFrame = _library("pandas").DataFrame(self.to_dict(), columns=list(self.columns))
        return found

    def to_polars(self) -> polars.DataFrame:
        """Raises ConfigurationError with the line that installs polars where it is missing."""
        found: polars.DataFrame = _library("polars").DataFrame(self.to_dict(), strict=False)
        return found

    def to_arrow(self) -> pyarrow.Table:
        """Raises ConfigurationError with the line that installs pyarrow where it is missing."""
        found: pyarrow.Table = _library("pyarrow").table(self.to_dict())
        return found

    # ---- shown ----

    def text(self, columns: Sequence[str] = (), *, most: int | None = None) -> str:
        """As lines with aligned columns; most: rows shown at most."""
        names = [columns] if columns and isinstance(columns, str) else list(columns or self.columns)
        rows = self.rows[:most]
        cells = [names, *([shown(row[name]) for name in names] for row in rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
        return "\n".join([*lines, *([self._rest(len(rows))] if self._rest(len(rows)) else [])])

    def _rest(self, count: int) -> str:
        return f"{count} of {self.total}" if count < self.total else ""

    @property
    def _filled(self) -> list[str]:
        """Columns in which some row has a value, so that a glance is not mostly empty."""
        return [name for name in self.columns if any(row[name] not in (None, [], "") for row in self.rows)]

    def __repr__(self) -> str:
        if not self.rows:
            return f"{self.title}: none"
        return f"{self.title}\n{self.text(self._filled, most=_SHOWN)}"

    def _repr_html_(self) -> str:
        names = self._filled
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(shown(row[name]))}</td>" for name in names) + "</tr>"
            for row in self.rows[:_SHOWN]
        )
        rest = self._rest(min(len(self.rows), _SHOWN))
        return (
            f"<p>{html.escape(self.title)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            + (f"<p>{rest}</p>" if rest else "")
        )  # fmt: skip


def shown(value: object) -> str:
    """A cell as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ConfigurationError(f"{name} is not installed: pip install {name}") from None
