"""What every part of a spec has in common: frozen, nothing unknown, no NaN, no truth values where numbers belong.

A field that comes to the spec after experiments were stored is marked `Added`:

    white: Annotated[int | None, Added] = Field(None, description="...")

While it has its default it is in no canonical text and in no stage's key, so that what was promised and computed before
it was there keeps its digest and is found again. A field with a better name than it once had is marked `Renamed`:

    d1: Annotated[float, Renamed("d")] = Field(1.1, description="...")

It is read under both names, and stands under the older one in canonical texts and keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, field_validator, model_validator

from modescape.errors import InvalidInput

MAX_SEED = 2**53 - 1  # JSON numbers stay whole up to here, in JavaScript too
PLACES = ("folder", "npz")  # the data sets that are a place of the user's, which a spec names with a path

Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]


STORED = {"stored": True}  # the context of validating a spec that was accepted before, here or elsewhere


def is_stored(info: ValidationInfo) -> bool:
    return bool(info.context and info.context.get("stored"))


class Added:
    """Marks a field that older specs do not have; see above."""


@dataclass(frozen=True)
class Renamed:
    """Marks a field that older specs have under another name; see above."""

    old: str


def renamed(model: type[BaseModel]) -> dict[str, str]:
    """Old name -> name of the fields of a model that are marked `Renamed`."""
    fields = model.model_fields.items()
    return {mark.old: name for name, field in fields for mark in field.metadata if isinstance(mark, Renamed)}


def under_new_names(model: type[BaseModel], document: Mapping[str, Any]) -> dict[str, Any]:
    """A document with its fields under the names they have now. Raises InvalidInput when one is there under both."""
    names = renamed(model)
    for old in names.keys() & document.keys():
        if names[old] in document:
            raise InvalidInput(f"is given as {old!r}, its older name, too", field=names[old], allowed="one of the two")
    return {names.get(name, name): value for name, value in document.items()}


def keyed(model: BaseModel, *fields: str) -> dict[str, Any]:
    """The document (or `fields` of it) that digests and stage keys are made of: without added fields at their defaults.

    Every other value is written out, defaults too.
    """
    document = model.model_dump(mode="json", include=set(fields) or None)
    _strip(model, document)
    return document


def _strip(value: Any, document: Any) -> None:
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            if name not in document:
                continue
            inner = getattr(value, name)
            if Added in field.metadata and inner == field.get_default(call_default_factory=True):
                del document[name]
            else:
                _strip(inner, document[name])
        for old, name in renamed(type(value)).items():
            if name in document:
                document[old] = document.pop(name)
        for name, usual in value.usual().items() if isinstance(value, Part) else ():
            if document.get(name) == usual:
                del document[name]
    else:
        for inner, written in _items(value, document):
            _strip(inner, written)


def _items(value: Any, document: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, tuple | list):
        yield from zip(value, document, strict=True)
    elif isinstance(value, Mapping):
        yield from ((inner, document[name]) for name, inner in value.items())


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _by_new_names(cls, data: Any) -> Any:
        return under_new_names(cls, data) if isinstance(data, Mapping) and renamed(cls) else data

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, field: ValidationInfo) -> Any:
        """Python takes true for 1; a spec does not."""
        if isinstance(value, bool) and cls.model_fields[str(field.field_name)].annotation is not bool:
            raise InvalidInput(
                f"is {str(value).lower()}", allowed="a number, a text, an object or a list, as described"
            )
        return value

    def usual(self) -> dict[str, Any]:
        """What it may hold beside its fields, with the values that count as `Added` fields at their defaults."""
        return {}
