"""JSON Schemas of what people write, for editors and for checks before anything is sent.

    spec_schema()       # of a spec: what `modescape run` and POST /api/experiments take
    sweep_schema()      # of a sweep: a base, and what is varied over it

They are made of the models that read specs, with all that these look up filled in: names of data sets, networks,
methods and changes, each with its own options, plug-ins included. So an editor completes what a spec may say here, and
marks what it may not. What concerns several fields at once, or the data, is checked by `spec.check` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from modescape import registry
from modescape.documents import SCHEMA
from modescape.records import Json
from modescape.registry import RECIPE, Entry, architectures, corruptions, datasets, methods, presets, studies
from modescape.spec import ExperimentSpec, every_margin
from modescape.spec_parts import DataSpec, MethodSpec, NetworkSpec, TrainingSpec
from modescape.study import BROUGHT
from modescape.sweeps.asked import CLOSED, MOST_VALUES, SweepDocument
from modescape.versions import renamed

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def spec_schema() -> Json:
    """The JSON Schema (draft 2020-12) of a spec as it may be written here."""
    registry.load()
    whole = ExperimentSpec.model_json_schema()
    parts: dict[str, Json] = whole["$defs"]
    for model in _models(ExperimentSpec):
        _with_old_names(parts.get(model.__name__, whole), model)
    _offer(parts, DataSpec, "dataset", datasets)
    _choose(parts, NetworkSpec, "architecture", "options", architectures)
    _choose(parts, MethodSpec, "method", "options", methods)
    for part, known in RECIPE.items():
        _choose(parts, TrainingSpec, part, f"{part}_options", known)
    parts["MarginsSpec"] = _with_old_names(_of(every_margin(), parts), every_margin())
    for study in studies.values():
        for field, at in parts.get(study.options.__name__, {}).get("properties", {}).items():
            if (offered := study.options.choices(field)) is not None:
                _name(at, offered)
    types = parts["ShiftSpec"]["properties"]["corruptions"]["items"]
    _name(types, {one.name: one.title for one in corruptions.values()})
    brought = {one.name: one for one in studies.values() if one.name not in ExperimentSpec.model_fields}
    whole["properties"][BROUGHT] |= {
        "properties": {name: _asked(one, parts) for name, one in brought.items()}, "additionalProperties": False,
    }  # fmt: skip
    whole["properties"][SCHEMA] = {"type": "string", "description": "The address of this schema, for editors."}
    return {"$schema": DIALECT, **whole, "title": "An experiment's spec"}


def sweep_schema() -> Json:
    """The JSON Schema of a sweep as it may be written here; its base may be a preset's name."""
    inner = spec_schema()
    parts = inner.pop("$defs")
    del inner["$schema"]
    whole = SweepDocument.model_json_schema()
    of_base = whole["properties"]["base"]
    named = _name({"type": "string"}, {one.name: one.title for one in presets.values()})
    whole["properties"]["base"] = {
        "anyOf": [named, {"$ref": "#/$defs/ExperimentSpec"}], "description": of_base["description"],
    }  # fmt: skip
    values: Json = {"type": "array", "minItems": 1, "maxItems": MOST_VALUES}
    whole["properties"]["over"] |= {
        "minProperties": 1,
        "propertyNames": {"pattern": r"^[^.]+(\.[^.]+)*$"},
        "properties": {path: {**values, "items": at} for path, at in _to_vary(inner, parts).items()},
        "additionalProperties": values,
    }
    whole["properties"][SCHEMA] = inner["properties"][SCHEMA]
    return {"$schema": DIALECT, **whole, "title": "A sweep", "$defs": {**parts, "ExperimentSpec": inner}}


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and those of its fields, at any depth."""
    yield model
    for field in model.model_fields.values():
        for inner in _inside(field.annotation):
            yield from _models(inner)


def _inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _inside(part)


def _with_old_names(part: Json, model: type[BaseModel]) -> Json:
    """A field is read under the name that it once had, too."""
    for old, name in renamed(model).items():
        if name in part.get("properties", {}):
            part["properties"][old] = {**part["properties"][name], "deprecated": True, "description": f"Now {name}."}
    return part


def _of(model: type[BaseModel], parts: dict[str, Json]) -> Json:
    """The schema of a model, whose own parts join the others."""
    found = model.model_json_schema(ref_template="#/$defs/{model}")
    parts |= {name: part for name, part in found.pop("$defs", {}).items() if name not in parts}
    return found


def _name(at: Json, offered: Mapping[str, str]) -> Json:
    """A text that is one of these, each with words that an editor shows beside it."""
    at |= {"enum": [*offered], "enumDescriptions": [*offered.values()]}
    return at


def _offer(parts: dict[str, Json], model: type[BaseModel], field: str, known: Mapping[str, Entry]) -> None:
    words = {name: f"{entry.title}: {entry.summary}" for name, entry in known.items()}
    _name(parts[model.__name__]["properties"][field], words)


def _choose(parts: dict[str, Json], model: type[BaseModel], field: str, place: str, known: Mapping[str, Entry]) -> None:
    """The field names one of these, and `place` holds the options of the one that is named, or of the usual one."""
    _offer(parts, model, field, known)
    part, usual = parts[model.__name__], model.model_fields[field].default
    for name, entry in known.items():
        named: Json = {"properties": {field: {"const": name}}}
        if name != usual:
            named["required"] = [field]
        options = _with_old_names(_of(entry.options, parts), entry.options)
        part.setdefault("allOf", []).append({"if": named, "then": {"properties": {place: options}}})


def _asked(study: registry.Study, parts: dict[str, Json]) -> Json:
    one = _of(study.options, parts)
    return one if study.most == 1 else {"anyOf": [one, {"type": "array", "items": one, "maxItems": study.most}]}


def _to_vary(whole: Json, parts: Mapping[str, Json]) -> dict[str, Json]:
    """Dotted path -> what a value there may be; {} where that depends on something else. Of parts that are there once;
    lists go by their numbers, and are left to whoever has some."""
    found: dict[str, Json] = {}
    for name, at in whole["properties"].items():
        inner = _resolved(at, parts)
        if "properties" in inner and name not in (*CLOSED, "weights", BROUGHT):
            found |= _fields(f"{name}.", inner)
    options: dict[str, Json] = {
        f"network.options.{o}": {} for one in architectures.values() for o in one.options.model_fields
    }
    for part, known in RECIPE.items():
        options |= {f"training.{part}_options.{o}": {} for one in known.values() for o in one.options.model_fields}
    for name, method in methods.items():
        options |= _fields(f"methods.{name}.", parts[MethodSpec.__name__], "spread", "typical")
        options |= _fields(f"methods.{name}.options.", method.options.model_json_schema())
    return {path: at for path, at in (found | options).items() if path not in CLOSED}


def _fields(before: str, part: Json, *names: str) -> dict[str, Json]:
    known = part.get("properties", {})
    return {
        f"{before}{name}": {key: value for key, value in at.items() if key != "default"}
        for name, at in known.items()
        if not at.get("deprecated") and name in (names or known)
    }


def _resolved(at: Json, parts: Mapping[str, Json]) -> Json:
    """What a reference leads to, looked for beside null."""
    for one in (at, *at.get("anyOf", ())):
        if "$ref" in one:
            return parts[one["$ref"].rpartition("/")[2]]
    return at
