"""What may stand where somebody types in the search box: fields, then their values.

suggest(EXPERIMENTS, "accuracy>0.9 sta", 16)      # [Suggestion("status:", "status: queued, running, ...", 13, 16)]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from modescape import names, stored_values
from modescape.askable import Asking
from modescape.claims import CLAIMS
from modescape.columns import EXPERIMENTS, Fields, Kind
from modescape.science.confidence import Word
from modescape.searching import Half, half, quoted

MOST = 8  # of one list
_NUMBERS = (Kind.NUMBER, Kind.WHOLE)
_LETTERS = 2  # of a field's path, before paths are offered


@dataclass(frozen=True)
class Suggestion:
    """text takes the place of what stands from start to end; about: what it is."""

    text: str
    about: str
    start: int
    end: int


def suggest(
    fields: Fields[Any], text: str, caret: int, values_of: Callable[[str], Sequence[str]] = lambda name: ()
) -> list[Suggestion]:
    """Best first. caret: how many characters stand before it; values_of: what there is of a field, most frequent
    first."""
    typed = half(text, caret)
    offered = _values(fields, typed, values_of) if typed.operator else _fields(fields, typed)
    return [Suggestion(one, about, typed.start, typed.end) for one, about in offered][:MOST]


def _fields(fields: Fields[Any], typed: Half) -> Iterator[tuple[str, str]]:
    begun = names.folded(typed.value)
    named = [(f"{field.name}{_first_operator(field)}", about_field(field)) for field in fields.asked.values()]
    named += [(f"{field.also}{_first_operator(field)}", f"short for {field.name}")
              for field in fields.asked.values() if field.also and begun]  # fmt: skip
    if fields is EXPERIMENTS:
        named += [(f"claim:{letter}=", claim.title) for letter, claim in CLAIMS.items()]
    named.append(("has:", "there is a value of a field"))
    if begun:
        yield from _beginning(named, begun)
        if fields is EXPERIMENTS and len(begun) >= _LETTERS:
            inside = [name for name in stored_values.known() if begun in name]
            inside.sort(key=lambda name: (not name.startswith(begun), name))
            for name in inside[:MOST]:
                found = fields.find(name)
                yield f"{name}{'' if found is None else _first_operator(found)}", "" if found is None else found.words
    else:
        yield from named


def _values(fields: Fields[Any], typed: Half, values_of: Callable[[str], Sequence[str]]) -> Iterator[tuple[str, str]]:
    begun = names.folded(typed.value)
    if typed.field.startswith("claim:"):
        yield from _beginning([(str(word).replace(" ", "-"), "") for word in Word], begun)
        return
    if typed.field == "has":
        yield from _beginning([(field.name, about_field(field)) for field in fields.asked.values()], begun)
        return
    field = fields.find(typed.field)
    if field is None:
        return
    if field.kind == Kind.FLAG:
        yield from _beginning([("true", ""), ("false", ""), ("any", "both")], begun)
    elif field.kind == Kind.TIME:
        examples = [
            ("7d", "the last seven days"),
            ("24h", "the last day"),
            ("2026-11", "a month"),
            ("2026-11-30", "a day"),
        ]
        yield from _beginning(examples, begun)
    elif field.kind in (Kind.TEXT, Kind.LIST):
        label = field.facet.label if field.facet else str
        there = field.choices or values_of(field.name)
        found = ((quoted(value), label(value) if label(value) != value else "") for value in there)
        yield from _beginning(found, begun)


def _beginning(offered: Iterable[tuple[str, str]], begun: str) -> Iterator[tuple[str, str]]:
    """Those that begin so, then those that have it inside."""
    folded = [(names.folded(text.strip('"')), text, about) for text, about in offered]
    yield from ((text, about) for plain, text, about in folded if plain.startswith(begun))
    yield from ((text, about) for plain, text, about in folded if begun in plain and not plain.startswith(begun))


def _first_operator(field: Asking) -> str:
    return ">" if field.kind in _NUMBERS else ":"


def about_field(field: Asking) -> str:
    """What a field is, in one line."""
    about = field.description or f"{field.words[:1].upper()}{field.words[1:]}."
    return f"{about.rstrip('.')}: {', '.join(field.choices)}." if field.choices else about
