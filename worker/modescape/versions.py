"""What other versions have written is read: under older names, lifted, and of what is stored as far as it is known.

A field with a better name is marked `Renamed`, one that came later `Added` (`part.keyed`): no digest moves, and there
is no new version of specs. What cannot be said so, such as a part that moved or a value in another unit, is a lift: a
pure function from a document of version n to one of version n + 1, under n in LIFTS; VERSION is then raised by one, and
so is the version that a spec accepts. Rows keep the spec and the digest they were stored with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.fields import FieldInfo

from modescape.errors import InvalidInput

Document = Mapping[str, Any]

VERSION = 1
LIFTS: dict[int, Callable[[Document], Document]] = {}

STORED = {"stored": True}  # the context of validating a spec that was accepted before, here or elsewhere
IMPORTED = {"imported": True}  # that of a spec of an ensemble made elsewhere: what it names need not be known here


def lifted(document: Document) -> Document:
    """The document as of the newest version that a lift leads to; one that tells no version is of the present one."""
    while isinstance(version := document.get("version"), int) and version in LIFTS:
        document = {**LIFTS[version](document), "version": version + 1}
    return document


def is_stored(info: ValidationInfo) -> bool:
    return bool(info.context and info.context.get("stored"))


def is_imported(info: ValidationInfo) -> bool:
    return bool(info.context and info.context.get("imported"))


class Added:
    """Marks a field that older specs do not have."""


@dataclass(frozen=True)
class Renamed:
    """Marks a field that older specs have under another name."""

    old: str


def renamed(model: type[BaseModel]) -> dict[str, str]:
    """Old name -> name of the fields of a model that are marked `Renamed`."""
    return _renamed(model)


@lru_cache(maxsize=256)  # asked for every part of every spec that is read
def _renamed(model: Any) -> dict[str, str]:
    fields: Mapping[str, FieldInfo] = model.model_fields
    return {mark.old: name for name, field in fields.items() for mark in field.metadata if isinstance(mark, Renamed)}


def under_new_names(model: type[BaseModel], document: Document) -> dict[str, Any]:
    """A document with its fields under the names they have now. Raises InvalidInput when one is there under both."""
    names = renamed(model)
    for old in names.keys() & document.keys():
        if names[old] in document:
            raise InvalidInput(f"is given as {old!r}, its older name, too", field=names[old], allowed="one of the two")
    return {names.get(name, name): value for name, value in document.items()}


M = TypeVar("M")


def as_far_as_known(model: type[BaseModel], document: Document, read: Callable[[Document], M]) -> M:
    """What `read` makes of a stored document without the fields that the model does not have, and, where values are
    refused, without those. Raises ValidationError where nothing can be read even so."""
    known = under_new_names(model, document)
    if model.model_config.get("extra") != "allow":
        known = {name: value for name, value in known.items() if name in model.model_fields}
    try:
        return read(known)
    except ValidationError as error:
        wrong = {item["loc"][0] for item in error.errors() if item["loc"]}
        return read({name: value for name, value in known.items() if name not in wrong})


class Versioned(BaseModel):
    """A frozen model, without unknown keys and NaN, that reads what other versions of it have written."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @model_validator(mode="wrap")
    @classmethod
    def _of_another_version(cls, data: Any, read: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if not isinstance(data, Mapping):
            return read(data)
        if is_stored(info):
            return as_far_as_known(cls, data, read)
        return read(under_new_names(cls, data) if renamed(cls) else data)
