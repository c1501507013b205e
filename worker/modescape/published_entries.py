"""What workers say of plug-ins, so that a server that cannot load them offers them all the same.

    publish(store.catalogue, worker, living)       # a worker, when it starts
    stand_in(store.catalogue.published())          # the server, now and then

An entry is published as a document of what it says of itself: fields, schema of its options, looks, sizes by shape,
the digest of its source. In the server it is registered as one that is not loaded, made of that document, so that form,
catalogue, API, plan and pages need no second way; only calling it raises `NotLoaded`. Entries that the server has
loaded itself hide what is published of them.
"""

from __future__ import annotations

import functools
import importlib
import logging
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from modescape import plugins
from modescape.architectures import counting
from modescape.errors import NotLoaded
from modescape.registry import (
    Architecture,
    AugmentationEntry,
    Corruption,
    Dataset,
    Entry,
    Family,
    Look,
    Loss,
    Method,
    OptimiserEntry,
    Options,
    Preset,
    Registry,
    Schedule,
    Study,
    Trainer,
    datasets,
    one_a_run,
)
from modescape.sources import Source, is_ours
from modescape.versions import Added, Renamed

if TYPE_CHECKING:
    from modescape.store.catalogue import Catalogue
    from modescape.tables import Catalogue as Row

log = logging.getLogger(__name__)

Json = dict[str, Any]
PLUGIN = "plugin"  # the kind of the rows that say what became of a module in a worker


# -- a worker says what it has ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Elsewhere:
    """What became of a module in a worker."""

    module: str
    worker: str
    named_by: str
    state: str
    why: str
    package: str
    version: str
    entries: tuple[str, ...]


def publish(catalogue: Catalogue, worker: str, living: Collection[str]) -> None:
    """Say which plug-ins this worker has and what they declare. living: names of the workers that have not stopped.

    What was said by workers that have stopped, and of packages that nobody has any more, goes.
    """
    rows = {(PLUGIN, f"{one.module} on {worker}"): _state(one, worker) for one in plugins.found()}
    rows |= dict(_brought())
    catalogue.publish(rows, lambda row: row["worker"] == worker or row["worker"] not in living)


def _state(plugin: plugins.Plugin, worker: str) -> Json:
    source = plugin.source or Source("", "", "")
    return asdict(
        Elsewhere(
            plugin.module, worker, plugin.named_by, plugin.state, plugin.why, source.package, source.version,
            plugin.entries,
        )
    )  # fmt: skip


def _brought() -> Iterator[tuple[tuple[str, str], Json]]:
    """The documents of what is loaded here of others, by noun and name."""
    for known in Registry.all:
        for entry in known.here.values():
            if entry.brought is not None:
                try:
                    _refuse_what_cannot_stand_in(entry)
                    yield (known.noun, entry.name), document(entry)
                except Exception as why:  # its own code, too: it is done without
                    log.warning("%s is not offered by servers that do not load it: %s", plugins.title_of(entry), why)


def _refuse_what_cannot_stand_in(entry: Entry) -> None:
    """Raises ValueError where a plan needs code of the entry that no document can say."""
    if isinstance(entry, Study):
        raise ValueError("what it plans is said by its code")
    decides = isinstance(entry, Method) and (entry.trained is not None or entry.count is not one_a_run)
    if decides and entry.options.model_fields:
        raise ValueError("how it trains, or how many solutions it gives, is a function of its options")


def document(entry: Entry) -> Json:
    """What a process that does not load the entry must know of it, as JSON."""
    assert entry.brought is not None
    more = next((tell(entry) for kind, tell in _TELLING.items() if isinstance(entry, kind)), {})
    return {**entry.said(), **more, "options": _options_document(entry.options), "brought": asdict(entry.brought)}


def _default_count(entry: Method) -> int:
    try:
        return entry.count(entry.options())
    except ValidationError:  # an option that has no default
        return 1


def _of_architecture(entry: Any) -> Json:
    return {
        "sizes": dict(_sizes(entry)), "dropout": _dropout(entry), "why_not_aligned": entry.why_not_aligned,
        "wired": entry.wiring is not None, "counted": entry.counted, "norms": entry.norms is not None,
    }  # fmt: skip


Shape = tuple[int, int, int, int]


def _shapes(entry: Architecture) -> list[Shape]:
    """Those of the sets that are registered and that the network takes."""
    sets = [one for one in datasets.values() if one.train_total and min(one.height, one.width) >= entry.min_side]
    return list(dict.fromkeys((one.channels, one.height, one.width, len(one.classes)) for one in sets))


