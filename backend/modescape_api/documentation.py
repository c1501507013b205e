"""The API described: an OpenAPI document with examples and every error, and a page that shows it without any script.

Swagger UI and ReDoc are several megabytes of script from elsewhere; a page of our own needs none, works offline, under
the Content-Security-Policy, and in print.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from modescape.spec import ExperimentSpec
from modescape_api import (
    artifacts,
    catalogue,
    compare,
    curves,
    cuts,
    data,
    events,
    experiments,
    figures,
    gallery,
    matrices,
    paper,
    problems,
    replies,
    selections,
    solutions,
    workers,
)
from modescape_api.cuts import Through
from modescape_api.data import Wanted
from modescape_api.experiments import Changes, Copy, Draft
from modescape_api.proxies import at
from modescape_api.selections import Chosen
from modescape_api.site import Here

router = APIRouter(include_in_schema=False)

INTRODUCTION = (
    "Everything the pages show and do. Lists answer `{items, next, total, query}` and take the same query strings as "
    "the "
    "pages; ask for `text/csv` or `application/x-ndjson` (or `?format=csv`) to get them as tables. Errors are problem "
    "documents that name the field and what is allowed. Numbers are JSON numbers; NaN and infinity are null; times "
    "are UTC."
)

_TAGS = {
    "experiments": "Launch, list, follow, stop and repeat experiments.",
    "results": "Everything a figure shows, raw: rows, predictions, weights, matrices.",
    "figures": "Pictures of those numbers.",
    "catalogue": "What can be chosen, and what a choice would cost.",
    "data": "Data sets on this machine.",
    "events": "What happened, as it happens.",
    "service": "Workers, and whether all is well.",
}
_BODIES = (Draft, Changes, Copy, Wanted, Chosen, Through, ExperimentSpec)
_PARTS = (experiments, solutions, curves, matrices, cuts, artifacts, selections, figures, compare, catalogue, paper,
          data, gallery, events, workers)  # fmt: skip
_METHODS = ("get", "post", "patch", "delete")


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        _, defined = models_json_schema(
            [(model, "validation") for model in _BODIES], ref_template="#/components/schemas/{model}"
        )
        schemas.update(defined["$defs"])
        schemas["Draft"]["properties"]["spec"]["anyOf"] = [
            {"$ref": "#/components/schemas/ExperimentSpec"},
            {"type": "null"},
        ]
        schemas["Problem"] = problems.SCHEMA
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        document["components"]["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "MODESCAPE_TOKEN; not needed on loopback without one.",
            }
        }
        document["security"] = [{"token": []}, {}]
        document["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
        for operations in document["paths"].values():
            for method, operation in operations.items():
                _complete(method, operation)
        for part in _PARTS:
            for route in part.router.routes:
                if isinstance(route, APIRoute) and route.include_in_schema:
                    _restore_examples(route, document["paths"][route.path_format])
        app.openapi_schema = document
    return app.openapi_schema


def _complete(method: str, operation: dict[str, Any]) -> None:
    """Errors any request can meet, in our own form: FastAPI's validation errors never leave this server."""
    responses = operation["responses"]
    generated = responses.get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if generated.get("$ref", "").endswith("HTTPValidationError"):
        responses["422"] = problems.documented("invalid-input")[422]
    common = ("wrong-host", "unauthorised", "forbidden", "internal", "busy")
    for name in common if method != "get" else tuple(n for n in common if n != "forbidden"):
        kind = problems.KINDS[name]
        reference = {"schema": {"$ref": "#/components/schemas/Problem"}}
        responses.setdefault(str(kind.status), {"description": kind.title, "content": {problems.MEDIA_TYPE: reference}})


def _restore_examples(route: APIRoute, operations: dict[str, Any]) -> None:
    """FastAPI drops every null from its document, those inside examples too; an answer has them, so its example
    does."""
    for method in route.methods or ():
        operation = operations[method.lower()]
        shown = [(operation["responses"][str(status)], answer) for status, answer in route.responses.items()]
        if route.openapi_extra and "requestBody" in route.openapi_extra:
            shown.append((operation["requestBody"], route.openapi_extra["requestBody"]))
        for theirs, ours in shown:
            for form, content in ours.get("content", {}).items():
                if "example" in content:
                    theirs["content"][form]["example"] = content["example"]


