"""What every part of a spec has in common: frozen, nothing unknown, no NaN, no truth values where numbers belong.

A field that comes to the spec after experiments were stored is marked `Added`:

    white: Annotated[int | None, Added] = Field(None, description="...")

While it has its default it is in no canonical text and in no stage's key, so that what was promised and computed before
it was there keeps its digest and is found again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, field_validator

from modescape.errors import InvalidInput

MAX_SEED = 2**53 - 1  # JSON numbers stay whole up to here, in JavaScript too

Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]


class Added:
    """Marks a field that older specs do not have; see above."""


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

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, field: ValidationInfo) -> Any:
        """Python takes true for 1; a spec does not."""
        if isinstance(value, bool) and cls.model_fields[str(field.field_name)].annotation is not bool:
            raise InvalidInput(
                f"is {str(value).lower()}", allowed="a number, a text, an object or a list, as described"
            )
        return value
