"""What a sweep asks for, and the spec of each of its cells; nothing is stored or computed.

    asked = read({"base": "quickstart", "over": {"network.options.width": [8, 16]}, "runs": 5})
    [cell.varied for cell in asked.cells()]       # [{"network.options.width": 8}, {"network.options.width": 16}]

Cells are all combinations, the last field moving fastest. Each has a root seed of its own, the base's plus its number,
so that cells are independent samples; with `paired` all have the base's seed and run r of each begins from the same
draw, so that differences between cells can be told run by run.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modescape.errors import InvalidInput, Problem
from modescape.names import meant
from modescape.pydantic_errors import invalid
from modescape.records import Json
from modescape.registry import presets

MOST_CELLS = 100
MOST_VALUES = 50  # of one field
MOST_FIELDS = 50
LONGEST_PATH, DEEPEST_PATH = 200, 16  # characters, and names with dots between
_SEED, _RUNS = "ensemble.seed", "ensemble.runs"
CLOSED = ("source", "imported", "version", _SEED)  # fields that cannot be varied


class SweepDocument(BaseModel):
    """A sweep as people write it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    base: str | dict[str, Any] = Field(
        default_factory=dict, description="An ExperimentSpec, of which every field may be left out, or a preset's name."
    )
    over: dict[str, list[Any]] = Field(
        description="Dotted path of a field of the spec -> the values it takes; a method is named by its name, as in "
        "`methods.dropout.typical`."
    )
    runs: Annotated[int, Field(ge=1)] | None = Field(None, description="Runs of each cell; empty takes the base's.")
    paired: bool = Field(False, description="All cells have the base's root seed, and differences are told run by run.")


@dataclass(frozen=True)
class Cell:
    """One combination: its number from 0, its values by field, its spec as a document."""

    number: int
    varied: Mapping[str, Any]
    document: Json

    @property
    def label(self) -> str:
        return label(self.varied)


@dataclass(frozen=True)
class Asked:
    """A sweep that has been read: preset: the base's, where it has a name."""

    document: SweepDocument
    preset: str | None
    base: Json

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(self.document.over)

    def cells(self) -> Iterator[Cell]:
        """Raises InvalidInput naming the field and the value where a path leads nowhere."""
        for number, values in enumerate(itertools.product(*self.document.over.values())):
            varied = dict(zip(self.fields, values, strict=True))
            yield Cell(number, varied, self._spec(number, varied))

    def _spec(self, number: int, varied: Mapping[str, Any]) -> Json:
        spec = copy.deepcopy(self.base)
        network = spec.get("network")
        chosen = varied.get("network.architecture")
        if chosen is not None and isinstance(network, dict) and network.get("architecture") != chosen:
            network.pop("options", None)  # they are another network's
        for field, value in sorted(varied.items(), key=lambda item: item[0].count(".")):
            _put(spec, field, copy.deepcopy(value))
        if self.document.runs is not None:
            _put(spec, _RUNS, self.document.runs)
        if not self.document.paired:
            seed = (spec.get("ensemble") or {}).get("seed", 0)
            if isinstance(seed, int):
                _put(spec, _SEED, seed + number)
        return spec


def read(document: object) -> Asked:
    """Raises InvalidInput naming every field and what is wrong with it."""
    if not isinstance(document, Mapping):
        raise InvalidInput("is not an object", field="", allowed="an object with base and over")
    try:
        asked = SweepDocument.model_validate(document)
    except ValidationError as error:
        raise invalid(error, SweepDocument) from None
    if problems := [*_wrong(asked)]:
        raise InvalidInput("; ".join(map(str, problems)), problems=problems)
    if isinstance(asked.base, dict):
        return Asked(asked, None, dict(asked.base))
    if asked.base not in presets:
        allowed = "a spec, or one of " + ", ".join(presets)
        raise InvalidInput(
            f"there is no preset {asked.base[:80]!r}{meant(asked.base, presets)}", field="base", allowed=allowed
        )
    return Asked(asked, asked.base, dict(presets[asked.base].call()))