def _sizes(entry: Architecture) -> Iterator[tuple[str, list[int]]]:
    """Parameters and multiply-adds by shape, with every option at its default."""
    for shape in _shapes(entry):
        try:
            options = entry.options()
            yield _written(*shape), [entry.parameters(*shape, options), entry.multiply_adds(*shape, options)]
        except Exception as error:  # its own code: a plan does without
            log.warning("how large %s is on %s cannot be said: %s", entry.name, _written(*shape), error)


def _written(channels: int, height: int, width: int, classes: int) -> str:
    return f"{channels}x{height}x{width}/{classes}"


def _dropout(entry: Architecture) -> bool | None:
    """Whether it has dropout layers: where it does not say, one is built and looked at."""
    if entry.dropout is not None or not _shapes(entry):
        return entry.dropout
    from modescape.science.networks import dropout_layers

    try:
        return bool(dropout_layers(entry.call(*_shapes(entry)[0], entry.options())))
    except Exception as error:  # its own code
        log.warning("whether %s has dropout layers cannot be said: %s", entry.name, error)
        return None


_TELLING: dict[type[Entry], Callable[[Any], Json]] = {
    Method: lambda entry: {"look": entry.look and asdict(entry.look), "count": _default_count(entry)},
    Architecture: _of_architecture,
    Corruption: lambda entry: {"family": asdict(entry.family)},
    Preset: lambda entry: {"spec": entry.call(), "thumbnail": entry.thumbnail},
}


def _options_document(model: type[BaseModel]) -> Json:
    """A model of options: its schema, which of our models it extends, and the marks that older specs need."""
    base = next(one for one in model.__mro__ if is_ours(one.__module__))
    marks = {
        name: {
            "added": Added in field.metadata,
            "renamed": next((mark.old for mark in field.metadata if isinstance(mark, Renamed)), None),
        }
        for name, field in model.model_fields.items()
    }
    return {"schema": model.model_json_schema(), "base": f"{base.__module__}:{base.__qualname__}", "marks": marks}


# -- the server lets it stand in --------------------------------------------------------------------------------------


def stand_in(rows: Sequence[Row]) -> None:
    """Let published entries stand in for what is not loaded here; replaces those that stood in before."""
    made: dict[str, list[Entry]] = {known.noun: [] for known in Registry.all}
    for row in rows:
        if row.kind in _KINDS:
            try:
                made[row.kind].append(entry_of(row.kind, row.details))
            except Exception as error:  # of another version, or not ours at all: shown as what is not loaded
                log.warning("what a worker published as %s %r is not understood: %s", row.kind, row.name, error)
    for known in Registry.all:
        known.stand_in(made[known.noun])


def elsewhere(rows: Sequence[Row]) -> list[Elsewhere]:
    """What became of plug-ins in workers."""
    names = [field.name for field in fields(Elsewhere)]
    return [
        Elsewhere(**{name: row.details[name] for name in names})
        for row in rows
        if row.kind == PLUGIN and row.details.keys() >= set(names)
    ]


def entry_of(noun: str, details: Mapping[str, Any]) -> Entry:
    """The entry that a document is of. Raises what Python does when it is none."""
    kind, more = _KINDS[noun]
    said = {f.name: _default(details[f.name]) for f in fields(kind) if f.metadata.get("shown", True)}
    own = {
        "options": options_of(details["name"], details["options"]), "brought": Source(**details["brought"]),
        "call": _not_loaded(f"{noun} {details['name']!r}"), "loaded": False,
    }  # fmt: skip
    return kind(**(said | own | more(own, details)))


def _not_loaded(title: str) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise NotLoaded(f"{title} is not loaded in this process; workers have it")

    return call


def _architecture(own: Json, details: Mapping[str, Any]) -> Json:
    why, sizes, usual, name = details["why_not_aligned"], details["sizes"], own["options"], details["name"]

    def size(which: int, channels: int, height: int, width: int, classes: int, options: Options) -> int:
        known = sizes.get(_written(channels, height, width, classes))
        if known and options == usual():
            return int(known[which])
        return (counting.parameters, counting.multiply_adds)[which](name, channels, height, width, classes, options)

    return {
        "parameters": functools.partial(size, 0), "multiply_adds": functools.partial(size, 1),
        "wiring": own["call"] if details.get("wired", not why) else None, "unaligned": why,
        "counted": details.get("counted", False),
        "norms": functools.partial(counting.batch_norm, name) if details.get("norms") else None,
    }  # fmt: skip


