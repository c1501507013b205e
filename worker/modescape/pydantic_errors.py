"""Pydantic's findings in our words: the field, what is wrong with it, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from modescape.errors import InvalidInput, Problem
from modescape.names import meant

MOST_SAID = 40  # of what is wrong: somebody reads it, and each name that is not known is compared with all that are
MOST_VALUES = 5_000  # of a document: each may be wrong, and 40,000 findings stop a server for a second
MOST_NAMES = 1_000  # of one object
LARGEST_WHOLE = 2**53 - 1  # JSON numbers stay whole up to here, in JavaScript too


def check_size(document: object, field: str, most: int = MOST_VALUES) -> None:
    """To be asked before a model is: it looks at everything, whatever it has found, and nothing else is done by this
    process meanwhile. most: values, of all lists and objects together. Raises InvalidInput naming the field."""
    level, count = [document], 0
    while level:
        holding = [one for one in level if isinstance(one, dict | list)]
        count += sum(map(len, holding))
        if count > most:
            raise InvalidInput(f"has more than {most:,} values", field=field, allowed=f"at most {most:,}")
        if any(isinstance(one, dict) and len(one) > MOST_NAMES for one in holding):
            raise InvalidInput(
                f"has an object of more than {MOST_NAMES:,} fields", field=field, allowed=f"at most {MOST_NAMES:,}"
            )
        level = [inner for one in holding for inner in (one.values() if isinstance(one, dict) else one)]


def invalid(error: ValidationError, model: type[BaseModel] | None = None) -> InvalidInput:
    """Pydantic's findings in our words: field, what is wrong, what is allowed (unknown fields: those of `model`)."""
    problems: list[Problem] = []
    findings = error.errors()[:MOST_SAID]
    wrong_inside = {item["loc"][:end] for item in findings for end in range(len(item["loc"]))}
    for item in findings:
        if item["type"] == "too_short" and item["loc"] in wrong_inside:
            continue  # items that are wrong are not counted: the list is too short only without them
        path = ".".join(str(part) for part in item["loc"])
        inner = item.get("ctx", {}).get("error")
        if isinstance(inner, InvalidInput):
            problems += [Problem(p.message, ".".join(filter(None, (path, p.field))), p.allowed) for p in inner.problems]
        else:
            known = _known_fields(model, item["loc"]) if model else []
            bounds = _bounds(model, item["loc"]) if model else {}
            problems.append(describe_finding(item, path, known=known, bounds=bounds))
    return InvalidInput("; ".join(str(problem) for problem in problems), problems=problems)


def describe_finding(
    item: ErrorDetails, field: str, *, known: Sequence[str] = (), bounds: Mapping[str, float] | None = None
) -> Problem:
    """One of pydantic's findings in our words. known: the allowed names, when a name is not one of them; bounds: all
    of the value's, where the finding names only the one that was crossed."""
    if item["type"] == "extra_forbidden" and known:
        return Problem(_words(item) + meant(f"{item['loc'][-1]}", known), field, ", ".join(known))
    return Problem(_words(item), field, _allowed(item, bounds or {}))


# What a value is not, by the first word of pydantic's type of finding.
_KINDS = {
    "int": "a whole number", "float": "a number", "finite": "a finite number", "string": "text",
    "bool": "true or false",
    "model": "an object", "dict": "an object", "tuple": "a list", "list": "a list", "none": "null",
    "missing": "a value",
}  # fmt: skip


def _words(item: ErrorDetails) -> str:
    kind, given, context = item["type"], item["input"], item.get("ctx", {})
    text = "null" if given is None else repr(given)
    shown = text if len(text) <= 80 else text[:77] + "..."
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return "is not a known field"
    if kind == "json_invalid":
        return f"it is no JSON: {context.get('error', item['msg'])}"
    if kind.startswith("greater_than"):
        return f"{shown} is too small"
    if kind.startswith("less_than"):
        return f"{shown} is too large"
    if kind in ("too_short", "too_long"):
        return f"has {len(given)} value{'s' * (len(given) != 1)}"
    if kind in ("string_too_short", "string_too_long"):
        return f"has {len(given)} character{'s' * (len(given) != 1)}"
    if "expected" in context or "pattern" in context:
        return f"{shown} is not allowed"
    if kind.split("_")[0] in _KINDS:
        return f"{shown} is not {_KINDS[kind.split('_')[0]]}"
    said = item["msg"].removeprefix("Value error, ")
    return f"{said[:1].lower()}{said[1:]}, got {shown}"


def _allowed(item: ErrorDetails, bounds: Mapping[str, float]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if "expected" in context:
        return str(context["expected"])
    if "pattern" in context:
        return f"text matching {context['pattern']}"
    if "multiple_of" in context:
        return f"a multiple of {context['multiple_of']}"
    bounds = {**context, **bounds}
    if kind.endswith(("too_short", "too_long")):
        return f"{within(bounds)} {'characters' if kind.startswith('string') else 'values'}"
    limits = within({name: value for name, value in bounds.items() if not name.endswith("_length")})
    if kind.startswith(("greater_than", "less_than")):
        return limits
    return ", ".join(filter(None, (_KINDS.get(kind.split("_")[0], ""), limits)))


def within(bounds: Mapping[str, Any]) -> str:
    """Bounds in words: "1 to 5", "more than 0, at most 100"; keys as in pydantic's fields, others are ignored."""
    low, high = (bounds.get(name, bounds.get(length)) for name, length in (("ge", "min_length"), ("le", "max_length")))
    if low is not None and high is not None:
        return f"{_number(low)} to {_number(high)}"
    known = {"more than": bounds.get("gt"), "at least": low, "less than": bounds.get("lt"), "at most": high}
    return ", ".join(f"{words} {_number(value)}" for words, value in known.items() if value is not None)


def _number(value: float) -> str:
    if value == LARGEST_WHOLE:
        return "2⁵³ − 1"
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else f"{value:g}"


_BOUNDS = ("ge", "gt", "le", "lt", "min_length", "max_length")


def _bounds(model: type[BaseModel], loc: tuple[int | str, ...]) -> dict[str, float]:
    """The bounds written on the field or item at `loc` of `model`."""
    here: Any = model
    written: list[Any] = []
    for part in loc:
        owner = _model_in(here)
        if isinstance(part, str) and owner is not None and part in owner.model_fields:
            field = owner.model_fields[part]
            here, written = field.annotation, list(field.metadata)
        elif isinstance(part, int):
            here, written = _item_in(here)
        else:
            return {}
    return {name: value for one in written for name in _BOUNDS if (value := getattr(one, name, None)) is not None}


def _item_in(annotation: Any) -> tuple[Any, list[Any]]:
    """What the items of a list are (looked for through optionals), and what is written on them."""
    if get_origin(annotation) is not tuple:
        lists = (part for part in get_args(annotation) if get_origin(part) is tuple)
        annotation = next(lists, None)
    item = next(iter(get_args(annotation)), None)
    if get_origin(item) is not Annotated:
        return item, []
    inner, *written = get_args(item)
    return inner, [one for mark in written for one in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]


def _known_fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The names allowed where an unknown one was found at `loc` of `model`."""
    here: Any = model
    for part in loc[:-1]:
        if here is not None and part in here.model_fields:
            here = _model_in(here.model_fields[part].annotation)
    return list(here.model_fields) if here is not None else []


def _model_in(annotation: Any) -> Any:
    """The model a field holds, looked for through optionals, lists and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