def is_sweep(document: object) -> bool:
    """Whether a document asks for a sweep and not for one experiment."""
    return isinstance(document, Mapping) and "over" in document


def _wrong(asked: SweepDocument) -> Iterator[Problem]:
    if not 1 <= len(asked.over) <= MOST_FIELDS:
        named = f"names {len(asked.over)} fields" if asked.over else "names no field"
        yield Problem(named, "over", f"1 to {MOST_FIELDS} fields with their values")
        return
    for field, values in asked.over.items():
        at = f"over.{field}"
        if field in CLOSED:
            yield Problem("cannot be varied", at, "fields of training, network, data, ensemble, methods and studies; "
                          "each cell has its own seed, and more runs are asked for by runs")  # fmt: skip
        if field == _RUNS and asked.runs is not None:
            yield Problem("is given by runs too", at, "one of the two")
        steps = field.split(".")
        if not all(steps) or len(steps) > DEEPEST_PATH or len(field) > LONGEST_PATH:
            at = f"over.{field[:LONGEST_PATH]}"
            yield Problem("is no path of a field", at, "names with dots between, such as training.learning_rate")
        if not 1 <= len(values) <= MOST_VALUES:
            yield Problem(f"has {len(values)} values", at, f"1 to {MOST_VALUES}")
        for i, value in enumerate(values[:MOST_VALUES]):
            if any(type(value) is type(other) and value == other for other in values[:i]):
                yield Problem(f"has {said(value)} twice", at, "each value once")
    inside = [(a, b) for a in asked.over for b in asked.over if b.startswith(f"{a}.")]
    for outer, inner in inside:
        if outer != "network.architecture":
            yield Problem(f"holds {inner}, which is varied too", f"over.{outer}", "one of the two")
    count = math.prod(len(values) for values in asked.over.values())
    if count > MOST_CELLS:
        yield Problem(f"makes {count} cells", "over", f"at most {MOST_CELLS}")


def _put(spec: Json, field: str, value: object) -> None:
    """Set one leaf. Raises InvalidInput where the path goes through something that has no such part."""
    *way, last = field.split(".")
    place: Any = spec
    for depth, step in enumerate(way):
        place = _inside(place, step, ".".join(way[:depth]), field, value)
    if isinstance(place, dict):
        place[last] = value
    elif isinstance(place, list) and last.isdecimal() and int(last) < len(place):
        place[int(last)] = value
    else:
        raise _nowhere(field, value, ".".join(way))


def _inside(place: Any, step: str, where: str, field: str, value: object) -> Any:
    if isinstance(place, dict):
        if place.get(step) is None:
            place[step] = {}
        return place[step]
    if isinstance(place, list):
        if step.isdecimal() and int(step) < len(place):
            return place[int(step)]
        named = [one for one in place if isinstance(one, dict) and one.get("method") == step]
        if named:
            return named[0]
    raise _nowhere(field, value, where)


def _nowhere(field: str, value: object, where: str) -> InvalidInput:
    return InvalidInput(
        f"value {said(value)}: the base has nothing of that name in {where or 'it'}", field=f"over.{field}",
        allowed="a path of a field that the base's spec has",
    )  # fmt: skip


def said(value: object) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)


def exact(value: object) -> object:
    """A value as every table of a sweep holds it, for programs."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return ";".join(map(str, value))
    return json.dumps(value, separators=(",", ":")) if isinstance(value, dict | list) else value


def label(varied: Mapping[str, Any]) -> str:
    """Such as "width 16, learning rate 0.003"."""
    return ", ".join(f"{short(field)} {said(value)}" for field, value in varied.items())


def short(field: str) -> str:
    """The last word of a field's path; of a method's, with the method."""
    parts = [part for part in field.split(".") if part != "options"]
    named = parts[1:] if parts[0] == "methods" else parts[-1:]
    return " ".join(named).replace("_", " ")
