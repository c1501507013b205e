"""Any field of a spec and any number of a finding, as something a list can be filtered and sorted by.

    found = find("spec.training.learning_rate")
    found.is_number, found.expression           # True, what SQL reads it off the row with

`spec.<path>`: a field of the promise, with its dotted path; options of networks and methods too, methods by their
place.
`result.<path>`: a number of the finding, such as result.gain, result.cosine, result.claims.a.estimate.
A row that does not have it has no value. Nothing is stored for this: values are read off the documents of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Float, String, case, cast
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.compiler import SQLCompiler

from modescape.claims import CLAIMS
from modescape.registry import Entry, architectures, methods, while_known
from modescape.spec import ExperimentSpec
from modescape.tables import Experiment

SPEC, RESULT = "spec.", "result."


@dataclass(frozen=True)
class StoredValue:
    """words: in a sentence; is_number: else it is a text, true and false among them."""

    name: str
    words: str
    is_number: bool
    expression: ColumnElement[Any]


class _Leaf(ColumnElement[Any]):
    """A leaf of a JSON column: a number where there is one, or any scalar as text; else NULL, whatever stands there."""

    inherit_cache = False

    def __init__(self, column: InstrumentedAttribute[Any], path: tuple[str, ...], is_number: bool) -> None:
        self.column = column
        self.path = path
        self.is_number = is_number
        self.type = Float() if is_number else String()


def _sqlite(element: _Leaf, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.column.expression, **kw)
    path = "$" + "".join(f"[{step}]" if step.isdecimal() else f'."{step}"' for step in element.path)
    if element.is_number:
        return f"CASE json_type({column}, '{path}') WHEN 'integer' THEN json_extract({column}, '{path}') " \
            f"WHEN 'real' THEN json_extract({column}, '{path}') END"  # fmt: skip
    return (
        f"CASE json_type({column}, '{path}') WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' "
        f"WHEN 'object' THEN NULL WHEN 'array' THEN NULL "
        f"ELSE CAST(json_extract({column}, '{path}') AS TEXT) END"
    )


def _postgresql(element: _Leaf, compiler: SQLCompiler, **kw: Any) -> str:
    column = compiler.process(element.column.expression, **kw)
    path = "{" + ",".join(f'"{step}"' for step in element.path) + "}"
    if element.is_number:
        return (
            f"CASE WHEN jsonb_typeof({column} #> '{path}') = 'number' "
            f"THEN CAST({column} #>> '{path}' AS DOUBLE PRECISION) END"
        )
    return (
        f"CASE WHEN jsonb_typeof({column} #> '{path}') NOT IN ('object', 'array', 'null') "
        f"THEN ({column} #>> '{path}') COLLATE \"C\" END"
    )


compiles(_Leaf, "sqlite")(_sqlite)
compiles(_Leaf, "postgresql")(_postgresql)


def find(name: str) -> StoredValue | None:
    """None of a name that no spec and no finding can have."""
    if name.startswith(SPEC) and (is_number := _spec_paths().get(_place_free(name.removeprefix(SPEC)))) is not None:
        path = name.removeprefix(SPEC)
        words = path.replace(".options.", " ").replace(".", " ").replace("_", " ")
        return StoredValue(name, words, is_number, _Leaf(Experiment.spec, tuple(path.split(".")), is_number))
    return _results().get(name)


def known() -> list[str]:
    """Names of all, in the order of the spec; `0` stands for any place in a list."""
    return [*(f"{SPEC}{path}" for path in _spec_paths()), *_results()]


def _place_free(path: str) -> str:
    return ".".join("0" if step.isdecimal() and len(step) < 4 else step for step in path.split("."))


# ---- specs ----


@while_known
def _spec_paths() -> dict[str, bool]:
    """Dotted path of every leaf -> whether it is a number."""
    return dict(_leaves(ExperimentSpec, ""))


def _leaves(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, bool]]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        if name == "options":
            entries = architectures if prefix == "network." else methods
            yield from _options(entries, f"{path}.")
        else:
            yield from _of(field.annotation, path)


def _options(entries: Mapping[str, Entry], prefix: str) -> Iterator[tuple[str, bool]]:
    for entry in entries.values():
        yield from _leaves(entry.options, prefix)


def _of(annotation: Any, path: str) -> Iterator[tuple[str, bool]]:
    inner = [one for one in _parts(annotation) if one is not type(None)]
    models = [one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)]
    for model in models:
        yield from _leaves(model, f"{path}.")
    lists = [one for one in inner if get_origin(one) in (tuple, list)]
    for one in lists:
        yield from _of(get_args(one)[0], f"{path}.0")
    plain = [one for one in inner if one not in models and one not in lists and get_origin(one) is not dict]
    if plain:
        yield path, all(one in (int, float) for one in plain)


def _parts(annotation: Any) -> list[Any]:
    """The members of a union, and what stands in an Annotated."""
    if hasattr(annotation, "__metadata__"):
        return _parts(annotation.__origin__)
    if type(annotation).__name__ in ("UnionType", "_UnionGenericAlias", "Union"):
        return [part for one in get_args(annotation) for part in _parts(one)]
    return [annotation]


# ---- findings ----

_PLAIN = {
    "disagreement": ("independent.disagreement", "disagreement of two runs"),
    "cosine": ("independent.cosine", "cosine of two runs' weights"),
    "cosine_largest": ("independent.cosine_largest", "largest cosine of two runs' weights"),
    "pairs": ("independent.pairs", "pairs of runs"),
    "accuracy": ("ensemble.single", "accuracy of a run"),
    "ensemble_accuracy": ("ensemble.accuracy", "accuracy of all runs together"),
    "along": ("trajectory.disagreement", "disagreement along one training"),
    "family_exponent": ("family.exponent", "exponent of the family"),
    "healthy_runs": ("runs", "healthy runs"),
}
_OF_CLAIM = {"estimate": True, "low": True, "high": True, "p": True, "n": True, "margin": True, "word": False}


@while_known
def _results() -> dict[str, StoredValue]:
    finding = Experiment.finding
    found = {
        name: StoredValue(f"{RESULT}{name}", words, True, _Leaf(finding, tuple(path.split(".")), True))
        for name, (path, words) in _PLAIN.items()
    }
    together, single = (_Leaf(finding, ("ensemble", part), True) for part in ("accuracy", "single"))
    gain = cast(together - single, Float)
    found["gain"] = StoredValue(f"{RESULT}gain", "gain in accuracy by averaging all runs", True, gain)
    for letter in CLAIMS:
        for part, is_number in _OF_CLAIM.items():
            name = f"claims.{letter}.{part}"
            leaf: ColumnElement[Any] = _Leaf(finding, ("claims", letter, part), is_number)
            if part in ("word", "p"):  # of what waits for members there is neither
                leaf = case((_Leaf(finding, ("so_far", "planned"), True).is_(None), leaf))
            found[name] = StoredValue(f"{RESULT}{name}", f"{part} of claim ({letter})", is_number, leaf)
    return {value.name: value for value in found.values()}