@router.get("/api/openapi.json")
def openapi_document(request: Request) -> Response:
    encoded = replies.encode(openapi(request.app))
    etag = replies.tag(encoded)
    headers = {"etag": etag, "cache-control": replies.REVALIDATE}
    if replies.unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(encoded, media_type=replies.JSON, headers=headers)


# -- the page ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    name: str
    place: str
    kind: str
    default: str
    required: bool
    description: str


@dataclass(frozen=True)
class Answer:
    status: str
    description: str
    forms: tuple[str, ...]
    example: str


@dataclass(frozen=True)
class Operation:
    """One address and method as the page shows it. curl: a line that can be copied."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    parameters: tuple[Parameter, ...]
    body: str
    answers: tuple[Answer, ...]
    errors: tuple[Answer, ...]
    curl: str


@dataclass(frozen=True)
class Group:
    name: str
    about: str
    operations: tuple[Operation, ...]


def groups(app: FastAPI, base: str) -> list[Group]:
    """Every documented operation, by tag."""
    found: dict[str, list[Operation]] = {name: [] for name in _TAGS}
    for path, operations in openapi(app)["paths"].items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                found.setdefault((operation.get("tags") or ["service"])[0], []).append(
                    _operation(base, method, path, operation)
                )
    return [Group(name, _TAGS.get(name, ""), tuple(listed)) for name, listed in found.items() if listed]


def _operation(base: str, method: str, path: str, operation: dict[str, Any]) -> Operation:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    example = content.get("example")
    answers = [_answer(status, answer) for status, answer in operation["responses"].items()]
    url = base + path.replace("{experiment}", "fig3-smallcnn").replace("{number}", "12")
    curl = [
        "curl",
        *(["-X", method.upper()] if method not in ("get", "post") or (method == "post" and example is None) else []),
        shlex.quote(url),
    ]
    if example is not None:
        curl += ["-H", "'Content-Type: application/json'", "-d", shlex.quote(orjson.dumps(example).decode())]
    return Operation(
        anchor=operation["operationId"].replace("_", "-"),
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        description=operation.get("description", ""),
        parameters=tuple(_parameter(parameter) for parameter in operation.get("parameters", ())),
        body=_pretty(example),
        answers=tuple(a for a in answers if a.status[0] in "23"),
        errors=tuple(a for a in answers if a.status[0] not in "23"),
        curl=" ".join(curl),
    )


def _parameter(parameter: dict[str, Any]) -> Parameter:
    schema = parameter.get("schema", {})
    options = [schema, *schema.get("anyOf", ())]
    kind = next((str(o["type"]) for o in options if o.get("type") not in (None, "null")), "")
    if choices := next((o["enum"] for o in options if "enum" in o), None):
        kind = " | ".join(str(choice) for choice in choices)
    limits = [f"{sign} {schema[key]}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in schema]
    default = schema.get("default")
    return Parameter(
        parameter["name"],
        parameter["in"],
        ", ".join([kind, *limits]),
        "" if default is None else str(default),
        bool(parameter.get("required")),
        parameter.get("description", "") or schema.get("description", ""),
    )


def _answer(status: str, answer: dict[str, Any]) -> Answer:
    content = answer.get("content", {})
    example = None
    for form in content.values():
        example = form.get("example") or next((e["value"] for e in form.get("examples", {}).values()), None)
        if example is not None:
            break
    return Answer(
        status,
        answer.get("description", ""),
        tuple(content),
        example if isinstance(example, str) else _pretty(example),
    )


def _pretty(example: Any) -> str:
    return "" if example is None else orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()


@router.get("/api/docs")
def docs(request: Request, here: Here) -> Response:
    from modescape_api.pages import rendering

    base = str(request.base_url).rstrip("/") + at("")
    return rendering.render(
        request,
        here,
        "api.html",
        groups=groups(request.app, base),
        kinds=list(problems.KINDS.values()),
        introduction=INTRODUCTION,
    )
