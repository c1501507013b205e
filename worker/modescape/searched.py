"""What a line of the search box means: conditions of a list, in its fields, with words for people.

    archived, parts = Line(EXPERIMENTS, values).read("accuracy>0.9 -status:failed")
    parts[0]     # (Condition("accuracy", "gt", 0.9), "accuracy is more than 0.9", "-status:failed")

How a line is taken apart is `modescape.searching`'s. What is not understood is a problem of the field `q`, with its
place in the line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modescape import names, searching, stored_values
from modescape.askable import MAX_TEXT, Askable, Asking, Values, is_text, say
from modescape.claims import CLAIMS
from modescape.columns import EXPERIMENTS, Kind
from modescape.errors import Problem
from modescape.listing import AllOf, AnyOf, Clause, Condition, Not
from modescape.names import meant
from modescape.science.confidence import Word

NUMBERS = (Kind.NUMBER, Kind.WHOLE)
UNSAID = object()
_VERBS = {">": "is more than", ">=": "is at least", "<": "is less than", "<=": "is at most"}
_VERBS_OF_TIMES = {">": "is after", ">=": "is from", "<": "is before", "<=": "is until"}
_DURATIONS = {"ms": 0.001, "min": 60.0, "s": 1.0, "h": 3600.0, "d": 86400.0}  # seconds; longer names first
_DAYS = re.compile(r"\d{4}(-\d{2}){0,2}", re.ASCII)
_AGO = {"h": 1, "d": 24, "w": 168}  # hours


class Line:
    """Read in the fields of a list. values: which keeps what is wrong."""

    def __init__(self, fields: Askable, values: Values) -> None:
        self._fields = fields
        self._values = values

    def read(self, text: str) -> tuple[Any, list[tuple[Clause | None, str, str]]]:
        """Whether archived ones are asked for (or UNSAID), and of every part of the line its condition, its words and
        the line without it."""
        parsed = searching.parse(text)
        archived: Any = UNSAID
        found: list[tuple[Clause | None, str, str]] = []
        self._values.problems += [Problem(one.message, "q", one.allowed, (one.start, one.end)) for one in parsed.faults]
        for part in parsed.parts:
            if (said := self._of_archived(part)) is not None:
                archived, words = said
                found.append((None, words, parsed.without(part)))
            elif (meaning := self._meaning(part)) is not None:
                found.append((*meaning, parsed.without(part)))
        return archived, found

    def _of_archived(self, part: searching.Node) -> tuple[bool | None, str] | None:
        """Of `archived:true` and the like, which asks for another list: whether, and in words."""
        turned = isinstance(part, searching.Not)
        inside = part.part if isinstance(part, searching.Not) else part
        if not isinstance(inside, searching.Compared) or inside.field.lower() != "archived":
            return None
        if self._fields.find("archived") is None:
            return None
        said = inside.values[0].lower() if inside.values else "true"
        if said in ("any", "all"):
            return None, "archived or not"
        is_archived = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(said)
        if is_archived is None or len(inside.values) > 1:
            self._fault(inside, f"archived is not {said[:40]!r}", "true, false, any")
            return None
        return is_archived != turned, "archived" if is_archived != turned else "not archived"

    def _fault(self, part: searching.Node, message: str, allowed: str) -> None:
        self._values.problems.append(Problem(message, "q", allowed, (part.start, part.end)))

    def _meaning(self, part: searching.Node) -> tuple[Clause, str] | None:
        """The condition of a part and its words; None, and a problem, where it is not understood."""
        match part:
            case searching.Text(text=text):
                if len(text) > MAX_TEXT or not is_text(text):
                    why = "is too long or has control characters"
                    self._fault(part, why, f"text of at most {MAX_TEXT} characters")
                    return None
                return Condition("text", "contains", text), f"text contains “{text}”"
            case searching.Not(part=inside):
                found = self._meaning(inside)
                return None if found is None else (Not(found[0]), f"not {_in_parentheses(inside, found[1])}")
            case searching.All(parts=parts) | searching.Any(parts=parts):
                meanings = [(one, found) for one in parts if (found := self._meaning(one)) is not None]
                if not meanings:
                    return None
                joined = AllOf if isinstance(part, searching.All) else AnyOf
                said = [_in_parentheses(one, words) if len(meanings) > 1 else words for one, (_, words) in meanings]
                between = " and " if isinstance(part, searching.All) else " or "
                return joined(tuple(clause for _, (clause, _) in meanings)), between.join(said)
            case searching.Compared():
                return self._compared(part)

    def _compared(self, part: searching.Compared) -> tuple[Clause, str] | None:
        before = len(self._values.problems)
        found = self._comparison(part)
        # What a value is refused for is said of its place in the line.
        for i, problem in enumerate(self._values.problems[before:], before):
            self._values.problems[i] = replace(problem, field="q", at=problem.at or (part.start, part.end))
        return found

    def _comparison(self, part: searching.Compared) -> tuple[Clause, str] | None:
        name, values, operator = part.field, part.values, part.operator
        if name.lower() == "has":
            return self._has(part)
        if name.startswith("claim:") or name.lower() == "claim":
            return self._claim(part)
        field = self._fields.find(name) or self._fields.find(name.lower())
        if field is None:
            known = [*self._fields.asked, *(stored_values.known() if self._fields is EXPERIMENTS else ())]
            near = meant(name, known)
            allowed = f"{', '.join(self._fields.asked)}; a text with : in it in quotation marks"
            at = (part.start, part.start + len(name))
            self._values.problems.append(Problem(f"there is no field {name[:60]!r}{near}", "q", allowed, at))
            return None
        if field.name == "archived":
            self._fault(part, "archived is asked for by itself, not inside of another part", "archived:true at its own")
            return None
        return self._asked_of(part, field, operator, values)

    def _asked_of(
        self, part: searching.Compared, field: Asking, operator: str, values: Sequence[str]
    ) -> tuple[Clause, str] | None:
        """Any of the values: each alone where it is a range or more than equal."""
        if not self._can_be(part, field, operator):
            return None
        found = [self._one_of(part, field, operator, value) for value in values]
        if any(one is None for one in found):
            return None
        clauses = [one for one in found if one is not None]
        if operator == "!=":
            inside = clauses[0][0] if len(clauses) == 1 else AnyOf(tuple(clause for clause, _ in clauses))
            return Not(inside), f"{field.words} is not {' or '.join(said for _, said in clauses)}"
        alike = [clause for clause, _ in clauses if isinstance(clause, Condition) and clause.operator == "eq"]
        said = " or ".join(words for _, words in clauses)
        says = f"{field.words} {self._verb(field, operator)} {said}"
        if len(clauses) == 1:
            return clauses[0][0], says
        if len(alike) == len(clauses):
            return Condition(field.name, "in", tuple(one.value for one in alike)), says
        return AnyOf(tuple(clause for clause, _ in clauses)), says

    def _can_be(self, part: searching.Compared, field: Asking, operator: str) -> bool:
        ordered = field.kind in (*NUMBERS, Kind.TIME)
        allowed = (
            (":", "=", "!=", ">", ">=", "<", "<=") if ordered
            else (":", "=", "!=", "~") if field.kind == Kind.TEXT and not field.choices
            else (":", "=", "!=")
        )  # fmt: skip
        if operator in allowed:
            return True
        self._fault(part, f"{field.name} cannot be compared by {operator}", " ".join(allowed))
        return False

    def _verb(self, field: Asking, operator: str) -> str:
        if field.kind == Kind.LIST:
            return "include"
        if operator == "~" or (operator == ":" and field.prose):
            return "contains"
        said = _VERBS_OF_TIMES if field.kind == Kind.TIME else _VERBS
        return said.get(operator, "is")

    def _one_of(self, part: searching.Compared, field: Asking, operator: str, text: str) -> tuple[Clause, str] | None:
        """The condition of one value, and the value in words."""
        if field.kind == Kind.TIME:
            return self._when(part, field, operator, text)
        if field.kind in NUMBERS:
            return self._how_many(part, field, operator, text)
        if field.choices:
            chosen = {names.folded(one).replace(" ", "-"): one for one in field.choices}
            text = chosen.get(names.folded(text).replace(" ", "-"), text)
        value = self._values.value(field, "q", text)
        if value is None:
            return None
        how = "contains" if operator == "~" or (operator == ":" and field.prose) else "eq"
        return Condition(field.name, how, value), say(value)

    def _how_many(self, part: searching.Compared, field: Asking, operator: str, text: str) -> tuple[Clause, str] | None:
        low, dots, high = text.partition("..")
        if dots:
            if operator not in (":", "=", "!="):
                self._fault(part, f"a range has no {operator}", f"{field.name}:low..high")
                return None
            ends = [("gte", low), ("lte", high)]
            limits = [(how, self._amount(part, field, one)) for how, one in ends if one]
            if not limits or any(one is None for _, one in limits):
                if not limits:
                    self._fault(part, "a range has no end", f"{field.name}:low..high")
                return None
            clauses = tuple(Condition(field.name, how, one) for how, one in limits)
            return AllOf(clauses), f"{low or 'anything'} to {high or 'anything'}"
        value = self._amount(part, field, text)
        if value is None:
            return None
        how = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}.get(operator, "eq")
        return Condition(field.name, how, value), say(value)

    def _amount(self, part: searching.Compared, field: Asking, text: str) -> int | float | None:
        """A number: "0.9", "90%", and of seconds "2h". What no value can reach is none: 90 of an accuracy is 90%."""
        value = self._number(field, text)
        if value is None or field.most is None or value <= field.most:
            return value
        percent = f"{text}%, which is {value / 100:g}" if field.most == 1 and value <= 100 and "%" not in text else ""
        self._fault(part, f"{field.name} is never more than {field.most:g}: {text[:40]!r}",
                    percent or f"0 to {field.most:g}")  # fmt: skip
        return None

    def _number(self, field: Asking, text: str) -> int | float | None:
        for unit, factor in (_DURATIONS if field.name == "seconds" else {"%": 0.01}).items():
            if text.endswith(unit) and field.kind == Kind.NUMBER:
                number = self._values.number(field, "q", text.removesuffix(unit))
                return None if number is None else round(number * factor, 12)
        return self._values.number(field, "q", text)

    def _when(self, part: searching.Compared, field: Asking, operator: str, text: str) -> tuple[Clause, str] | None:
        """A day, a month, a year, a moment; `7d` is the time since seven days ago."""
        amount, unit = text[:-1], text[-1:]
        if amount.isdecimal() and len(amount) < 5 and unit in _AGO:
            if operator not in (":", "=", "!="):
                self._fault(part, f"{text} is a stretch of time", f"{field.name}:{text}, which is the last {text}")
                return None
            since = datetime.now(UTC) - timedelta(hours=_AGO[unit] * int(amount))
            return Condition(field.name, "gte", since), f"within the last {text}"
        period = _period(text)
        if period is None:
            self._fault(
                part, f"{field.name} is not a time: {text[:40]!r}",
                "2026, 2026-11, 2026-11-22, 2026-11-22T20:45:00Z, 7d (the last seven days)",
            )  # fmt: skip
            return None
        start, end = period
        match operator:
            case ">":
                clause: Clause = (
                    Condition(field.name, "gte", end) if end > start else Condition(field.name, "gt", start)
                )
            case ">=":
                clause = Condition(field.name, "gte", start)
            case "<":
                clause = Condition(field.name, "lt", start)
            case "<=":
                clause = Condition(field.name, "lt", end) if end > start else Condition(field.name, "lte", start)
            case _:
                inside = ("gte", start), ("lt", end) if end > start else ("lte", start)
                clause = AllOf(tuple(Condition(field.name, how, moment) for how, moment in inside))
        return clause, text

    def _has(self, part: searching.Compared) -> tuple[Clause, str] | None:
        """`has:accuracy`: there is a value."""
        clauses = []
        for name in part.values:
            field = self._fields.find(name) or self._fields.find(name.lower())
            if field is None or field.kind in (Kind.FLAG, Kind.DOCUMENT):
                self._fault(part, f"there is no field {name[:60]!r}{meant(name, self._fields.asked)}", "a field")
                return None
            clauses.append((Condition(field.name, "null", False), field.words))
        if part.operator not in (":", "="):
            self._fault(part, f"has cannot be compared by {part.operator}", "has:field")
            return None
        joined = clauses[0][0] if len(clauses) == 1 else AnyOf(tuple(one for one, _ in clauses))
        return joined, f"has {' or '.join(words for _, words in clauses)}"

    def _claim(self, part: searching.Compared) -> tuple[Clause, str] | None:
        """`claim:b=holds`, `claim:d1>1.2` (its estimate), `claim:b` (it was judged)."""
        letter = part.field.removeprefix("claim:").lower()
        letter = letter if letter in CLAIMS else f"{letter}1"
        if self._fields is not EXPERIMENTS or letter not in CLAIMS:
            self._fault(part, f"there is no claim {part.field.removeprefix('claim:')[:20]!r}", ", ".join(CLAIMS))
            return None
        word = f"{stored_values.RESULT}claims.{letter}.word"
        if not part.operator:
            return Condition(word, "null", False), f"claim ({letter}) was judged"
        said = {names.folded(one).replace(" ", "-"): str(one) for one in Word}
        values = [said.get(names.folded(value).replace(" ", "-")) for value in part.values]
        if part.operator in (":", "=", "!=") and all(value is not None for value in values):
            kept = tuple(value for value in values if value is not None)
            clause: Clause = Condition(word, "in", kept) if len(kept) > 1 else Condition(word, "eq", kept[0])
            if part.operator == "!=":
                return Not(clause), f"claim ({letter}) is not “{'” or “'.join(kept)}”"
            return clause, f"claim ({letter}): {' or '.join(kept)}"
        estimate = self._fields.find(f"{stored_values.RESULT}claims.{letter}.estimate")
        assert estimate is not None, letter
        if part.operator not in (":", "=", "!=") or any(value[:1] in "-.0123456789" for value in part.values):
            return self._asked_of(part, estimate, part.operator, part.values)
        words = ", ".join(_quoted_word(one) for one in Word)
        self._fault(
            part, f"claim ({letter}) has no word {part.values[0][:40]!r}", f"{words}, or a number, its estimate"
        )
        return None


def _quoted_word(word: Word) -> str:
    return str(word).replace(" ", "-")


def _in_parentheses(part: searching.Node, words: str) -> str:
    is_several = isinstance(part, searching.All | searching.Any) and len(part.parts) > 1
    return f"({words})" if is_several else words


def _period(text: str) -> tuple[datetime, datetime] | None:
    """From when until when: of a year, a month, a day; of a moment twice the same."""
    try:
        if _DAYS.fullmatch(text):
            numbers = [int(part) for part in text.split("-")]
            year, month, day = [*numbers, 1, 1][:3]
            start = datetime(year, month, day, tzinfo=UTC)
            if len(numbers) == 3:
                return start, start + timedelta(days=1)
            months = 1 if len(numbers) == 2 else 12
            year, month = divmod(12 * year + month - 1 + months, 12)
            return start, datetime(year, month + 1, 1, tzinfo=UTC)
        moment = datetime.fromisoformat(text)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        return moment, moment
    except (ValueError, OverflowError):
        return None
