"""The OpenAPI document as a page, without any script."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import orjson
from fastapi import APIRouter, FastAPI, Request, Response

from modescape.records import Json
from modescape_api.http import problems
from modescape_api.http.proxies import at
from modescape_api.http.site import Here
from modescape_api.pages.rendering import render
from modescape_api.resources.openapi import INTRODUCTION, TAGS, openapi

router = APIRouter()

_METHODS = ("get", "post", "put", "patch", "delete")


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


def groups(app: FastAPI, base: str) -> dict[str, list[Operation]]:
    """Every documented operation, by tag."""
    found: dict[str, list[Operation]] = {name: [] for name in TAGS}
    for path, operations in openapi(app)["paths"].items():
        for method in _METHODS:
            if method in operations:
                tag = (operations[method].get("tags") or ["service"])[0]
                found.setdefault(tag, []).append(_operation(base, method, path, operations[method]))
    return {tag: listed for tag, listed in found.items() if listed}


def _operation(base: str, method: str, path: str, operation: Json) -> Operation:
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


def _parameter(parameter: Json) -> Parameter:
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


def _answer(status: str, answer: Json) -> Answer:
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


def _pretty(example: object) -> str:
    return "" if example is None else orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()


@router.get("/api/docs")
def docs(request: Request, here: Here) -> Response:
    base = str(request.base_url).rstrip("/") + at("")
    return render(
        request,
        here,
        "api.html",
        groups=groups(request.app, base),
        tags=TAGS,
        kinds=list(problems.KINDS.values()),
        introduction=INTRODUCTION,
    )