def _method(own: Json, details: Mapping[str, Any]) -> Json:
    look, count = details["look"], details["count"]
    return {"look": Look(**look) if look else None, "count": lambda _: count}


def _corruption(own: Json, details: Mapping[str, Any]) -> Json:
    constants = {table: tuple(map(tuple, rows)) for table, rows in details["constants"].items()}
    return {"constants": constants, "family": Family(**details["family"])}


# What a document says otherwise than by the names of an entry's fields.
_KINDS: dict[str, tuple[type[Entry], Callable[[Json, Mapping[str, Any]], Json]]] = {
    "dataset": (
        Dataset, lambda own, details: {"how_to_get": "workers read it; what lies on this machine is not looked at"}
    ),
    "architecture": (Architecture, _architecture),
    "method": (Method, _method),
    "corruption": (Corruption, _corruption),
    "preset": (
        Preset, lambda own, details: {"thumbnail": details["thumbnail"], "call": lambda: deepcopy(details["spec"])}
    ),
    **{
        noun: (kind, lambda own, details: {})
        for noun, kind in (
            ("optimiser", OptimiserEntry), ("schedule", Schedule), ("loss", Loss), ("augmentation", AugmentationEntry),
            ("trainer", Trainer),
        )
    },
}  # fmt: skip


# -- a model of options from its schema -------------------------------------------------------------------------------


def options_of(name: str, details: Mapping[str, Any]) -> type[Options]:
    """A model that accepts what the schema says, with the marks of older specs. Validators written in code are not
    published; the worker's own model has the last word. Raises ValueError for a base that is not of ours."""
    schema, marks = details["schema"], details["marks"]
    fields: Any = {
        field: _field(said, schema, marks.get(field, {})) for field, said in schema.get("properties", {}).items()
    }
    base, about = _base(details["base"]), schema.get("description")
    return create_model(schema.get("title", name), __base__=base, __doc__=about, **fields)


def _base(name: str) -> type[Options]:
    module, _, qualified = name.partition(":")
    if not is_ours(module):
        raise ValueError(f"{name} is no model of ours")
    found: Any = importlib.import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part)
    if not issubclass(found, Options):
        raise ValueError(f"{name} is no model of options")
    model: type[Options] = found
    return model


_BOUNDS = {
    "minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt", "multipleOf": "multiple_of",
    "minLength": "min_length", "maxLength": "max_length", "minItems": "min_length", "maxItems": "max_length",
    "pattern": "pattern",
}  # fmt: skip


def _field(said: Mapping[str, Any], schema: Mapping[str, Any], marks: Mapping[str, Any]) -> tuple[Any, FieldInfo]:
    kind = _type(said, schema)
    if marks.get("added"):
        kind = Annotated[kind, Added]
    if marks.get("renamed"):
        kind = Annotated[kind, Renamed(marks["renamed"])]
    default = _default(said.get("default", ...))
    return kind, Field(default, description=said.get("description"), title=said.get("title"))


def _default(value: Any) -> Any:
    return tuple(map(_default, value)) if isinstance(value, list) else value


def _type(said: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """The annotation, with its bounds, of which pydantic makes this piece of a schema."""
    if "$ref" in said:
        return _type(schema["$defs"][said["$ref"].rsplit("/", 1)[1]], schema)
    if "anyOf" in said:
        kinds = [_type(one, schema) for one in said["anyOf"] if one.get("type") != "null"]
        either = functools.reduce(operator.or_, kinds)
        return either | None if len(kinds) < len(said["anyOf"]) else either
    if "enum" in said or "const" in said:
        return Literal.__getitem__(tuple(said.get("enum") or [said["const"]]))
    kind: Any = {"integer": int, "number": float, "string": str, "boolean": bool}.get(said.get("type", ""), Any)
    if said.get("type") == "array":
        kind = _tuple(said, schema)
    if said.get("type") == "object":
        kind = dict[str, Any]
    bounds = {name: said[key] for key, name in _BOUNDS.items() if key in said and "prefixItems" not in said}
    return Annotated[kind, Field(**bounds)] if bounds else kind


def _tuple(said: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    if "prefixItems" in said:
        return GenericAlias(tuple, tuple(_type(one, schema) for one in said["prefixItems"]))
    return GenericAlias(tuple, (_type(said.get("items", {}), schema), ...))
