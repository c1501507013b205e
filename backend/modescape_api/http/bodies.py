"""JSON bodies as models: read strictly, with every problem named by its field.

def create(draft: Annotated[Draft, body(Draft)]) -> Response: ...
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from types import NoneType
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args

import orjson
from fastapi import Depends, Request
from fastapi.routing import APIRoute
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from modescape import names
from modescape.documents import DEEPEST, is_too_deep
from modescape.errors import DataMissing, InvalidInput, Problem
from modescape.pydantic_errors import MOST_VALUES, check_size, invalid
from modescape.records import PRIORITIES, Json
from modescape_api.http.refusal import Refusal

M = TypeVar("M", bound="Body")


class Body(BaseModel):
    """Base of every body: no unknown fields. most_values: of all its lists and objects together; where that is more
    than usual, its lists end with the first item that is wrong (`fail_fast`)."""

    most_values: ClassVar[int] = MOST_VALUES

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_truth(cls, value: Any, field: ValidationInfo) -> Any:
        """Pydantic takes 1, "on" and "f" for true and false, and true for 1; a body says which it means."""
        annotation = cls.model_fields[str(field.field_name)].annotation
        wanted = {annotation, *get_args(annotation)}
        if value is None and NoneType in wanted:
            return value
        if bool in wanted and not isinstance(value, bool):
            raise InvalidInput(f"{value!r:.40} is not true or false", allowed="true or false")
        if bool not in wanted and {int, float} & wanted and isinstance(value, bool):
            raise InvalidInput(f"{value!r} is no number", allowed="a number")
        return value


def _storable(text: str) -> str:
    if any(ord(letter) < 32 and letter not in "\n\r\t" for letter in text):
        raise InvalidInput("has control characters", allowed="text, lines and tabs")
    return text


def _project(text: str) -> str:
    return names.checked(text, longest=100) if text.strip() else ""


Name = Annotated[str, AfterValidator(names.checked)]
Tag = Annotated[str, StringConstraints(pattern=r"^[^,;]+$"), AfterValidator(partial(names.checked, longest=40))]
Project = Annotated[str, StringConstraints(max_length=100), AfterValidator(_project)]
Priority = Annotated[int, Field(ge=min(PRIORITIES.values()), le=max(PRIORITIES.values()))]
Notes = Annotated[str, StringConstraints(max_length=10_000), AfterValidator(_storable)]


class _Reader(Generic[M]):
    def __init__(self, model: type[M]) -> None:
        self.model = model

    async def __call__(self, request: Request) -> M:
        return validate(self.model, await read_json(request, self.model.most_values))


def body(model: type[M]) -> Any:
    """The dependency that reads a body of this model. An empty body is read as an empty object."""
    return Depends(_Reader(model))


def read_by(route: APIRoute) -> Iterator[type[Body]]:
    """The models of the bodies that a route reads."""
    yield from (one.call.model for one in route.dependant.dependencies if isinstance(one.call, _Reader))


async def read_json(request: Request, most: int) -> object:
    """The decoded body, of at most so many values. Raises Refusal (415, 400) saying what is wrong with it, or
    InvalidInput: for one of more values, and naming the field whose text is half a character, which JSON can write and
    UTF-8 cannot."""
    raw = await request.body()
    if not raw.strip():
        return {}
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refusal(
            "wrong-media-type",
            f"the body is {kind[:80] or 'of no declared type'}; send application/json",
            problems=[Problem("is of another type", "Content-Type", "application/json")],
        )
    try:
        found: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        _refuse_halves(raw)
        raise Refusal(
            "malformed",
            f"the body is not JSON: {error}",
            problems=[Problem(f"is not JSON: {error}", "body", "one JSON object in UTF-8")],
        ) from None
    check_size(found, "body", most)
    if is_too_deep(found):
        allowed = f"at most {DEEPEST} lists and objects inside each other"
        raise Refusal(
            "malformed",
            f"the body is nested more than {DEEPEST} deep",
            problems=[Problem("is nested too deeply", "body", allowed)],
        )
    return found


def _refuse_halves(raw: bytes) -> None:
    try:
        found = next(_halves(json.loads(raw), ""), None)
    except (ValueError, RecursionError):
        return
    if found is not None:
        field, half = found
        raise InvalidInput(
            f"has half a character (a surrogate), U+{ord(half):04X}", field=field or "body", allowed="whole characters"
        )


def _halves(value: object, field: str) -> Iterator[tuple[str, str]]:
    """(field, surrogate) of every text in a decoded document, names of fields among them."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _halves(name, field)
            yield from _halves(inner, f"{field}.{name}".lstrip("."))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _halves(inner, f"{field}.{place}".lstrip("."))
    elif isinstance(value, str):
        yield from ((field, letter) for letter in value if "\ud800" <= letter <= "\udfff")


def validate(model: type[M], data: object) -> M:
    """`data` as the model. Raises InvalidInput naming every field."""
    if not isinstance(data, dict):
        raise InvalidInput("is not an object", field="body", allowed="one JSON object")
    check_size(data, "body", model.most_values)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise invalid(error, model) from None


def validate_part(model: type[M], data: object) -> M:
    """`data` as one of the files of a form. Raises InvalidInput naming `files`."""
    try:
        return validate(model, data)
    except InvalidInput as error:
        problems = [Problem(one.message, f"files.{one.field}", one.allowed) for one in error.problems]
        raise InvalidInput("; ".join(map(str, problems)), problems=problems) from None


def prefixed(error: InvalidInput | DataMissing, prefix: str) -> InvalidInput | DataMissing:
    """The same problems, their fields seen from the body."""
    problems = [Problem(p.message, f"{prefix}.{p.field}".rstrip("."), p.allowed) for p in error.problems]
    if isinstance(error, DataMissing):
        return DataMissing(str(error), problems=problems)
    return InvalidInput("; ".join(str(problem) for problem in problems), problems=problems)


def documented(model: type[BaseModel], example: object, *, required: bool = True) -> Json:
    """The request body in OpenAPI."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}, "example": example}}
    return {"requestBody": {"required": required, "content": content}}
