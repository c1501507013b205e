"""Columns as questions know them, and what is typed as their values.

values = Values()
values.value(field, "runs", "3")     # 3; of what does not fit None, and a problem that says what is allowed
values.problems
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from modescape.columns import Kind
from modescape.errors import Problem

MAX_TEXT = 200  # characters
_BIGGEST = 2**63 - 1


class Asking(Protocol):
    """A column as questions know it: `columns.Field`, or one of rows that are in no table."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def words(self) -> str: ...
    @property
    def choices(self) -> tuple[str, ...]: ...
    @property
    def sortable(self) -> bool: ...
    @property
    def description(self) -> str: ...
    @property
    def now(self) -> Callable[[str], str]: ...
    @property
    def prose(self) -> bool: ...
    @property
    def most(self) -> float | None: ...


class Askable(Protocol):
    """The columns of a list as questions know them: `columns.Fields`, or those of rows that are in no table."""

    @property
    def noun(self) -> str: ...
    @property
    def sort(self) -> str: ...
    @property
    def sort_words(self) -> Mapping[str, str]: ...
    @property
    def searchable(self) -> str: ...
    @property
    def selectable(self) -> bool: ...
    @property
    def asked(self) -> Mapping[str, Asking]: ...
    def find(self, name: str) -> Asking | None: ...


def is_text(text: str) -> bool:
    """Whether it can be compared with what databases hold: no control characters, no half of a letter."""
    return not any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in text)


class Values:
    """Reads them; what is wrong is collected in `problems`."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def wrong(self, field: str, message: str, allowed: str) -> None:
        self.problems.append(Problem(message, field[:80], allowed))

    def value(self, field: Asking, key: str, text: str) -> Any:
        if field.kind in (Kind.TEXT, Kind.LIST):
            if field.choices and text not in field.choices:
                self.wrong(key, f"there is no {field.words} {text[:60]!r}", ", ".join(field.choices))
                return None
            return self.text(key, field.now(text)) or None
        if field.kind == Kind.FLAG:
            return self.flag(key, text)
        if field.kind == Kind.TIME:
            return self.time(key, text)
        return self.number(field, key, text)

    def flag(self, key: str, text: str) -> bool | None:
        if text.lower() not in ("true", "false", "1", "0"):
            self.wrong(key, f"is true or false, got {text[:40]!r}", "true, false")
            return None
        return text.lower() in ("true", "1")

    def text(self, key: str, text: str) -> str:
        if len(text) > MAX_TEXT or not is_text(text):
            self.wrong(key, "is too long or has control characters", f"text of at most {MAX_TEXT} characters")
            return ""
        return text

    def number(self, field: Asking, key: str, text: str) -> int | float | None:
        whole = field.kind == Kind.WHOLE
        try:
            number: int | float = int(text) if whole and len(text) < 24 else float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or (whole and (number != int(number) or abs(number) > _BIGGEST)):
            self.wrong(
                key,
                f"is not a {'whole ' if whole else ''}number: {text[:40]!r}",
                "a whole number" if whole else "a number",
            )
            return None
        return int(number) if whole else number

    def time(self, key: str, text: str) -> datetime | None:
        try:
            found = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign in a query string arrives as a space
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.wrong(key, f"is not a time: {text[:40]!r}", "ISO 8601, such as 2026-11-22 or 2026-11-22T20:45:00Z")
            return None


def say(value: object) -> str:
    if isinstance(value, tuple):
        return " or ".join(say(item) for item in value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d" if value.time() == datetime.min.time() else "%Y-%m-%d %H:%M UTC")
    return f"{value:g}" if isinstance(value, float) else str(value)
